"""The callback side of the mirror as a Marathon: /v2/eventSubscriptions, and what the callbacks get.

Judged by the busbar's own journal, as /events tells it: what Marathon sent while the busbar was away nobody has. Each
POST carries the event's place in that journal (Busbar-Event), so that what comes again is known as such.
"""

import contextlib
import http.client
import http.server
import itertools
import json
import pathlib
import socket
import statistics
import struct
import threading
import time
import urllib.parse
from typing import NamedTuple

import pytest
from rig.busbar import Busbar, run_busbar
from rig.marathon import Marathon, capture
from rig.ports import free_port
from rig.proc import wait_until

PATH = "/v2/eventSubscriptions"
OK = 200


class Taken(NamedTuple):
    body: bytes
    place: str  # the header Busbar-Event; "" where there was none: told by the mirror itself
    status: int
    when: float


class Receiver:
    """A callback. `behave(number)` says what its number-th POST of a source's event gets: a status, or one of the
    strings below. What the mirror tells of itself is taken.

    posts: all that came, in order, whatever they were answered.
    """

    RESET, HANG, ENDLESS_BODY, ENDLESS_HEAD, GARBAGE = "reset", "hang", "endless body", "endless head", "garbage"

    def __init__(self, behave=lambda number: OK, delay: float = 0, port: int = 0):
        self.behave, self.delay = behave, delay
        self.posts: list[Taken] = []
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/callback"
        self._connections: list[socket.socket] = []
        self._events = 0
        self._ends = threading.Event()

    def __enter__(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                receiver._connections.append(self.connection)
                self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def do_POST(self):
                with contextlib.suppress(OSError):
                    receiver._take(self)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _take(self, request) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        place = request.headers.get("Busbar-Event", "")
        status = self.behave(self._events) if place else OK
        self._events += bool(place)
        assert request.headers["Content-Type"] == "application/json"
        self.posts.append(Taken(body, place, status if isinstance(status, int) else 0, time.monotonic()))
        if self.delay:
            self._ends.wait(self.delay)
        if isinstance(status, str):
            self._misbehave(request, status)
        else:
            request.send_response(status)
            request.send_header("Content-Length", "2")
            request.send_header("Location", self.url + "/elsewhere")
            request.end_headers()
            request.wfile.write(b"{}")

    def _misbehave(self, request, how: str) -> None:
        request.close_connection = True
        if how == self.RESET:
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.connection.close()
        elif how == self.HANG:
            self._ends.wait()
        elif how == self.GARBAGE:
            request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        else:
            head = b"HTTP/1.1 200 OK\r\n" + (b"X-Endless: " if how == self.ENDLESS_HEAD else b"\r\n")
            request.wfile.write(head)
            while not self._ends.wait(0.001):
                request.wfile.write(b"x" * 4096)

    @property
    def taken(self) -> list[Taken]:
        """What it took of the source's; not what the mirror told of itself."""
        return [post for post in list(self.posts) if post.place and post.status in (OK, 204)]

    @property
    def bodies(self) -> list[bytes]:
        """Of what it took, each once, in the order in which it took them first."""
        first = {}
        for post in self.taken:
            first.setdefault(post.place, post.body)
        return list(first.values())

    @property
    def own(self) -> list[dict]:
        """What the mirror told of itself."""
        return [json.loads(post.body) for post in list(self.posts) if not post.place and post.status == OK]

    def wait_bodies(self, count: int, timeout: float = 60) -> list[bytes]:
        wait_until(lambda: len(self.bodies) >= count, timeout, f"{count} events; there are {len(self.bodies)}")
        return self.bodies


def bridge(marathon, **http_settings) -> Busbar:
    source = {"name": "prod", "type": "marathon", "servers": [marathon.address], "start": "now"}
    return Busbar({"name": "t", "http": http_settings, "sources": [source]})


def call(busbar: Busbar, method: str, url: str | None = None, headers: dict | None = None):
    """(status, the JSON)."""
    query = "" if url is None else "?" + urllib.parse.urlencode({"callbackUrl": url})
    connection = http.client.HTTPConnection("127.0.0.1", busbar.http_port, timeout=20)
    try:
        connection.request(method, PATH + query, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def subscribe(busbar: Busbar, *receivers) -> None:
    for receiver in receivers:
        status, event = call(busbar, "POST", receiver if isinstance(receiver, str) else receiver.url)
        assert (status, event["eventType"]) == (200, "subscribe_event")


def subscribers(busbar: Busbar) -> dict[str, dict]:
    """As /status tells, by URL."""
    [source] = busbar.status()["sources"]
    return {one["url"]: one for one in source["subscribers"]}


def emit(marathon, *numbers) -> None:
    for number in numbers:
        marathon.emit("status_update_event", {"appId": "/web", "taskId": f"t{number}", "n": number})


def numbers_of(bodies) -> list[int]:
    return [json.loads(body)["n"] for body in bodies]


def journaled(busbar: Busbar) -> list[bytes]:
    """All that Marathon told, by the busbar's own account."""
    journal = busbar.status()["sources"][0]["journal"]
    with busbar.events(from_oldest=True) as client:
        frames = client.wait_frames(journal["next_seq"] - journal["first_seq"])
    return [frame.data for frame in frames if b'"n":' in frame.data]


def test_the_whole_capture_byte_for_byte():
    frames = capture("real-1.11.sse")
    with Marathon() as marathon, Receiver() as receiver, bridge(marathon) as busbar:
        busbar.wait_attached()
        wait_until(lambda: busbar.status()["sources"][0]["journal"]["next_seq"] > 1, 20, "its attachment is journaled")
        subscribe(busbar, receiver)
        wait_until(lambda: receiver.own, 20, "its own subscribe_event")
        assert receiver.own[0]["callbackUrl"] == receiver.url
        sent = [data for _, data in frames]
        before = len(receiver.bodies)
        began = time.monotonic()
        marathon.play(frames)
        receiver.wait_bodies(before + len(sent), 120)
        print(f"{len(sent) / (time.monotonic() - began):.0f} events/s")
        assert receiver.bodies[before:] == sent
        assert len(receiver.taken) == before + len(sent)  # nothing twice


def test_each_event_once_over_restarts():
    """Stopped in order, with answers on their way: what comes again is a mistake."""
    with Marathon() as marathon, Receiver(delay=0.005) as fast, Receiver(delay=0.02) as slow:
        with bridge(marathon) as busbar:
            busbar.wait_attached()
            subscribe(busbar, fast, slow)
            for start in (0, 60, 120):
                emit(marathon, *range(start, start + 60))
                wait_until(lambda count=start + 60: len(journaled(busbar)) >= count, 20, "events")
                assert busbar.stop() == 0
                busbar.start()
                busbar.wait_attached()
            expected = journaled(busbar)
            assert len(expected) == 180
            for receiver in (fast, slow):
                wait_until(lambda: len(told(receiver)) >= 180, 60, "all of them")
                assert told(receiver) == expected
                assert len(receiver.taken) == len({post.place for post in receiver.taken})
            assert call(busbar, "GET") == (200, {"callbackUrls": [fast.url, slow.url]})


def test_nothing_is_lost_by_kills():
    """kill -9: at least once, in order, and no more than about a second's worth again."""
    rate, seconds = 100, 6
    with Marathon() as marathon, Receiver() as receiver, bridge(marathon) as busbar:
        busbar.wait_attached()
        subscribe(busbar, receiver)
        source = threading.Thread(target=paced, args=(marathon, rate, rate * seconds))
        source.start()
        for _ in range(3):
            time.sleep(1.2)
            busbar.restart(hard=True)
        source.join()
        busbar.wait_attached()
        emit(marathon, rate * seconds)
        wait_until(lambda: told(receiver) and numbers_of(told(receiver))[-1] == rate * seconds, 60, "the last one")
        assert told(receiver) == journaled(busbar)
        again = len(receiver.taken) - len({post.place for post in receiver.taken})
        print(f"{again} of {len(receiver.taken)} came again")
        assert again <= 3 * rate * 2
        places = [int(post.place.partition("/")[2]) for post in receiver.taken]
        steps_back = [one for one, other in itertools.pairwise(places) if other <= one]
        assert len(steps_back) <= 6  # in order, but for where it was killed; what it said last may be heard late


def test_a_registration_outlives_a_kill():
    with Marathon() as marathon, Receiver() as receiver, bridge(marathon) as busbar:
        busbar.wait_attached()
        for round_ in range(3):
            subscribe(busbar, f"http://127.0.0.1:1/{round_}")
            busbar.restart(hard=True)
            assert call(busbar, "GET")[1] == {"callbackUrls": [f"http://127.0.0.1:1/{n}" for n in range(round_ + 1)]}
        for round_ in range(3):
            call(busbar, "DELETE", f"http://127.0.0.1:1/{round_}")
        subscribe(busbar, receiver)
        busbar.restart(hard=True)
        busbar.wait_attached()
        assert call(busbar, "GET")[1] == {"callbackUrls": [receiver.url]}
        emit(marathon, 1)
        wait_until(lambda: numbers_of(told(receiver)) == [1], 20, "the event")


def test_receivers_that_misbehave_get_all_in_order():
    """Each in its own way for the first events; one hangs until the busbar loses patience, after 10 s."""
    ways = {
        "errors": Receiver(lambda number: 500 if number < 3 else OK),
        "resets": Receiver(lambda number: Receiver.RESET if number < 3 else OK),
        "redirects": Receiver(lambda number: 302 if number < 2 else OK),
        "hangs": Receiver(lambda number: Receiver.HANG if number == 0 else OK),
        "garbage": Receiver(lambda number: Receiver.GARBAGE if number == 0 else OK),
        "endless heads": Receiver(lambda number: Receiver.ENDLESS_HEAD if number == 0 else OK),
        "says nothing": Receiver(lambda number: 204),
        "slow": Receiver(delay=0.2),
    }
    with Marathon() as marathon, bridge(marathon) as busbar, contextlib.ExitStack() as stack:
        for receiver in ways.values():
            stack.enter_context(receiver)
        busbar.wait_attached()
        subscribe(busbar, *ways.values())
        emit(marathon, *range(20))
        wait_until(lambda: all(len(told(one)) == 20 for one in ways.values()), 60, "all of them")
        for way, receiver in ways.items():
            assert numbers_of(told(receiver)) == list(range(20)), way
        state = subscribers(busbar)
        assert state[ways["errors"].url]["retried"] >= 3 and state[ways["hangs"].url]["retried"] >= 1
        wait_until(lambda: all(one["state"] == "waiting" for one in subscribers(busbar).values()), 20, "all waiting")
        metrics = busbar.metrics()
        assert metrics['busbar_callback_subscribers{source="prod"}'] == len(ways)
        assert metrics['busbar_callbacks_failed_total{source="prod"}'] >= 10
        assert metrics['busbar_callback_lag_events{source="prod"}'] == 0


def test_a_taken_event_is_taken_though_its_answer_never_ends():
    with Marathon() as marathon, Receiver(lambda number: Receiver.ENDLESS_BODY) as receiver, bridge(marathon) as busbar:
        busbar.wait_attached()
        subscribe(busbar, receiver)
        emit(marathon, *range(5))
        numbers = lambda: {post.place for post in list(receiver.posts) if b'"n":' in post.body}  # noqa: E731
        wait_until(lambda: len(numbers()) == 5, 30, "all of them")
        wait_until(lambda: subscribers(busbar)[receiver.url]["state"] == "waiting", 20, "waiting")
        assert subscribers(busbar)[receiver.url]["retried"] == 0


def test_an_outage_is_told_and_made_good():
    with Marathon() as marathon, Receiver() as receiver, bridge(marathon) as busbar:
        busbar.wait_attached()
        subscribe(busbar, receiver)
        wait_until(lambda: receiver.own, 20, "its own subscribe_event")
        wait_until(lambda: subscribers(busbar)[receiver.url]["state"] == "waiting", 20, "it was answered")
        receiver.__exit__()
        emit(marathon, *range(10))
        url = receiver.url
        wait_until(lambda: subscribers(busbar)[url]["lag_events"] >= 10, 20, "a lag")
        wait_until(lambda: subscribers(busbar)[url]["retried"] >= 2, 20, "retries")
        told_of = subscribers(busbar)[url]
        assert told_of["state"] == "retrying" and "refused" in told_of["last_error"] and told_of["since"]
        assert busbar.log_lines("callback_failing")
        with Receiver(port=receiver.port) as back:
            wait_until(lambda: numbers_of(told(back)) == list(range(10)), 60, "all of them")
        wait_until(lambda: busbar.log_lines("callback_recovered"), 20, "a word of it")


def test_the_dead_hold_up_nobody():
    """20 callbacks, half of them dead in five ways: the others, and /events, are as fast as without."""
    dead = [
        *(f"http://127.0.0.1:{free_port()}/nobody{n}" for n in range(2)),
        *(Receiver(lambda number: Receiver.HANG) for _ in range(2)),
        *(Receiver(lambda number: Receiver.ENDLESS_HEAD) for _ in range(2)),
        *(Receiver(lambda number: 500) for _ in range(2)),
        *(Receiver(lambda number: Receiver.RESET) for _ in range(2)),
    ]
    alive = [Receiver() for _ in range(10)]
    with Marathon() as marathon, bridge(marathon) as busbar, contextlib.ExitStack() as stack:
        for receiver in (one for one in (*alive, *dead) if not isinstance(one, str)):
            stack.enter_context(receiver)
        busbar.wait_attached()
        with busbar.events(source="prod") as client:
            subscribe(busbar, *alive)
            before = delays_of(marathon, client, alive, range(100))
            threads = len(list(pathlib.Path(f"/proc/{busbar.pid}/task").iterdir()))
            subscribe(busbar, *dead)
            after = delays_of(marathon, client, alive, range(100, 200))
            state = subscribers(busbar)
            assert sum(one["state"] == "retrying" for one in state.values()) >= 6
            for one in dead:
                call(busbar, "DELETE", one if isinstance(one, str) else one.url)
            assert len(subscribers(busbar)) == 10
            wait_until(
                lambda: len(list(pathlib.Path(f"/proc/{busbar.pid}/task").iterdir())) <= threads, 20, "threads gone"
            )
        for what in ("/events", "callbacks"):
            print(f"{what}: median {before[what] * 1000:.1f} ms, with the dead {after[what] * 1000:.1f} ms")
            assert after[what] < before[what] * 5 + 0.25


def test_none_comes_after_delete():
    with Marathon() as marathon, bridge(marathon) as busbar, Receiver(lambda number: 500) as receiver:
        busbar.wait_attached()
        subscribe(busbar, receiver)
        emit(marathon, *range(5))
        wait_until(lambda: len(receiver.posts) >= 3, 20, "some tries")
        status, event = call(busbar, "DELETE", receiver.url)
        assert (status, event["eventType"], event["callbackUrl"]) == (200, "unsubscribe_event", receiver.url)
        wait_until(lambda: subscribers(busbar) == {}, 10, "nobody")
        time.sleep(2)  # one that was under way
        seen = len(receiver.posts)
        emit(marathon, *range(5, 10))
        wait_until(lambda: len(journaled(busbar)) == 10, 20, "all are journaled")
        time.sleep(1)
        assert len(receiver.posts) == seen
        receiver.behave = lambda number: OK
        subscribe(busbar, receiver)  # anew: from now on
        emit(marathon, 10)
        wait_until(lambda: numbers_of(told(receiver)) == [10], 20, "the event")


def test_one_that_never_answers_is_given_up():
    with Marathon() as marathon, bridge(marathon, callback_give_up="1s") as busbar:
        busbar.wait_attached()
        subscribe(busbar, f"http://127.0.0.1:{free_port()}/nobody")
        wait_until(lambda: call(busbar, "GET")[1] == {"callbackUrls": []}, 30, "nobody")
        assert busbar.log_lines("callback_given_up")
        assert busbar.metrics()['busbar_callbacks_given_up_total{source="prod"}'] == 1
        kept = busbar.folder / "journal" / "prod" / "subscribers"  # which is written a moment later
        wait_until(lambda: b"nobody" not in kept.read_bytes(), 20, "it is forgotten on the disk too")
        busbar.restart(hard=True)
        assert call(busbar, "GET")[1] == {"callbackUrls": []}


def test_others_are_told_who_comes_and_goes():
    with Marathon() as marathon, bridge(marathon) as busbar, Receiver() as first, Receiver() as second:
        busbar.wait_attached()
        subscribe(busbar, first, second)
        call(busbar, "DELETE", second.url)
        wait_until(lambda: len(first.own) == 3, 20, "three")
        kinds = [(one["eventType"], one["callbackUrl"]) for one in first.own]
        assert kinds == [
            ("subscribe_event", first.url),
            ("subscribe_event", second.url),
            ("unsubscribe_event", second.url),
        ]
        assert list(first.own[0]) == ["clientIp", "callbackUrl", "eventType", "timestamp"]


def test_a_busbar_follows_by_callbacks():
    """type: marathon_callback at the mirror: what Marathon told once gets there, though either of the two is gone for
    a while; for the one that calls and is restarted, and for the one that is called and is killed."""
    with Marathon() as marathon, bridge(marathon) as upstream:
        upstream.wait_attached()
        port = free_port()
        source = {
            "name": "prod",
            "type": "marathon_callback",
            "servers": [upstream.url],
            "listen": f"127.0.0.1:{port}",
            "callback_url": f"http://127.0.0.1:{port}/callback",
        }
        with Busbar({"name": "b", "sources": [source]}) as downstream:
            downstream.wait_attached()
            emit(marathon, *range(50))
            wait_until(lambda: len(journaled(downstream)) == 50, 30, "50 events")
            upstream.restart()
            upstream.wait_attached()
            emit(marathon, *range(50, 100))
            downstream.kill9()
            emit(marathon, *range(100, 150))
            downstream.start()
            wait_until(lambda: numbers_of(journaled(downstream))[-1:] == [149], 60, "the last one")
            assert list(dict.fromkeys(journaled(downstream))) == journaled(upstream)


def test_who_may_not_ask():
    with Marathon() as marathon, bridge(marathon, token="geheim") as busbar:
        url = "http://127.0.0.1:1/"
        tokens = {"token=geheim": 200, "Bearer geheim": 200, "token=falsch": 401, "Bearer": 401}
        for value, status in tokens.items():
            headers = {"Authorization": value}
            connection = http.client.HTTPConnection("127.0.0.1", busbar.http_port, timeout=20)
            connection.request("POST", f"{PATH}?callbackUrl={url}", headers=headers)
            assert connection.getresponse().status == status, value
            connection.close()
        from_a_page = {"Authorization": "token=geheim", "Origin": "http://evil.example"}
        assert call(busbar, "POST", url, from_a_page)[0] == 403
        assert call(busbar, "DELETE", url, from_a_page)[0] == 403


def test_nobody_is_called_where_anybody_may_ask():
    """Left out, max_subscribers is 0 there: said to be so, as a Marathon without --event_subscriber does."""
    listen = {"listen": f"0.0.0.0:{free_port()}", "allow_anonymous": True}
    with Marathon() as marathon, bridge(marathon, **listen) as busbar:
        status, told_why = call(busbar, "POST", "http://127.0.0.1:1/")
        assert status == 400 and "max_subscribers" in told_why["message"]
    with Marathon() as marathon, bridge(marathon, **listen, max_subscribers=1) as busbar:
        assert call(busbar, "POST", "http://127.0.0.1:1/")[0] == 200
        assert call(busbar, "POST", "http://127.0.0.1:2/")[0] == 503


@pytest.mark.parametrize(("setting", "value"), [("max_subscribers", -2), ("max_subscribers", 1001)])
def test_check_refuses_limits_that_make_no_sense(tmp_path, setting, value):
    source = {"name": "prod", "type": "marathon", "servers": ["http://127.0.0.1:8080"]}
    config = {"name": "t", "journal": {"path": str(tmp_path)}, "http": {setting: value}, "sources": [source]}
    (tmp_path / "busbar.yaml").write_text(json.dumps(config))
    ended = run_busbar("check", "-c", tmp_path / "busbar.yaml")
    assert ended.returncode == 2 and setting in ended.stderr


def told(receiver: Receiver) -> list[bytes]:
    """What a test had Marathon tell; not who attached there."""
    return [body for body in receiver.bodies if b'"n":' in body]


def paced(marathon, rate: int, count: int) -> None:
    began = time.monotonic()
    for number in range(count):
        emit(marathon, number)
        time.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))


def delays_of(marathon, client, receivers, numbers) -> dict[str, float]:
    """Medians, in seconds, from Marathon's telling to their taking."""
    when = {}
    for number in numbers:
        when[number] = time.monotonic()
        emit(marathon, number)
        time.sleep(0.02)

    def arrivals(receiver):
        posts = [post for post in receiver.taken if b'"n":' in post.body]
        return {json.loads(post.body)["n"]: post.when for post in posts}

    def seen_at():
        frames = [(json.loads(f.data), at) for f, at in zip(list(client.frames), list(client.arrivals), strict=False)]
        return [at - when[body["n"]] for body, at in frames if body.get("n") in when]

    wait_until(lambda: all(numbers[-1] in arrivals(one) for one in receivers), 60, "the last one")
    wait_until(lambda: len(seen_at()) >= len(when), 20, "the last one on /events")
    seen = seen_at()
    taken = [at - when[n] for one in receivers for n, at in arrivals(one).items() if n in when]
    assert len(seen) == len(when) and len(taken) == len(when) * len(receivers)
    return {"/events": statistics.median(seen), "callbacks": statistics.median(taken)}
