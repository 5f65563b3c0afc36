"""A Nomad that refuses, breaks off, falls silent or talks nonsense, and one that is real."""

import json
import time

import pytest
from rig import standin
from rig.busbar import Busbar
from rig.exits import from_sse
from rig.load import Load
from rig.nomad import Nomad
from rig.oracle import compare
from rig.ports import free_port
from rig.proc import wait_until
from rig.proxy import Proxy
from rig.standin import HOLD, Answer, Standin, event_line, refusal, stream
from rig.tap import Tap
from rig.wire import sent_bytes

SECRET = "5ecre7ed-dead-beef-0000-0123456789ab"
HEALTHY = stream(event_line(7), HOLD)


def _busbar(*servers: str, **source) -> Busbar:
    """One source, no exit but HTTP."""
    one = {"name": "prod", "type": "nomad", "servers": list(servers), "token": SECRET, "start": "oldest", **source}
    return Busbar({"name": "up", "sources": [one]})


def _troubles(busbar: Busbar) -> list[str]:
    return busbar.log_lines("source_backoff")


def _wait_events(client, count: int) -> list[dict]:
    wait_until(lambda: len(client.frames) >= count, 20, f"{count} events; there are {len(client.frames)}")
    return [json.loads(frame.data) for frame in client.frames]


EMPTY = standin.empty_close()
REFUSALS = {
    "unknown token": (standin.unknown_token(), {}, ["does not accept this `token`"]),
    "too small a token": (standin.permission_denied(), {}, ["management token", "`filter_at: server`"]),
    "one topic too many": (
        standin.permission_denied(),
        {"filter_at": "server", "topics": ["Job", "Node"]},
        ["may not read one of `topics`"],
    ),
    "no token": (standin.permission_denied(), {"token": ""}, ["no `token` is set"]),
    "broker off": (standin.broker_off(), {}, ["enable_event_broker = true", "type: nomad_blocking"]),
    "not found": (standin.not_found(), {}, ["404", "not a Nomad", "check `servers`"]),
    "redirect": (standin.redirect("https://other:4646/v1/event/stream"), {}, ["(307) to https://other:4646/"]),
    "bad request": (refusal("400 Bad Request", "Invalid topic query"), {}, ["400: Invalid topic query", "`topics`"]),
    "some error": (refusal("502 Bad Gateway", "no upstream"), {}, ["answered 502: no upstream"]),
    "web page": (standin.not_json(), {}, ["not with Nomad's event stream", "It works!"]),
    "TLS only": (
        refusal("400 Bad Request", "Client sent an HTTP request to an HTTPS server."),
        {},
        ["write https:// in `servers`"],
    ),
}


@pytest.mark.parametrize("answer, source, hints", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_told_once_with_what_to_do_and_tried_again(answer, source, hints):
    with Standin(answer, answer, answer, HEALTHY) as server, _busbar(server.address, **source) as busbar:
        with busbar.events(from_oldest=True) as client:
            assert [event["Index"] for event in _wait_events(client, 1)] == [7]
        (line,) = _troubles(busbar)
        assert "level=warn" in line and server.address in line
        assert all(hint in line for hint in hints), line
        assert SECRET not in busbar.log.read_text()


NEWEST = {
    "unknown token": (refusal("403 Forbidden", "ACL token not found"), None, "does not accept this `token`"),
    "small token": (
        refusal("200 OK", '{"Type":"client"}'),
        refusal("403 Forbidden", "Permission denied"),
        "management token",
    ),
    "broker off": (
        refusal("400 Bad Request", "ACL support disabled"),
        refusal("200 OK", '{"config":{"Server":{"EnableEventBroker":false}}}'),
        "enable_event_broker = true",
    ),
}


@pytest.mark.parametrize("token, agent, hint", NEWEST.values(), ids=NEWEST)
def test_the_newest_nomads_silence_is_asked_for_its_reason(token, agent, hint):
    server = Standin(EMPTY, EMPTY, HEALTHY).on("/v1/acl/token/self", token)
    server.on("/v1/agent/self", agent or token)
    with server, _busbar(server.address) as busbar:
        busbar.wait_attached()
        (line,) = _troubles(busbar)
        assert hint in line and SECRET not in busbar.log.read_text()


def test_a_nomad_that_says_http_0_0_is_read_all_the_same():
    """1.10.8 (hashicorp/nomad #27582); libcurl alone refuses it."""

    class Odd(Answer):
        def head(self) -> bytes:
            return super().head().replace(b"HTTP/1.1", b"HTTP/0.0")

    steps = [b"{}\n", event_line(7), 0.2, event_line(8), HOLD]
    with Standin(Odd(*steps, chunked=False)) as server, _busbar(server.address) as busbar:
        with busbar.events(from_oldest=True) as client:
            assert [event["Index"] for event in _wait_events(client, 2)] == [7, 8]
        assert not _troubles(busbar)
        assert server.requests[-1].headers["x-nomad-token"] == SECRET


def test_nobody_listens_until_somebody_does():
    with Standin(HEALTHY) as server:
        server.close()
        with _busbar(server.address) as busbar:
            assert "Connection refused" in busbar.wait_log("source_backoff")
            time.sleep(1)
            assert len(_troubles(busbar)) == 1
            server.start()
            busbar.wait_attached()


def test_no_such_host():
    with _busbar("http://no-such-host.invalid:4646") as busbar:
        assert "check the name and DNS" in busbar.wait_log("source_backoff")


def test_https_to_a_plain_port():
    with Standin(HEALTHY) as server, _busbar(server.address.replace("http:", "https:"), connect_timeout="1s") as busbar:
        assert "needs http://" in busbar.wait_log("source_backoff")


BREAKS = {
    "a slow reader": (standin.dropped(event_line(7)), "too slow a reader"),
    "half a line": (standin.cut_line(event_line(7)), "in the middle of a line"),
    "a reset": (stream(event_line(7), 0.3, standin.RESET), "broke off"),
    "a close": (stream(event_line(7), standin.CLOSE, chunked=None), "closed the stream"),
    "words": (stream(event_line(7), b"rpc error: no leader\n"), 'the stream ended with \\"rpc error: no leader\\"'),
}


@pytest.mark.parametrize("answer, reason", BREAKS.values(), ids=BREAKS)
def test_a_stream_that_breaks_off_goes_on_at_once_and_nothing_is_malformed(answer, reason):
    again = stream(event_line(7), event_line(8), HOLD)
    with Standin(answer, again) as server, _busbar(server.address) as busbar:
        with busbar.events(from_oldest=True) as client:
            events = _wait_events(client, 2)
            time.sleep(0.2)
        assert [event["Index"] for event in events] == [7, 8] and len(client.frames) == 2
        first, second = server.requests[:2]
        assert second.query["index"] == ["7"]
        assert second.when - first.when < 9
        assert reason in _troubles(busbar)[0]
        assert busbar.metrics()['busbar_malformed_total{source="prod"}'] == 0


def test_a_line_that_cannot_be_read_becomes_an_event_and_the_stream_goes_on():
    answer = stream(event_line(7), b'{"Events":[{"Index":8,]}\n', b"oops\n", event_line(9), HOLD)
    with Standin(answer) as server, _busbar(server.address) as busbar:
        with busbar.events(from_oldest=True) as client:
            events = _wait_events(client, 4)
    assert [event["Type"] for event in events] == ["JobRegistered", "Malformed", "Malformed", "JobRegistered"]
    assert all(event["Topic"] == "Busbar" and event["Key"] == "prod" for event in events[1:3])


def test_a_silent_server_is_left_for_the_next():
    with Standin(standin.silence()) as mute, Standin(HEALTHY) as well:
        with _busbar(mute.address, well.address, silence="1s") as busbar:
            assert "silent for" in busbar.wait_log("source_backoff")
            well.wait_requests(1)
            busbar.wait_attached()


def test_a_server_that_is_stopped_in_its_tracks_is_left_for_the_next():
    with Standin(Answer(HOLD)) as mute, Standin(HEALTHY) as well:
        with _busbar(mute.address, well.address, connect_timeout="500ms") as busbar:
            assert "nothing came within" in busbar.wait_log("source_backoff")
            well.wait_requests(1)


def test_fruitless_tries_get_rarer():
    with Standin(standin.broker_off()) as server, _busbar(server.address):
        requests = server.wait_requests(5)
        waits = [b.when - a.when for a, b in zip(requests, requests[1:])]
        assert 0.1 < waits[0] < 8 and 0.9 < waits[3] < 10, waits


# ---- a real one ----


def test_a_killed_nomad_costs_nothing():
    """Behind a list whose first server was never there."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    with Nomad() as nomad, Proxy(nomad.http_port) as wire, Tap(nomad.address, reconnect=True) as tap:
        with _busbar(nowhere, wire.address) as busbar, Load(nomad, rate=60) as load:
            busbar.wait_attached()
            with busbar.events(from_oldest=True) as client:
                for _ in range(2):
                    tap.wait_events(len(tap.events) + 100)
                    nomad.restart(hard=True)
                tap.wait_events(len(tap.events) + 100)
                load.stop()
                tap.wait_quiet()
                wait_until(lambda: len(client.frames) >= len(tap.events), 20, "all of them")
            assert tap.intact and busbar.status()["sources"][0]["gaps"] == 0
            compare({"prod": tap.events}, from_sse(client.frames), sent_bytes(wire)).assert_exact()


def test_tokens_of_a_real_nomad():
    with Nomad(acl=True) as nomad:
        nomad.register_job("web")
        reader = nomad.create_token('namespace "default" { policy = "read" }')
        with _busbar(nomad.address) as busbar:
            assert "does not accept this `token`" in busbar.wait_log("source_backoff")
        with _busbar(nomad.address, token="") as busbar:
            assert "no `token` is set" in busbar.wait_log("source_backoff")
        with _busbar(nomad.address, token=reader) as busbar:
            assert "management token" in busbar.wait_log("source_backoff")
        with _busbar(nomad.address, token=reader, filter_at="server", topics=["Job", "Evaluation"]) as busbar:
            busbar.wait_attached()
            with busbar.events(from_oldest=True) as client:
                assert {event["Topic"] for event in _wait_events(client, 2)} == {"Job", "Evaluation"}
        with _busbar(nomad.address, token=nomad.token) as busbar:
            busbar.wait_attached()
            assert nomad.token not in busbar.log.read_text()


class _Brokerless(Nomad):
    def _server_config(self) -> dict:
        return {**super()._server_config(), "enable_event_broker": False}


def test_a_real_nomad_without_its_event_broker():
    with _Brokerless() as nomad, _busbar(nomad.address, token="") as busbar:
        assert "enable_event_broker = true" in busbar.wait_log("source_backoff")


def test_start_now_tells_only_what_comes_after(nomad):
    with Tap(nomad.address) as tap:
        nomad.register_job("before")
        nomad.wait_evaluated()
        tap.wait_quiet()
    with _busbar(nomad.address, token="", start="now") as busbar:
        busbar.wait_attached()
        time.sleep(1)
        with busbar.events(from_oldest=True) as client:
            nomad.register_job("after")
            events = _wait_events(client, 2)
    last = max(event.index for event in tap.events)
    assert all(event["Index"] > last for event in events), (last, events)
    assert {event["Key"] for event in events if event["Topic"] == "Job"} == {"after"}


def test_only_topics_and_namespace_asked_for(nomad):
    nomad.create_namespace("apps")
    with _busbar(nomad.address, token="", topics=["Job:chosen"], namespace="default") as busbar:
        busbar.wait_attached()
        with busbar.events(from_oldest=True) as client:
            nomad.register_job("chosen", namespace="apps")
            for name in ("other", "chosen"):
                nomad.register_job(name)
            _wait_events(client, 1)
            time.sleep(0.5)
            events = [json.loads(frame.data) for frame in client.frames]
    assert {(event["Topic"], event["Key"], event["Namespace"]) for event in events} == {("Job", "chosen", "default")}
