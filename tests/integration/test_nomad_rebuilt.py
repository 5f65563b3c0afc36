"""An index that starts over: a Nomad that is destroyed and built anew, and what only looks like one."""

import contextlib
import http.client
import json
import shutil
import threading
import time

import pytest
from rig import jobs
from rig.busbar import Busbar
from rig.exits import from_redis
from rig.nomad import Nomad, close_all, nomad_cluster, register_somewhere
from rig.oracle import compare
from rig.proc import wait_until
from rig.proxy import Proxy
from rig.standin import HOLD, Answer, Standin, event_line, refusal, stream
from rig.tap import Tap
from rig.wire import sent_bytes


@pytest.fixture
def nomad():
    with Nomad() as server:
        yield server


class _Exit:
    """A busbar that publishes into one stream of Redis, and what is there."""

    def __init__(self, name: str, redis, *servers: str, start="oldest"):
        self.name, self._redis = name, redis
        source = {"name": name, "type": "nomad", "servers": list(servers), "start": start}
        sink = {"name": "cache", "type": "redis", "url": redis.url, "stream": "%{source}"}
        self.busbar = Busbar({"name": name, "sources": [source], "sinks": [sink]})

    def __enter__(self):
        self.busbar.start()
        return self

    def __exit__(self, *_):
        self.busbar.close()

    def arrivals(self) -> list:
        return from_redis(self._redis.read_streams(lambda stream: stream != self.name))

    def ids(self) -> list[str]:
        """Of what the source told, in order; where a gap is said stands its reason."""
        arrivals = [one for one in self.arrivals() if one.type not in ("Snapshot", "Vanished")]
        kept = [one for one in arrivals if not one.is_own or one.type == "Gap"]
        return [json.loads(one.data)["Payload"]["Reason"] if one.is_own else one.identity for one in kept]

    def wait_ids(self, *parts: list[str]) -> str:
        """Until there are exactly these, in groups whose inner order is free, with one gap between two; its reason."""
        wanted = sum(map(len, parts)) + len(parts) - 1
        wait_until(lambda: len(self.ids()) >= wanted, 20, f"{wanted} events\n{self.busbar.log_tail()}")
        time.sleep(0.5)  # for one too many
        ids, reason = self.ids(), ""
        for number, part in enumerate(parts):
            if number:
                reason = ids.pop(0)
                assert "/" not in reason, reason
            assert sorted(ids[: len(part)]) == sorted(part)
            del ids[: len(part)]
        assert not ids
        return reason


def _rebuild(nomad: Nomad) -> None:
    """The same address, and nothing of what was."""
    if nomad.running:
        nomad.kill9()
    shutil.rmtree(nomad.folder / "data")
    nomad.start()


def _live(nomad: Nomad, prefix: str, jobs: int) -> int:
    """Has something happen; the index of its end."""
    for number in range(jobs):
        nomad.register_job(f"{prefix}-{number}")
    return _told(nomad)[-1].index


def _told(nomad: Nomad) -> list:
    """All that the Nomad has told since it was built, once it says no more."""
    nomad.wait_evaluated()
    with Tap(nomad.address) as tap:
        tap.wait_quiet(0.7)
    return tap.events


def _ids(name: str, events: list, epoch: int = 0) -> list[str]:
    index_epoch = f"~{epoch}" if epoch else ""
    return [f"{name}/{one.index}{index_epoch}/" + one.identity(name).split("/", 2)[2] for one in events]


def test_a_rebuilt_cluster_is_told_from_the_old_one(nomad, redis, source_name):
    """Before the eyes of the busbar, which is killed afterwards; then once more while it is down."""
    with _Exit(source_name, redis, nomad.address) as exit_:
        _live(nomad, "old", 40)
        old = _ids(source_name, _told(nomad))
        exit_.wait_ids(old)
        _rebuild(nomad)
        _live(nomad, "new", 3)
        new = _ids(source_name, _told(nomad), 1)
        reason = exit_.wait_ids(old, new)
        assert "started over" in reason, reason
        exit_.busbar.restart(hard=True)
        _live(nomad, "newer", 3)
        new = _ids(source_name, _told(nomad), 1)
        exit_.wait_ids(old, new)
        exit_.busbar.kill9()
        _rebuild(nomad)
        nomad.register_job("newest")
        newest = _ids(source_name, _told(nomad), 2)
        exit_.busbar.start()
        exit_.wait_ids(old, new, newest)
        assert len(exit_.busbar.log_lines("index_started_over")) == 2


def test_a_rebuilt_cluster_whose_index_has_passed_the_old_one_is_a_gap(nomad, redis, source_name):
    """Nothing tells it from the old one any more, but that continuity can't be proven either."""
    with _Exit(source_name, redis, nomad.address) as exit_:
        last = _live(nomad, "old", 5)
        old = _ids(source_name, _told(nomad))
        exit_.wait_ids(old)
        exit_.busbar.kill9()
        _rebuild(nomad)
        assert _live(nomad, "new", 20) > last + 10
        exit_.busbar.start()
        new = _ids(source_name, [event for event in _told(nomad) if event.index >= last])
        exit_.wait_ids(old, new)
        assert exit_.busbar.status()["sources"][0]["gaps"] == 1


# ---- what only looks like one ----


def _fatten(nomad: Nomad, registrations: int, groups: int = 40) -> None:
    """Jobs of many groups, by several at once: a raft log that takes Nomad long to apply."""

    def register(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", nomad.http_port, timeout=30)
        for number in range(first, registrations, 8):
            job = jobs.job(f"fat-{number % 8}", number=number)
            job["TaskGroups"] = [{**job["TaskGroups"][0], "Name": f"group-{one}"} for one in range(groups)]
            connection.request("PUT", "/v1/jobs", json.dumps({"Job": job}))
            assert connection.getresponse().read()
        connection.close()

    threads = [threading.Thread(target=register, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def _slowed(nomad: Nomad):
    """A machine that has a seventh of its time for Nomad: applying the log takes seconds, as a large one does."""
    over = threading.Event()

    def hold_back() -> None:
        while not over.wait(0.01):
            nomad.pause()
            over.wait(0.06)
            nomad.resume()

    thread = threading.Thread(target=hold_back)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _leader_was_asked(wires: list[Proxy]) -> bool:
    return any(link.request.startswith(b"GET /v1/jobs?") for wire in wires for link in wire.links)


def _judge_replays(redis, name: str, members: list[Nomad], fat: int, forgets: list[bool]) -> None:
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Proxy(member.http_port)) for member in members]
        tap = stack.enter_context(Tap(members[0].address, reconnect=True))
        exit_ = stack.enter_context(_Exit(name, redis, *(wire.address for wire in wires)))
        _fatten(members[0], fat)
        _replay(exit_, tap, members, forgets)
        verdict = compare({exit_.name: tap.events}, exit_.arrivals(), sent_bytes(*wires))
        print(verdict.assert_exact().summary())
        assert _leader_was_asked(wires)


def _replay(exit_: _Exit, tap: Tap, members: list[Nomad], forgets: list[bool]) -> None:
    """Exactly once and in order, through restarts that each bring all of the past again.

    A busbar that forgets has no more than what Redis says of the last index: everything older is unknown to it.
    """
    for number, forget in enumerate(forgets):
        tap.wait_quiet(0.5)
        wait_until(lambda: len(exit_.ids()) >= len(tap.events), 60, "all is there")
        if forget:
            exit_.busbar.kill9()
            shutil.rmtree(exit_.busbar.folder / "journal")
        for member in members:
            member.kill9()
        members[0].start(wait=False)
        if forget:
            exit_.busbar.start()
        if len(members) > 1:  # alone it has no leader, hence applies nothing yet
            exit_.busbar.wait_attached(60)
        for member in members[1:]:
            member.start(wait=False)
        slow = _slowed(members[0]) if len(members) == 1 else contextlib.nullcontext()  # several would lose their leader
        with slow:
            for member in members:
                member.wait_ready(180)
        register_somewhere(members, f"after-{number}")
    tap.wait_quiet(0.5)
    assert tap.intact
    log = exit_.busbar.log_lines
    assert not log("index_started_over") and not log("gap")
    wait_until(lambda: len(exit_.ids()) >= len(tap.events), 60, f"{len(tap.events)} events\n{exit_.busbar.log_tail()}")


def test_a_server_that_applies_its_log_anew_is_not_taken_for_a_rebuilt_cluster(nomad, redis, source_name):
    """For seconds it tells its oldest events again, and its leader says nothing."""
    _judge_replays(redis, source_name, [nomad], 400, [False, True])


def test_a_cluster_that_applies_its_log_anew_is_not_taken_for_a_rebuilt_one(redis, source_name):
    """All three at once, so that there is nobody who did not forget."""
    members = nomad_cluster(3)
    try:
        _judge_replays(redis, source_name, members, 120, [True])
    finally:
        close_all(members)


def _listing(index: int) -> Answer:
    return refusal("200 OK", "[]", {"X-Nomad-Index": index})


def _with_leader(server: Standin, index: int) -> Standin:
    for path in ("jobs", "allocations", "evaluations", "deployments"):
        server.on(f"/v1/{path}", _listing(index if path == "evaluations" else 1))
    return server


def test_a_follower_that_lags_is_not_taken_for_a_rebuilt_cluster(redis, source_name):
    """It tells what nobody here has seen, below what was seen; but the leader, whom it asks, is further."""
    ahead = Standin(stream(event_line(19), event_line(20)), refusal("500 Internal Server Error", "gone"))
    lags = stream(event_line(7, key="early"), event_line(19), event_line(20), event_line(21), HOLD)
    behind = _with_leader(Standin(lags), 21)
    with ahead, behind, _Exit(source_name, redis, ahead.address, behind.address) as exit_:
        exit_.wait_ids([f"{source_name}/{index}/Job/default/web/JobRegistered/0" for index in (19, 20, 21)])
        exit_.busbar.wait_log("source_lags")


def test_nothing_is_decided_as_long_as_no_leader_answers(redis, source_name):
    first = stream(event_line(19), event_line(20))
    after = stream(event_line(7, key="anew"), HOLD)
    with Standin(first, after) as server, _Exit(source_name, redis, server.address) as exit_:
        server.on("/v1/jobs", refusal("500 Internal Server Error", "No cluster leader"))
        line = exit_.busbar.wait_log("No cluster leader")
        assert "rebuilt cluster or a server that lags" in line and "source_backoff" in line
        old = [f"{source_name}/{index}/Job/default/web/JobRegistered/0" for index in (19, 20)]
        exit_.wait_ids(old)
        _with_leader(server, 7)
        exit_.wait_ids(old, [f"{source_name}/7~1/Job/default/anew/JobRegistered/0"])
