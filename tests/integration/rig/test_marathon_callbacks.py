"""Callbacks of the stand-in Marathon: one POST an event, no second try, and its backoff."""

import http.server
import json
import threading
import time

from .marathon import Marathon
from .proc import wait_until
from .test_marathon import ask


class Receiver:
    """Takes POSTs and answers `status` after `delay` seconds."""

    def __init__(self):
        self.bodies, self.status, self.delay, self.headers = [], 200, 0.0, {}
        self.at_once, under_way, lock = 0, 0, threading.Lock()  # at_once: at most
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                nonlocal under_way
                with lock:
                    under_way += 1
                    outer.at_once = max(outer.at_once, under_way)
                outer.headers = dict(self.headers)
                outer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(outer.delay)
                with lock:
                    under_way -= 1
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/callback"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def wait(self, count):
        wait_until(lambda: len(self.bodies) >= count, 10, f"{count} callbacks")
        return self.bodies


def old(**more):
    return Marathon(generation="old", **more)


def test_subscribe_list_and_unsubscribe():
    with old(nodes=2) as m, Receiver() as receiver:
        path = f"/v2/eventSubscriptions?callbackUrl={receiver.url}"
        answer = json.loads(ask(m.addresses[1], path, method="POST").body)
        assert list(answer) == ["clientIp", "callbackUrl", "eventType", "timestamp"]
        assert answer["callbackUrl"] == receiver.url and answer["eventType"] == "subscribe_event"
        assert ask(m.address, path, method="POST").status == 200, "once more is no other subscriber"
        listed = json.loads(ask(m.address, "/v2/eventSubscriptions").body)
        assert listed == {"callbackUrls": [receiver.url]} and m.subscribers == [receiver.url]
        data = m.emit("x", {"a": 1})
        assert receiver.wait(3)[2] == data and receiver.headers["Content-Type"].startswith("application/json")
        assert json.loads(receiver.bodies[0]) == answer
        m.elect(1)
        assert receiver.wait(3) and m.emit("y", b"{}") == receiver.wait(4)[3], "the list outlives a leader"
        answer = json.loads(ask(m.address, path, method="DELETE").body)
        assert answer["eventType"] == "unsubscribe_event" and m.subscribers == []
    with Marathon() as m:
        assert ask(m.address, "/v2/eventSubscriptions").status == 404
    with old() as m:
        m.callbacks_on = False
        assert ask(m.address, "/v2/eventSubscriptions").status == 400


def test_a_failure_is_never_posted_again_and_backs_off():
    with old() as m, Receiver() as receiver:
        m.callback_backoff = 2.0  # times 2
        m.subscribe(receiver.url)
        wait_until(lambda: len(m.posted) == 1, 10, "the first is answered")
        receiver.status = 500
        m.emit("lost", b"{}")
        wait_until(lambda: len(m.posted) == 2, 10, "two tries")
        m.emit("skipped", b"{}")
        wait_until(lambda: len(m.skipped) == 1, 10, "one is skipped")
        assert (m.posted[1].type, m.posted[1].status, m.skipped[0][1]) == ("lost", 500, "skipped")
        receiver.status = 200
        wait_until(lambda: m.emit("again", b'{"n":1}') and len(m.posted) > 2, 20, "it posts again")
        assert receiver.wait(3)[2] == b'{"n":1}' and b"{}" not in receiver.bodies[2:]


def test_a_slow_answer_counts_as_a_failure():
    with old() as m, Receiver() as receiver:
        m.callback_limit, m.callback_backoff, m.callback_patience = 0.3, 10.0, 20.0
        receiver.delay = 0.4
        m.subscribe(receiver.url)
        wait_until(lambda: len(m.posted) == 1, 10, "one try")
        assert m.posted[0].status == 200 and m.posted[0].took > 0.3
        m.emit("skipped", b"{}")
        wait_until(lambda: len(m.skipped) == 1, 10, "one is skipped")


def test_several_may_be_under_way_at_once():
    with old() as m, Receiver() as receiver:
        m.callback_connections, receiver.delay = 4, 0.3
        m.subscribe(receiver.url)
        began = time.monotonic()
        for _ in range(7):
            m.emit("x", b"{}")
        wait_until(lambda: len(m.posted) == 8, 10, "all are answered")
        assert 0.6 <= time.monotonic() - began and len(m.posted) == len(receiver.bodies)
        starts = sorted(one.when for one in m.posted)
        assert starts[4] - starts[0] >= 0.29 and 1 < receiver.at_once <= 4


def test_nobody_there_and_a_list_that_is_lost():
    with old() as m, Receiver() as receiver:
        m.subscribe("http://127.0.0.1:1/callback")
        m.subscribe(receiver.url)
        wait_until(lambda: {one.url for one in m.posted} == set(m.subscribers), 10, "a try each")
        assert {one.status for one in m.posted if one.url.endswith(":1/callback")} == {0}
        m.forget_subscribers()
        m.emit("x", b"{}")
        assert json.loads(ask(m.address, "/v2/eventSubscriptions").body) == {"callbackUrls": []}
