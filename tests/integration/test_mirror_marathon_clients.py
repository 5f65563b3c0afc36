"""Marathon's own clients, unchanged, at a Marathon and at the mirror: PyPI's marathon, npm's
marathon-event-bus-client, curl, and EventSource in Chromium (there, and on /events)."""

import contextlib
import json
import subprocess

import pytest
from rig.busbar import Busbar
from rig.chromium import Chromium, Pages
from rig.heard import following
from rig.marathon import Marathon, capture
from rig.marathon_clients import node_client, python_client
from rig.marathon_stream import frame
from rig.proc import wait_until

PLANS = ("deployment_info", "deployment_step_success")
UNKNOWN_TO_PYTHON = ("scheduler_reregistered_event",)
ATTACHMENTS = ("event_stream_attached", "event_stream_detached")
CAPTURE = capture("real-1.11.sse")
# Those that each of the clients knows.
FRAMES = [(kind, data) for kind, data in CAPTURE if kind not in (*PLANS, *UNKNOWN_TO_PYTHON, *ATTACHMENTS)]
TYPES = sorted({kind for kind, _ in FRAMES} - {"api_post_event", "unhealthy_instance_kill_event"})
# The Python client takes its stream in pieces of 512 bytes: what is less has to wait for more.
PUSH = b'{"eventType":"push","timestamp":"2026-11-21T18:37:00.504Z","x":"%s"}' % (b"x" * 512)


@pytest.fixture(scope="module")
def pair():
    with Marathon() as marathon, following(marathon) as busbar:
        yield marathon, busbar


def _wait_clients(marathon: Marathon, busbar: Busbar, clients: int) -> None:
    """Until as many are attached at each."""
    marathon.wait_streams(clients + 1, 120)  # and the busbar
    wait_until(lambda: busbar.metrics()["busbar_clients"] == clients, 120, f"{clients} clients of the mirror")


def _wait_equal(theirs, ours, count: int) -> list:
    """What both were told, as soon as it is as much."""
    assert ours.wait_told(count) == theirs.wait_told(count)
    return ours.told


def test_python_is_told_the_same(pair):
    """event_stream(), parsed to its classes; and raw, all types."""
    marathon, busbar = pair
    types = sorted({kind for kind, _ in FRAMES})
    frames = FRAMES[:500]
    with contextlib.ExitStack() as stack:
        told = [[stack.enter_context(python_client(at, *words)) for at in (marathon.address, busbar.url)]
                for words in (types, ("--raw", *types))]  # fmt: skip
        _wait_clients(marathon, busbar, len(told))
        marathon.play([*frames, (types[0], PUSH)])
        parsed = _wait_equal(*told[0], len(frames))
        assert {name for name, _ in parsed} >= {"MarathonStatusUpdateEvent", "MarathonInstanceChangedEvent"}
        raw = _wait_equal(*told[1], len(frames))
        assert raw[: len(frames)] == [" " + data.decode() for _, data in frames]


def test_python_fails_alike_on_light_plans():
    """It wants plan.original, which Marathon leaves out from 1.7 on; the mirror tells what it was told."""
    light = next(data for kind, data in CAPTURE if kind == "deployment_info")
    group = {"id": "/", "apps": [], "groups": [], "dependencies": [], "version": "2026-11-21T18:37:00.504Z", "pods": []}
    heavy = json.loads(light)
    heavy["plan"] |= {"original": group, "target": group}
    with contextlib.ExitStack() as stack:
        marathon = stack.enter_context(Marathon(plans="heavy"))
        busbar = stack.enter_context(following(marathon, {"plan_format": "full"}))
        both = [stack.enter_context(python_client(at, "deployment_info")) for at in (marathon.address, busbar.url)]
        _wait_clients(marathon, busbar, 1)
        marathon.play([("deployment_info", data) for data in (json.dumps(heavy).encode(), light, PUSH)])
        assert [name for name, _ in _wait_equal(*both, 2)] == ["MarathonDeploymentInfo", "AttributeError"]


def test_node_is_told_the_same(pair):
    marathon, busbar = pair
    frames = [(kind, data) for kind, data in CAPTURE if kind in (*TYPES, *PLANS)][:500]
    _wait_clients(marathon, busbar, 0)
    with contextlib.ExitStack() as stack:
        types = [*TYPES, *PLANS]
        both = [stack.enter_context(node_client(at, types)) for at in (marathon.address, busbar.url)]
        _wait_clients(marathon, busbar, 1)
        marathon.play(frames)
        told = _wait_equal(*both, len(frames) + 1)
        assert told[0] == ["subscribed"]
        assert told[1:] == [[kind, json.loads(data)] for kind, data in frames]


def test_clients_may_show_who_they_are():
    """A token, or a password that is the token (the Python client sends a token to everything but its event stream)."""
    with Marathon() as marathon, following(marathon, token="s3cret") as busbar, contextlib.ExitStack() as stack:
        words = ("--user", "me", "--password", "s3cret", "deployment_success")
        python = stack.enter_context(python_client(busbar.url, *words))
        node = stack.enter_context(node_client(busbar.url, ["deployment_success"], "token=s3cret"))
        refused = stack.enter_context(node_client(busbar.url, ["deployment_success"], "token=wrong"))
        assert refused.wait_told(1) == [["failed", 401]]

        def count():
            text = busbar.get("/metrics", {"Authorization": "Bearer s3cret"})[1].decode()
            return int(text.partition("\nbusbar_clients ")[2].split()[0])

        wait_until(lambda: count() == 2, 120, "two clients")
        marathon.emit("deployment_success", {"id": "one"})
        marathon.emit("deployment_success", PUSH)
        assert python.wait_told(1)[0][1]["id"] == "one"
        assert node.wait_told(2)[1][1]["id"] == "one"  # it tells too that it has subscribed


def test_curl_gets_the_bytes(pair):
    marathon, busbar = pair
    _wait_clients(marathon, busbar, 0)
    argv = ["curl", "--silent", "--no-buffer", "--header", "Accept: text/event-stream"]
    with subprocess.Popen([*argv, f"{busbar.url}/v2/events?event_type=deployment_info"], stdout=subprocess.PIPE) as curl:
        wait_until(lambda: busbar.metrics()["busbar_clients"] == 1, 60, "curl is attached")
        marathon.play(CAPTURE[:300])
        wanted = b"".join(frame(kind, data) for kind, data in CAPTURE[:300] if kind == "deployment_info")
        assert wanted and curl.stdout.read(len(wanted)) == wanted
        curl.kill()


def test_chromium_follows_both_streams_and_comes_back():
    """EventSource, on /v2/events and on /events, of a page whose origin may; and of one whose origin may not."""
    types = [*TYPES, *ATTACHMENTS]
    frames = [(kind, data.decode()) for kind, data in FRAMES if kind in TYPES][:300]
    with contextlib.ExitStack() as stack:
        pages, strangers = stack.enter_context(Pages()), stack.enter_context(Pages())
        marathon = stack.enter_context(Marathon())
        busbar = stack.enter_context(following(marathon, allow_origin=[pages.origin]))
        sources = [busbar.url + "/v2/events", busbar.url + "/events"]
        stack.enter_context(Chromium(pages.url(sources, types, frame=strangers.url(sources, types))))
        for which in (0, 1):
            pages.wait_told(which, lambda told: told)
            strangers.wait_told(which, lambda told: told)
        marathon.play([(kind, data.encode()) for kind, data in frames[:200]])
        for which in (0, 1):
            pages.wait_told(which, lambda told: _events(told) == frames[:200])
        busbar.kill9()
        busbar.start()
        for which in (0, 1):
            pages.wait_told(which, lambda told: [kind for kind, *_ in told].count("open") == 2)
        busbar.wait_attached()
        marathon.play([(kind, data.encode()) for kind, data in frames[200:]])
        for which in (0, 1):
            pages.wait_told(which, lambda told: _events(told) == frames)
        _check_page(pages)
        for which in (0, 1):
            assert {kind for kind, *_ in strangers.of(which)} == {"failed"}


def _events(told: list) -> list:
    return [(kind, data) for kind, data, _ in told if kind not in ("open", "failed", *ATTACHMENTS)]


def _check_page(pages: Pages) -> None:
    own, ours = pages.of(0), pages.of(1)
    opened = [number for number, (kind, *_) in enumerate(own) if kind == "open"]
    for number in opened:
        assert own[number + 1][0] == "event_stream_attached"
    assert {last_id for _, _, last_id in own} == {""}  # Marathon gives none: nothing can be resumed
    assert all(last_id.startswith("prod:") for kind, _, last_id in ours if kind in TYPES)
    for told in (own, ours):
        assert {data for kind, data, _ in told if kind == "failed"} == {0}  # it connects again by itself
