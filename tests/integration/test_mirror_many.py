"""The mirror at a thousand clients and more: each gets each event once, whoever else reads, stops, dies or comes back.

Limits of time are wide: what is held here is that nobody misses anything; tests/bench/fanout.py measures.
"""

import json
import pathlib
import re
import sys
import threading
import time

import pytest
from rig.busbar import binary
from rig.proc import wait_until

BENCH = pathlib.Path(__file__).resolve().parent.parent / "bench"
sys.path[:0] = [str(BENCH), str(BENCH / "fanout")]

from many import Clients, send_queues  # noqa: E402
from measure import rss_mib  # noqa: E402
from stage import BUFFER, Stage  # noqa: E402

PATIENCE = 90  # s, for what takes one or two
DELIVERED = "busbar_delivered_total"
LATE_MS = 5_000  # of one event; some ms on a machine of its own
RSS_KIB = 16  # a client, the ring's share included


def _build() -> pathlib.Path:
    """Where the busbar under test was built; the tools are beside it."""
    return binary().parent


def _stage(rate: float, **more) -> Stage:
    return Stage(_build(), rate, **more)


def _clients(stage: Stage, count: int, path: str = "/events", **words) -> Clients:
    return Clients(_build(), stage.url + path, count, patience=PATIENCE, **words)


def _each_once(result: dict) -> None:
    assert (result["missed"], result["repeated"], result["gaps"], result["refused"]) == (0, 0, 0, 0), result


def _hash(number: int) -> int:
    """As client.c's mix()."""
    mask = (1 << 64) - 1
    number ^= number >> 33
    number = number * 0xFF51AFD7ED558CCD & mask
    number ^= number >> 33
    number = number * 0xC4CEB9FE1A85EC53 & mask
    return number ^ number >> 33


def test_two_thousand_clients_each_get_each_event_once():
    with _stage(30).start() as stage:
        before = rss_mib(stage.pid)
        with _clients(stage, 2_000, seconds=0) as clients:
            clients.wait("begin", PATIENCE)
            _let_read(stage, 2_000, 90)
            rss = (rss_mib(stage.pid) - before) * 1024 / 2_000
            result = clients.end()
    _each_once(result)
    assert result["closed"] == result["failed"] == 0
    assert result["deliveries"] > 2_000 * 60
    assert result["delay_ms"]["p99"] < LATE_MS
    assert rss < RSS_KIB


def test_a_thousand_clients_come_back_at_once_after_kill9():
    """With their own ids, as all were at the tail."""
    with _stage(50).start() as stage, _clients(stage, 1_000, seconds=0, warm=0, late=10, reconnect=50) as clients:
        clients.wait("attached", PATIENCE)
        _let_read(stage, 1_000, 60)
        stage.server.kill9()
        stage.server.start()
        _wait_ever(stage, 1_000)
        stage.server.wait_attached()
        _let_read(stage, 1_000, 100)
        result = clients.end()
    _each_once(result)
    assert result["attached"] == 1_000
    assert result["attached_ever"] == 2_000
    assert result["caught"] == 1_000
    assert result["least_number"] > 100


def test_a_herd_spread_over_the_journal_catches_up_and_delays_nobody(tmp_path):
    events, ids = 6_000, tmp_path / "ids"  # most of them are not in the ring
    with _stage(50, size=300, http={"shared_buffer": "1MiB"}) as stage:
        stage.fill(events)
        with _clients(stage, 1, "/events?last_event_id=", write_ids=ids, until=events, seconds=0, warm=0) as one:
            _each_once(one.wait("result"))
        assert len(ids.read_text().splitlines()) == events
        stage.server.kill9()
        stage.go_live()
        stage.server.start()
        stage.server.wait_attached()
        with _clients(stage, 50, seconds=0, warm=1) as others:
            others.wait("begin", PATIENCE)
            herd = _clients(stage, 1_000, last_event_id=ids, until_caught=True, seconds=0, warm=0)
            with herd:
                result = herd.wait("result", 2 * PATIENCE)
            live = others.end()
    _each_once(result)
    _each_once(live)
    assert result["caught"] == 1_000
    assert result["replayed"] > 1_000 * events * 0.45  # half the journal each
    assert live["caught"] == 50
    assert live["delay_ms"]["max"] < max(LATE_MS, result["caught_ms"]["max"] / 2)


def test_who_stops_reading_is_cut_and_comes_back_and_who_never_reads_holds_little():
    readers, stopped, dead, timeout = 300, 30, 30, 2
    words = {"seconds": 0, "warm": 0, "receive_buffer": 8192}
    with _stage(100, http={"client_timeout": f"{timeout}s"}).start() as stage, _Deepest(stage) as watched:
        coming_back = {"stopped": stopped, "reconnect": 100, "resume_after": 5 * timeout, "late": 10}
        stopping, never = _clients(stage, stopped, **coming_back, **words), _clients(stage, dead, closed=dead, **words)
        with stopping, never, _clients(stage, readers, seconds=0) as good:
            good.wait("begin", PATIENCE)
            wait_until(lambda: _cut(stage) >= stopped + dead, PATIENCE, "they are cut", every=0.2)
            never.close()  # what lies in the kernel for those goes with them
            _wait_ever(stage, readers + dead + 2 * stopped)
            wait_until(lambda: _attached(stage) == readers + stopped, PATIENCE, "those who stopped are back", every=0.1)
            _let_read(stage, readers + stopped, 100)
            result, back = good.end(), stopping.end()
    _each_once(result)
    assert result["closed"] == 0
    assert result["deliveries"] > readers * 100
    _each_once(back)
    assert back["attached"] == back["caught"] == stopped
    assert 8192 < watched.deepest <= 3 * BUFFER


def test_who_reads_too_slowly_is_cut_at_the_stated_lag_and_told_where_to_go_on():
    slow, others, lag = 20, 100, 4  # so long that who reads beside them isn't cut where the machine is busy
    with _stage(100, http={"client_lag": f"{lag}s"}).start() as stage:
        late = _clients(stage, slow, slow=slow, reconnect=100, receive_buffer=8192, seconds=0, warm=0)
        with late, _clients(stage, others, seconds=0) as good:
            good.wait("begin", PATIENCE)
            name = "busbar_clients_cut_lag_total"
            wait_until(lambda: stage.server.metrics()[name] >= slow, PATIENCE, "the slow ones are cut", every=0.3)
            _wait_ever(stage, others + 2 * slow)
            wait_until(lambda: _attached(stage) == slow + others, PATIENCE, "they are back", every=0.1)
            time.sleep(2)
            back, result = late.end(), good.end()
        line = stage.server.wait_log("event=client_cut ")
        assert " reason=lag " in line
        assert int(re.search(r" behind_ms=(\d+) ", line)[1]) >= lag * 1000
        position = re.search(r" position=(\S+)", line)[1]
        with stage.server.events(last_event_id=position) as client:
            numbers = [json.loads(frame.data)["Index"] for frame in client.wait_frames(50)]
    _each_once(back)
    assert back["attached_ever"] >= 2 * slow
    _each_once(result)
    assert result["closed"] == 0
    first = int(position.partition(":")[2].partition(".")[0]) + 1
    assert numbers[:50] == list(range(first, first + 50))


def _cut(stage: Stage) -> float:
    return sum(value for name, value in stage.server.metrics().items() if name.startswith("busbar_clients_cut_total"))


def _attached(stage: Stage) -> float:
    return stage.server.metrics()["busbar_clients"]


def _wait_ever(stage: Stage, count: int) -> None:
    """Until so many were attached since the mirror's start."""
    name = "busbar_clients_total"
    wait_until(lambda: stage.server.metrics().get(name, 0) >= count, PATIENCE, f"{count} have attached", every=0.3)


def _let_read(stage: Stage, clients: int, each: int) -> None:
    """Until the clients were sent so many events more, each its share; at their end they read what has come."""
    goal = stage.server.metrics()[DELIVERED] + clients * each
    wait_until(lambda: stage.server.metrics()[DELIVERED] >= goal, PATIENCE, f"{each} events each", every=0.2)


class _Deepest(threading.Thread):
    """Watches what the kernel holds for one client, while the `with` lasts: `deepest`, in bytes."""

    def __init__(self, stage: Stage):
        super().__init__(daemon=True)
        self.port, self.deepest, self.over = stage.server.http_port, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            self.deepest = max([self.deepest, *send_queues(self.port)])

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


def test_many_filters_let_through_what_they_should():
    """Forty different filters that mean the same, at four hundred clients; and one who reads all and knows what."""
    events, count, distinct = 1_500, 400, 40
    query = "topic=Job&topic=Nothing:%u"
    with _stage(300, lines=events, held=True).start() as stage:
        words = {"any_number": True, "seconds": 0, "warm": 0}
        with _clients(stage, count, query=query, filters=distinct, **words) as clients, stage.server.events() as all_:
            clients.wait("attached", PATIENCE)
            stage.generator.release()
            told = [json.loads(frame.data) for frame in all_.wait_frames(events, timeout=PATIENCE)]
            wanted = [event["Payload"]["Job"]["Number"] for event in told if event["Topic"] == "Job"]
            delivered = events + count * len(wanted)
            wait_until(lambda: stage.server.metrics()[DELIVERED] >= delivered, PATIENCE, "all are delivered", every=0.2)
            result = clients.end()
    assert 100 < len(wanted) < events / 2
    assert result["repeated"] == result["gaps"] == result["closed"] == 0
    assert len(result["groups"]) == distinct
    expected = sum(map(_hash, wanted)) & (1 << 64) - 1
    for group in result["groups"]:
        assert group == {"clients": count // distinct, "count": len(wanted), "hash": expected, "differ": 0}


@pytest.mark.parametrize("way", ["secure", "proxied"])
def test_through_tls_each_client_gets_each_event_once(way):
    """The mirror's own, and a HAProxy's before it; the clients check whom they talk to."""
    with _stage(20, **{way: True}).start() as stage, _clients(stage, 200, seconds=0, late=10, ca=stage.ca) as clients:
        clients.wait("begin", PATIENCE)
        _let_read(stage, 200, 60)
        result = clients.end()
    _each_once(result)
    assert result["closed"] == result["failed"] == 0
    assert result["attached"] == result["caught"] == 200
    assert result["deliveries"] > 200 * 20
