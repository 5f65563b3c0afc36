"""How long nobody listens: what Marathon tells meanwhile is lost for good, so the connector is measured by it.

Blind is the time between the last moment at which an event would have reached the bridge and the first at which the
next stream takes one, as the stand-in sees it. `pytest -s` prints it.
"""

import itertools
import json
import statistics
import threading
import time

from rig.busbar import Busbar
from rig.marathon import Marathon
from rig.proc import wait_until

ROUNDS = 5


def _busbar(marathon: Marathon, **source) -> Busbar:
    one = {"name": "prod", "type": "marathon", "servers": marathon.addresses, "start": "now", **source}
    return Busbar({"name": "blind", "sources": [one]})


class Probe:
    """Tells a numbered event every 2 ms: what is missing must be missing where a gap is said, and nowhere else."""

    def __init__(self, marathon: Marathon):
        self._marathon, self._ending = marathon, threading.Event()
        self.told = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join()

    def judge(self, busbar: Busbar) -> int:
        """How many were lost; all of them at gaps."""
        lost, last, at_gap = 0, -1, True
        with busbar.events(from_oldest=True) as client:
            last_one = self._marathon.emit("group_change_success", {"groupId": "/g", "version": self.told})
            wait_until(lambda: last_one in [one.data for one in client.frames[-100:]], 20, "the last one")
            for one in client.frames:
                if one.event != "group_change_success":
                    at_gap = at_gap or one.event == "Gap"
                    continue
                number = int(json.loads(one.data)["version"])
                assert number == last + 1 or (at_gap and number > last), (last, number, at_gap)
                lost, last, at_gap = lost + number - last - 1, number, False
        return lost

    def _run(self) -> None:
        while not self._ending.wait(0.002):
            self._marathon.emit("group_change_success", {"groupId": "/g", "version": self.told})
            self.told += 1


def _attached_after(marathon: Marathon, before: float) -> float:
    """When the next stream was taken: from then on nothing is lost to it."""

    def found():
        told = itertools.takewhile(lambda one: one.when > before, reversed(marathon.sent))
        attached = [one.when for one in told if one.type == "event_stream_attached"]
        return attached[-1] if attached else None

    return wait_until(found, 60, "the next stream", every=0.005)


def _say(what: str, blind: list[float], limit: float) -> None:
    text = ", ".join(f"{seconds * 1000:.1f}" for seconds in sorted(blind))
    print(f"\nblind after {what}: {statistics.median(blind) * 1000:.1f} ms (median of {text})")
    assert statistics.median(blind) < limit


def _journaled(busbar: Busbar) -> int:
    return busbar.status()["sources"][0]["journal"]["next_seq"]


def _is_whole(busbar: Busbar, gaps: int) -> None:
    """As many gaps as times that it was blind, and each is told."""
    wait_until(lambda: busbar.status()["sources"][0]["gaps"] == gaps, 20, f"{gaps} gaps\n{busbar.log_tail()}")


def test_a_cut():
    with Marathon() as marathon, _busbar(marathon) as busbar:
        busbar.wait_attached()
        blind = []
        with Probe(marathon) as probe:
            for number in range(ROUNDS):
                (stream,) = marathon.wait_streams(1)
                time.sleep(1.1)  # it stood
                before = time.monotonic()
                stream.cut(reset=number % 2 == 1, mid_frame=number % 3 == 1)
                blind.append(_attached_after(marathon, before) - before)
        _is_whole(busbar, ROUNDS)
        print(f"\n{probe.judge(busbar)} of {probe.told} events lost")
        _say("a cut", blind, 1.0)


def test_a_leader_change():
    """The new one is elected at once and ready after 0.3 s."""
    with Marathon(nodes=3) as marathon, _busbar(marathon) as busbar:
        busbar.wait_attached()
        blind, away = [], 0.3
        with Probe(marathon) as probe:
            for number in range(ROUNDS):
                marathon.wait_streams(1)
                time.sleep(1.1)
                before = time.monotonic()
                marathon.elect((number + 1) % 3, ready=False)
                time.sleep(max(0.0, before + away - time.monotonic()))
                marathon.ready()
                blind.append(_attached_after(marathon, before) - before)
        _is_whole(busbar, ROUNDS)
        print(f"\n{probe.judge(busbar)} of {probe.told} events lost")
        _say("a leader change (ready after 300 ms)", blind, 1.5)
        _say("a leader change, beyond the time that nobody was ready", [seconds - away for seconds in blind], 1.2)


def test_a_leader_that_is_killed():
    """The standbys name the dead one for another second (nine with a real one), then none, then the next."""
    with Marathon(nodes=3) as marathon, _busbar(marathon) as busbar:
        busbar.wait_attached()
        blind, away = [], 1.2
        for number in range(3):
            marathon.wait_streams(1)
            time.sleep(1.1)
            before = time.monotonic()
            marathon.kill(number % 3, stale=1.0)
            time.sleep(max(0.0, before + away - time.monotonic()))
            marathon.elect((number + 1) % 3)
            blind.append(_attached_after(marathon, before) - before)
            marathon.start(number % 3)
        _is_whole(busbar, 3)
        _say("a killed leader, beyond the time that nobody led", [seconds - away for seconds in blind], 1.5)


def test_a_slow_reader():
    """Stopped until it is cut off in mid-frame, then going on: blind from its resumption on, and for what it missed."""
    with Marathon(slow_limit=64, backlog=4096) as marathon, _busbar(marathon) as busbar:
        busbar.wait_attached()
        blind = []
        for _ in range(3):
            (stream,) = marathon.wait_streams(1)
            time.sleep(1.1)
            busbar.pause()
            padding = {"groupId": "/g", "padding": "x" * 20000}
            wait_until(lambda: marathon.emit("a", padding) and stream.overrun, 60, "cut off as too slow", every=0)
            before = time.monotonic()
            busbar.resume()
            blind.append(_attached_after(marathon, before) - before)
        _is_whole(busbar, 3)
        assert busbar.metrics()['busbar_malformed_total{source="prod"}'] == 0
        _say("a slow reader's resumption", blind, 2.0)


def test_a_silent_death():
    """Nothing but `silence` can tell: 32 s of three real heartbeats, 3 s here."""
    with Marathon(heartbeat=0.3) as marathon, _busbar(marathon, silence="3s") as busbar:
        busbar.wait_attached()
        blind = []
        for _ in range(3):
            (stream,) = marathon.wait_streams(1)
            time.sleep(1.1)
            known = _journaled(busbar)
            marathon.emit("group_change_success", {"groupId": "/g"})
            wait_until(lambda: _journaled(busbar) > known, 20, "it has just been told something")
            before = time.monotonic()
            stream.freeze()
            blind.append(_attached_after(marathon, before) - before)
            marathon.wait_streams(1)
        _is_whole(busbar, 3)
        _say("a silent death, with `silence: 3s` and a heartbeat of 0.3 s", blind, 7.0)
        assert statistics.median(blind) > 1.5  # of the 3 s, which begin before `before`
