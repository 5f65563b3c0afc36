"""A Marathon that behaves and one that does not: what is attached, what is a gap, who leads, who may ask."""

import json
import pathlib
import socket
import time
from urllib.parse import urlsplit

import pytest
from rig.busbar import Busbar, run_busbar
from rig.certs import Authority
from rig.marathon import FIXTURES, Marathon, capture
from rig.marathon_stream import frame
from rig.ports import free_port
from rig.proc import wait_until
from rig.proxy import Proxy
from rig.relay import HttpProxy, Relay
from rig.standin import CLOSE, HOLD, RESET, Answer, refusal
from rig.stopwatch import had

SECRET = "5ecre7ed-dead-beef"
OWN = {"Gap", "ResyncStarted", "ResyncFinished", "Malformed", "Snapshot", "Vanished"}
ATTACHED = frame("event_stream_attached", b'{"remoteAddress":"127.0.0.1","eventType":"event_stream_attached"}')


def _busbar(*servers: str, env: dict | None = None, **source) -> Busbar:
    """One source, no exit but HTTP."""
    one = {"name": "prod", "type": "marathon", "servers": list(servers), "start": "now", **source}
    return Busbar({"name": "up", "sources": [one]}, env=env)


def _stream(*steps, kind: str = "text/event-stream;charset=utf-8") -> Answer:
    return Answer(*steps, headers={"Content-Type": kind}, chunked=False)


def _refusal(status: str, text: str = "", **headers) -> Answer:
    return refusal(status, text, {name.replace("_", "-"): value for name, value in headers.items()})


def _told(busbar: Busbar, count: int = 0) -> list[tuple[str, bytes]]:
    """All that the journal has, (type, data); waits until there is so much."""
    journal = lambda: _source(busbar)["journal"]  # noqa: E731
    journaled = lambda: journal()["next_seq"] - journal()["first_seq"]  # noqa: E731
    wait_until(lambda: journaled() >= count, 60, f"{count} events")
    with busbar.events(from_oldest=True) as client:
        return [(one.event, one.data) for one in client.wait_frames(journaled())]


def _source(busbar: Busbar) -> dict:
    return busbar.status()["sources"][0]


def _connects(busbar: Busbar) -> float:
    return busbar.metrics()['busbar_connects_total{source="prod"}']


def _troubles(busbar: Busbar) -> list[str]:
    return busbar.log_lines("source_backoff")


def _emit(marathon: Marathon, *names: str) -> None:
    for name in names:
        marathon.emit("group_change_success", {"groupId": f"/{name}", "version": "2026-11-22T00:00:00.000Z"})


def _groups(told: list[tuple[str, bytes]]) -> list[str]:
    """Which of those came out, and where gaps were said."""
    kinds = [(kind, json.loads(data)) for kind, data in told if kind in ("group_change_success", "Gap")]
    return [kind if kind == "Gap" else event["groupId"][1:] for kind, event in kinds]


# ---- asking ----


def test_what_is_told_comes_out_byte_for_byte_in_order_of_arrival():
    """Timestamps that go back and events that are equal byte for byte included."""
    frames = capture("real-1.11.sse")[:1500]
    with Marathon() as marathon, _busbar(marathon.address) as busbar:
        marathon.wait_streams(1)
        marathon.play(frames)
        sent = [(one.type, one.data) for one in marathon.sent]
        told = [one for one in _told(busbar, len(sent)) if one[0] not in OWN]
        assert told == sent and len(sent) == 1501
        (request,) = [one for one in marathon.requests if one.path == "/v2/events"]
        assert request.values("accept") == ["text/event-stream"] and request.query == {"plan-format": ["light"]}
        assert _source(busbar)["gaps"] == 0


def test_its_own_event_stream_attached_is_what_attaches_it():
    with Marathon(heartbeat=60) as marathon:
        marathon.answer("/v2/events", _stream(b"", HOLD))
        with _busbar(marathon.address) as busbar:
            marathon.wait_requests(1)
            time.sleep(1)
            assert not busbar.is_attached() and _connects(busbar) == 0
        marathon.answer("/v2/events", None)
        with _busbar(marathon.address) as busbar:
            busbar.wait_attached()
            (kind, data), *_ = [one for one in _told(busbar, 1) if one[0] not in OWN]
            assert kind == "event_stream_attached" and json.loads(data)["remoteAddress"] == "127.0.0.1"
            assert _source(busbar)["server"] == marathon.address


class Verbatim(Answer):
    """A whole answer as it went over the wire, its head included."""

    def head(self) -> bytes:
        return b""


def test_the_bytes_of_a_real_servlet_are_read_head_and_all():
    expected = capture("wire-true-servlet.bin")
    wire = (FIXTURES / "wire-true-servlet.bin").read_bytes()
    with Marathon() as marathon:
        marathon.answer("/v2/events", Verbatim(wire, HOLD, chunked=False))
        with _busbar(marathon.address) as busbar:
            told = _told(busbar, len(expected))
            assert told == expected and len(expected) > 20
            assert _source(busbar)["server"] == "http://127.0.0.1:21730"  # X-Marathon-Leader


SEEN_AS = {
    "127.0.0.1": False,
    "[0:0:0:0:0:ffff:7f00:1]": False,  # as Java writes it
    "::ffff:127.0.0.1": False,
    "10.1.2.3": True,
    "127.0.0.10": True,
    "": True,
    "a" * 300: True,
}


@pytest.mark.parametrize("address, is_told", SEEN_AS.items(), ids=[name[:30] for name in SEEN_AS])
def test_behind_a_proxy_the_first_event_stream_attached_counts_as_its_own(address, is_told):
    body = json.dumps({"remoteAddress": address, "eventType": "event_stream_attached"}).encode()
    with Marathon() as marathon:
        marathon.answer("/v2/events", _stream(frame("event_stream_attached", body), ATTACHED, HOLD))
        source = {"name": "prod", "type": "marathon", "servers": [marathon.address], "start": "now"}
        with Busbar({"name": "up", "log_level": "debug", "sources": [source]}) as busbar:
            busbar.wait_attached()
            assert len(_told(busbar, 2)) == 2
            assert len(busbar.log_lines("stream_seen_as")) == is_told


def _kinds(busbar: Busbar, count: int) -> list[str]:
    """Of what is told, which is less than what the journal has."""
    with busbar.events(from_oldest=True) as client:
        client.wait_frames(count)
        client.wait_quiet(0.5)  # for one too many
        return [one.event for one in client.frames]


def test_event_types_are_asked_for_and_kept_out_here_where_marathon_does_not():
    types = ["status_update_event", "deployment_success"]
    with Marathon() as marathon:
        with _busbar(marathon.address, event_types=types, plan_format="full") as busbar:
            busbar.wait_attached()  # at once: it asks for event_stream_attached too
            _emit(marathon, "unasked")
            marathon.emit("status_update_event", {"appId": "/a"})
            assert _kinds(busbar, 1) == ["status_update_event"]
            query = marathon.streams[0].query
            assert query == {"event_type": [*types, "event_stream_attached"]}
        everything = [frame(kind, b'{"appId":"/a"}') for kind in ("a_new_event", *types)]
        marathon.answer("/v2/events", _stream(ATTACHED, *everything, HOLD))  # one older than 1.3.7
        with _busbar(marathon.address, event_types=types) as busbar:
            assert _kinds(busbar, 2) == types


def test_only_snapshot_and_now_are_starts(tmp_path):
    config = tmp_path / "busbar.yaml"
    source = {"name": "prod", "type": "marathon", "servers": ["http://m:8080"], "start": "oldest"}
    config.write_text(json.dumps({"name": "t", "http": {"listen": "127.0.0.1:0"}, "sources": [source]}, indent=1))
    done = run_busbar("check", "-c", str(config))
    assert done.returncode == 2
    assert "start: oldest: expected snapshot or now, because Marathon keeps no event" in done.stderr
    with Marathon() as marathon:
        marathon.put_app("/web", instances=1)
        for start, resyncs in (("now", 0), ("snapshot", 1)):
            with _busbar(marathon.address, start=start) as busbar:
                busbar.wait_attached()
                _emit(marathon, "last")
                wait_until(lambda: "last" in _groups(_told(busbar)), 20, "the last event")
                wait_until(lambda: len(busbar.log_lines("resync_finished")) == resyncs, 20, f"{resyncs} resyncs")


# ---- framing ----


def test_frames_as_the_standard_has_them_and_two_flushes_for_an_end():
    whole = frame("group_change_success", b'{"groupId":"/one"}')
    steps = [ATTACHED[:-1], 0.1, ATTACHED[-1:], b"\r", 0.1, b"\n", whole[:-2], 0.1, b"\r", 0.1, b"\n"]
    steps += [b': a comment\n\nevent: x\n\ndata: {"groupId":\ndata: "/two"}\nevent: group_change_success\n\n']
    with Marathon() as marathon:
        marathon.answer("/v2/events", _stream(*steps, HOLD))
        with _busbar(marathon.address) as busbar:
            told = _told(busbar, 3)
            assert [kind for kind, _ in told] == ["event_stream_attached"] + 2 * ["group_change_success"]
            assert [data for _, data in told[1:]] == [b'{"groupId":"/one"}', b'{"groupId":\n"/two"}']
            assert _connects(busbar) == 1 and not _troubles(busbar)


def test_a_frame_that_cannot_be_read_becomes_an_event_and_the_stream_goes_on():
    frames = [frame("x", b"oops"), frame("y", b'{"groupId":"/a",}'), frame("", b'{"groupId":"/a"}')]
    last = frame("group_change_success", b'{"groupId":"/a"}')
    with Marathon() as marathon:
        marathon.answer("/v2/events", _stream(ATTACHED, *frames, last, HOLD))
        with _busbar(marathon.address) as busbar:
            told = _told(busbar, 5)
    assert [kind for kind, _ in told[1:]] == 3 * ["Malformed"] + ["group_change_success"]
    assert all(json.loads(data)["Topic"] == "Busbar" for _, data in told[1:4])


def test_a_gap_stands_before_what_comes_first_even_if_that_cannot_be_read():
    with Marathon() as marathon:
        marathon.answer("/v2/events", _stream(frame("x", b"oops"), CLOSE))
        with _busbar(marathon.address) as busbar:
            kinds = [kind for kind, _ in _told(busbar, 7) if kind in ("Malformed", "Gap")]
            assert _connects(busbar) > 3
    assert kinds[:7] == ["Malformed", "Gap", "Malformed", "Gap", "Malformed", "Gap", "Malformed"]


# ---- the end of a stream ----

ENDS = {
    "a clean close": ({}, "closed the stream"),
    "a reset": ({"reset": True}, "broke off"),
    "half an event": ({"mid_frame": True}, "in the middle of an event"),
    "half an event and a reset": ({"mid_frame": True, "reset": True}, ""),
}


@pytest.mark.parametrize("manner, words", ENDS.values(), ids=ENDS)
def test_each_end_is_one_gap_and_no_half_event_comes_out(manner, words):
    with Marathon() as marathon, _busbar(marathon.address) as busbar:
        for number in range(2):
            marathon.wait_streams(1)
            busbar.wait_attached()
            _emit(marathon, f"before-{number}")
            wait_until(lambda: f"before-{number}" in _groups(_told(busbar)), 20, "what was told before")
            marathon.streams[0].cut(**manner)
        marathon.wait_streams(1)
        _emit(marathon, "after")
        expected = ["before-0", "Gap", "before-1", "Gap", "after"]
        wait_until(lambda: _groups(_told(busbar))[-1:] == ["after"], 20, "the last event")
        assert _groups(_told(busbar)) == expected
        assert busbar.metrics()['busbar_malformed_total{source="prod"}'] == 0
        assert words in _troubles(busbar)[0] and _connects(busbar) == 3


def test_a_stream_that_dies_silently_is_left_for_the_next_server():
    with Marathon(heartbeat=0.3) as mute, Marathon(heartbeat=0.3) as well:
        with _busbar(mute.address, well.address, silence="4s") as busbar:
            busbar.wait_attached()
            time.sleep(5)  # heartbeats are life enough
            assert not _troubles(busbar) and len(mute.streams) == 1
            mute.streams[0].freeze()
            mute.answer("/v2/events", _stream(HOLD))  # and is so for whoever comes
            assert "silent for 4000 ms" in busbar.wait_log("source_backoff")
            well.wait_streams(1)
            wait_until(lambda: _source(busbar)["gaps"] == 1, 20, "a gap")


def test_a_server_that_never_answers_is_left_for_the_next():
    with Marathon() as mute, Marathon() as well:
        mute.answer("/v2/events", Verbatim(HOLD))
        well.kill(0)  # so that it asks again, where a standstill of its own is what it tells first
        with _busbar(mute.address, well.address, connect_timeout="300ms") as busbar:
            busbar.wait_log("no answer came within 600 ms")
            well.start(0)
            busbar.wait_attached()
            assert _source(busbar)["gaps"] == 0


def test_nobody_listens_until_somebody_does():
    with Marathon() as marathon:
        marathon.kill(0)
        with _busbar(marathon.address) as busbar:
            assert "Connection refused" in busbar.wait_log("source_backoff")
            time.sleep(1)
            assert len(_troubles(busbar)) == 1
            marathon.start(0)
            busbar.wait_attached()
            assert _source(busbar)["gaps"] == 0


def test_a_restart_of_the_bridge_is_a_gap_and_what_was_told_before_stays():
    with Marathon() as marathon, _busbar(marathon.address) as busbar:
        marathon.wait_streams(1)
        _emit(marathon, "before")
        wait_until(lambda: _groups(_told(busbar)) == ["before"], 20, "the first event")
        for hard in (True, False):
            busbar.restart(hard=hard)
            busbar.wait_attached()
        wait_until(lambda: len(marathon.streams) == 1, 20, "one stream")
        _emit(marathon, "after")
        wait_until(lambda: "after" in _groups(_told(busbar)), 20, "the last event")
        assert _groups(_told(busbar)) == ["before", "Gap", "Gap", "after"]


# ---- who leads ----


def test_redirects_lead_to_the_leader_wherever_it_is():
    with Marathon(nodes=3) as marathon, _busbar(*marathon.addresses[1:]) as busbar:
        for leader in (0, 1, 2, 0):
            marathon.elect(leader)
            marathon.wait_streams(1)
            _emit(marathon, f"led-by-{leader}")
            wait_until(lambda: _source(busbar)["server"] == marathon.address, 20, "the leader's address in /status")
        expected = ["led-by-0", "Gap", "led-by-1", "Gap", "led-by-2", "Gap", "led-by-0"]
        wait_until(lambda: _groups(_told(busbar)) == expected, 20, str(expected))


def _named(leader: Marathon) -> Answer:
    return _refusal("302 Found", Location=f"{leader.address}/v2/events?plan-format=light")


def test_a_chain_of_redirects_is_followed_and_a_circle_noticed():
    with Marathon() as one, Marathon() as two, Marathon() as three:
        for server, leader in ((one, two), (two, three)):
            server.answer("/v2/events", _named(leader))
        with _busbar(one.address) as busbar:
            three.wait_streams(1)
            busbar.wait_attached()
            three.answer("/v2/events", _named(one))
            three.streams[0].cut()
            assert one.address.rpartition(":")[0] in busbar.wait_log("round in a circle")
            count, began = len(one.requests), time.monotonic()
            time.sleep(1)
            one.wait_requests(count + 3)  # it goes on, and not too fast
            assert len(one.requests) - count < 40 * (time.monotonic() - began) and len(_troubles(busbar)) == 2


def test_a_dead_leader_that_is_still_named_does_not_lock_it_up():
    """As for nine seconds after a SIGKILL."""
    with Marathon(nodes=3) as marathon, _busbar(*marathon.addresses) as busbar:
        marathon.wait_streams(1)
        busbar.wait_attached()
        marathon.kill(0, stale=9)
        assert "Connection refused" in busbar.wait_log("names: can't connect")
        time.sleep(1.5)
        marathon.elect(2)
        before = had()
        marathon.wait_streams(1)
        assert had() - before < 5
        wait_until(lambda: _source(busbar)["gaps"] == 1, 20, "a gap")
        assert len(_troubles(busbar)) <= 5, _troubles(busbar)  # each server's own trouble once


def test_a_leader_whose_machine_is_gone_is_not_waited_for_as_long_again():
    """A host that answers no SYN: a port whose backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as gone, Marathon() as standby:
        address = gone.getsockname()
        full = [socket.socket() for _ in range(3)]
        for one in full:
            one.setblocking(False)
            one.connect_ex(address)
        location = f"http://127.0.0.1:{address[1]}/v2/events"
        standby.answer("/v2/events", _refusal("302 Found", Location=location))
        with _busbar(standby.address, connect_timeout="6s") as busbar:
            asked = [one.when for one in standby.wait_requests(4)]
            waits = [after - before for before, after in zip(asked, asked[1:])]
            assert waits[0] > 5.9 and min(waits[1:]) < 4.5, waits
            assert "names: no connection within" in _troubles(busbar)[0]
        for one in full:
            one.close()


def test_one_that_is_elected_and_not_ready_was_never_attached():
    with Marathon(nodes=2) as marathon, _busbar(*marathon.addresses) as busbar:
        marathon.wait_streams(1)
        busbar.wait_attached()
        marathon.elect(1, ready=False)
        assert "not ready yet" in busbar.wait_log("not ready")
        time.sleep(1.5)
        assert _connects(busbar) == 1 and not busbar.is_attached()
        assert len(_troubles(busbar)) <= 4
        marathon.ready()
        marathon.wait_streams(1)
        wait_until(lambda: _connects(busbar) == 2, 20, "a second stream")
        wait_until(lambda: _source(busbar)["gaps"] == 1, 20, "a gap")


def test_without_a_leader_it_says_so_and_is_there_soon_after_an_election():
    with Marathon(nodes=2) as marathon, _busbar(*marathon.addresses) as busbar:
        marathon.wait_streams(1)
        busbar.wait_attached()
        time.sleep(5)
        count, began = len(marathon.requests), time.monotonic()
        marathon.elect(None)
        assert "no leader (502: Error 502 Could not determine" in busbar.wait_log("no leader")
        asked = [one.when for one in marathon.wait_requests(count + 12)[count:] if one.node == 0]
        # A tenth of the time without a leader, however long the stream stood before.
        assert min(b - a - (b - began) / 10 for a, b in zip(asked, asked[1:4])) < 0.1, asked
        marathon.elect(1)
        before = had()
        marathon.wait_streams(1)
        assert had() - before < 5
        assert _connects(busbar) == 2 or wait_until(lambda: _connects(busbar) == 2, 20, "a second stream")


def test_an_old_standby_proxies_and_the_leader_is_known_all_the_same():
    with Marathon(nodes=2, generation="old") as marathon, _busbar(marathon.addresses[1]) as busbar:
        marathon.wait_streams(1)
        busbar.wait_attached()
        assert _source(busbar)["server"] == marathon.addresses[0]
        _emit(marathon, "proxied")
        wait_until(lambda: _groups(_told(busbar)) == ["proxied"], 20, "an event")


# ---- who may ask ----

REFUSALS = {
    "no credentials": (_refusal("401 Unauthorized"), {}, "set `token` (DC/OS), or `username` and `password`"),
    "basic wanted": (_refusal("401 X", WWW_Authenticate='basic realm="M"'), {}, "set `username` and `password`"),
    "wrong token": (_refusal("401 Unauthorized"), {"token": SECRET}, "does not accept this `token`"),
    "forbidden": (_refusal("403 Forbidden"), {"token": SECRET}, "allow them to view events"),
    "not found": (_refusal("404 Not Found"), {}, "check `servers`"),
    "another Accept": (_refusal("405 Method Not Allowed"), {}, "must pass GET, and the header Accept"),
    "not acceptable": (_refusal("406 Not Acceptable"), {}, "must pass GET, and the header Accept"),
    "login page": (_refusal("302 Found", Location="https://sso/login"), {}, "https://sso/login, which is not"),
    "web page": (_stream(b"<p>It works!", kind="text/html"), {}, "not with an event stream (Content-Type: text/html)"),
}


@pytest.mark.parametrize("answer, source, hint", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_told_once_with_what_to_do_and_tried_again(answer, source, hint):
    with Marathon() as marathon:
        marathon.answer("/v2/events", answer)
        with _busbar(marathon.address, **source) as busbar:
            marathon.wait_requests(3)
            (line,) = _troubles(busbar)
            assert "level=warn" in line and marathon.address in line and hint in line, line
            marathon.answer("/v2/events", None)
            busbar.wait_attached()
            assert SECRET not in busbar.log.read_text() and _source(busbar)["gaps"] == 0


GUARDS = {
    "basic": ({"user": "joe", "password": SECRET}, {"username": "joe", "password": SECRET}),
    "token": ({"token": SECRET}, {"token": SECRET}),
}


@pytest.mark.parametrize("guard, source", GUARDS.values(), ids=GUARDS)
def test_credentials_go_to_configured_servers_only(guard, source):
    with Marathon(nodes=2, **guard) as marathon:
        marathon.elect(1)
        with _busbar(*marathon.addresses, **source) as busbar:
            busbar.wait_attached()
        marathon.requests.clear()
        with _busbar(marathon.addresses[0], **source) as busbar:
            line = busbar.wait_log("source_backoff")
            assert "(401), which are shown to the addresses in `servers` only" in line and marathon.addresses[1] in line
            shown = {one.node: one.values("authorization") for one in marathon.requests if one.path == "/v2/events"}
            assert shown[0] and not shown[1]
            assert SECRET not in busbar.log.read_text() and SECRET not in busbar.get("/status")[1].decode()


def test_a_token_in_a_file_is_read_anew(tmp_path):
    secret = tmp_path / "token"
    secret.write_text("old-one\n")
    with Marathon(token=SECRET) as marathon, _busbar(marathon.address, token_file=str(secret)) as busbar:
        assert "does not accept this `token_file`" in busbar.wait_log("source_backoff")
        secret.write_text(f"{SECRET}\n")
        busbar.wait_attached()
        assert SECRET not in busbar.log.read_text()


def test_tls_and_a_client_certificate(tmp_path):
    authority = Authority(tmp_path)
    cert, key = authority.sign("server", "IP:127.0.0.1")
    mine = dict(zip(("tls_cert", "tls_key"), authority.sign("client")))
    with Marathon(nodes=2, tls=(cert, key, str(authority.ca))) as marathon:
        with _busbar(*reversed(marathon.addresses), tls_ca=str(authority.ca), **mine) as busbar:
            busbar.wait_attached()  # by a redirect
            _emit(marathon, "secret")
            wait_until(lambda: _groups(_told(busbar)) == ["secret"], 20, "an event")
        with _busbar(*marathon.addresses, **mine) as busbar:
            assert "name its CA's file in `tls_ca`" in busbar.wait_log("source_backoff")


def test_a_unix_socket_and_a_proxy(tmp_path):
    with Marathon(nodes=2) as marathon:
        leader = urlsplit(marathon.address).port
        with Relay(leader, path=tmp_path / "m.sock") as relay, _busbar(relay.address) as busbar:
            busbar.wait_attached()
            assert relay.heads[0][0] == "GET /v2/events?plan-format=light HTTP/1.1"
        with HttpProxy() as proxy, _busbar(marathon.addresses[1], proxy=proxy.address) as busbar:
            busbar.wait_attached()  # to the leader through it too
            assert [line.split("/")[2] for line, _ in proxy.heads[:2]] == [
                urlsplit(address).netloc for address in reversed(marathon.addresses)
            ]


def test_a_gateway_has_marathon_below_a_path():
    """As DC/OS: https://HOST/service/marathon."""
    with Marathon() as gate:
        gate.answer("/service/marathon/v2/events", _stream(ATTACHED, HOLD))
        with _busbar(f"{gate.address}/service/marathon", token=SECRET) as busbar:
            busbar.wait_attached()
            assert gate.requests[0].values("authorization") == [f"token={SECRET}"]


# ---- hostile ----

MIB = 1 << 20
HEADERS = b"".join(b"X-%d: %b\r\n" % (number, b"y" * 900) for number in range(1000))


class Endless(Answer):
    def head(self) -> bytes:
        return b"HTTP/1.1 200 OK\r\n" + HEADERS + b"Content-Type: text/event-stream\r\n\r\n"


GARBAGE = bytes(range(256)) * 4096
HOSTILE = {
    "endless headers": (Endless(HOLD), 0, "head is longer than"),
    "garbage": (_stream(GARBAGE, RESET), None, ""),
    "NULs": (_stream(b"\0" * 4 * MIB, frame("x\0", b'{"a":"\0"}'), CLOSE), 1, ""),
    "a huge event": (_stream(b"data: ", *[b"z" * MIB] * 40, b"\r\n\r\n", HOLD), 1, None),
    "a huge line that is no field": (_stream(*[b"z" * MIB] * 40, b"\r\n\r\n", CLOSE), 0, ""),
    "a huge event that never ends": (_stream(b"data: ", *[b"z" * MIB] * 40, CLOSE), 0, "in the middle of an event"),
    "a huge type": (_stream(b"event: ", *[b"z" * MIB] * 40, b"\r\ndata: {}\r\n\r\n", HOLD), 1, None),
    "many empty frames": (_stream(*[b"data:\r\n\r\n" * 100000] * 10, CLOSE), 0, ""),
    "not HTTP": (Answer(GARBAGE, status="\0", headers={}), 0, ""),
}


@pytest.mark.parametrize("answer, malformed, words", HOSTILE.values(), ids=HOSTILE)
def test_a_server_that_talks_nonsense_harms_nobody_else(answer, malformed, words):
    with Marathon() as marathon, Marathon() as well:
        marathon.answer("/v2/events", answer)
        with _busbar(marathon.address, well.address) as busbar:
            if words is None:
                assert "Malformed" in [kind for kind, _ in _told(busbar, 1)]
            else:
                well.wait_streams(1, timeout=60)
                _emit(well, "fine")
                wait_until(lambda: "fine" in _groups(_told(busbar)), 20, "another server's event")
                assert words in "".join(_troubles(busbar))
            if malformed is not None:  # of each stream; they are several where a first one stood for a second
                asked = sum(one.path == "/v2/events" for one in marathon.requests)
                assert busbar.metrics()['busbar_malformed_total{source="prod"}'] == malformed * asked
            assert busbar.running


def test_what_is_huge_costs_bounded_memory():
    """32 MiB of a line and as many of data, in buffers that grow; of what is longer only a beginning is kept."""
    endless = _stream(b"data: ", *[b"z" * MIB] * 60, b"\r\ndata: ", *[b"z" * MIB] * 60, HOLD)
    with Marathon() as marathon:
        marathon.answer("/v2/events", endless)
        with _busbar(marathon.address, silence="4s") as busbar:
            most = 0
            while not _troubles(busbar):
                most = max(most, busbar.rss_anon())
                time.sleep(0.02)
            assert 20 * MIB < most < 160 * MIB, most
            marathon.answer("/v2/events", _stream(ATTACHED, HOLD))
            busbar.wait_attached()
            assert busbar.rss_anon() < 48 * MIB


# ---- a network between ----


def test_a_network_that_fails_in_every_way_costs_a_gap_each_time_and_nothing_else():
    with Marathon(heartbeat=0.3) as marathon, Proxy(marathon.nodes[0].port) as wire:
        with _busbar(wire.address, silence="3s") as busbar:
            harms = [lambda: wire.cut(), lambda: wire.cut(reset=True), lambda: wire.drop(None), lambda: wire.freeze()]
            for number, harm in enumerate(harms):
                busbar.wait_attached()
                _emit(marathon, f"before-{number}")
                wait_until(lambda: f"before-{number}" in _groups(_told(busbar)), 20, "what was told before")
                connects = _connects(busbar)
                harm()
                wait_until(lambda: not busbar.is_attached() or _connects(busbar) > connects, 20, "it notices")
                wire.heal()
                wait_until(lambda: _connects(busbar) > connects, 20, "another stream")
            busbar.wait_attached()
            _emit(marathon, "after")
            wait_until(lambda: "after" in _groups(_told(busbar)), 20, "the last event")
            found = _groups(_told(busbar))
            assert [name for name in found if name != "Gap"] == [f"before-{number}" for number in range(4)] + ["after"]
            gaps = lambda: _groups(_told(busbar)).count("Gap")  # noqa: E731
            wait_until(lambda: gaps() == _connects(busbar) - 1 >= 4, 20, "a gap for each stream but the first")


def test_the_example_is_one():
    example = pathlib.Path(__file__).resolve().parents[2] / "config/examples/marathon.yaml"
    assert run_busbar("check", "-c", str(example)).returncode == 0


def test_no_server_is_asked_more_often_than_is_of_use():
    """Refused, it asks less and less often; away, about as often as a tenth of the time."""
    with Marathon() as marathon:
        marathon.answer("/v2/events", _refusal("401 Unauthorized"))
        with _busbar(f"http://127.0.0.1:{free_port()}", marathon.address):
            time.sleep(4)
        assert 2 <= len(marathon.requests) <= 8, len(marathon.requests)
