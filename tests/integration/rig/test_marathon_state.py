"""What the stand-in Marathon tells of its changes, against what the real one told."""

import itertools
import json
import re

import pytest

from .marathon import Marathon, capture
from .marathon_changes import CANCELLED, LOCKED
from .marathon_shapes import ORDER, health_check, milliseconds_of, stamp
from .test_marathon import ask


def told(m, since=0):
    """(type, body) of what was sent."""
    return [(sent.type, json.loads(sent.data)) for sent in m.sent[since:]]


def steps(events, app):
    """What happened to one app and its deployments, in short: what a real sequence can be compared by."""
    found = []
    for kind, body in events:
        if kind == "status_update_event" and body["appId"] == app:
            found.append(body["taskStatus"])
        elif kind == "instance_changed_event" and body["runSpecId"] == app:
            found.append(body["condition"])
        elif kind.startswith("deployment") and app in json.dumps(body["plan"]):
            actions = body.get("currentStep", {}).get("actions", [])
            found.append((kind, *(action["action"] for action in actions)))
        elif app in (body.get("appId"), body.get("appDefinition", {}).get("id")):
            found.append(kind)
    return found


def real_steps(app, first, last):
    """Of the capture's events first to last."""
    return steps([(kind, json.loads(data)) for kind, data in capture("real-1.11.sse")[first : last + 1]], app)


def same_but_for_order(ours, real):
    """Marathon's parts tell at their own pace: what each of them says is in order, not all of it."""
    assert sorted(map(str, ours)) == sorted(map(str, real)) and real
    for pattern in (r"\('deployment", r"TASK_", r"[A-Z][a-z]+$"):
        one, other = ([str(step) for step in told if re.match(pattern, str(step))] for told in (ours, real))
        assert one == other


@pytest.fixture(name="m")
def _m():
    with Marathon() as m:
        yield m


def test_an_app_from_its_creation_to_its_end_as_the_real_one_told_it(m):
    """The capture's first app: created with 2, scaled to 3, to 1, changed, changed, restarted, its task killed."""
    fields = {"cmd": "sleep 1000", "env": {"X": "1"}, "labels": {"a": "b"}}
    done = [
        (lambda: m.put_app("/t/cmd", 2, **fields), 7, 25),
        (lambda: m.scale("/t/cmd", 3), 26, 36),
        (lambda: m.scale("/t/cmd", 1), 37, 51),
        (lambda: m.put_app("/t/cmd", env={"X": "2"}), 52, 67),
        (lambda: m.put_app("/t/cmd", mem=48), 68, 83),
        (lambda: m.restart("/t/cmd"), 84, 98),
        (lambda: m.kill_task("/t/cmd"), 99, 107),
    ]
    for do, first, last in done:
        before = len(m.sent)
        do()
        same_but_for_order(steps(told(m, before), "/t/cmd"), real_steps("/t/cmd", first, last))
    assert m.apps["/t/cmd"]["tasks"][0]["id"].endswith("._app.2")
    m.scale("/t/cmd", 0)
    before = len(m.sent)
    m.delete_app("/t/cmd")
    same_but_for_order(steps(told(m, before), "/t/cmd"), real_steps("/t/cmd", 135, 139))
    assert m.apps == {} and m.deployments == {}


def test_health_as_the_real_one_told_it(m):
    m.put_app("/h/http", health=True)
    same_but_for_order(steps(told(m), "/h/http"), real_steps("/h/http", 140, 185))
    before = len(m.sent)
    for _ in range(4):
        m.set_health("/h/http", 0, False)
    assert m.apps["/h/http"]["tasksUnhealthy"] == 1
    result = m.apps["/h/http"]["tasks"][0]["healthCheckResults"][0]
    assert (result["alive"], result["consecutiveFailures"]) == (False, 4)
    same_but_for_order(steps(told(m, before), "/h/http"), real_steps("/h/http", 202, 207))
    before = len(m.sent)
    m.set_health("/h/http", 0, False, kill=True)
    kinds = [kind for kind, _ in told(m, before)]
    assert kinds[:2] == ["failed_health_check_event", "unhealthy_instance_kill_event"]
    assert kinds[-2:] == ["health_status_changed_event", "instance_health_changed_event"]
    assert m.apps["/h/http"]["tasksHealthy"] == 1
    before = len(m.sent)
    m.delete_app("/h/http")
    assert told(m, before)[1][0] == "remove_health_check_event"


def test_tasks_that_fail_finish_or_get_lost(m):
    m.put_app("/m/crash", 2)
    before = len(m.sent)
    dead = m.fail_task("/m/crash", 1)
    same_but_for_order(steps(told(m, before), "/m/crash"), real_steps("/m/crash", 400, 406))
    first = told(m, before)[0][1]
    assert (first["taskId"], first["taskStatus"]) == (dead, "TASK_FAILED")
    assert first["message"] == "Command exited with status 1"
    assert dead not in [task["id"] for task in m.apps["/m/crash"]["tasks"]]
    assert m.apps["/m/crash"]["lastTaskFailure"]["taskId"] == dead
    m.fail_task("/m/crash", 0, "TASK_LOST", "", replace=False)
    assert len(m.apps["/m/crash"]["tasks"]) == 1 and ("instance_changed_event", "Gone") in [
        (kind, body.get("condition")) for kind, body in told(m, before)
    ]


def test_a_pod_as_the_real_one_told_it(m):
    m.put_pod("/p/web")
    same_but_for_order(steps(told(m), "/p/web"), real_steps("/p/web", 553, 567))
    before = len(m.sent)
    m.put_pod("/p/web", 2)
    same_but_for_order(steps(told(m, before), "/p/web"), real_steps("/p/web", 568, 580))
    assert [body["uri"] for kind, body in told(m) if kind.startswith("pod_")] == ["/v2/pods", "/v2/pods//p/web"]
    assert json.loads(ask(m.address, "/v2/pods::status").body) == [m.pods["/p/web"]]
    assert json.loads(ask(m.address, "/v2/pods//p/web::status").body)["status"] == "STABLE"
    m.delete_pod("/p/web")
    kinds = [kind for kind, _ in told(m)]
    assert "pod_deleted_event" in kinds and m.pods == {} and kinds.index("app_terminated_event") > 0


def everything(m):
    m.put_app("/a/b/c", 2, health=True)
    m.put_app("/a/b/c", env={"x": "é\u2028"})
    m.set_health("/a/b/c", 1, False, kill=True)
    m.put_app("/a/b/c", 3, until="Starting")
    m.put_app("/a/b/c", cmd="refused")
    m.fail("/a/b/c")
    m.put_pod("/a/p"), m.put_pod("/a/p", label="x"), m.delete_pod("/a/p")
    m.put_group("/q/r"), m.delete_group("/a")


def test_all_that_is_told_has_the_real_ones_members_in_their_order(m):
    captured = capture("real-1.11.sse") + capture("real-1.11-scheduler.sse")
    real = {kind: list(json.loads(data)) for kind, data in captured}
    assert {kind: list(ORDER[kind]) for kind in real} == real
    everything(m)
    for sent in m.sent:
        assert list(json.loads(sent.data)) == real[sent.type]
        assert b"\\u" not in sent.data and b": " not in sent.data


def test_the_definition_is_the_real_ones(m):
    posts = [json.loads(data)["appDefinition"] for kind, data in capture("real-1.11.sse") if kind == "api_post_event"]
    created, changed = posts[0], next(post for post in posts if "versionInfo" in post)
    m.put_app("/t/cmd", 2, env={"X": "1"}, labels={"a": "b"}, maxLaunchDelaySeconds=2)
    m.scale("/t/cmd", 3)
    ours = [body["appDefinition"] for kind, body in told(m) if kind == "api_post_event"]
    for our, real in zip(ours, (created, changed)):
        assert list(our) == list(real)
        assert our | {"version": 0, "versionInfo": 0} == real | {"version": 0, "versionInfo": 0}


def test_the_same_calls_tell_the_same():
    sent = []
    for _ in range(2):
        with Marathon() as m:
            m.clock = itertools.count(1_700_000_000).__next__
            everything(m)
            sent.append([one.data for one in m.sent])
    assert sent[0] == sent[1]
    assert json.loads(sent[0][0])["timestamp"].startswith("2023-11-14T22:13:")


def test_a_deployment_may_stay_under_way_and_go_on_or_fail(m):
    m.put_app("/x", 1, until="Starting", hosts=["n1", "n2"], ports=[8080, [9000, 9001]])
    (deployment,) = m.deployments.values()
    assert json.loads(ask(m.address, "/v2/deployments").body) == [deployment]
    assert (deployment["affectedApps"], deployment["currentStep"], deployment["totalSteps"]) == (["/x"], 2, 2)
    app = m.apps["/x"]
    assert app["deployments"] == [{"id": deployment["id"]}] and (app["tasksStaged"], app["tasksRunning"]) == (1, 0)
    m.scale("/x", 5)
    (kind, failed), (_, group) = told(m)[-2:]
    assert (kind, failed["reason"], group["reason"]) == ("deployment_failed", LOCKED, LOCKED)
    m.finish("/x")
    assert told(m)[-1][0] == "deployment_success" and m.deployments == {} and app["tasksRunning"] == 1
    m.scale("/x", 2, until="Running")
    m.fail("/x")
    assert told(m)[-1][1]["reason"] == CANCELLED and m.deployments == {} and app["deployments"] == []
    assert [(task["host"], task["ports"]) for task in app["tasks"]] == [("n1", [8080]), ("n2", [9000, 9001])]
    with pytest.raises(AssertionError):
        m.scale("/x", 3, until="Nonsense")


def test_the_api_shows_what_embed_asks_for(m):
    m.put_app("/g/a", 1, healthChecks=[health_check(path="/h")])
    paths = ("/v2/apps", "/v2/apps?embed=apps.tasks&embed=apps.deployments")
    plain, full = (json.loads(ask(m.address, path).body)["apps"][0] for path in paths)
    assert "tasks" not in plain and plain["tasksHealthy"] == 1 and plain["deployments"] == []
    assert full == m.apps["/g/a"] and full["tasks"][0]["state"] == "TASK_RUNNING"
    assert json.loads(ask(m.address, "/v2/apps//g/a").body)["app"]["tasks"] == full["tasks"]
    assert ask(m.address, "/v2/apps//no").status == 404
    root = json.loads(ask(m.address, "/v2/groups").body)
    assert (root["id"], root["groups"][0]["id"], root["groups"][0]["apps"][0]["id"]) == ("/", "/g", "/g/a")
    assert json.loads(ask(m.address, "/v2/leader").body) == {"leader": m.address.removeprefix("http://")}
    assert json.loads(ask(m.address, "/v2/info").body)["elected"]
    m.apps["/mine/own"] = {"id": "/mine/own", "version": "v"}
    assert [app["id"] for app in json.loads(ask(m.address, "/v2/apps").body)["apps"]] == ["/g/a", "/mine/own"]


def test_stamps():
    assert stamp(1_700_000_000.1236) == "2023-11-14T22:13:20.124Z"
    assert milliseconds_of("2023-11-14T22:13:20.124Z") == 1_700_000_000_124 and milliseconds_of("x") == 0
