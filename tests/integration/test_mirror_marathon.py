"""The mirror as a Marathon: the same requests to a Marathon and to the mirror of a busbar that follows it, and the
bytes of the real servlet."""

import contextlib
import itertools
import os
import re
import resource
import select
import socket
import time

import pytest
from rig.busbar import Busbar
from rig.heard import EVENT_STREAM, OWN, STREAM, Heard, following
from rig.marathon import FIXTURES, Marathon, capture
from rig.marathon_stream import frame
from rig.proc import wait_until
from rig.stopwatch import had

ATTACHMENTS = ("event_stream_attached", "event_stream_detached")
CAPTURE = [(kind, data) for kind, data in capture("real-1.11.sse") if kind not in ATTACHMENTS]
SERVLET = (FIXTURES / "wire-true-servlet.bin").read_bytes()
HEADERS = ("Content-Type", "Cache-Control", "Pragma", "Expires", "Connection", "X-Frame-Options", "X-XSS-Protection")
QUERIES = (
    "",
    "?event_type=status_update_event",
    "?event_type=status_update_event&event_type=deployment_info",
    "?event_type=event_stream_attached",
    "?event_type=nothing",
    "?event_type=",
    "?event_type",
    "?event_type=Status_update_event",
    "?event_type=status",
    "?event_type=*",
    "?event_type=status%5Fupdate_event",
    "?event_type=status_update_event,deployment_info",
    "?plan-format=light",
    "?plan-format=nonsense&event_type=deployment_success",
    "?index=1&last_event_id=&since=2001-01-01T00:00:00Z",
    "?&&=&x&event_type=group_change_success&",
)
REFUSED = (
    ("GET", STREAM, {}),
    ("GET", STREAM, {"Accept": "*/*"}),
    ("GET", STREAM, {"Accept": "text/event-stream, */*"}),
    ("GET", STREAM, {"Accept": "text/event-stream;charset=utf-8"}),
    ("GET", STREAM, {"Accept": "Text/Event-Stream"}),
    ("GET", STREAM, {"accept": "application/json", "X": "text/event-stream"}),
    ("HEAD", STREAM, {"Accept": "text/html"}),
    *((method, STREAM, EVENT_STREAM) for method in ("POST", "PUT", "DELETE", "PATCH")),
    ("GET", STREAM + "/", EVENT_STREAM),
    ("GET", STREAM + "/x", EVENT_STREAM),
    ("GET", "/v2/event", EVENT_STREAM),
    ("GET", "/V2/events", EVENT_STREAM),
    ("HEAD", STREAM + "/", EVENT_STREAM),
)


def _source(address: str, **more) -> dict:
    return {"name": "prod", "type": "marathon", "servers": [address], "start": "now", **more}


@pytest.fixture(scope="module")
def pair():
    """A Marathon, and a busbar that follows it."""
    with Marathon() as marathon, following(marathon) as busbar:
        yield marathon, busbar


@pytest.fixture(scope="module", autouse=True)
def long_lived(pair):
    """One that listens as long as the tests take."""
    with Heard(pair[1].url) as heard:
        yield heard.wait_head(), time.monotonic(), had()


def _played(frames) -> bytes:
    return b"".join(frame(kind, data) for kind, data in frames)


# ---- the same requests ----


def test_the_same_requests_get_the_same_streams(pair):
    marathon, busbar = pair
    frames = CAPTURE[:400]
    with contextlib.ExitStack() as stack:
        both = [
            [stack.enter_context(Heard(at, STREAM + query)).wait_head() for at in (marathon.address, busbar.url)]
            for query in QUERIES
        ]
        marathon.wait_streams(len(QUERIES) + 1)  # it answers before it attaches
        last = stack.enter_context(Heard(busbar.url, headers={**EVENT_STREAM, "Last-Event-ID": "1"})).wait_head()
        marathon.play(frames)
        wanted = _played(frames)
        last.wait(lambda heard: len(heard.told) >= len(wanted))
        assert last.told == wanted
        for query, (theirs, ours) in zip(QUERIES, both, strict=True):
            theirs.wait(lambda heard, told=_wanted(frames, query): heard.told == told)
            ours.wait(lambda heard, told=theirs.told: len(heard.told) >= len(told))
            assert ours.told == theirs.told, query
            assert ours.head[0] == theirs.head[0] == "HTTP/1.1 200 OK"
            assert [ours.headers.get(name) for name in HEADERS] == [theirs.headers.get(name) for name in HEADERS]
            starts = [bool(OWN.match(heard.body)) for heard in (theirs, ours)]
            assert starts[0] == starts[1], query
        told = sum(len(ours.told) > 0 for _, ours in both)
        assert told >= 8 and len(both) - told >= 5


def _wanted(frames, query: str) -> bytes:
    """By the rule that the parameter names types exactly."""
    if "event_type" not in query:
        return _played(frames)
    types = re.findall(r"event_type(?:=([^&]*))?", query.replace("%5F", "_"))
    return _played((kind, data) for kind, data in frames if kind in types)


@pytest.mark.parametrize(("method", "path", "headers"), REFUSED)
def test_the_same_requests_are_refused(pair, method, path, headers):
    marathon, busbar = pair
    with Heard(marathon.address, path, headers, method) as theirs, Heard(busbar.url, path, headers, method) as ours:
        assert ours.wait_head().status == theirs.wait_head().status
        assert ours.status in (404, 405)
        assert ours.head[0] == theirs.head[0]


def test_one_of_several_accept_headers_is_enough(pair):
    """As in Jetty's EventSourceServlet, which looks at each."""
    pairs = [("Accept", "text/html"), ("Accept", "text/event-stream")]
    with Heard(pair[1].url, headers=pairs) as ours:
        assert ours.wait_head().status == 200


def test_a_head_has_the_headers_alone(pair):
    marathon, busbar = pair
    attached = busbar.metrics()["busbar_clients"]
    with Heard(marathon.address, method="HEAD") as theirs, Heard(busbar.url, method="HEAD") as ours:
        ours.wait(lambda heard: heard.ended)
        assert ours.status == theirs.wait_head().status == 200
        assert [ours.headers.get(name) for name in HEADERS] == [theirs.headers.get(name) for name in HEADERS]
        assert not ours.body
    assert busbar.metrics()["busbar_clients"] <= attached


# ---- the same bytes ----


def _timeless(text: bytes) -> bytes:
    return re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", b"TIME", text)


def test_it_begins_as_the_real_servlet_does(pair):
    head, _, body = SERVLET.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    real = dict(line.split(": ", 1) for line in lines)
    busbar = pair[1]
    with Heard(busbar.url) as ours:
        ours.wait_head().wait(lambda heard: heard.frames)
        assert ours.head[0] == status
        assert real.keys() - ours.headers.keys() == {"Server"}
        assert ours.headers.keys() - real.keys() == {"X-Accel-Buffering"}
        for name in real.keys() - {"Server", "Date", "X-Marathon-Leader"}:
            assert ours.headers[name] == real[name]
        assert ours.headers["X-Marathon-Leader"] == busbar.url
        assert time.strptime(ours.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT")
        first = body.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        assert _timeless(ours.frames[0]) == _timeless(first)


def test_what_the_real_servlet_wrote_is_written_alike():
    """Its own bytes, the client's first event left out."""
    rest = SERVLET.partition(b"\r\n\r\n")[2].partition(b"\r\n\r\n")[2]
    frames = capture("wire-true-servlet.bin")[1:]
    assert _played(frames) == rest[: len(_played(frames))]
    with Marathon() as marathon, following(marathon) as busbar, Heard(busbar.url) as ours:
        ours.wait_head()
        marathon.play(frames)
        ours.wait(lambda heard: len(b"".join(heard.frames[1:])) >= len(_played(frames)))
        assert b"".join(ours.frames[1:]) == _played(frames)


def test_the_whole_capture_comes_byte_for_byte(pair):
    marathon, busbar = pair
    wanted = _played(CAPTURE)
    with Heard(busbar.url) as ours:
        ours.wait_head()
        marathon.play(CAPTURE)
        ours.wait(lambda heard: len(heard.received) >= len(wanted) and len(heard.told) >= len(wanted))
        assert ours.told == wanted


def test_plans_are_told_as_the_source_asks_for_them():
    """The journal has one form; `plan-format=` is accepted and changes nothing, where Marathon itself leaves parts out."""
    heavy = b'{"plan":{"id":"1","original":{"id":"/"},"target":{"id":"/"}},"eventType":"deployment_info"}'
    with Marathon(plans="heavy") as marathon, following(marathon, {"plan_format": "full"}) as busbar:
        path = STREAM + "?plan-format=light"
        with Heard(marathon.address, path) as theirs, Heard(busbar.url, path) as ours:
            theirs.wait_head(), ours.wait_head()
            marathon.wait_streams(2)
            marathon.emit("deployment_info", heavy)
            ours.wait(lambda heard: heard.told)
            theirs.wait(lambda heard: heard.told)
            assert ours.told == frame("deployment_info", heavy)
            assert b"original" not in theirs.told


# ---- those who listen ----


def test_the_others_are_told_who_comes_and_goes():
    with contextlib.ExitStack() as stack:
        marathon = stack.enter_context(Marathon())
        busbar = stack.enter_context(following(marathon))
        upstream = len(marathon.sent)
        first = stack.enter_context(Heard(busbar.url)).wait(lambda heard: heard.frames)
        filtered = stack.enter_context(Heard(busbar.url, STREAM + "?event_type=event_stream_detached"))
        first.wait(lambda heard: len(heard.frames) == 2)  # its own, and the other's
        with Heard(busbar.url) as second:
            second.wait(lambda heard: heard.frames)
            first.wait(lambda heard: len(heard.frames) == 3)
        first.wait(lambda heard: len(heard.frames) == 4)
        told = [OWN.fullmatch(text) for text in first.frames]
        assert [match[1].decode() for match in told] == [*(["event_stream_attached"] * 3), "event_stream_detached"]
        assert {match[2] for match in told} == {b"127.0.0.1"}
        filtered.wait(lambda heard: heard.frames)
        assert filtered.frames == first.frames[3:]
        assert len(second.frames) == 1
        assert len(marathon.sent) == upstream  # Marathon has one client, and hears of no other
        assert len(marathon.streams) == 1


def test_addresses_are_told_as_java_writes_them():
    """IPv6 in full; IPv4 that came to a socket for both as IPv4."""
    with Marathon() as marathon:
        busbar = Busbar({"name": "t", "sources": [_source(marathon.address)]})
        http = {"listen": f"[::]:{busbar.http_port}", "allow_anonymous": True}
        busbar.configure({"name": "t", "sources": [_source(marathon.address)], "http": http})
        with busbar:
            for host, told in (("127.0.0.1", b"127.0.0.1"), ("[::1]", b"0:0:0:0:0:0:0:1")):
                with Heard(f"http://{host}:{busbar.http_port}") as heard:
                    assert OWN.match(heard.wait(lambda heard: heard.frames).body)[2] == told


def test_credentials_are_answered_as_there():
    """DC/OS's form, and basic auth with the token as password."""
    table = [
        ({}, 401),
        ({"Authorization": "token=s3cret"}, 200),
        ({"Authorization": "token=wrong"}, 401),
        ({"Authorization": "Basic dXNlcjpzM2NyZXQ="}, 200),  # user:s3cret
        ({"Authorization": "Basic dXNlcjp3cm9uZw=="}, 401),  # user:wrong
        ({"Authorization": "Basic !"}, 401),
    ]
    with Marathon(user="user", password="s3cret", token="s3cret") as marathon:
        with following(marathon, {"token": "s3cret"}, token="s3cret") as busbar:
            for headers, status in table:
                for accept, path in itertools.product((EVENT_STREAM, {}), (STREAM, STREAM + "/")):
                    asked = path, {**headers, **accept}
                    with Heard(marathon.address, *asked) as theirs, Heard(busbar.url, *asked) as ours:
                        assert ours.wait_head().status == theirs.wait_head().status, asked
                        if path == STREAM:
                            challenges = [heard.headers.get("WWW-Authenticate") for heard in (theirs, ours)]
                            assert challenges[0] == challenges[1]
                        assert accept != EVENT_STREAM or path != STREAM or ours.status == status
            with Heard(busbar.url, headers={**EVENT_STREAM, "Authorization": "Bearer s3cret"}) as ours:
                assert ours.wait_head().status == 200
            assert "s3cret" not in busbar.log.read_text()


def test_several_marathons_are_asked_for_by_name():
    with Marathon() as one, Marathon() as two:
        sources = [_source(one.address), {**_source(two.address), "name": "test"}]
        with Busbar({"name": "t", "sources": sources}) as busbar:
            busbar.wait_attached()
            with Heard(busbar.url) as plain, Heard(busbar.url, "/sources/lab" + STREAM) as unknown:
                assert plain.wait(lambda heard: heard.body).status == 400
                assert b"/sources/prod/v2/events /sources/test/v2/events" in plain.body
                assert unknown.wait_head().status == 404
            with Heard(busbar.url, "/sources/test" + STREAM) as ours:
                ours.wait_head()
                one.emit("deployment_success", {"id": "one"})
                said = two.emit("deployment_success", {"id": "two"})
                ours.wait_text(said)
                assert ours.told == frame("deployment_success", said)


def test_a_stream_stays_open_while_the_marathon_is_away():
    """No event of Busbar's, no end: heartbeats, and then what comes next."""
    with Marathon() as marathon, following(marathon, heartbeat="200ms") as busbar:
        with Heard(busbar.url) as ours, busbar.events() as events:
            ours.wait_head()
            marathon.elect(None)
            wait_until(lambda: not busbar.is_attached(), 30, "the source is detached")
            known = len(ours.wait(lambda heard: heard.body.endswith(b"\r\n\r\n\r\n")).body)
            ours.wait(lambda heard: len(heard.body) >= known + 6)
            assert set(ours.body[known:]) == set(b"\r\n")
            marathon.elect(0)
            marathon.wait_streams(1)
            said = marathon.emit("deployment_success", {"id": "again"})
            ours.wait_text(said)
            wait_until(lambda: "Gap" in [told.event for told in events.frames], 30, "a gap on /events")
            assert b"Gap" not in ours.body
            assert ours.told == frame("deployment_success", said)
            assert not ours.ended


def test_heartbeats_come_every_ten_seconds_whatever_else_comes(long_lived):
    """Marathon's own pace; every byte between the frames belongs to one."""
    heard, began, had_began = long_lived
    heard.wait(lambda heard: time.monotonic() - began > 11)
    least = max(1, (had() - had_began) / 10 - 1.5)  # a standstill only makes them fewer
    between = lambda: b"".join(re.split(rb"(?:[a-z]+: [^\r]*\r\n)+\r\n", heard.body))  # noqa: E731
    heard.wait(lambda heard: between().count(b"\r\n") >= least, 15)
    heard.wait(lambda heard: not between().replace(b"\r\n", b""), 15)
    assert between().count(b"\r\n") <= (time.monotonic() - began) / 10 + 1
    assert not heard.ended


# ---- many ----


def _cpu(pid: int) -> float:
    """Seconds that the process has used."""
    with open(f"/proc/{pid}/stat") as text:
        fields = text.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _read_all(connections, wanted: int) -> None:
    """Until each has had as many `data:` lines."""
    poll, left = select.epoll(), {}
    for connection in connections:
        connection.setblocking(False)
        poll.register(connection, select.EPOLLIN)
        left[connection.fileno()] = [connection, wanted]
    until = time.monotonic() + 120
    while left and time.monotonic() < until:
        for fd, _ in poll.poll(1):
            connection, missing = left[fd]
            missing -= connection.recv(1 << 18).count(b'"padding"')
            left[fd][1] = missing
            if missing <= 0:
                poll.unregister(fd)
                del left[fd]
    assert not left, f"{len(left)} clients have less than all of it"


def _cost(marathon, busbar, path: str, clients: int, events: int) -> float:
    """Microseconds of the busbar's for each delivery."""
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(clients):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", busbar.http_port), 20))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
            connections.append(connection)
        wait_until(lambda: busbar.metrics()["busbar_clients"] >= clients, 60, "all are attached")
        before = _cpu(busbar.pid)
        for _ in range(events):  # one at a time: how many go out together is a matter of the machine's other load
            marathon.emit("status_update_event", {"appId": "/web", "padding": "x" * 800})
            _read_all(connections, 1)
        return (_cpu(busbar.pid) - before) * 1e6 / (clients * events)


def test_a_thousand_clients_cost_about_what_they_do_on_events(capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # others start servers after this: never less
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(8192, hard)), hard))
    query = "?event_type=status_update_event"
    with Marathon() as marathon, following(marathon) as busbar:
        costs = {}
        for path in (STREAM + query, "/events", STREAM + query, "/events"):
            costs.setdefault(path, []).append(_cost(marathon, busbar, path, 1000, 40))
            wait_until(lambda: busbar.metrics()["busbar_clients"] == 0, 60, "all have gone")
    with capsys.disabled():
        told = {path: [round(cost, 1) for cost in each] for path, each in costs.items()}
        print(f"\n1,000 clients, µs CPU a delivery: {told}")
    assert min(costs[STREAM + query]) < 3 * min(costs["/events"])


# ---- a busbar behind a busbar ----


def test_a_busbar_follows_a_busbar(redis, source_name):
    """type: marathon with the mirror of another as its server; that one's Marathon, and then itself, go away."""
    with Marathon() as marathon, following(marathon) as near:
        far_source = {**_source(near.url), "name": source_name, "start": "snapshot"}
        sink = {"name": "cache", "type": "redis", "url": redis.url, "stream": "%{source}"}
        with Busbar({"name": "far", "sources": [far_source], "sinks": [sink]}) as far:
            far.wait_attached()
            said = [marathon.emit("status_update_event", {"appId": f"/{n % 7}", "n": n}) for n in range(200)]

            def arrived():
                entries = [fields for _, fields in redis.read_stream(source_name)]
                return [entry["data"] for entry in entries if entry["type"] == b"status_update_event"]

            wait_until(lambda: len(arrived()) == 200, 30, f"all is there\n{far.log_tail()}")
            near.kill9()
            near.start()
            near.wait_attached()
            wait_until(lambda: near.metrics()["busbar_clients"] == 1, 30, "it is followed again")
            said += [marathon.emit("status_update_event", {"appId": f"/{n % 7}", "n": n}) for n in range(200, 300)]
            wait_until(lambda: len(arrived()) >= 300, 30, f"all is there\n{far.log_tail()}")
            assert arrived() == said
            told = [fields["type"] for _, fields in redis.read_stream(source_name)]
            assert told.count(b"Gap") == 1
            # It finds no state there: nothing is told of it, and nothing as vanished.
            wait_until(lambda: len(far.log_lines("resync_finished")) == 2, 30, "two resyncs")
            assert {"App", "Pod", "Group", "Deployment"} == {
                re.search(r"topic=(\w+)", line)[1] for line in far.log_lines("resync_topic_unknown")
            }
            assert not {b"Snapshot", b"Vanished"} & set(told)
