"""All that a Marathon ever told arrives at every exit: the real captures, each type in each of its shapes, any
framing."""

import collections
import json
import random
import shutil

from rig.busbar import Busbar
from rig.marathon import FIXTURES, Marathon, capture
from rig.marathon_exits import TABLE, from_kafka, from_redis, from_sse
from rig.marathon_oracle import compare
from rig.proc import wait_until
from rig.sse import SseClient
from rig.standin import HOLD, Answer

NOW = "2026-11-21T18:37:01.019Z"
PLAN = {"id": "d-1", "steps": [{"actions": [{"action": "ScaleApplication", "app": "/a"}]}], "version": NOW}
HEAVY = {**PLAN, "original": {"id": "/", "apps": []}, "target": {"id": "/", "apps": [{"id": "/a"}]}}
CHECK = {"protocol": "HTTP", "path": "/health", "intervalSeconds": 10}

# Each type of Marathon's in the shapes that it ever had: where the key stands first, and where it stood or may stand
# instead; with the topic and the key that the table gives it.
SHAPES = [
    ("api_post_event", {"uri": "/v2/apps", "appDefinition": {"id": "/a", "cmd": "x"}}, "App", "/a"),
    ("api_post_event", {"uri": "/v2/apps//a", "appDefinition": None, "appId": "/a2"}, "App", "/a2"),
    ("app_terminated_event", {"appId": "/a", "id": "/never"}, "App", "/a"),
    ("pod_created_event", {"clientIp": "::1", "uri": "/v2/pods"}, "Pod", ""),
    ("pod_created_event", {"clientIp": "::1", "uri": "/v2/pods/my-pod"}, "Pod", "/my-pod"),
    ("pod_updated_event", {"clientIp": "::1", "uri": "/v2/pods//p/web"}, "Pod", "/p/web"),
    ("pod_deleted_event", {"clientIp": "::1", "uri": "/v2/pods/p/web"}, "Pod", "/p/web"),
    ("status_update_event", {"taskId": "a.1", "runSpecId": "/never", "appId": "/a"}, "Task", "/a"),
    ("status_update_event", {"taskId": "a.1", "runSpecId": "/a"}, "Task", "/a"),
    ("unhealthy_task_kill_event", {"appId": "/a", "runSpecId": "/never", "reason": "500"}, "Task", "/a"),
    ("unhealthy_task_kill_event", {"runSpecId": "/a", "taskId": "a.1"}, "Task", "/a"),
    ("unknown_task_terminated_event", {"appId": "/a", "runSpecId": "/never"}, "Task", "/a"),
    ("unknown_task_terminated_event", {"runSpecId": "/a", "taskId": "a.1"}, "Task", "/a"),
    ("instance_changed_event", {"appId": "/never", "runSpecId": "/a"}, "Instance", "/a"),
    ("instance_changed_event", {"appId": "/a", "condition": "Running"}, "Instance", "/a"),
    ("instance_health_changed_event", {"runSpecId": "/a", "appId": "/never"}, "Instance", "/a"),
    ("instance_health_changed_event", {"appId": "/a", "healthy": True}, "Instance", "/a"),
    ("unknown_instance_terminated_event", {"runSpecId": "/a", "appId": "/never"}, "Instance", "/a"),
    ("unknown_instance_terminated_event", {"appId": "/a"}, "Instance", "/a"),
    ("unhealthy_instance_kill_event", {"appId": "/a", "taskId": "a.1"}, "Instance", "/a"),
    ("unhealthy_instance_kill_event", {"runSpecId": "/a", "appId": "/never"}, "Instance", "/a"),
    ("add_health_check_event", {"appId": "/a", "healthCheck": CHECK, "version": NOW}, "HealthCheck", "/a"),
    ("remove_health_check_event", {"appId": "/a", "healthCheck": CHECK}, "HealthCheck", "/a"),
    ("failed_health_check_event", {"appId": "/a", "taskId": "a.instance-1"}, "HealthCheck", "/a"),
    ("health_status_changed_event", {"appId": "/a", "taskId": "a.1", "version": 123}, "HealthCheck", "/a"),
    ("health_status_changed_event", {"appId": "/a", "instanceId": "a.1", "alive": True}, "HealthCheck", "/a"),
    ("deployment_info", {"plan": PLAN, "currentStep": PLAN["steps"][0]}, "Deployment", "d-1"),
    ("deployment_info", {"plan": HEAVY, "currentStep": {"id": "never"}}, "Deployment", "d-1"),
    ("deployment_success", {"id": "d-1"}, "Deployment", "d-1"),
    ("deployment_success", {"id": "never", "plan": PLAN}, "Deployment", "d-1"),
    ("deployment_failed", {"id": "d-1"}, "Deployment", "d-1"),
    ("deployment_failed", {"id": "d-1", "plan": PLAN, "reason": "canceled"}, "Deployment", "d-1"),
    ("deployment_step_success", {"plan": PLAN, "currentStep": {}}, "Deployment", "d-1"),
    ("deployment_step_failure", {"plan": HEAVY, "currentStep": {}}, "Deployment", "d-1"),
    ("group_change_success", {"groupId": "/", "version": NOW}, "Group", "/"),
    ("group_change_failed", {"groupId": "/g", "version": NOW, "reason": ""}, "Group", "/g"),
    ("scheduler_registered_event", {"frameworkId": "f-1", "master": "m"}, "Scheduler", "f-1"),
    ("scheduler_reregistered_event", {"master": "m"}, "Scheduler", ""),
    ("scheduler_disconnected_event", {"master": "m"}, "Scheduler", ""),
    ("framework_message_event", {"executorId": "e-1", "message": [104, 105]}, "FrameworkMessage", "e-1"),
    ("framework_message_event", {"executorId": "e-1", "message": "aGk="}, "FrameworkMessage", "e-1"),
    ("subscribe_event", {"clientIp": "1.2.3.4", "callbackUrl": "http://s/c"}, "Subscription", "http://s/c"),
    ("unsubscribe_event", {"clientIp": "1.2.3.4", "callbackUrl": "http://s/c"}, "Subscription", "http://s/c"),
    ("event_stream_attached", {"remoteAddress": "10.0.0.9"}, "Subscription", "10.0.0.9"),
    ("event_stream_attached", {"clientIp": "1.2.3.4", "callbackUrl": "http://s/c"}, "Subscription", "http://s/c"),
    ("event_stream_detached", {"remoteAddress": "0:0:0:0:0:0:0:1"}, "Subscription", "0:0:0:0:0:0:0:1"),
    ("event_stream_detached", {"clientIp": "1.2.3.4", "callbackUrl": "http://s/c"}, "Subscription", "http://s/c"),
    ("brand_new_event", {"id": "i", "groupId": "/g", "runSpecId": "/r", "appId": "/a"}, "Other", "/a"),
    ("brand_new_event", {"id": "i", "groupId": "/g", "runSpecId": "/r"}, "Other", "/r"),
    ("brand_new_event", {"id": "i", "groupId": "/g"}, "Other", "/g"),
    ("brand_new_event", {"id": "i"}, "Other", "i"),
    ("brand_new_event", {"plan": PLAN}, "Other", ""),
    # What is in an event stays as it is: line breaks (several lines of data), U+2028, escapes, numbers, spaces.
    ("status_update_event", b'{\n  "appId": "/a",\n "n": 1234567890123456789.10,\t"x":"\\u00e4\\/"\n}', "Task", "/a"),
    ("status_update_event", '{"message":"a\u2028b \u00e4 \U0001f600","appId":"/\u00e4"}'.encode(), "Task", "/\u00e4"),
    ("app_terminated_event", b' {"app\\u0049d" : "\\/a\\u0062" , "appId2" : "/no"} ', "App", "/ab"),
]  # fmt: skip

# How many of each topic the real capture holds: counted by another program, from its lines of data.
OF_TOPIC = {
    "App": 55, "Pod": 5, "Task": 2104, "Instance": 3891, "HealthCheck": 21, "Deployment": 196, "Group": 64,
    "Scheduler": 1, "Subscription": 32, "FrameworkMessage": 1,
}  # fmt: skip


def _shapes() -> list[tuple[str, bytes]]:
    def text(kind: str, body) -> bytes:
        if isinstance(body, bytes):
            return body
        return json.dumps({**body, "eventType": kind, "timestamp": NOW}, separators=(",", ":")).encode()

    return [(kind, text(kind, body)) for kind, body, _, _ in SHAPES]


def _documented() -> list[tuple[str, bytes]]:
    """Of the examples from public clients and documents."""
    lines = [line for path in sorted(FIXTURES.glob("*.ndjson")) for line in path.read_bytes().splitlines()]
    return [(json.loads(line)["eventType"], line) for line in lines if line]


def _everything() -> list[tuple[str, bytes]]:
    names = ("real-1.11.sse", "real-1.11-failover.sse", "real-1.11-scheduler.sse")
    real = [frame for name in names for frame in capture(name)]
    assert len(real) == 6370 + 33 + 78
    return real + _documented() + _shapes()


def _wait_all(busbar: Busbar, count: int) -> list:
    """Reads /events from the oldest until there are so many, and until every sink has taken all of them."""

    def taken():
        sinks = [sink for source in busbar.status()["sources"] for sink in source["sinks"]]
        return not any(sink["lag_events"] for sink in sinks)

    with busbar.events(from_oldest=True) as client:
        client.wait_frames(count, 90)
        wait_until(taken, 90, f"every sink has all\n{busbar.log_tail()}")
        client.wait_quiet(0.3)
        return list(client.frames)


def _of_kafka(kafka, name: str) -> list:
    """What came into the topics of that source."""
    return from_kafka(record for record in kafka.read_all() if record.topic.startswith(f"{name}."))


def _of_redis(redis, name: str) -> list:
    """What came into the streams of that source."""
    return from_redis(redis.read_streams(leave_out=lambda stream: not stream.startswith(f"{name}:")))


def _in(arrivals: list, destination: str) -> list:
    return [arrival for arrival in arrivals if arrival.lane[1] == destination]


def _places(arrivals: list) -> list[tuple]:
    return [(arrival.type, arrival.data, arrival.topic, arrival.what[3]) for arrival in arrivals]


def test_the_whole_capture_and_every_shape_of_every_type_arrive_at_every_exit(kafka, redis, source_name):
    """In one Kafka partition and one Redis stream in the order of arrival, and in those of each topic and of apps alone
    in the order per key; with topic, key and bytes, and an id of its own each."""
    name, frames = source_name, _everything()
    lake = {"type": "kafka", "brokers": kafka.bootstrap}
    cache = {"type": "redis", "url": redis.url}
    of_apps = ["Task", "Instance", "HealthCheck"]
    sinks = [
        {**lake, "name": "one", "topic": f"{name}.all", "partitions": 1},
        {**lake, "name": "keyed", "topic": "%{source}.of.%{topic}", "partitions": 3},
        {**lake, "name": "apps", "topic": f"{name}.apps", "partitions": 3, "topics": of_apps},
        {**cache, "name": "stream", "stream": "%{source}:all"},
        {**cache, "name": "streams", "stream": "%{source}:of:%{topic}"},
    ]
    with Marathon(plans="heavy") as marathon:
        source = {"name": name, "type": "marathon", "servers": [marathon.address], "start": "now"}
        source["plan_format"] = "full"
        with Busbar({"name": "capture", "sources": [source], "sinks": sinks}) as busbar:
            busbar.wait_attached(60)
            shown_first = _wait_all(busbar, 1)
            with SseClient(f"{busbar.url}/v2/events") as client:
                client.wait_frames(1)
                marathon.play(frames)
                wait_until(lambda: len(marathon.history[0].told) == len(frames) + 1, 60, "all is on the wire")
                shown = _wait_all(busbar, len(frames) + 1)
                as_marathon = [(frame.event, frame.data) for frame in client.wait_frames(len(frames) + 1)]
            assert len(marathon.history) == 1
            sent = marathon.history[0].told
    assert sent[1:] == frames and sent[0][0] == shown_first[0].event == "event_stream_attached"
    assert as_marathon[1:] == frames and as_marathon[0][0] == "event_stream_attached"  # its own

    mirrored = from_sse(shown)
    compare(sent, mirrored).assert_exact()
    assert len({frame.id for frame in shown}) == len(sent)
    in_kafka, in_redis = _of_kafka(kafka, name), _of_redis(redis, name)
    in_all = _in(in_kafka, f"{name}.all")
    compare(sent, in_all).assert_exact()
    in_stream = _in(in_redis, f"{name}:all")
    compare(sent, in_stream).assert_exact()
    assert [a.identity for a in in_all] == [a.identity for a in in_stream], "an event has the same id everywhere"
    assert len({a.identity for a in in_all}) == len(sent)
    assert _places(in_all) == _places(in_stream) == _places(mirrored)

    of_topics = [arrival for arrival in in_kafka if arrival.lane[1].startswith(f"{name}.of.")]
    compare(sent, of_topics).assert_exact()
    assert all(arrival.lane[1] == f"{name}.of.{arrival.topic}" for arrival in of_topics)
    assert len({arrival.lane for arrival in of_topics}) > len(OF_TOPIC), "one partition each would prove nothing"
    in_streams = [arrival for arrival in in_redis if arrival.lane[1] != f"{name}:all"]
    compare(sent, in_streams).assert_exact()
    assert all(arrival.lane[1] == f"{name}:of:{arrival.topic}" for arrival in in_streams)

    topic_of = {kind: topic for kind, (topic, _) in TABLE.items()}
    wanted = [(kind, data) for kind, data in sent if topic_of.get(kind) in of_apps]
    in_apps = _in(in_kafka, f"{name}.apps")
    compare(wanted, in_apps).assert_exact()
    assert len({arrival.lane for arrival in in_apps}) == 3 and {arrival.topic for arrival in in_apps} == set(of_apps)

    _assert_table(in_all)


def _assert_table(told: list) -> None:
    """told: what arrived, in order: of all that _everything() gives, and Marathon's own event before it."""
    assert collections.Counter(arrival.topic for arrival in told[1:6371]) == OF_TOPIC
    shaped = [(arrival.type, arrival.topic, arrival.what[3]) for arrival in told[-len(SHAPES) :]]
    assert shaped == [(kind, topic, key) for kind, _, topic, key in SHAPES]
    assert {kind for kind, *_ in SHAPES} - {"brand_new_event"} == set(TABLE), "a type without a shape here"


# ---- framing ----


def _framed(frames, end: bytes, decorate: bool) -> bytes:
    """The stream that tells them, lines ended by `end`; decorated by all else that the standard allows."""
    text = b"\xef\xbb\xbf" if decorate else b""
    for number, (kind, data) in enumerate(frames):
        lines = [b"event: " + kind.encode()]
        lines += [b"data: " + line for line in data.split(b"\n")]
        if decorate:
            lines = [line.replace(b": ", b":", 1) for line in lines] if number % 2 else lines
            lines = [b": a comment", b"id: %d" % number, *reversed(lines[:1]), *lines[1:], b"retry: 1000", b"unknown"]
        text += b"".join(line + end for line in lines) + end
        text += end * (number % 3)  # heartbeats
    return text


def _pieces(text: bytes, seed: int) -> list[bytes]:
    """Cut anywhere, between a CR and its LF too."""
    cut, pieces = random.Random(seed), []
    while text:
        at = cut.choice((1, 2, 3, 17, 250, 4000))
        pieces, text = [*pieces, text[:at]], text[at:]
    return pieces


def test_any_framing_of_the_standard_gives_the_same_events(kafka, redis, source_name):
    """CRLF, LF and CR, chunked or not, with all that the standard allows between, cut at any byte."""
    frames = [*dict(capture("real-1.11.sse")).items(), *_shapes()]  # the last one of each type
    frames.sort(key=lambda frame: frame[0] != "event_stream_attached")  # as a stream begins
    ways = [(b"\r\n", False, False), (b"\n", True, False), (b"\r", True, True), (b"\r\n", True, True)]
    marathons = [Marathon() for _ in ways]
    sources, names = [], [f"{source_name}x{number}" for number in range(len(ways))]
    for number, (marathon, (end, decorate, chunked)) in enumerate(zip(marathons, ways)):
        pieces = _pieces(_framed(frames, end, decorate), number)
        headers = {"Content-Type": "text/event-stream;charset=utf-8"}
        marathon.answer("/v2/events", Answer(*pieces, HOLD, headers=headers, chunked=chunked))
        marathon.__enter__()
        source = {"name": names[number], "type": "marathon", "servers": [marathon.address], "start": "now"}
        sources.append(source)
    sinks = [
        {"name": "lake", "type": "kafka", "brokers": kafka.bootstrap, "topic": "%{source}.all", "partitions": 1},
        {"name": "cache", "type": "redis", "url": redis.url, "stream": "%{source}:all"},
    ]
    try:
        with Busbar({"name": "framing", "sources": sources, "sinks": sinks}) as busbar:
            shown = _wait_all(busbar, len(frames) * len(ways))
    finally:
        for marathon in marathons:
            marathon.close()
    for name in names:
        compare(frames, from_sse(shown), name).assert_exact()
        compare(frames, _of_kafka(kafka, name)).assert_exact()
        compare(frames, _of_redis(redis, name)).assert_exact()


# ---- a capture as a source ----


def test_a_capture_goes_on_where_it_stood_after_each_kill(kafka, redis, source_name):
    """Its times go back and some of its events are equal; none is lost, none comes twice, and there is no gap. Nor with
    a new journal: it is told from the beginning, and the sinks know by their bytes the last 1,024 events and those of two
    seconds, which is all there was before if that is soon enough."""
    name, frames = source_name, capture("real-1.11.sse")
    source = {"name": name, "type": "replay", "format": "marathon", "rate": 2500}
    source["path"] = str(FIXTURES / "real-1.11.sse")
    sinks = [
        {"name": "lake", "type": "kafka", "brokers": kafka.bootstrap, "topic": "%{source}.all", "partitions": 1},
        {"name": "cache", "type": "redis", "url": redis.url, "stream": "%{source}:all"},
    ]
    with Busbar({"name": "replay", "sources": [source], "sinks": sinks}) as busbar:
        for count in (500, 2500, 4000):
            wait_until(lambda: redis.client().xlen(f"{name}:all") >= count, 60, f"{count} events\n{busbar.log_tail()}")
            busbar.kill9()
            if count == 500:
                shutil.rmtree(busbar.folder / "journal")
            busbar.start()
        shown = _wait_all(busbar, len(frames))
        wait_until(lambda: busbar.log_lines("source_ended"), 30, "told all")
        ended = len(busbar.log_lines("source_ended"))
        busbar.restart()  # nothing is left
        wait_until(lambda: len(busbar.log_lines("source_ended")) > ended, 30, "told all once more")
        assert len(_wait_all(busbar, len(frames))) == len(frames)
        assert busbar.metrics()[f'busbar_gaps_total{{source="{name}"}}'] == 0
    compare(frames, from_sse(shown)).assert_exact()
    compare(frames, _of_kafka(kafka, name)).assert_exact()
    compare(frames, _of_redis(redis, name)).assert_exact()
