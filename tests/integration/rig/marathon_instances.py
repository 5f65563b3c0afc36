"""The instances and tasks of a stand-in Marathon: how they start, turn healthy, fail and are killed."""

import contextlib
import itertools

from .marathon_shapes import COUNTS, stamp

# Where a deployment may be stopped; "Healthy" is after the health checks, "Killing" before the old ones are dead.
STAGES = ("Scheduled", "Provisioned", "Starting", "Running", "Healthy", "Killing")
TERMINAL = {
    "TASK_FINISHED": "Finished", "TASK_FAILED": "Failed", "TASK_KILLED": "Killed", "TASK_LOST": "Gone",
    "TASK_ERROR": "Error", "TASK_GONE": "Gone", "TASK_DROPPED": "Dropped", "TASK_UNKNOWN": "Unknown",
    "TASK_UNREACHABLE": "Unreachable", "TASK_GONE_BY_OPERATOR": "Gone",
}  # fmt: skip


class Instance:
    """One of an app's or a pod's; a pod's has a task for each container."""

    def __init__(self, spec: str, version: str, number: int, containers):
        unique = f"{0x8A65BB27 + number:08x}-e5da-11f1-8fc8-02fc00000001"
        self.id = f"{spec.strip('/').replace('/', '_')}.instance-{unique}"
        self.spec, self.version, self.containers = spec, version, containers
        self.agent = self.host = None
        self.ports: list[int] = []
        self.run = 0  # how often it was started
        self.condition, self.state = "Scheduled", "TASK_STAGING"
        self.staged = self.started = None
        self.healthy: bool | None = None
        self.result: dict = {}  # of its health check

    @property
    def addresses(self) -> list:
        return [{"ipAddress": "127.0.0.1" if self.host == "127.0.0.1" else self.host, "protocol": "IPv4"}]

    def task_id(self, container: str | None = None) -> str:
        return f"{self.id}.{container or self.containers[0]}.{self.run}"

    def task(self) -> dict:
        """As GET /v2/apps?embed=apps.tasks has it."""
        task = {
            "ipAddresses": self.addresses, "stagedAt": self.staged, "state": self.state, "ports": self.ports,
            "startedAt": self.started, "version": self.version, "id": self.task_id(), "appId": self.spec,
            "slaveId": self.agent, "host": self.host,
        }  # fmt: skip
        if self.started is None:
            del task["startedAt"]
        return task | ({"healthCheckResults": [self.result]} if self.result else {})

    def pod_status(self) -> dict:
        """As GET /v2/pods::status has it."""
        since = {"status": self.state, "statusSince": self.started or self.staged}
        containers = [{"name": name, **since, "containerId": self.task_id(name)} for name in self.containers]
        since["status"] = "STABLE" if self.condition == "Running" else "STAGING"
        where = {"agentHostname": self.host, "agentId": self.agent}
        reference = f"/v2/pods{self.spec}::versions/{self.version}"
        return {"id": self.id, **since, **where, "containers": containers, "specReference": reference}


class Instances:
    """A part of Marathon (marathon.py): with the lock held throughout."""

    def __init__(self):
        self.agents = [(f"agent-{number}", "127.0.0.1") for number in (1, 2, 3)]  # (slaveId, host), taken in turn
        self._instances: dict[str, list[Instance]] = {}
        self._places: dict[str, tuple] = {}  # app: its hosts and ports, endlessly
        self._dirty: set[str] = set()  # apps and pods whose objects are behind
        self._numbers = itertools.count()
        self._port = itertools.count(31000)

    def _say(self, event: str, **body) -> None:
        self.emit(event, body)

    def _time(self) -> str:
        return stamp(self.clock())

    def _place(self, path: str, fields: dict) -> None:
        hosts, ports = fields.pop("hosts", None), fields.pop("ports", None)
        if hosts or ports:
            self._places[path] = (itertools.cycle(hosts or [None]), itertools.cycle(ports or [None]))

    def _instance(self, path: str, task) -> Instance:
        """By the number of a task, or its id, or the instance's."""
        instances = self._instances[path]
        if isinstance(task, int):
            return instances[task]
        return next(one for one in instances if task in (one.id, *(one.task_id(name) for name in one.containers)))

    def _launch(self, path: str, version: str, count: int):
        containers = ["_app"]
        if path in self.pods:
            containers = [one["name"] for one in self.pods[path]["spec"]["containers"]]
        new = [Instance(path, version, next(self._numbers), containers) for _ in range(count)]
        self._instances.setdefault(path, []).extend(new)
        for one in new:
            self._become(one, "Scheduled")
        yield "Scheduled"
        for one in new:
            self._provision(one)
        yield "Provisioned"
        for one in new:
            self._start(one, "TASK_STARTING", "Starting")
        yield "Starting"
        for one in new:
            self._start(one, "TASK_RUNNING", "Running")
        yield "Running"
        if self.apps.get(path, {}).get("healthChecks"):
            for one in new:
                self._set_healthy(one, True)
        yield "Healthy"

    def _kill(self, instances: list[Instance], decided: bool = True):
        """decided: by a deployment, which tells of the instance's new goal first."""
        for one in instances if decided else []:
            self._become(one, one.condition)
        for one in instances:
            self._start(one, "TASK_KILLING", "Killing")
        yield "Killing"
        for one in instances:
            self._start(one, "TASK_KILLED", "Killed")

    def _provision(self, one: Instance) -> None:
        number = one.run + int(one.id.partition("instance-")[2][:8], 16) - 0x8A65BB27
        one.agent, one.host = self.agents[number % len(self.agents)]
        hosts, ports = self._places.get(one.spec, (itertools.repeat(None), itertools.repeat(None)))
        if host := next(hosts):
            one.agent, one.host = f"agent-{host}", host
        port = next(ports)
        if port is None:
            asked = self.apps.get(one.spec, {}).get("portDefinitions", [])
            one.ports = [next(self._port) for _ in asked]
        else:
            one.ports = list(port) if isinstance(port, (list, tuple)) else [port]
        one.run += 1
        one.staged, one.started, one.healthy, one.result = self._time(), None, None, {}
        one.state = "TASK_STAGING"
        self._become(one, "Provisioned")

    def _start(self, one: Instance, status: str, condition: str) -> None:
        self._update(one, status)
        self._become(one, condition)

    def _update(self, one: Instance, status: str, message: str = "") -> None:
        """A task's state as Mesos told it; a pod's containers in turn."""
        one.state = status
        if status == "TASK_RUNNING":
            one.started = self._time()
        self._refresh(one.spec)
        where = {"host": one.host, "ipAddresses": one.addresses, "ports": one.ports}
        for name in one.containers:
            ids = {"slaveId": one.agent, "taskId": one.task_id(name), "taskStatus": status, "message": message}
            self._say("status_update_event", **ids, appId=one.spec, **where, version=one.version)

    def _become(self, one: Instance, condition: str) -> None:
        one.condition = condition
        self._refresh(one.spec)
        where = {"agentId": one.agent, "host": one.host, "runSpecVersion": one.version}
        self._say("instance_changed_event", instanceId=one.id, condition=condition, runSpecId=one.spec, **where)

    def _set_healthy(self, one: Instance, healthy: bool) -> None:
        changed, one.healthy = one.healthy is not healthy, healthy
        failures = 0 if healthy else one.result.get("consecutiveFailures", 0) + 1
        kept = {"firstSuccess": None, "lastFailure": None, "lastSuccess": None, "lastFailureCause": None} | one.result
        if healthy:
            kept |= {"firstSuccess": kept["firstSuccess"] or self._time(), "lastSuccess": self._time()}
        else:
            kept |= {"lastFailure": self._time(), "lastFailureCause": "500 Internal Server Error"}
        one.result = kept | {"alive": healthy, "consecutiveFailures": failures, "instanceId": one.id}
        self._refresh(one.spec)
        if changed:
            ids = {"appId": one.spec, "instanceId": one.id, "version": one.version}
            self._say("health_status_changed_event", **ids, alive=healthy)
            ids = {"instanceId": one.id, "runSpecId": one.spec, "runSpecVersion": one.version}
            self._say("instance_health_changed_event", **ids, healthy=healthy)

    def _replace(self, one: Instance, replace: bool) -> None:
        """The same instance, started once more on a fresh task id; or none."""
        if not replace:
            self._forget_instances(one.spec, [one])
            return
        self._provision(one)
        self._start(one, "TASK_STARTING", "Starting")
        self._start(one, "TASK_RUNNING", "Running")

    def _note_failure(self, one: Instance, status: str, message: str) -> None:
        if one.spec in self.apps and status != "TASK_FINISHED":
            self.apps[one.spec]["lastTaskFailure"] = {
                "appId": one.spec, "host": one.host, "message": message, "state": status, "taskId": one.task_id(),
                "timestamp": self._time(), "version": one.version, "slaveId": one.agent,
            }  # fmt: skip

    def _forget_instances(self, path: str, dead: list[Instance]) -> None:
        self._instances[path] = [one for one in self._instances.get(path, []) if one not in dead]
        self._refresh(path)

    @contextlib.contextmanager
    def _changing(self):
        """With the lock; afterwards the objects show what was changed."""
        with self._lock:
            yield
            dirty, self._dirty = self._dirty, set()
            for path in sorted(dirty):
                self._show(path)

    def _refresh(self, path: str) -> None:
        self._dirty.add(path)

    def _show(self, path: str) -> None:
        """The app's or pod's object shows what its instances are."""
        instances = self._instances.get(path, [])
        if path in self.pods:
            pod = self.pods[path]
            pod["instances"] = [one.pod_status() for one in instances if one.run]
            stable = [one for one in instances if one.condition == "Running"]
            pod["status"] = "STABLE" if len(stable) == pod["spec"]["scaling"]["instances"] else "DEGRADED"
            pod |= {"statusSince": self._time(), "lastUpdated": self._time(), "lastChanged": self._time()}
        if path not in self.apps:
            return
        tasks = [one for one in instances if one.run and one.condition not in TERMINAL.values()]
        running = [one for one in tasks if one.state == "TASK_RUNNING"]
        counts = (
            len([one for one in tasks if one.state in ("TASK_STAGING", "TASK_STARTING")]), len(running),
            len([one for one in running if one.healthy]), len([one for one in running if one.healthy is False]),
        )  # fmt: skip
        app = self.apps[path]
        app.update(zip(COUNTS, counts))
        app["tasks"] = [one.task() for one in tasks]
        app["deployments"] = [{"id": one["id"]} for one in self.deployments.values() if path in one["affectedApps"]]
