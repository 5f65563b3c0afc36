"""The API of a stand-in Marathon beside its event stream: what it answers as leader."""

from .marathon_changes import Changes
from .marathon_node import Reply, Request, as_json, error
from .marathon_shapes import COUNTS, LIVE, definition, parent


class State(Changes):
    """The state as dicts id -> object, as 1.11's API shows them. A part of Marathon (marathon.py).

    m.apps: with tasks, counts and deployments (shown as embed= asks for them). m.pods: their statuses.
    m.groups: flat, without their apps; GET /v2/groups makes the tree. A test may write into them: nothing
    is told of that.
    """

    def __init__(self):
        Changes.__init__(self)
        self.apps: dict[str, dict] = {}
        self.pods: dict[str, dict] = {}
        self.deployments: dict[str, dict] = {}
        self.groups: dict[str, dict] = {}

    def state_answer(self, request: Request) -> Reply:
        """What the leader answers to all but the event stream."""
        with self._lock:
            return self._state_answer(request.path, request)

    def _state_answer(self, path: str, request: Request) -> Reply:
        if path == "/v2/eventSubscriptions":
            return self.subscriptions_answer(request)
        if path == "/v2/leader" and request.method == "DELETE":
            self.abdicate_later()
            return as_json({"message": "Leadership abdicated"})
        if request.method not in ("GET", "HEAD"):
            return error(405, "Method Not Allowed")
        if path.startswith("/v2/apps/"):
            return self._one_app("/" + path[len("/v2/apps/") :].strip("/"), request)
        if path.startswith("/v2/pods/") and path.endswith("::status") and path != "/v2/pods/::status":
            return self._one_pod("/" + path[len("/v2/pods/") : -len("::status")].strip("/"))
        if path.startswith("/v2/groups/") and path.strip("/") != "v2/groups":
            return self._one_group("/" + path[len("/v2/groups/") :].strip("/"), request)
        known = {
            "/v2/apps": self._all_apps, "/v2/pods": self._all_pods, "/v2/pods::status": self._all_statuses,
            "/v2/pods/::status": self._all_statuses, "/v2/deployments": self._all_deployments,
            "/v2/groups": self._root, "/v2/leader": self._leader, "/v2/info": self._info,
        }  # fmt: skip
        answer = known.get(path.rstrip("/"))
        return as_json(answer(request)) if answer else error(404, "Not Found")

    def _all_apps(self, request: Request) -> dict:
        embed = [*request.query.get("embed", []), "apps.counts", "apps.deployments"]
        return {"apps": [_shown(app, embed) for app in self.apps.values()]}

    def _one_app(self, app_id: str, request: Request) -> Reply:
        if app_id not in self.apps:
            return as_json({"message": f"App '{app_id}' does not exist"}, 404)
        always = ["apps.counts", "apps.tasks", "apps.lastTaskFailure", "apps.deployments"]
        return as_json({"app": _shown(self.apps[app_id], request.query.get("embed", []) + always)})

    def _one_pod(self, pod_id: str) -> Reply:
        if pod_id not in self.pods:
            return as_json({"message": f"Pod '{pod_id}' does not exist"}, 404)
        return as_json(self.pods[pod_id])

    def _all_pods(self, _) -> list:
        return [pod["spec"] for pod in self.pods.values() if "spec" in pod]

    def _all_statuses(self, _) -> list:
        return list(self.pods.values())

    def _all_deployments(self, _) -> list:
        return list(self.deployments.values())

    def _root(self, request: Request) -> dict:
        return self._groups(request)["/"]

    def _one_group(self, group_id: str, request: Request) -> Reply:
        group = self._groups(request).get(group_id)
        return as_json(group) if group else as_json({"message": f"Group '{group_id}' does not exist"}, 404)

    def _groups(self, request: Request) -> dict:
        """All groups by their ids, each as the tree that it is: with apps and pods, unless embed= asks for less."""
        embed = request.query.get("embed", ["group.groups", "group.apps", "group.pods"])
        nodes = {"/": {"id": "/", "dependencies": [], "version": "2026-01-01T00:00:00.000Z"}}
        for path, group in sorted(self.groups.items()):
            nodes[path] = dict(group)
        paths = [*self.apps, *self.pods, *list(nodes)]
        for path in sorted({above for path in paths for above in _above(path)}):
            nodes.setdefault(path, {"id": path, "dependencies": [], "version": nodes["/"]["version"]})
        for node in nodes.values():
            node |= {name: [] for name in ("apps", "groups", "pods") if f"group.{name}" in embed}
        for app_id, app in self.apps.items() if "group.apps" in embed else ():
            nodes[parent(app_id)]["apps"].append(definition(app))
        for pod_id, pod in self.pods.items() if "group.pods" in embed else ():
            nodes[parent(pod_id)]["pods"].append(pod.get("spec", pod))
        for path in sorted(nodes) if "group.groups" in embed else ():
            if path != "/":
                nodes[parent(path)]["groups"].append(nodes[path])
        return nodes

    def _leader(self, _) -> dict:
        return {"leader": f"127.0.0.1:{self.nodes[self.leader].port}"}

    def _info(self, _) -> dict:
        port = self.nodes[self.leader].port
        return {
            "name": "marathon", "version": "1.4.14" if self.is_old else "1.11.24", "buildref": "stand-in",
            "elected": True, "leader": f"127.0.0.1:{port}", "frameworkId": "simframework-0001",
            "marathon_config": {"hostname": "127.0.0.1", "event_stream_max_outstanding_messages": self.slow_limit},
            "zookeeper_config": {"zk": "zk://127.0.0.1:2181/marathon"}, "event_subscriber": None,
            "http_config": {"http_port": port, "https_port": 8443},
        }  # fmt: skip


def _above(path: str) -> list[str]:
    found = []
    while path != "/":
        path = parent(path)
        found.append(path)
    return found


def _shown(app: dict, embed: list[str]) -> dict:
    wanted = {
        "apps.counts": COUNTS, "apps.tasks": ("tasks", "deployments"), "apps.deployments": ("deployments",),
        "apps.lastTaskFailure": ("lastTaskFailure",),
    }  # fmt: skip
    names = {name for one in embed for name in wanted.get(one, ())}
    return definition(app) | {name: app[name] for name in LIVE if name in names and name in app}
