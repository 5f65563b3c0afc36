"""What of a Marathon came out of a busbar, from whichever exit, in exits.py's form.

The table of topics and keys, and the reading of an event, are written from Marathon's documentation and
captures; deliberately not shared with the busbar's code.
"""

import json
import re

from .exits import Arrival
from .marathon_shapes import milliseconds_of

_APP_ID, _RUN_SPEC = ("appId", "runSpecId"), ("runSpecId", "appId")
_HEALTH, _DEPLOYMENT, _GROUP = ("HealthCheck", ("appId",)), ("Deployment", ("plan.id", "id")), ("Group", ("groupId",))
_INSTANCE, _TASK, _POD = ("Instance", _RUN_SPEC), ("Task", _APP_ID), ("Pod", ("uri",))
_SCHEDULER = ("Scheduler", ("frameworkId",))
_SUBSCRIPTION = ("Subscription", ("callbackUrl", "remoteAddress"))
TABLE = {
    "api_post_event": ("App", ("appDefinition.id", "appId")),
    "app_terminated_event": ("App", ("appId",)),
    "pod_created_event": _POD,
    "pod_updated_event": _POD,
    "pod_deleted_event": _POD,
    "status_update_event": _TASK,
    "unhealthy_task_kill_event": _TASK,
    "unknown_task_terminated_event": _TASK,
    "instance_changed_event": _INSTANCE,
    "instance_health_changed_event": _INSTANCE,
    "unknown_instance_terminated_event": _INSTANCE,
    "unhealthy_instance_kill_event": _INSTANCE,
    "add_health_check_event": _HEALTH,
    "remove_health_check_event": _HEALTH,
    "failed_health_check_event": _HEALTH,
    "health_status_changed_event": _HEALTH,
    "deployment_info": _DEPLOYMENT,
    "deployment_success": _DEPLOYMENT,
    "deployment_failed": _DEPLOYMENT,
    "deployment_step_success": _DEPLOYMENT,
    "deployment_step_failure": _DEPLOYMENT,
    "group_change_success": _GROUP,
    "group_change_failed": _GROUP,
    "scheduler_registered_event": _SCHEDULER,
    "scheduler_reregistered_event": _SCHEDULER,
    "scheduler_disconnected_event": _SCHEDULER,
    "framework_message_event": ("FrameworkMessage", ("executorId",)),
    "subscribe_event": _SUBSCRIPTION,
    "unsubscribe_event": _SUBSCRIPTION,
    "event_stream_attached": _SUBSCRIPTION,
    "event_stream_detached": _SUBSCRIPTION,
}
_OTHER = ("Other", ("appId", "runSpecId", "groupId", "id"))
_OBJECTS = {"appDefinition": "App", "pod": "Pod", "plan": "Deployment", "group": "Group"}  # of a resync


def place_of(kind: str, body: dict) -> tuple[str, str]:
    """The topic and the key of an event of that type."""
    topic, members = TABLE.get(kind, _OTHER)
    if topic == "Pod":
        after = re.fullmatch(r"/v2/pods(?:/+(.+))?", str(body.get("uri", "")))
        return topic, "/" + after[1] if after and after[1] else ""
    for member in members:
        value = body
        for name in member.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str) and value:
            return topic, value
    return topic, ""


def what_of(kind: str, data: bytes) -> tuple:
    """(timestamp in ms, topic, "", key, type), as exits.Arrival.what."""
    body = json.loads(data)
    if body.get("Topic") == "Busbar":
        return body["Index"], "Busbar", "", body["Key"], body["Type"]
    kind = kind or body.get("eventType", "")
    if kind in ("Snapshot", "Vanished"):
        member = next((name for name in body if name in _OBJECTS), "")
        value = body.get(member)
        return milliseconds_of(body.get("timestamp")), _OBJECTS.get(member, ""), "", _id_of(value), kind
    topic, key = place_of(kind, body)
    return milliseconds_of(body.get("timestamp")), topic, "", key, kind


def _id_of(value) -> str:
    return str(value.get("id", "")) if isinstance(value, dict) else ""


def from_kafka(records) -> list[Arrival]:
    """Of Kafka.read_all()."""
    return [_from_record(record) for record in records]


def _from_record(record) -> Arrival:
    headers = {name: (value or b"").decode() for name, value in record.headers.items()}
    claims = {"topic": headers.get("ce_topic"), "type": headers.get("ce_type"), "key": headers.get("ce_subject", "")}
    lane, place = ("kafka", record.topic, record.partition), f"{record.topic}[{record.partition}]@{record.offset}"
    arrival = _arrival(lane, place, headers.get("ce_id", ""), claims, record.value)
    if (record.key or b"").decode() != arrival.what[3]:
        arrival.faults.append(f"the record's key is {record.key!r}, not {arrival.what[3]!r}")
    needed = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type", "ce_index")
    arrival.faults += [f"no header {name}" for name in needed if name not in headers]
    if not arrival.is_own:
        _judge_time(arrival, headers.get("ce_time", ""))
        if headers.get("ce_index") != str(arrival.index):
            arrival.faults.append(f"ce_index is {headers.get('ce_index')}, not {arrival.index}")
    return arrival


def from_redis(streams: dict) -> list[Arrival]:
    """Of Redis.read_streams()."""
    return [_from_entry(name, *entry) for name, entries in streams.items() for entry in entries]


def _from_entry(stream: str, entry_id: str, fields: dict) -> Arrival:
    text = {name: value.decode() for name, value in fields.items() if name != "data"}
    claims = {name: text.get(name) for name in ("topic", "type", "key")}
    arrival = _arrival(("redis", stream), f"{stream}@{entry_id}", text.get("id", ""), claims, fields.get("data", b""))
    missing = {"id", "source", "topic", "type", "key", "namespace", "time", "data"} - fields.keys()
    arrival.faults += [f"no field {name}" for name in sorted(missing)]
    if not arrival.is_own:
        _judge_time(arrival, text.get("time", ""))
    return arrival


def from_sse(frames, client="sse", source: str | None = None) -> list[Arrival]:
    """Of an SseClient's frames, on /events; with a source also of /v2/events, whose frames have no id."""
    arrivals = []
    for number, frame in enumerate(frames):
        arrival = _arrival(("sse", client), f"{client}#{number} {frame.id}", None, {"type": frame.event}, frame.data)
        arrival.source = source or frame.id.partition(":")[0]
        arrivals.append(arrival)
    return arrivals


def _judge_time(arrival: Arrival, told: str) -> None:
    """Where the event gives a time, that is what is told: to the millisecond."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{3})\d*Z", told)
    if arrival.index and (not found or milliseconds_of(f"{found[1]}.{found[2]}Z") != arrival.index):
        arrival.faults.append(f"the time is told as {told!r}, not {arrival.index} ms")


def _arrival(lane: tuple, place: str, identity: str | None, claims: dict, data: bytes | None) -> Arrival:
    source = (identity or "").partition("/")[0]
    try:
        what = what_of(claims["type"] or "", data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Arrival(source, lane, place, (-1, "", "", "", ""), identity, data or b"", [f"no event: {error!r}"])
    real = {"topic": what[1], "key": what[3], "type": what[4]}
    wrong = {name: told for name, told in claims.items() if told != real[name]}
    faults = [f"{name} is told as {told!r} but is {real[name]!r}" for name, told in wrong.items()]
    arrival = Arrival(source, lane, place, what, identity, data, faults)
    if identity is not None and not arrival.is_own and not _is_identity(identity, what):
        arrival.faults.append(f"the identity is {identity}")
    return arrival


def _is_identity(identity: str, what: tuple) -> bool:
    """SOURCE/TIMESTAMP/TOPIC//KEY/TYPE/ and what tells it from others of that millisecond."""
    milliseconds, topic, namespace, key, kind = what
    middle = re.escape(f"/{milliseconds}/{topic}/{namespace}/{key}/{kind}/")
    return re.fullmatch(rf"[^/]+{middle}[0-9a-f]+", identity) is not None
