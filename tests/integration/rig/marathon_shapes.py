"""The shapes that Marathon 1.11 gives to events and to its API, as the capture of the real one shows them."""

import calendar
import json
import re
import time

_BUS = ("eventType", "timestamp")
_INSTANCE_BUS = ("timestamp", "eventType")

# The order of members per type, which never varied in 6,370 events.
ORDER = {
    "add_health_check_event": ("appId", "eventType", "healthCheck", "timestamp", "version"),
    "api_post_event": ("clientIp", "uri", "appDefinition", *_BUS),
    "app_terminated_event": ("appId", *_BUS),
    "deployment_failed": ("id", "plan", *_BUS, "reason"),
    "deployment_info": ("plan", "currentStep", *_BUS),
    "deployment_step_failure": ("plan", "currentStep", *_BUS),
    "deployment_step_success": ("plan", "currentStep", *_BUS),
    "deployment_success": ("id", "plan", *_BUS),
    "event_stream_attached": ("remoteAddress", *_BUS),
    "event_stream_detached": ("remoteAddress", *_BUS),
    "failed_health_check_event": ("appId", "eventType", "healthCheck", "taskId", "timestamp"),
    "framework_message_event": ("executorId", "slaveId", "message", *_BUS),
    "group_change_failed": ("groupId", "version", "reason", *_BUS),
    "group_change_success": ("groupId", "version", *_BUS),
    "health_status_changed_event": ("appId", "instanceId", "version", "alive", *_BUS),
    "instance_changed_event": (
        "instanceId", "condition", "runSpecId", "agentId", "host", "runSpecVersion", *_INSTANCE_BUS,
    ),
    "instance_health_changed_event": ("instanceId", "runSpecId", "healthy", "runSpecVersion", *_INSTANCE_BUS),
    "pod_created_event": ("clientIp", "uri", *_BUS),
    "pod_deleted_event": ("clientIp", "uri", *_BUS),
    "pod_updated_event": ("clientIp", "uri", *_BUS),
    "remove_health_check_event": ("appId", *_BUS),
    "scheduler_registered_event": ("frameworkId", "master", *_BUS),
    "scheduler_reregistered_event": ("master", *_BUS),
    "status_update_event": (
        "slaveId", "taskId", "taskStatus", "message", "appId", "host", "ipAddresses", "ports", "version", *_BUS,
    ),
    "subscribe_event": ("clientIp", "callbackUrl", *_BUS),
    "unhealthy_instance_kill_event": (
        "appId", "taskId", "instanceId", "version", "reason", "host", "slaveId", *_BUS,
    ),
    "unknown_instance_terminated_event": ("instanceId", "runSpecId", "condition", *_INSTANCE_BUS),
    "unsubscribe_event": ("clientIp", "callbackUrl", *_BUS),
}  # fmt: skip

_APP = (
    "id", "acceptedResourceRoles", "args", "backoffFactor", "backoffSeconds", "cmd", "constraints", "container", "cpus",
    "dependencies", "disk", "env", "executor", "fetch", "healthChecks", "instances", "labels", "maxLaunchDelaySeconds",
    "mem", "gpus", "networks", "ports", "portDefinitions", "readinessChecks", "requirePorts", "secrets",
    "taskKillGracePeriodSeconds", "upgradeStrategy", "user", "version", "versionInfo", "killSelection",
    "unreachableStrategy", "role",
)  # fmt: skip

# What an app's object has beyond its definition, as GET /v2/apps shows it.
COUNTS = ("tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy")
LIVE = (*COUNTS, "deployments", "tasks", "lastTaskFailure")


def stamp(seconds: float) -> str:
    """As Marathon writes it: yyyy-MM-ddTHH:mm:ss.SSSZ."""
    milliseconds = round(seconds * 1000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{text}.{milliseconds % 1000:03d}Z"


def milliseconds_of(text) -> int:
    """Of a time as stamp() writes it; 0 where it is none."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{3})Z", text) if isinstance(text, str) else None
    if not found:
        return 0
    return calendar.timegm(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S")) * 1000 + int(found[2])


def encode(kind: str, body: dict, when: str) -> bytes:
    """An event as the bus has it: compact, UTF-8 as it is, eventType and timestamp where they belong.
    A member that the capture does not know of goes to the end."""
    body = {"eventType": kind, "timestamp": when} | body
    known = [name for name in ORDER.get(kind, ()) if name in body]
    others = [name for name in body if name not in known and name not in _BUS]
    names = known + others if known else others + list(_BUS)
    return to_json({name: body[name] for name in names})


def to_json(body) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def definition(app: dict) -> dict:
    """Of an app's object, as api_post_event has it: without what is live."""
    known = [name for name in _APP if name in app]
    return {name: app[name] for name in [*known, *(name for name in app if name not in known and name not in LIVE)]}


def new_app(app_id: str, fields: dict) -> dict:
    """An app's definition with the real one's defaults."""
    defaults = {
        "id": app_id, "backoffFactor": 1.15, "backoffSeconds": 1, "cmd": "sleep 1000", "cpus": 0.1, "disk": 0,
        "executor": "", "instances": 1, "labels": {}, "maxLaunchDelaySeconds": 300, "mem": 32, "gpus": 0,
        "networks": [{"mode": "host"}], "portDefinitions": [{"port": 0, "name": "default", "protocol": "tcp"}],
        "requirePorts": False, "upgradeStrategy": {"maximumOverCapacity": 1, "minimumHealthCapacity": 1},
        "killSelection": "YOUNGEST_FIRST", "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
        "role": "*",
    }  # fmt: skip
    return defaults | fields


def health_check(**fields) -> dict:
    """One of Marathon's own."""
    return {
        "gracePeriodSeconds": 0, "ignoreHttp1xx": False, "intervalSeconds": 1, "maxConsecutiveFailures": 3,
        "path": "/ok", "portIndex": 0, "protocol": "HTTP", "ipProtocol": "IPv4", "timeoutSeconds": 1,
        "delaySeconds": 15,
    } | fields  # fmt: skip


def parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def action(kind: str, path: str) -> dict:
    """Of a deployment: kind is StartApplication, ScalePod and the like."""
    return {"action": kind, ("pod" if kind.endswith("Pod") else "app"): path}
