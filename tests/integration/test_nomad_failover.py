"""A list of Nomad servers: whatever becomes of the one that is read, the next goes on, with no loss and no repeat.

The judge is a tap on each server: each reads on through its server's faults, and in the end all must have seen the
same.
"""

import contextlib
import json
import os
import time

import pytest
from rig import standin
from rig.busbar import Busbar
from rig.exits import from_sse
from rig.load import Load
from rig.nomad import Nomad, close_all, nomad_cluster, register_somewhere, wait_leader
from rig.oracle import compare
from rig.proc import Failed, wait_until
from rig.proxy import Proxy
from rig.standin import Standin, refusal
from rig.tap import Tap
from rig.wire import sent_bytes


@pytest.fixture(scope="module")
def members():
    servers = nomad_cluster(3)
    for server in servers:
        server.request_timeout = 2.0  # one that asks a frozen leader has no answer to wait for
    yield servers
    close_all(servers)


@pytest.fixture
def cluster(members):
    """All run when a test begins, however the one before it ended."""
    for member in members:
        if member.running:
            member.resume()
        else:
            member.start(wait=False)
    _healthy(members)
    return members


def _busbar(*servers: str, **source) -> Busbar:
    one = {"name": "prod", "type": "nomad", "servers": list(servers), "silence": "2s", "start": "oldest", **source}
    return Busbar({"name": "failover", "sources": [one]})


class _Judge:
    """A tap on each server; those that are killed come back to the whole buffer of their server."""

    def __init__(self, members: list[Nomad]):
        self.taps = [Tap(member.address, reconnect=True) for member in members]

    def __enter__(self):
        for tap in self.taps:
            tap.start()
        return self

    def __exit__(self, *_):
        for tap in self.taps:
            tap.stop()

    def events(self) -> list:
        """All that was told, once every tap has it."""

        def agreed():
            told = [{event[:6] for event in tap.events} for tap in self.taps]
            return all(one == told[0] for one in told)

        self.taps[0].wait_quiet()
        wait_until(agreed, 20, "all servers told the same")
        assert all(tap.intact for tap in self.taps)
        return self.taps[0].events


def _judge_exact(judge: _Judge, client, *wires: Proxy) -> str:
    live = judge.events()  # servers tell some things late: both are looked at together
    events, frames = list(live), list(client.frames)

    def agreed():
        nonlocal events, frames
        events, frames = list(live), list(client.frames)
        return len(frames) == len(events)

    for patience in (20, 5):
        with contextlib.suppress(Failed):
            wait_until(agreed, patience, "as many events as were told")
        time.sleep(0.3)  # for one too many
    sent = sent_bytes(*wires) if wires else None
    versions = [event for tap in judge.taps for event in tap.events]
    return compare({"prod": events}, from_sse(frames), sent, versions=versions).assert_exact().summary()


def _attached(busbar: Busbar, addresses: list[str]) -> int:
    """Which of the addresses it reads."""

    def which():
        source = busbar.status()["sources"][0]
        return source["state"] == "attached" and source["server"] in addresses and source["server"]

    return addresses.index(wait_until(which, 30, f"attached\n{busbar.log_tail()}"))


def _attach(busbar: Busbar, wires: list[Proxy], which: int) -> None:
    """Cuts it off until it reads that one."""
    addresses = [wire.address for wire in wires]
    while (present := _attached(busbar, addresses)) != which:
        wires[present].cut()
        wait_until(lambda: _attached(busbar, addresses) != present, 30, "it goes to the next")


def _healthy(members: list[Nomad]) -> Nomad:
    """Waits until all run and agree on a leader, and returns that."""
    for member in members:
        member.wait_ready()
    return wait_leader(members)


def _wait_more(client, count: int = 1, timeout: float = 30) -> float:
    """Until so many events more have come; how long that took."""
    began, wanted = time.monotonic(), len(client.frames) + count
    wait_until(lambda: len(client.frames) >= wanted, timeout, f"{count} events more", every=0.005)
    return time.monotonic() - began


def _descriptors(busbar: Busbar) -> int:
    return len(os.listdir(f"/proc/{busbar.pid}/fd"))


FAULTS = {
    "kill -9": (Nomad.kill9, Nomad.start),
    "stop": (Nomad.stop, Nomad.start),
    "SIGSTOP": (Nomad.pause, Nomad.resume),
}


@pytest.fixture
def wires(cluster):
    """What the busbar goes through: they keep the bytes that each server sent it."""
    proxies = [Proxy(member.http_port).start() for member in cluster]
    yield proxies
    for proxy in proxies:
        proxy.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_the_server_that_is_read_fails_each_in_its_turn(cluster, wires, fault):
    """Under load; one of the three is the leader, so that for a while there is none."""
    fail, mend = FAULTS[fault]
    addresses = [wire.address for wire in wires]
    with _Judge(cluster) as judge, _busbar(*addresses) as busbar, Load(cluster[0], 80) as load:
        with busbar.events(from_oldest=True) as client:
            _wait_more(client, 30)
            before = _descriptors(busbar)
            for which, victim in enumerate(cluster):
                leader = _healthy(cluster)
                load.nomad = cluster[which - 1]
                _attach(busbar, wires, which)
                _wait_more(client, 10)
                began = time.monotonic()
                fail(victim)
                wait_until(lambda: _attached(busbar, addresses) != which, 30, "it goes to the next", every=0.01)
                found = time.monotonic() - began
                _wait_more(client)
                took = time.monotonic() - began
                who = "the leader" if victim is leader else "a follower"
                print(f"{fault} of {who}: {found:.2f} s to the next server, {took:.2f} to its first event", end="; ")
                _wait_more(client, 30)
                mend(victim)
            _healthy(cluster)
            load.stop()
            print(_judge_exact(judge, client, *wires))
            wait_until(lambda: _descriptors(busbar) <= before + 2, 20, f"{_descriptors(busbar)} files open, {before} before")


def test_the_leader_fails_behind_a_follower_that_is_read(cluster, wires):
    leader = _healthy(cluster)
    others = [one for one in cluster if one is not leader]
    addresses = [wires[cluster.index(one)].address for one in others]
    with _Judge(cluster) as judge, _busbar(*addresses) as busbar, Load(others[0], 80) as load:
        with busbar.events(from_oldest=True) as client:
            _wait_more(client, 30)
            leader.kill9()
            print(f"{_wait_more(client, 10):.3f} s", end="; ")
            _wait_more(client, 30)
            leader.start()
            _healthy(cluster)
            load.stop()
            print(_judge_exact(judge, client, *wires))


def test_a_follower_that_lags_starts_far_back(cluster, wires):
    """Stopped for a while, it answers first from what it knew then."""
    leader = _healthy(cluster)
    follower = next(one for one in cluster if one is not leader)
    wire, other = (wires[cluster.index(one)] for one in (leader, follower))
    with _Judge(cluster) as judge, Load(leader, 150) as load:
        with _busbar(wire.address, other.address, silence="60s") as busbar:
            with busbar.events(from_oldest=True) as client:
                _wait_more(client, 30)
                follower.pause()
                _wait_more(client, 300)
                wire.close_door()  # the busbar now waits at the follower's door
                time.sleep(0.3)
                follower.resume()
                _attached(busbar, [other.address])
                _wait_more(client, 30)
                load.stop()
                print(_judge_exact(judge, client, *wires))


def _streams_asked(server: Standin) -> int:
    return sum(request.path == "/v1/event/stream" for request in server.requests)


def test_servers_that_refuse_are_passed_over(cluster):
    """First in the list, at the start and again when the one behind them is lost."""
    answers = [standin.permission_denied(), standin.unknown_token(), standin.empty_close(), standin.not_json()]
    leader = _healthy(cluster)
    with contextlib.ExitStack() as stack:
        refusing = [stack.enter_context(Standin(answer)) for answer in [*answers, standin.silence()]]
        wire, judge = stack.enter_context(Proxy(leader.http_port)), stack.enter_context(_Judge(cluster[:1]))
        busbar = stack.enter_context(_busbar(*(one.address for one in refusing), wire.address, silence="3s"))
        load, client = stack.enter_context(Load(leader, 80)), stack.enter_context(busbar.events(from_oldest=True))
        lines = lambda: busbar.log_lines("source_attached")  # noqa: E731
        times = lambda: sum(f"server={wire.address}" in line for line in lines())  # noqa: E731
        for rounds in (1, 2, 3):
            wait_until(lambda: all(_streams_asked(one) >= rounds for one in refusing), 30, "all were asked")
            _attached(busbar, [wire.address])
            _wait_more(client, 10)
            # Once each time; but there was another time where the machine stood still for as long as `silence`.
            wait_until(lambda: times() >= rounds, 20, "the log tells of it")
            wait_until(lambda: all(_streams_asked(one) <= times() for one in refusing), 20, "each is asked once each time")
            if rounds < 3:
                wire.cut()
        load.stop()
        print(_judge_exact(judge, client, wire))


def test_a_server_that_is_cut_off_from_the_others_is_left():
    """Its heartbeats go on, but nothing else will come: it knows no leader."""
    beats = standin.stream(*[b"{}\n", 0.5] * 40)
    with Standin(beats) as alone, Standin(standin.stream(standin.event_line(7), standin.HOLD)) as well:
        alone.on("/v1/status/leader", refusal("200 OK", '""'))
        with _busbar(alone.address, well.address, silence="5s") as busbar, busbar.events(from_oldest=True) as client:
            _wait_more(client)
            assert "knows no leader" in busbar.wait_log("source_backoff")


# ---- a buffer that does not reach back far enough; these come last, they leave the third server with a small one ----


@pytest.fixture
def forgetful(cluster):
    """The third of the cluster, which from now on keeps no more than five batches."""
    one = cluster[2]
    if one.event_buffer_size != 5:
        one.event_buffer_size = 5
        one.restart()
        _healthy(cluster)
    return one


def _miss_some(busbar: Busbar, cluster: list[Nomad]) -> None:
    """Much more happens while it is down than a small buffer holds."""
    busbar.stop()
    with Load(cluster[0], 200) as load:
        wait_until(lambda: len(load.numbers) > 20, 20, "a load")


def _is(frame, event) -> bool:
    body = json.loads(frame.data)
    said = [body[name] for name in ("Index", "Topic", "Key", "Type")]
    return said == [event.index, event.topic, event.key, event.type]


def test_a_gap_is_told_where_the_buffer_does_not_reach_back(cluster, forgetful, wires):
    wire = wires[cluster.index(forgetful)]
    with Tap(cluster[0].address) as tap, _busbar(wire.address) as busbar:
        register_somewhere(cluster, "before")
        wait_until(lambda: busbar.status()["sources"][0]["last_index"], 20, "something is known")
        _miss_some(busbar, cluster)
        busbar.start()
        busbar.wait_attached()
        register_somewhere(cluster, "afterwards")
        tap.wait_quiet()
        events = list(tap.events)
        last = events[-1]
        with busbar.events(from_oldest=True) as client:
            wait_until(lambda: any(_is(frame, last) for frame in client.frames), 20, "the last event")
            frames = [frame for frame in client.frames if frame.event not in ("Snapshot", "Vanished")]
    first = json.loads(frames[0].data)["Index"]  # its buffer may begin in the middle of it
    heard = range(first + 1, last.index + 1)
    frames = [frame for frame in frames if frame.event == "Gap" or json.loads(frame.data)["Index"] in heard]
    told = {"prod": [event for event in events if event.index in heard]}
    verdict = compare(told, from_sse(frames), sent_bytes(wire))
    assert verdict.lost and set(verdict.findings) == {"lost"}, verdict.details()
    gaps = [json.loads(gap.data)["Payload"] for gap in verdict.gaps]  # either end may be there in part
    for text in verdict.lost:
        index = int(text.split("/")[0].split()[1])
        assert any(gap["From"] <= index <= gap["To"] for gap in gaps), (text, gaps)


def test_a_server_that_has_forgotten_is_left_for_one_that_knows(cluster, forgetful, wires):
    """No gap is told as long as any server of the list can prove that there is none."""
    with _Judge(cluster[:2]) as judge, _busbar(wires[0].address, wires[1].address) as busbar:
        busbar.wait_attached()
        wait_until(lambda: busbar.status()["sources"][0]["last_index"] >= judge.taps[0].last_index, 20, "caught up")
        _miss_some(busbar, cluster)
        source = {"name": "prod", "type": "nomad", "servers": [wires[2].address, wires[1].address]}
        busbar.configure({"name": "failover", "sources": [source]})
        with busbar.start().events(from_oldest=True) as client:
            busbar.wait_log("its buffer begins at")
            print(_judge_exact(judge, client, *wires))
