"""The stand-in Marathon, compared with the bytes and the manners of the real one."""

import json
import re
import socket
import ssl
import time
import urllib.parse

import pytest

from . import standin
from .certs import Authority
from .marathon import FIXTURES, Marathon, capture
from .marathon_node import basic
from .marathon_shapes import to_json
from .proc import wait_until
from .stopwatch import had

ACCEPT = ["Accept: text/event-stream"]
X = b"event: x\r\ndata: {}\r\n\r\n"  # as m.emit("x", b"{}") is told


class Raw:
    """A connection of its own, in bytes; `pieces` has what each recv() gave."""

    def __init__(self, address: str, path="/v2/events", lines=ACCEPT, method="GET", tls=None, small=False):
        parts = urllib.parse.urlsplit(address)
        self.socket = socket.socket()
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(8)  # less than a heartbeat's distance
        self.socket.connect((parts.hostname, parts.port))
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.received, self.pieces, self.error = b"", [], None
        self.deadline = time.monotonic() + 60
        head = "".join(f"{line}\r\n" for line in [f"Host: {parts.netloc}", *lines])
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())

    def read(self) -> bool:
        """One recv(); False at the end."""
        assert time.monotonic() < self.deadline, f"goes on and on: {self.received[-300:]!r}"
        try:
            piece = self.socket.recv(65536)
        except ConnectionResetError as error:
            self.error, piece = error, b""
        self.received += piece
        self.pieces.append(piece)
        return piece != b""

    def until(self, text: bytes) -> bytes:
        """Reads until the text is there; returns all."""
        while text not in self.received:
            assert self.read(), f"ended before {text!r}: {self.received[-300:]!r}"
        return self.received

    def rest(self) -> bytes:
        while self.read():
            pass
        return self.received

    @property
    def head(self) -> bytes:
        return self.until(b"\r\n\r\n").partition(b"\r\n\r\n")[0]

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    @property
    def body(self) -> bytes:
        return self.received.partition(b"\r\n\r\n")[2]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def ask(address: str, path: str, lines=(), method="GET") -> Raw:
    """A whole answer."""
    with Raw(address, path, ["Connection: close", *lines], method) as raw:
        raw.rest()
        return raw


def frames_of(text: bytes) -> bytes:
    """Without heartbeats."""
    return re.sub(rb"(?<=\r\n\r\n)(\r\n)+|^(\r\n)+", b"", text)


def attached(times=1, remote="127.0.0.1") -> bytes:
    one = rb'event: event_stream_attached\r\ndata: {"remoteAddress":"%b","eventType":' % remote.encode()
    one += rb'"event_stream_attached","timestamp":"[-0-9]{10}T[:.0-9]{12}Z"}\r\n\r\n'
    return one * times


def test_the_head_is_the_real_servlets_byte_for_byte():
    real = (FIXTURES / "wire-true-servlet.bin").read_bytes().partition(b"\r\n\r\n")[0]
    with Marathon() as m, Raw(m.address) as raw:
        ours = re.sub(rb"(?<=\nDate: )[^\r]+", b"Sat, 21 Nov 2026 17:24:08 GMT", raw.head)
        assert ours.replace(m.address.encode(), b"http://127.0.0.1:21730") == real


def test_the_first_event_is_ones_own_attachment_and_the_others_see_it():
    with Marathon() as m, Raw(m.address) as first:
        first.until(b"}\r\n\r\n")
        with Raw(m.address) as second:
            second.until(b"}\r\n\r\n")
            while first.body.count(b"\r\n\r\n") < 2:
                first.read()
            assert re.fullmatch(attached(2), first.body) and re.fullmatch(attached(1), second.body)
            assert [stream.peer for stream in m.streams] == [one.socket.getsockname() for one in (first, second)]


@pytest.mark.parametrize("name", ["real-1.11.sse", "real-1.11-failover.sse", "real-1.11-scheduler.sse"])
def test_a_capture_is_replayed_byte_for_byte_and_fast(name):
    real = frames_of((FIXTURES / name).read_bytes())
    with Marathon() as m, Raw(m.address) as raw:
        raw.until(b"}\r\n\r\n")
        frames, own = capture(name), len(raw.body)
        began = had()
        m.play(frames)
        while len(raw.body) < own + len(real) and raw.read():
            pass
        assert raw.body[own:] == real
        assert had() - began < len(frames) / 500 + 5
        wait_until(lambda: len(m.history[0].told) > len(frames), 5, "all is noted as told")
        assert [sent[:2] for sent in m.sent[1:]] == frames == m.history[0].told[1:]


def test_a_heartbeat_is_two_packets_and_comes_whatever_the_traffic():
    with Marathon(heartbeat=0.3) as m:
        began = time.monotonic()
        with Raw(m.address) as raw:
            raw.until(b"}\r\n\r\n")
            start, beats = len(raw.received), 0
            while beats < 3 or not {b"\r", b"\n"} <= set(raw.pieces):  # a loaded machine may join them
                while raw.received[start:].replace(X, b"").count(b"\r\n") <= beats:
                    assert raw.read()
                beats += 1
                assert 0.3 * beats < time.monotonic() - began < 0.3 * beats + 15
                for _ in range(beats):
                    m.emit("x", b"{}")
                while raw.received[start:].count(X) < beats * (beats + 1) // 2:
                    assert raw.read()
            assert re.fullmatch(rb"(\r\n|event: x\r\ndata: \{\}\r\n\r\n)+", raw.received[start:])


@pytest.mark.parametrize("accept", ["", "*/*", "text/event-stream, */*", "text/event-stream;q=1"])
def test_another_accept_is_refused(accept):
    lines = [f"Accept: {accept}"] if accept else []
    with Marathon() as m:
        assert ask(m.address, "/v2/events", lines).status == 405
        assert ask(m.address, "/v2/events", ACCEPT, "POST").status == 405
        assert ask(m.address, "/v2/events/", ACCEPT).status == 404
        with Raw(m.address, lines=[*lines, *ACCEPT]) as raw:
            assert raw.status == 200  # one of several headers is enough


def test_head_has_the_head_alone():
    with Marathon() as m:
        raw = ask(m.address, "/v2/events", ACCEPT, "HEAD")
        assert (raw.status, raw.body) == (200, b"") and b"text/event-stream" in raw.head
        raw = ask(m.address, "/v2/apps", method="HEAD")
        assert (raw.status, raw.body) == (200, b"") and b"Content-Length: 11" in raw.head


def test_a_gone_client_is_told_of_at_its_next_heartbeat():
    with Marathon(heartbeat=0.4) as m, Raw(m.address) as stays:
        stays.until(b"}\r\n\r\n")
        began = time.monotonic()
        with Raw(m.address) as goes:
            goes.until(b"}\r\n\r\n")
        wait_until(lambda: len(m.streams) == 1, 5, "the client's end is seen by the test at once")
        m.emit("x", b"{}")
        stays.until(b"event: event_stream_detached\r\ndata: ")
        assert 0.4 < time.monotonic() - began < 10
        assert [sent.type for sent in m.sent].count("event_stream_detached") == 1


def test_event_types_are_filtered_exactly_and_plans_are_light_or_heavy():
    plan = {"plan": {"id": "1", "original": {"a": 1}, "target": {}, "steps": [], "version": "v"}}
    with Marathon(plans="heavy", generation="old") as m:
        with Raw(m.address, "/v2/events?event_type=a_b&event_type=deployment_info&plan-format=light") as some:
            with Raw(m.address) as all_of_them:
                m.wait_streams(2)
                m.emit("a", b'{"n":1}')
                m.emit("a_b", b'{"n":2}')
                heavy = m.emit("deployment_info", plan)
                some.until(b"deployment_info")
                while not some.received.endswith(b"}\r\n\r\n"):
                    assert some.read()
                light = heavy.replace(b'"original":{"a":1},"target":{},', b"")
                wanted = b'event: a_b\r\ndata: {"n":2}\r\n\r\nevent: deployment_info\r\ndata: %b\r\n\r\n'
                assert some.body == wanted % light
                assert heavy in all_of_them.until(b'"version":"v"}') and len(heavy) > len(light)


def test_a_dict_is_told_in_the_real_ones_order():
    with Marathon() as m:
        for kind, data in {kind: data for kind, data in capture("real-1.11.sse")}.items():
            body = json.loads(data)
            shuffled = dict(sorted(body.items(), key=lambda item: item[0][::-1]))
            assert m.emit(kind, shuffled) == data == to_json(body)


def test_not_the_leader_redirects_or_proxies():
    with Marathon(nodes=2) as m:
        raw = ask(m.addresses[1], "/v2/events?event_type=x%20y", ACCEPT)
        assert raw.status == 302
        assert f"Location: {m.addresses[0]}/v2/events?event_type=x%20y\r\n".encode() in raw.received
        assert b"X-Marathon-Via: 1.1 " in ask(m.addresses[1], "/v2/apps").head
        assert ask(m.addresses[1], "/ping").body == b"pong"
    with Marathon(nodes=2, generation="old", heartbeat=0.3) as m:
        with Raw(m.addresses[1], lines=["accept: text/event-stream", "X-Mine: 1"]) as raw:
            raw.until(b"}\r\n\r\n")
            assert b"X-Marathon-Via: 1.1 127.0.0.1:" in raw.head and f"Leader: {m.address}\r\n".encode() in raw.received
            m.emit("x", b"{}")
            raw.until(b"event: x\r\ndata: {}\r\n\r\n")
            assert ("x-mine", "1") in m.streams[0].headers
            m.elect(1)
            raw.rest()


def test_a_leader_change_ends_streams_cleanly_after_what_was_told():
    with Marathon(nodes=3) as m, Raw(m.address) as raw:
        raw.until(b"}\r\n\r\n")
        m.emit("last", b"{}")
        m.elect(2)
        assert raw.rest().endswith(b"event: last\r\ndata: {}\r\n\r\n") and raw.error is None
        assert m.address == m.addresses[2] and not m.streams
        with Raw(m.address) as raw:
            raw.until(b"attached")
        m.elect(None)
        assert [ask(address, "/v2/events", ACCEPT).status for address in m.addresses] == [502] * 3
        assert ask(m.addresses[1], "/v2/apps").status == 502
        before = len(m.sent)
        m.emit("nobody", b"{}")
        assert len(m.sent) == before


def test_elected_and_not_ready_answers_200_and_closes():
    with Marathon(nodes=2) as m:
        m.elect(1, ready=False)
        raw = ask(m.address, "/v2/events", ACCEPT)
        assert (raw.status, raw.body, m.history) == (200, b"", [])
        m.ready()
        with Raw(m.address) as raw:
            raw.until(b"attached")


def test_delete_of_the_leader_elects_another():
    with Marathon(nodes=2) as m, Raw(m.address) as raw:
        raw.until(b"attached")
        assert ask(m.address, "/v2/leader", method="DELETE").status == 200
        raw.rest()
        wait_until(lambda: m.leader == 1, 5, "another leader")


def test_a_killed_leader_is_believed_in_for_a_while():
    with Marathon(nodes=2) as m, Raw(m.address) as raw:
        raw.until(b"attached")
        m.kill(0, stale=6.0)
        raw.rest()
        assert raw.error is None
        with pytest.raises(ConnectionRefusedError):
            Raw(m.addresses[0])
        assert ask(m.addresses[1], "/v2/events", ACCEPT).status == 302
        wait_until(lambda: ask(m.addresses[1], "/v2/events", ACCEPT).status == 502, 20, "it is known to be dead")
        m.elect(1)
        m.start(0)
        assert ask(m.addresses[0], "/v2/events", ACCEPT).status == 302
        m.kill(1)
        assert ask(m.addresses[0], "/v2/events", ACCEPT).status == 502


def test_the_only_node_leads_again_when_it_is_back():
    with Marathon() as m:
        m.kill(0)
        with pytest.raises(ConnectionRefusedError):
            Raw(m.address)
        m.start(0)
        with Raw(m.address) as raw:
            raw.until(b"attached")


def overrun(m, raw):
    raw.until(b"}\r\n\r\n")
    data = b'{"pad":"%b"}' % (b"x" * 4096)
    for number in range(4000):
        m.emit("x", data)
        if m.history[0].overrun or m.history[0].dropped:
            return data
    raise AssertionError("it took all")


def test_a_slow_reader_is_cut_in_mid_frame_by_the_new_one():
    with Marathon(slow_limit=64, backlog=8192) as m, Raw(m.address, small=True) as raw:
        data = overrun(m, raw)
        raw.rest()
        assert not raw.body.endswith(b"\r\n\r\n") and raw.body.count(data + b"\r\n\r\n") >= len(m.history[0].told) - 1
        assert not m.streams


def test_what_is_filtered_out_counts_for_the_backlog():
    with Marathon(slow_limit=64, backlog=8192) as m, Raw(m.address, "/v2/events?event_type=y", small=True) as raw:
        raw.until(b"\r\n\r\n")
        m.wait_streams(1)
        m.silence(True)  # nothing is written: all of it waits
        for number in range(66):
            assert not m.history[0].overrun or number > 63
            m.emit("x", b"{}")
    assert m.history[0].overrun


def test_a_slow_reader_of_the_old_one_misses_events_silently():
    with Marathon(generation="old", slow_limit=50, backlog=8192) as m, Raw(m.address, small=True) as raw:
        overrun(m, raw)
        sent = len(m.sent)
        while m.streams[0].waiting:
            raw.read()
        m.emit("end", b"{}")
        raw.until(b"event: end\r\ndata: {}\r\n\r\n")
        taken = sent + 1 - m.streams[0].dropped
        assert raw.body.count(b"\r\n\r\n") == taken
        wait_until(lambda: len(m.streams[0].told) == taken, 5, "all is noted as told")


def test_a_test_may_cut_freeze_and_silence():
    with Marathon(heartbeat=0.2) as m, Raw(m.address) as clean, Raw(m.address) as reset, Raw(m.address) as middle:
        for raw in (clean, reset, middle):
            raw.until(b"}\r\n\r\n")
        by_port = {stream.peer[1]: stream for stream in m.streams}
        by_port[reset.socket.getsockname()[1]].cut(reset=True)
        reset.rest()
        assert isinstance(reset.error, ConnectionResetError)
        by_port[middle.socket.getsockname()[1]].cut(mid_frame=True)
        assert re.search(rb"\r\n\r\nevent: status_update_event\r\ndata: [^\r]+$", middle.rest())
        m.silence(True)
        m.emit("late", b"{}")
        clean.socket.settimeout(0.7)
        with pytest.raises(TimeoutError):
            clean.rest()
        assert b"late" not in clean.received
        m.silence(False)
        clean.socket.settimeout(8)
        clean.until(b"event: late")
        m.streams[0].freeze()
        m.emit("lost", b"{}")
        clean.socket.settimeout(0.7)
        with pytest.raises(TimeoutError):
            clean.rest()
        assert b"lost" not in clean.received and len(m.streams) == 1


def test_attachments_of_one_client_do_not_overlap():
    with Marathon(heartbeat=5) as m, Raw(m.address) as dead:
        dead.until(b"}\r\n\r\n")
        m.emit("a", b"{}")
        dead.until(b"{}\r\n\r\n")
        with Raw(m.address) as again:  # the first one is still open, as far as Marathon knows
            again.until(b"}\r\n\r\n")
            m.emit("b", b"{}")
            again.until(b"{}\r\n\r\n")
            dead.until(b"event: b\r\ndata: {}\r\n\r\n")
            wait_until(lambda: [len(one.told) for one in m.history] == [4, 2], 5, "all is noted as told")
            kinds = [[kind for kind, _ in one] for one in m.attachments()]
            assert kinds == [["event_stream_attached", "a"], ["event_stream_attached", "b"]]
            assert [kind for kind, _ in m.history[0].told] == kinds[0] + kinds[1]


def test_two_streams_may_see_different_orders():
    with Marathon(shuffle=0.3) as m, Raw(m.address) as first, Raw(m.address) as second:
        for raw in (first, second):
            raw.until(b"attached")
        for number in range(200):
            m.emit("n", b"%d" % number)
        orders = lambda: [[data for kind, data in one.told if kind == "n"] for one in m.history]  # noqa: E731
        wait_until(lambda: [len(order) for order in orders()] == [200, 200], 10, "all is written")
        orders = orders()
        assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
        assert all(one.told[0][0] == "event_stream_attached" for one in m.history)


def test_credentials():
    with Marathon(user="me", password="it's secret", token="abc") as m:
        for lines in ([], ["Authorization: Basic bWU6d3Jvbmc="], ["Authorization: token=x"]):
            raw = ask(m.address, "/v2/events", [*ACCEPT, *lines])
            assert raw.status == 401 and b'\r\nWWW-Authenticate: basic realm="' in raw.received
        for value in (basic("me", "it's secret"), "token=abc"):
            assert ask(m.address, "/v2/apps", [f"Authorization: {value}"]).status == 200


def test_tls(tmp_path):
    authority = Authority(tmp_path)
    trust = ssl.create_default_context(cafile=str(authority.ca))
    with Marathon(nodes=2, tls=authority.sign("server", "IP:127.0.0.1"), heartbeat=0.3) as m:
        assert m.address.startswith("https://")
        with Raw(m.address, tls=trust) as raw:
            raw.until(b"attached")
            raw.until(b"}\r\n\r\n\r\n")
            m.elect(1)
            raw.rest()
        with Raw(m.address, tls=trust) as raw:
            raw.until(b"attached")
        wait_until(lambda: m.sent[-1].type == "event_stream_detached", 10, "the client's end is noticed")


def test_misbehaviour_on_demand():
    with Marathon() as m:
        m.answer("/v2/apps", standin.refusal("503 Service Unavailable", "no"))
        m.answer("/v2/events", standin.Answer(b"event: x\r\n", headers={"Content-Type": "text/html"}, chunked=False))
        assert (ask(m.address, "/v2/apps").status, ask(m.address, "/v2/apps").body) == (503, b"no")
        assert ask(m.address, "/v2/events", ACCEPT).body == b"event: x\r\n"
        m.answer("/v2/apps", None)
        assert ask(m.address, "/v2/apps?embed=a&embed=b").body == b'{"apps":[]}'
        last = m.requests[-1]
        assert (last.method, last.path, last.query, last.node) == ("GET", "/v2/apps", {"embed": ["a", "b"]}, 0)
        assert ("connection", "close") in last.headers
