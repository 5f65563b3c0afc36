"""What a stand-in Marathon does to its apps and pods, and the events that the real one tells of it.

Each call changes the state, tells all of its events in the real one's order, and is done when it
returns: no timers, no threads. Ids, ports and agents come from counters, so that a test that does the
same sees the same. A deployment that is to stay under way is stopped at a stage (`until`), and goes on
by finish() or ends by fail().
"""

import itertools

from .marathon_instances import STAGES, TERMINAL, Instances
from .marathon_shapes import COUNTS, action, definition, health_check, milliseconds_of, new_app, parent, stamp

LOCKED = (
    "App is locked by one or more deployments. Override with the option '?force=true'. "
    "View details at '/v2/deployments/<DEPLOYMENT_ID>'."
)
CANCELLED = "The upgrade has been cancelled"


class Changes(Instances):
    """A part of Marathon (marathon.py)."""

    def __init__(self):
        Instances.__init__(self)
        self._running: dict[str, tuple] = {}  # app or pod: its deployment's id and the rest of it, a generator
        self._count = itertools.count()
        self._service_port = itertools.count(10000)
        self._version = 0

    # What a test may do with apps

    def put_app(self, app_id: str, instances: int | None = None, until: str | None = None, **fields) -> dict:
        """Creates the app, or changes it: scales it where only the number of instances changes, else
        restarts it. Returns the app's object, m.apps[app_id].

        fields: of the app's definition (healthChecks=[marathon_shapes.health_check()], env, labels …), and
        health=True for one check; hosts=["n1", …]: of the instances to come, in turn; ports=[8080, [1, 2], …]
        likewise, a port or a list of them for each instance. until: one of STAGES, or None: to its end.
        All of its checks pass. An app whose deployment is under way is refused, as the real one
        refuses: group_change_failed and deployment_failed.
        """
        with self._changing():
            self._place(app_id, fields)
            if fields.pop("health", False):
                fields["healthChecks"] = [health_check()]
            if instances is not None:
                fields["instances"] = instances
            before = self.apps.get(app_id)
            if before is None:
                self._create(app_id, fields, until)
            else:
                kind = "Scale" if set(fields) <= {"instances"} else "Restart"
                self._change(kind, app_id, fields, until, post=True)
            return self.apps[app_id]

    def scale(self, app_id: str, instances: int, until: str | None = None) -> dict:
        """To so many; the youngest are killed first."""
        return self.put_app(app_id, instances, until)

    def restart(self, app_id: str, until: str | None = None) -> dict:
        """POST /v2/apps/…/restart: no api_post_event. New instances run before the old ones are killed."""
        with self._changing():
            self._change("Restart", app_id, {}, until, post=False)
            return self.apps[app_id]

    def delete_app(self, app_id: str, until: str | None = None) -> None:
        """No api_post_event; app_terminated_event when all are killed."""
        with self._changing():
            if app_id in self._running:
                self.fail(app_id)
            self._deploy(app_id, self._stop([app_id], parent(app_id), "Application"), until)

    def finish(self, path: str) -> None:
        """Lets the deployment of an app or a pod that was stopped at a stage go on to its success."""
        with self._changing():
            for _ in self._running.pop(path)[1]:
                pass

    def fail(self, path: str, reason: str = CANCELLED) -> None:
        """It fails where it stands: deployment_failed; what it started goes on to run."""
        with self._changing():
            deployment, rest = self._running.pop(path)
            rest.close()
            self._fail_deployment(deployment, self.deployments[deployment], reason)
            self._refresh(path)

    # With tasks; a task is its number in m.apps[id]["tasks"], or its id

    def kill_task(self, app_id: str, task=0, replace: bool = True) -> str:
        """DELETE /v2/tasks/…: killed, and started anew under the same instance. Returns the dead task's id."""
        with self._changing():
            instance = self._instance(app_id, task)
            dead = instance.task_id()
            for _ in self._kill([instance], decided=False):
                pass
            self._replace(instance, replace)
            return dead

    def fail_task(
        self, app_id: str, task=0, status="TASK_FAILED", message="Command exited with status 1", replace=True
    ) -> str:
        """Ends by itself: TASK_FAILED, TASK_FINISHED, TASK_LOST … (TERMINAL), and is started anew.
        replace=False: it stays dead. Returns the dead task's id."""
        with self._changing():
            instance = self._instance(app_id, task)
            dead = instance.task_id()
            self._update(instance, status, message)
            self._become(instance, TERMINAL[status])
            self._note_failure(instance, status, message)
            self._replace(instance, replace)
            return dead

    def set_health(self, app_id: str, task=0, healthy: bool = True, kill: bool = False) -> None:
        """A health check fails once (failed_health_check_event) or passes again; what changes by it is told
        only where it changes. kill: it failed too often: unhealthy_instance_kill_event, killed, started anew."""
        with self._changing():
            instance = self._instance(app_id, task)
            if not healthy:
                check = (self.apps[app_id].get("healthChecks") or [health_check()])[0]
                self._say("failed_health_check_event", appId=app_id, healthCheck=check, taskId=instance.id)
            self._set_healthy(instance, healthy)
            if kill:
                reason = {"reason": "500 Internal Server Error", "host": instance.host, "slaveId": instance.agent}
                ids = {"appId": app_id, "taskId": instance.task_id(), "instanceId": instance.id}
                self._say("unhealthy_instance_kill_event", **ids, version=instance.version, **reason)
                self.kill_task(app_id, instance.task_id())
                self._set_healthy(instance, True)

    # Pods and groups

    def put_pod(self, pod_id: str, instances: int | None = None, containers=("c1", "c2"), until=None, **fields) -> dict:
        """Creates the pod, or scales it, or restarts it where fields are given. Returns m.pods[pod_id]."""
        with self._changing():
            pod = self.pods.get(pod_id)
            if pod is None:
                spec = {"id": pod_id, "version": "", "containers": [{"name": name} for name in containers], **fields}
                spec |= {"scaling": {"kind": "fixed", "instances": instances or 1}}
                self.pods[pod_id] = {"id": pod_id, "spec": spec, "status": "DEGRADED", "instances": []}
                steps, uri, event = [["StartPod"], ["ScalePod"]], "/v2/pods", "pod_created_event"
            else:
                steps = [["RestartPod" if fields else "ScalePod"]]
                uri, event = f"/v2/pods/{pod_id}", "pod_updated_event"
                pod["spec"].update(fields)
                pod["spec"]["scaling"]["instances"] = instances or pod["spec"]["scaling"]["instances"]
            said = {"kind": event, "clientIp": "127.0.0.1", "uri": uri}
            self._deploy(pod_id, self._roll_out(pod_id, steps, said), until)
            return self.pods[pod_id]

    def delete_pod(self, pod_id: str, until: str | None = None) -> None:
        with self._changing():
            self._deploy(pod_id, self._stop([pod_id], parent(pod_id), "Pod"), until)

    def put_group(self, group_id: str, **fields) -> dict:
        """An empty group, or other fields of it: a deployment without steps."""
        with self._changing():
            deployment, plan = self._plan([])
            self._succeed(deployment, plan)
            self._touch_group(parent(group_id), plan["version"], told=True)
            return self._touch_group(group_id, plan["version"], fields)

    def delete_group(self, group_id: str) -> None:
        """With all apps in it, by one deployment."""
        with self._changing():
            inside = [app_id for app_id in self.apps if app_id.startswith(group_id.rstrip("/") + "/")]
            self._deploy(group_id, self._stop(inside, parent(group_id), "Application"), None)
            for path in [path for path in self.groups if (path + "/").startswith(group_id.rstrip("/") + "/")]:
                del self.groups[path]

    # How deployments go

    def _create(self, app_id: str, fields: dict, until) -> None:
        app = new_app(app_id, fields)
        self.apps[app_id] = app | dict.fromkeys(COUNTS, 0) | {"deployments": [], "tasks": []}
        said = {"kind": "api_post_event", "clientIp": "127.0.0.1", "uri": "/v2/apps"}
        self._deploy(app_id, self._roll_out(app_id, [["StartApplication"], ["ScaleApplication"]], said), until)

    def _change(self, kind: str, app_id: str, fields: dict, until, post: bool) -> None:
        if app_id in self._running:
            self._refuse(app_id, f"{kind}Application")
            return
        self.apps[app_id].update(fields)
        said = {"kind": "api_post_event", "clientIp": "127.0.0.1", "uri": f"/v2/apps/{app_id}"} if post else None
        self._deploy(app_id, self._roll_out(app_id, [[f"{kind}Application"]], said), until)

    def _deploy(self, path: str, steps, until: str | None) -> None:
        assert until is None or until in STAGES, f"no stage {until!r}"
        deployment = next(steps)
        for stage in steps:
            if stage == until:
                self._running[path] = deployment, steps
                return
        assert until is None, f"the deployment of {path} ended without a stage {until}"

    def _refuse(self, path: str, kind: str) -> None:
        deployment, plan = self._plan([[action(kind, path)]])
        self._fail_deployment(deployment, plan, LOCKED)
        self._say("group_change_failed", groupId=parent(path), version=plan["version"], reason=LOCKED)

    def _fail_deployment(self, deployment: str, plan: dict, reason: str) -> None:
        plan = {"id": deployment, "steps": plan["steps"], "version": plan["version"]}
        self.deployments.pop(deployment, None)
        self._say("deployment_failed", id=deployment, plan=plan, reason=reason)

    def _plan(self, steps: list) -> tuple[str, dict]:
        number = next(self._count)
        self._version = max(milliseconds_of(stamp(self.clock())), self._version + 1)
        deployment = f"{number:08x}-5db1-4a2c-9d65-02fc00000001"
        version = stamp(self._version / 1000)
        return deployment, {"id": deployment, "steps": [{"actions": step} for step in steps], "version": version}

    def _begin(self, steps: list, paths: list[str]) -> dict:
        deployment, plan = self._plan(steps)
        pods = bool(steps) and "pod" in steps[0][0]
        self.deployments[deployment] = {
            "id": deployment, "version": plan["version"], "affectedApps": [] if pods else paths,
            "affectedPods": paths if pods else [], "steps": plan["steps"], "currentActions": [], "currentStep": 0,
            "totalSteps": len(steps),
        }  # fmt: skip
        for path in paths:
            self._refresh(path)
        return plan

    def _step(self, plan: dict, number: int) -> None:
        told = self.deployments[plan["id"]]
        told["currentStep"] = number + 1
        told["currentActions"] = [one | {"readinessCheckResults": []} for one in plan["steps"][number]["actions"]]
        self._say("deployment_info", plan=plan, currentStep=plan["steps"][number])

    def _step_done(self, plan: dict, number: int) -> None:
        self._say("deployment_step_success", plan=plan, currentStep=plan["steps"][number])

    def _succeed(self, deployment: str, plan: dict) -> None:
        self.deployments.pop(deployment, None)
        self._say("deployment_success", id=deployment, plan=plan)

    def _roll_out(self, path: str, kinds: list, said: dict | None):
        """Start, scale or restart of one app or pod: yields its deployment's id, then each stage."""
        plan = self._begin([[action(kind, path) for kind in step] for step in kinds], [path])
        yield plan["id"]
        is_restart, is_new = kinds[0][0].startswith("Restart"), len(kinds) == 2
        old = list(self._instances.get(path, []))
        self._set_version(path, plan["version"], is_restart or is_new)
        self._step(plan, 0)
        self._touch_group(parent(path), plan["version"], told=True)
        self._say_request(path, said, is_new)
        if is_restart or is_new:
            self._add_checks(path, plan["version"])
        if is_new:
            self._step_done(plan, 0)
            self._step(plan, 1)
        wanted = self._wanted(path)
        yield from self._launch(path, plan["version"], wanted if is_restart else wanted - len(old))
        surplus = old if is_restart else old[wanted:][::-1]
        yield from self._kill(surplus)
        self._forget_instances(path, surplus)
        self._step_done(plan, len(kinds) - 1)
        self._succeed(plan["id"], plan)
        self._running.pop(path, None)
        self._refresh(path)

    def _stop(self, paths: list[str], group: str, noun: str):
        plan = self._begin([[action(f"Stop{noun}", path) for path in paths]] if paths else [], paths)
        yield plan["id"]
        if paths:
            self._step(plan, 0)
        for path in paths:
            for _ in self.apps.get(path, {}).get("healthChecks", []):
                self._say("remove_health_check_event", appId=path)
        self._touch_group(group, plan["version"], told=True)
        if noun == "Pod":
            self._say("pod_deleted_event", clientIp="127.0.0.1", uri=f"/v2/pods/{paths[0]}")
        yield from self._kill([one for path in paths for one in self._instances.get(path, [])])
        for path in paths:
            self._say("app_terminated_event", appId=path)
            for kept in (self.apps, self.pods, self._instances, self._running, self._places):
                kept.pop(path, None)
        if paths:
            self._step_done(plan, 0)
        self._succeed(plan["id"], plan)

    def _say_request(self, path: str, said: dict | None, is_new: bool) -> None:
        if said is None:
            return
        said = dict(said)
        kind = said.pop("kind")
        if path in self.apps:
            app = definition(self.apps[path])
            if is_new:  # told as it was asked for
                app.pop("versionInfo")
                app["portDefinitions"] = [one | {"port": 0} for one in app["portDefinitions"]]
            said["appDefinition"] = app
        self._say(kind, **said)

    def _add_checks(self, path: str, version: str) -> None:
        for check in self.apps.get(path, {}).get("healthChecks", []):
            self._say("add_health_check_event", appId=path, healthCheck=check, version=version)

    def _set_version(self, path: str, version: str, is_config: bool) -> None:
        spec = self.apps[path] if path in self.apps else self.pods[path]["spec"]
        spec["version"] = version
        if path not in self.apps:
            return
        config = version if is_config else spec["versionInfo"]["lastConfigChangeAt"]
        spec["versionInfo"] = {"lastScalingAt": version, "lastConfigChangeAt": config}
        spec["portDefinitions"] = [
            one if one.get("port") else one | {"port": next(self._service_port)} for one in spec["portDefinitions"]
        ]

    def _wanted(self, path: str) -> int:
        return self.apps[path]["instances"] if path in self.apps else self.pods[path]["spec"]["scaling"]["instances"]

    def _touch_group(self, path: str, version: str, fields: dict | None = None, told: bool = False) -> dict:
        """A group and all above it are there from now on."""
        if path != "/":
            self._touch_group(parent(path), version)
        group = self.groups.setdefault(path, {"id": path, "dependencies": [], "version": version})
        group.update(fields or {}, version=version)
        if told:
            self._say("group_change_success", groupId=path, version=version)
        return group
