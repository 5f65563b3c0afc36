"""`type: marathon_callback`: a Marathon up to 1.4 that calls. What was answered 200 is journaled, and what may be
missing is told."""

import contextlib
import http.client
import json
import pathlib
import socket
import threading
import time

import pytest
from rig.busbar import Busbar, run_busbar
from rig.disk import Disk, OnDisk
from rig.marathon import Marathon
from rig.ports import free_port
from rig.proc import wait_until
from rig.standin import Answer, refusal
from rig.stopwatch import had

SECRET = "/marathon/7d1f0c3a9b5e4826"
METER = "service.mesosphere.marathon.core.event.impl.callback.HttpEventActor"


@pytest.fixture
def marathon():
    with Marathon(generation="old") as server:
        server.callback_backoff = 0.02  # times 2, 4, 8 … seconds
        yield server


class Called:
    """A busbar that this Marathon calls, and what its journal has."""

    def __init__(self, marathon, servers=None, on=None, path=SECRET, **more):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{path}"
        source = {"name": "old", "type": "marathon_callback", "servers": servers or [marathon.address]}
        source |= {"listen": f"127.0.0.1:{self.port}", "callback_url": self.url, "check_interval": "200ms", **more}
        self.busbar = on({"sources": [source]}) if on else Busbar({"sources": [source]})

    def __enter__(self):
        self.busbar.__enter__()
        return self

    def __exit__(self, *why):
        self.busbar.__exit__(*why)

    def wait(self) -> "Called":
        self.busbar.wait_attached()
        return self

    @property
    def source(self) -> dict:
        return self.busbar.status()["sources"][0]

    def told(self) -> list[tuple[str, bytes]]:
        """All that the journal has by now, without what a resync tells: (type, data) in its order."""
        count = self.source["journal"]["next_seq"] - self.source["journal"]["first_seq"]
        with self.busbar.events(from_oldest=True) as client:
            frames = client.wait_frames(count)
        return [(frame.event, frame.data) for frame in frames if frame.event not in ("Snapshot", "Vanished")]

    def events(self) -> list[bytes]:
        """Only Marathon's."""
        return [data for _, data in self.told() if b'"Topic":"Busbar"' not in data]

    def gaps(self) -> list[str]:
        return [json.loads(data)["Payload"]["Reason"] for kind, data in self.told() if kind == "Gap"]

    def wait_gaps(self, count: int) -> list[str]:
        text = f"{count} gaps\n{self.busbar.log_tail()}"
        return wait_until(lambda: (gaps := self.gaps())[count - 1 :] and gaps, 30, text)

    def post(self, body: bytes, path: str = SECRET, method: str = "POST") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body)
            return connection.getresponse().status
        finally:
            connection.close()


def number(i: int) -> dict:
    return {"slaveId": "s", "taskId": f"web.{i}", "taskStatus": "TASK_RUNNING", "appId": "/web", "ports": [i]}


def emit(marathon, count: int, first: int = 0) -> None:
    for i in range(first, first + count):
        marathon.emit("status_update_event", number(i))


def accepted(marathon) -> list[bytes]:
    return [one.data for one in marathon.posted if one.status == 200]


def wait_accepted(marathon, data: bytes) -> None:
    wait_until(lambda: data in accepted(marathon), 30, f"a call with {data[:80]!r} that is answered 200")


def wait_answered(marathon) -> None:
    """Until it knows that a call was taken: else it backs off where the busbar is killed before its answer is there."""
    wait_until(lambda: accepted(marathon), 30, "a call that is answered 200")


def wait_failed(marathon, data: bytes) -> None:
    calls_with = lambda: [one.status for one in list(marathon.posted) if one.data == data]  # noqa: E731
    wait_until(lambda: 0 in calls_with(), 30, f"a call with {data[:80]!r} that fails")


@contextlib.contextmanager
def telling(marathon):
    """Meanwhile it tells events, about 1,000 a second."""
    done = threading.Event()

    def tell():
        for i in range(1_000_000):
            marathon.emit("status_update_event", number(i))
            if done.wait(0.001):
                return

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def tell_until_accepted(marathon) -> None:
    """As a busy Marathon does: what is skipped meanwhile is lost."""
    told = set()
    for i in range(2_000_000, 2_002_000):
        told.add(marathon.emit("status_update_event", number(i)))
        time.sleep(0.02)
        if told & set(accepted(marathon)):
            return
    raise AssertionError("no call that is answered 200")


def judge(marathon, called) -> None:
    """Each event that was told is in the journal once and in its order, or where it is missing there is a Gap."""
    place, last, missing_is_told = {sent.data: i for i, sent in enumerate(marathon.sent)}, None, True
    assert len(place) == len(marathon.sent), "events that can't be told apart"
    for kind, data in called.told():
        if kind == "Gap":
            missing_is_told = True
        elif data in place:
            assert last is None or place[data] > last, f"twice, or out of order: {data!r}"
            assert missing_is_told or place[data] == last + 1, f"missing, and no Gap: {marathon.sent[last + 1]}"
            last, missing_is_told = place[data], False


def calls(marathon, method: str) -> int:
    return sum(r.method == method and r.path == "/v2/eventSubscriptions" for r in list(marathon.requests))


# Its life


def test_registers_takes_every_event_as_it_is_and_unregisters(marathon):
    with Called(marathon, path=SECRET + "?of=a%20b&c=") as called:
        called.wait()
        assert marathon.subscribers == [called.url]
        marathon.put_app("/web", instances=3, health=True)
        marathon.emit("brand_new_event", '{"id":"/ü \u2028","n":1e400,"eventType":"brand_new_event"}'.encode())
        last = marathon.emit("status_update_event", number(0))
        wait_accepted(marathon, last)
        assert called.events() == [sent.data for sent in marathon.sent]
        assert not called.gaps()
        assert called.busbar.stop() == 0
    assert marathon.subscribers == []
    # What tells of its own end may come too late for it.
    assert all(one.status == 200 for one in marathon.posted if one.type != "unsubscribe_event")


def test_reads_the_state_at_the_first_start(marathon):
    marathon.put_app("/before", instances=1)
    with Called(marathon) as called:
        wait_until(lambda: called.wait().source["resync"]["finished"], 30, "a resync")
        with called.busbar.events(from_oldest=True, type="Snapshot") as client:
            wait_until(lambda: any(b'"/before"' in frame.data for frame in client.frames), 30, "its app")
        assert called.told()[0][0] == "ResyncStarted"


def test_what_was_answered_200_outlives_kill_9(marathon):
    marathon.callback_backoff = 0.002
    with Called(marathon) as called:
        called.wait()
        with telling(marathon):
            for round_ in range(6):
                before = len(accepted(marathon))
                wait_until(lambda: len(accepted(marathon)) > before + 50 + 13 * round_, 30, "more calls", every=0.001)
                called.busbar.kill9()
                called.busbar.start()
        called.wait()
        tell_until_accepted(marathon)
        judge(marathon, called)
        assert not set(accepted(marathon)) - set(called.events()), "answered 200, and lost"
        assert len(called.gaps()) >= 6


def test_goes_on_with_its_own_registration(marathon):
    with Called(marathon) as called:
        called.wait()
        wait_answered(marathon)
        called.busbar.kill9()
        wait_failed(marathon, marathon.emit("status_update_event", number(1)))  # it backs off for a moment
        time.sleep(0.1)
        called.busbar.start()
        called.wait()
        assert marathon.subscribers == [called.url]
        assert calls(marathon, "DELETE") == 0
        judge(marathon, called)
        assert called.busbar.log_lines("callback_found")
        assert called.wait_gaps(1) == ["this source can't tell again what happened while it was detached"]


def test_ends_a_backoff_that_it_finds(marathon):
    with Called(marathon) as called:
        called.wait()
        wait_answered(marathon)
        marathon.callback_backoff = 1000.0
        called.busbar.kill9()
        failed = marathon.emit("status_update_event", number(1))
        wait_failed(marathon, failed)
        called.busbar.start()
        called.wait()
        assert calls(marathon, "DELETE") == 1
        wait_accepted(marathon, marathon.emit("status_update_event", number(2)))
        assert failed not in called.events()
        assert len(called.wait_gaps(1)) == 1
        judge(marathon, called)


def test_stops_under_load_without_losing_what_it_took(marathon):
    with Called(marathon) as called:
        called.wait()
        emit(marathon, 500)
        wait_until(lambda: len(accepted(marathon)) > 100, 30, "some calls")
        assert called.busbar.stop() == 0
        assert marathon.subscribers == []
        tellers = lambda: [one for one in threading.enumerate() if one.name == "marathon-callback"]  # noqa: E731
        wait_until(lambda: not tellers(), 30, "nothing of it is under way any more")
        sure = accepted(marathon)
        called.busbar.start()
        assert set(sure) <= set(called.wait().events())
        judge(marathon, called)


def test_stops_soon_where_marathon_is_gone(marathon):
    with Called(marathon) as called:
        called.wait()
        marathon.answer("/v2/eventSubscriptions", Answer(60.0))
        began = had()
        assert called.busbar.stop() == 0
        assert had() - began < 8


# What Marathon does to it


def test_registers_again_where_its_registration_is_gone(marathon):
    with Called(marathon) as called:
        called.wait()
        marathon.forget_subscribers()
        marathon.emit("status_update_event", number(1))
        wait_until(lambda: marathon.subscribers == [called.url], 30, "a registration")
        assert len(called.wait_gaps(1)) == 1
        wait_accepted(marathon, marathon.emit("status_update_event", number(2)))
        judge(marathon, called)
        assert "list of subscribers does not have this callback" in called.busbar.log.read_text()


def test_says_a_gap_where_a_call_came_before_its_registration(marathon):
    """One that was still under way to the process before; what was told until the new registration nobody was told."""
    with Called(marathon) as called:
        called.wait()
        wait_until(lambda: called.source["journal"]["next_seq"] > 1, 30, "something is known")
        called.busbar.stop()
        late, go_on = marathon.emit("status_update_event", number(1)), threading.Event()
        marathon.answer("/v2/eventSubscriptions", Answer(go_on, b'{"callbackUrls":[]}', chunked=False))
        asked = len(marathon.requests)
        called.busbar.start()
        marathon.wait_requests(asked + 1)
        assert called.post(late) == 200
        marathon.emit("status_update_event", number(2))
        marathon.answer("/v2/eventSubscriptions", None)
        go_on.set()
        wait_until(lambda: marathon.subscribers == [called.url], 30, "a registration")
        wait_accepted(marathon, marathon.emit("status_update_event", number(3)))
        assert len(called.wait_gaps(2)) == 2
        judge(marathon, called)


class InTurn(Answer):
    """Each time the steps of the next of its lists."""

    def head(self) -> bytes:
        self._lists = getattr(self, "_lists", None) or iter(self.steps)
        self.steps = next(self._lists)
        return super().head()


def test_says_a_gap_where_a_call_of_before_comes_while_it_registers(marathon):
    with Called(marathon) as called:
        called.wait()
        registered, go_on = calls(marathon, "POST"), threading.Event()
        marathon.answer("/v2/eventSubscriptions", InTurn([b'{"callbackUrls":[]}'], [go_on, b"{}"], chunked=False))
        wait_until(lambda: calls(marathon, "POST") > registered, 30, "it asks for a registration")
        marathon.forget_subscribers()
        assert called.post(marathon.emit("status_update_event", number(1))) == 200  # was under way
        marathon.emit("status_update_event", number(2))
        marathon.answer("/v2/eventSubscriptions", None)
        marathon.subscribe(called.url)
        go_on.set()
        wait_accepted(marathon, marathon.emit("status_update_event", number(3)))
        assert len(called.wait_gaps(2)) == 2
        judge(marathon, called)


def test_says_a_gap_where_the_leader_changed():
    with Marathon(nodes=2, generation="old") as marathon, Called(marathon, marathon.addresses) as called:
        called.wait()
        wait_until(lambda: any(r.path == "/metrics" for r in marathon.requests), 30, "a look at who leads")
        marathon.elect(1)
        [why] = called.wait_gaps(1)
        assert "leader changed from" in why and why.count("127.0.0.1:") == 2
        wait_accepted(marathon, marathon.emit("status_update_event", number(1)))
        assert called.source["state"] == "attached"


def test_is_detached_without_a_leader():
    with Marathon(nodes=2, generation="old") as marathon, Called(marathon, marathon.addresses) as called:
        called.wait()
        marathon.elect(None)
        called.busbar.wait_log("event=source_backoff")
        assert not called.busbar.is_attached()
        assert "no leader" in called.source["last_error"]
        marathon.elect(0)
        called.wait()
        assert len(called.wait_gaps(1)) == 1
        assert marathon.subscribers == [called.url]


def test_says_a_gap_before_the_first_event_of_a_new_leader(marathon):
    with Called(marathon, check_interval="1h") as called:
        called.wait()
        new = marathon.emit("scheduler_registered_event", {"frameworkId": "f", "master": "127.0.0.1:5050"})
        wait_accepted(marathon, new)
        kinds = [kind for kind, _ in called.told() if not kind.startswith("Resync")]
        assert kinds[-2:] == ["Gap", "scheduler_registered_event"]
        assert "registered with Mesos anew" in called.gaps()[0]
        marathon.emit("scheduler_reregistered_event", {"frameworkId": "f", "master": "127.0.0.1:5050"})
        wait_accepted(marathon, marathon.emit("status_update_event", number(1)))
        assert len(called.gaps()) == 1


def test_says_a_gap_where_marathon_counts_lost_calls(marathon):
    def metrics(failed, skipped):
        meters = {f"{METER}.{name}": {"count": count, "m1_rate": 0.5} for name, count in
                  (("events", 10**6), ("failed-callbacks", failed), ("skipped-callbacks", skipped))}  # fmt: skip
        marathon.answer("/metrics", refusal("200 OK", json.dumps({"version": "3.0.0", "meters": meters})))

    def wait_look():
        seen = sum(r.path == "/metrics" for r in list(marathon.requests))
        wait_until(lambda: sum(r.path == "/metrics" for r in list(marathon.requests)) > seen + 1, 30, "a look")

    metrics(3, 17)
    with Called(marathon) as called:
        called.wait()
        wait_look()
        assert not called.gaps()
        metrics(4, 19)
        [why] = called.wait_gaps(1)
        assert "counts 3 calls more that failed" in why
        marathon.subscribe("http://127.0.0.1:1/other")  # whose calls are lost now?
        wait_look()
        metrics(5, 30)
        wait_look()
        assert len(called.gaps()) == 1


def test_makes_a_quiet_marathon_prove_that_it_calls(marathon):
    with Called(marathon, silence="1s") as called:
        called.wait()
        wait_until(lambda: len(called.events()) >= 3, 30, "subscribe_event again")
        assert b"subscribe_event" in called.events()[-1]
        assert marathon.subscribers == [called.url] and calls(marathon, "DELETE") == 0
        assert not called.gaps()


def test_says_that_marathon_can_not_reach_it(marathon):
    other = f"http://127.0.0.1:{free_port()}{SECRET}"
    with Called(marathon, callback_url=other, connect_timeout="1s") as called:
        line = called.busbar.wait_log("can its machines reach", 40)
        assert "event=source_backoff" in line and SECRET not in line
        assert not called.busbar.is_attached()
        assert marathon.subscribers == [other]


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda m: setattr(m, "is_old", False), "a Marathon from 1.5 on has none, use `type: marathon`"),
        (lambda m: setattr(m, "callbacks_on", False), "start it with --event_subscriber http_callback"),
        (lambda m: m.answer("/v2/eventSubscriptions", refusal("200 OK", "{}")), "no list of subscribers"),
        (lambda m: m.answer("/v2/eventSubscriptions", refusal("401 Unauthorized")), "401"),
        (lambda m: m.answer("/v2/eventSubscriptions", refusal("302 Found")), "refused (302)"),
        (lambda m: m.kill(0), "refused"),
    ],
    ids=["new", "off", "shape", "401", "302", "dead"],
)
def test_says_why_it_is_not_registered(marathon, prepare, told):
    prepare(marathon)
    with Called(marathon) as called:
        line = called.busbar.wait_log("event=source_backoff")
        assert told in line and not called.busbar.is_attached()
        marathon.is_old, marathon.callbacks_on = True, True
        marathon.answer("/v2/eventSubscriptions", None)
        if not marathon.nodes[0].is_running:
            marathon.start(0)
        called.wait()


def test_stays_attached_while_calls_come_though_nothing_can_be_asked(marathon):
    marathon.callback_connections = 4  # calls come though one thread has no time
    with Called(marathon, check_interval="1s") as called:
        called.wait()
        with telling(marathon):
            marathon.answer("/v2/eventSubscriptions", refusal("401 Unauthorized"))
            called.busbar.wait_log("event=callback_unchecked")
            assert not called.busbar.log_lines("source_backoff")
        called.busbar.wait_log("event=source_backoff", 60)  # when no call comes any more
        assert len(called.busbar.log_lines("callback_unchecked")) == 1


def test_asks_the_leader_through_whoever_is_there():
    with Marathon(nodes=3, generation="old", user="me", password="secret") as marathon:
        marathon.kill(1)
        servers = [marathon.addresses[1], marathon.addresses[2]]
        with Called(marathon, servers, username="me", password="secret") as called:
            called.wait()
            wait_accepted(marathon, marathon.emit("status_update_event", number(1)))
            assert called.source["server"] == marathon.addresses[2]


# What others do to its door


def test_takes_only_what_is_posted_to_the_callback(marathon):
    with Called(marathon, path=SECRET + "?k=v") as called:
        called.wait()
        body, right = json.dumps({"eventType": "forged_event"}).encode(), SECRET + "?k=v"
        wrong = [SECRET, SECRET + "?k=w", SECRET + "?k=v&k=v", SECRET + "/?k=v", "/", SECRET[:-1] + "?k=v"]
        assert [called.post(body, path) for path in wrong] == [404] * len(wrong)
        assert [called.post(body, right, method) for method in ("GET", "PUT", "DELETE")] == [404] * 3
        with socket.create_connection(("127.0.0.1", called.port), 10) as one:  # its body is not waited for
            one.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n")
            assert one.recv(65536).startswith(b"HTTP/1.1 404")
        assert not any(b"forged" in data for data in called.events())
        assert called.post(body, right) == 200
        assert called.post(body, right.replace("/marathon", "/%6darathon").replace("v", "%76")) == 200
        assert sum(b"forged" in data for data in called.events()) == 2


def test_journals_what_it_can_not_read(marathon):
    with Called(marathon) as called:
        called.wait()
        bodies = [b"", b"{", b"[1]", b'{"id":"no type"}', b"\xff\xfe", b"x" * 3_000_000]
        assert [called.post(body) for body in bodies] == [200] * len(bodies)
        told = [json.loads(data) for kind, data in called.told() if kind == "Malformed"]
        assert len(told) == len(bodies)
        wait_accepted(marathon, marathon.emit("status_update_event", number(1)))
        assert not called.gaps()


def test_takes_events_up_to_32_mib_and_tells_of_larger_ones(marathon):
    def event(size):
        return b'{"eventType":"large_event","padding":"' + b"x" * (size - 40) + b'"}'

    with Called(marathon) as called:
        wait_until(lambda: called.wait().events(), 30, "what attached it is journaled")
        before = called.source["events"]
        assert called.post(event(32 * 1024 * 1024)) == 200
        assert called.source["events"] > before  # by more where that took so long that it registered anew
        assert called.busbar.metrics()['busbar_malformed_total{source="old"}'] == 0
        assert not called.busbar.log_lines("callback_too_large")
        with contextlib.suppress(ConnectionError):  # it may be cut off in the middle
            assert called.post(event(32 * 1024 * 1024 + 1)) == 413
        assert called.busbar.wait_log("event=callback_too_large")
        wait_until(lambda: called.source["gaps"] >= 1, 30, "a gap")  # one more where it heard of its own end
        called.wait()


def test_slow_and_silent_connections_hinder_nobody(marathon):
    with Called(marathon) as called, contextlib.ExitStack() as open_ones:
        called.wait()
        half = f"POST {SECRET} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf".encode()
        for i in range(200):
            one = open_ones.enter_context(socket.create_connection(("127.0.0.1", called.port), 10))
            one.sendall(half[: len(half) if i % 2 else i // 2])
        began = had()
        wait_accepted(marathon, marathon.emit("status_update_event", number(1)))
        assert had() - began < 8
        assert not called.gaps()


def test_pipelined_calls_are_answered_or_not_taken(marathon):
    with Called(marathon) as called:
        called.wait()
        request = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
        bodies = [b'{"eventType":"piped_event","n":%d}' % i for i in range(5)]
        with socket.create_connection(("127.0.0.1", called.port), 10) as one:
            one.sendall(b"".join(request % (SECRET.encode(), len(body), body) for body in bodies))
            answer = b"".join(iter(lambda: one.recv(65536), b""))
        taken = [data for data in called.events() if b"piped_event" in data]
        assert answer.count(b"HTTP/1.1 200") == len(taken) >= 1
        assert taken == bodies[: len(taken)]


def test_waits_for_its_port(marathon):
    called = Called(marathon)
    with socket.create_server(("127.0.0.1", called.port)), contextlib.ExitStack() as running:
        running.enter_context(called)
        assert "in use" in called.busbar.wait_log("event=source_backoff")
        running = running.pop_all()
    with running:
        called.wait()


# What may happen to its process


def test_a_process_that_stood_still_tells_a_gap(marathon):
    with Called(marathon) as called:
        called.wait()
        wait_answered(marathon)
        marathon.callback_limit, marathon.callback_backoff = 1.0, 1000.0
        called.busbar.pause()
        threads = pathlib.Path(f"/proc/{called.busbar.pid}/task")
        wait_until(lambda: all(") T " in (one / "stat").read_text() for one in threads.iterdir()), 30, "a standstill")
        wait_failed(marathon, marathon.emit("status_update_event", number(1)))
        time.sleep(4)
        called.busbar.resume()
        tell_until_accepted(marathon)
        assert called.wait().source["state"] == "attached"
        judge(marathon, called)
        assert called.gaps()


def test_answers_when_a_full_disk_has_room_again(marathon, tmp_path):
    disk = Disk(tmp_path / "disk", "6m")
    if disk.why:
        pytest.skip(f"no mount: {disk.why}")
    try:
        with Called(marathon, on=lambda config: on_disk(config, disk)) as called:
            called.wait()
            disk.fill()
            padding = "x" * 100_000
            last = [marathon.emit("status_update_event", number(i) | {"message": padding}) for i in range(20)][-1]
            called.busbar.wait_log("event=journal_full")
            assert last not in accepted(marathon)
            disk.empty()
            wait_accepted(marathon, last)
            assert [data for data in called.events() if b"x" * 99 in data] == [
                sent.data for sent in marathon.sent if b"x" * 99 in sent.data
            ]
    finally:
        disk.close()


def on_disk(config: dict, disk: Disk) -> OnDisk:
    return OnDisk(config | {"journal": {"path": str(disk.folder / "journal")}}, disk)


# `check`


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({}, 'callback_url'),
        ({"callback_url": "http://h:1"}, "PATH"),
        ({"callback_url": "http://me:pw@h:1/x"}, "without user"),
        ({"callback_url": "http://h:1/a b"}, "encoded"),
        ({"callback_url": "http://h:1/x", "listen": "0.0.0.0:1"}, "a path that can be guessed"),
        ({"callback_url": "http://h:1/x", "start": "oldest"}, "Marathon keeps no event"),
        ({"callback_url": f"http://h:1{SECRET}", "listen": "0.0.0.0:1"}, ""),
        ({"callback_url": "http://h:1/x", "listen": "[::1]:1"}, ""),
    ],
)  # fmt: skip
def test_check_tells_what_is_wrong(tmp_path, source, told):
    source = {"name": "old", "type": "marathon_callback", "servers": ["http://m:8080"], **source}
    path = tmp_path / "b.yaml"
    path.write_text(json.dumps({"journal": {"path": "/nowhere"}, "http": {}, "sources": [source]}))
    found = run_busbar("check", "-c", path)
    assert (found.returncode == 0) == (told == "")
    assert told in found.stderr
