"""Reading a Marathon's whole state: what is told, that nothing older is told over what the stream has told, and that
no answer, however odd, touches the stream.

What is told is compared with the API's own bytes; what consumers end with, with the state of the stand-in.
"""

import collections
import copy
import json
import os
import threading
import time
import urllib.request

from rig.busbar import Busbar
from rig.marathon import Marathon
from rig.proc import Failed, wait_until
from rig.proxy import Proxy
from rig.standin import HOLD, Answer, not_found, redirect, refusal
from rig.stopwatch import had

# As large as the issue asks for: BUSBAR_TEST_STATE=2000x10000
APPS, TASKS = (int(number) for number in os.environ.get("BUSBAR_TEST_STATE", "1000x5000").split("x"))
MEMBERS = {"appDefinition": "App", "pod": "Pod", "plan": "Deployment", "group": "Group"}
PATHS = {"App": "/v2/apps", "Deployment": "/v2/deployments", "Group": "/v2/groups", "Pod": "/v2/pods::status"}
EMBED = "?embed=apps.tasks&embed=apps.counts&embed=apps.deployments&embed=apps.lastTaskFailure"
LIVE = ("TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING")


def _config(*marathons: Marathon, **more) -> dict:
    """Sources m0, m1, … of one busbar."""
    sources = [
        {"name": f"m{number}", "type": "marathon", "servers": marathon.addresses, **more}
        for number, marathon in enumerate(marathons)
    ]
    return {"name": "resync", "sources": sources}


def _resync(busbar: Busbar, source=0) -> dict:
    return busbar.status()["sources"][source]["resync"]


def _wait_finished(busbar: Busbar, number=1, source=0, timeout=60) -> dict:
    """Until so many resyncs of the source are finished, and no more is wanted."""

    def finished():
        lines = [line for line in busbar.log_lines("resync_finished") if f"source=m{source} " in line]
        return len(lines) >= number and _resync(busbar, source)["state"] == "idle"

    try:
        wait_until(finished, timeout, f"resync {number} of m{source} is finished")
    except Failed as failed:
        raise Failed(f"{failed}\n{_resync(busbar, source)}\n{busbar.log_tail()}") from None
    return _resync(busbar, source)


def _get(marathon: Marathon, path: str) -> bytes:
    """Asked aside of what a test has it answer, and not counted."""
    aside, marathon.answers = marathon.answers, {}
    counted = len(marathon.requests)
    try:
        with urllib.request.urlopen(marathon.address + path, timeout=20) as answer:
            return answer.read()
    finally:
        marathon.answers = aside
        del marathon.requests[counted:]


def _name(frame) -> tuple:
    """(topic, key) of what a resync told; else None."""
    event = json.loads(frame.data)
    if frame.event == "Vanished":
        return event["Topic"], event["Key"]
    member = next(iter(event))
    return MEMBERS[member], event[member]["id"]


def _told(frames, kind="Snapshot") -> list[tuple]:
    return [_name(frame) for frame in frames if frame.event == kind]


def _own(frames) -> list[str]:
    return [frame.event for frame in frames if frame.event in ("Gap", "ResyncStarted", "ResyncFinished")]


def _of_stream(frames) -> list[bytes]:
    own = ("Gap", "ResyncStarted", "ResyncFinished", "Snapshot", "Vanished")
    return [frame.data for frame in frames if frame.event not in own]


def _read_to(busbar: Busbar, finished=1) -> list:
    """All that /events has, until so many resyncs are finished."""
    with busbar.events(from_oldest=True) as client:
        what = f"{finished} ResyncFinished at /events"
        wait_until(lambda: _own(client.frames).count("ResyncFinished") >= finished, 30, what)
        return list(client.frames)


def _tasks(marathon: Marathon) -> dict:
    """What there is: app: ids of its tasks."""
    return {app_id: {task["id"] for task in app["tasks"]} for app_id, app in marathon.apps.items()}


def _picture(frames) -> dict:
    """What a consumer knows that takes a Snapshot for all there is, and an event for a change of it."""
    apps: dict[str, set] = {}
    for frame in frames:
        event = json.loads(frame.data)
        match frame.event:
            case "Snapshot" if "appDefinition" in event:
                app = event["appDefinition"]
                apps[app["id"]] = {task["id"] for task in app["tasks"]}
            case "Vanished" if event["Topic"] == "App":
                apps.pop(event["Key"], None)
            case "api_post_event":
                apps.setdefault(event["appDefinition"]["id"], set())
            case "app_terminated_event":
                apps.pop(event["appId"], None)
            case "status_update_event" if event["appId"] in apps:
                tasks = apps[event["appId"]]
                (tasks.add if event["taskStatus"] in LIVE else tasks.discard)(event["taskId"])
    return apps


def _sent(marathon: Marathon) -> list[bytes]:
    """All that anybody was told."""
    return [sent.data for sent in list(marathon.sent) if sent.to]


def _wait_told(marathon: Marathon, client, last=0) -> None:
    """Until the stream has brought all of that, or its last one: while an answer is on its way it goes on."""
    sent = _sent(marathon)
    wait_until(lambda: _of_stream(client.frames)[-last:] == sent[-last:], 30, "the stream goes on meanwhile")


def _held(marathon: Marathon, path: str, query="") -> tuple[Answer, threading.Event]:
    """The answer as it is now, half of which waits for the event."""
    now, go_on = _get(marathon, path + query), threading.Event()
    half = now.index(b"},{") + 2 if b"},{" in now else len(now) // 2
    return Answer(now[:half], go_on, now[half:], chunked=False), go_on


# ---- a first start ----


def test_a_first_start_tells_all_there_is_byte_for_byte():
    with Marathon() as marathon, Proxy(marathon.nodes[0].port) as wire:
        marathon.put_app("/t/web", 3, health=True, labels={"name": "漢字 🚌 \u2028", "big": "12345678901234567890"})
        marathon.put_app("/t/db", 1)
        marathon.put_app("/alone", 2, until="Provisioned")
        marathon.put_pod("/p/pod", 2)
        marathon.put_group("/t/empty/deep")
        api = {topic: _get(marathon, path + (EMBED if topic == "App" else "")) for topic, path in PATHS.items()}
        with Busbar(_config(marathon, servers=[wire.address])) as busbar:
            state = _wait_finished(busbar)
            frames = _read_to(busbar)
            assert busbar.log_lines("level=warn") == []
        assert len(wire.links) == 2  # the stream's connection, and one for all questions
    assert _own(frames) == ["ResyncStarted", "ResyncFinished"]
    assert collections.Counter(topic for topic, _ in _told(frames)) == {"App": 3, "Deployment": 1, "Group": 5, "Pod": 1}
    for frame in frames:
        if frame.event != "Snapshot":
            continue
        event = json.loads(frame.data)
        assert list(event)[1:] == ["eventType", "timestamp"] and event["eventType"] == "Snapshot"
        topic, key = _name(frame)
        raw = frame.data[frame.data.index(b":") + 1 : frame.data.index(b',"eventType":"Snapshot"')]
        if topic != "Group":
            assert raw in api[topic], key
        else:
            assert all(set(group) == {"id"} for group in event["group"].get("groups", []))
    groups = {_name(frame)[1]: json.loads(frame.data)["group"] for frame in frames if b'{"group":' in frame.data}
    assert groups.keys() == {"/", "/t", "/t/empty", "/t/empty/deep", "/p"}
    assert [group["id"] for group in groups["/"]["groups"]] == ["/p", "/t"]
    assert "apps" not in groups["/t"]  # not asked for: each app's id says where it belongs
    assert [request.path for request in marathon.requests if request.path != "/v2/events"][-4:] == list(PATHS.values())
    assert state["told"] == 10 and state["vanished"] == 0 and state["last_error"] is None


def test_an_old_marathon_without_pods_is_told_without_them():
    with Marathon(generation="old") as marathon:
        marathon.put_app("/web", 2)
        for path in ("/v2/pods::status", "/v2/pods/::status"):
            marathon.answer(path, not_found())
        with Busbar(_config(marathon)) as busbar:
            _wait_finished(busbar)
            frames = _read_to(busbar)
            assert len(busbar.log_lines("resync_topic_unknown")) == 1
    assert ("App", "/web") in _told(frames) and ("Group", "/") in _told(frames)


# ---- gaps ----


def test_a_leader_change_is_followed_by_what_is_and_what_is_no_more():
    with Marathon(nodes=2) as marathon:
        for name in ("stays", "goner", "told", "g/in"):
            marathon.put_app(f"/{name}", 2)
        for name in ("stays", "goner"):
            marathon.put_pod(f"/pod-{name}")
        marathon.put_app("/rolls", 2, until="Starting")
        with Busbar(_config(marathon)) as busbar:
            _wait_finished(busbar)
            marathon.wait_streams(1)
            marathon.delete_app("/told")  # while the busbar listens: never told as vanished
            marathon.put_app("/quick", 1)
            marathon.elect(None)
            marathon.delete_app("/goner")
            marathon.delete_pod("/pod-goner")
            marathon.delete_group("/g")
            marathon.finish("/rolls")  # its deployment ends unseen
            marathon.put_app("/newcomer", 1)
            marathon.elect(1)
            state = _wait_finished(busbar, 2)
            frames = _read_to(busbar, 2)
        started = [number for number, frame in enumerate(frames) if frame.event == "ResyncStarted"]
        first, second = frames[: started[1]], frames[started[1] :]
        assert _own(frames) == ["ResyncStarted", "ResyncFinished", "Gap", "ResyncStarted", "ResyncFinished"]
        deployment = next(key for topic, key in _told(first) if topic == "Deployment")
        gone = [("App", "/g/in"), ("App", "/goner"), ("Deployment", deployment), ("Group", "/g"), ("Pod", "/pod-goner")]
        assert sorted(_told(frames, "Vanished")) == gone
        assert not set(_told(second)) & set(gone) and ("App", "/told") not in _told(second)
        assert {key for topic, key in _told(second) if topic == "App"} == marathon.apps.keys()
        assert _picture(frames) == _tasks(marathon)
        assert state["vanished"] == len(gone)


def test_a_new_leader_whose_clock_is_an_hour_behind_changes_nothing():
    with Marathon(nodes=2) as marathon:
        for name in ("/stays", "/goner", "/later"):
            marathon.put_app(name, 2)
        with Busbar(_config(marathon)) as busbar:
            _wait_finished(busbar)
            marathon.scale("/stays", 3)
            marathon.elect(None)
            marathon.clock = lambda: time.time() - 3600
            marathon.delete_app("/goner")
            marathon.scale("/stays", 1)
            marathon.put_app("/newcomer", 1)
            marathon.elect(1, ready=False)
            answer, go_on = _held(marathon, "/v2/apps", EMBED)
            marathon.answer("/v2/apps", answer)
            asked = len(marathon.wait_requests(1, "/v2/apps"))
            marathon.ready()
            marathon.wait_requests(asked + 1, "/v2/apps")
            marathon.delete_app("/later")
            marathon.scale("/newcomer", 2)
            with busbar.events(from_oldest=True) as client:
                _wait_told(marathon, client)
            marathon.answer("/v2/apps", None)
            go_on.set()
            _wait_finished(busbar, 2)
            marathon.elect(0)
            _wait_finished(busbar, 3)
            frames = _read_to(busbar, 3)
        assert _picture(frames) == _tasks(marathon)
        assert _told(frames, "Vanished") == [("App", "/goner")]
        assert _told(frames).count(("App", "/later")) == 1


def test_of_a_source_of_few_event_types_the_state_is_told_all_the_same():
    with Marathon() as marathon:
        marathon.put_app("/stays", 1)
        marathon.put_app("/goner", 1)
        with Busbar(_config(marathon, event_types=["status_update_event"])) as busbar:
            _wait_finished(busbar)
            marathon.elect(None)
            marathon.delete_app("/goner")
            marathon.elect(0)
            _wait_finished(busbar, 2)
            frames = _read_to(busbar, 2)
    assert [_told(frames).count(("App", name)) for name in ("/stays", "/goner")] == [2, 1]
    assert _told(frames, "Vanished") == [("App", "/goner")]


# ---- while the answer is on its way ----


def test_what_changes_while_the_answer_is_on_its_way_ends_full_and_current():
    with Marathon() as marathon:
        names = [f"/a{number:02}" for number in range(12)]
        for name in names:
            marathon.put_app(name, 3)
        marathon.put_pod("/pods/changed")
        answer, go_on = _held(marathon, "/v2/apps", EMBED)
        groups, groups_go_on = _held(marathon, "/v2/groups", "?embed=group.groups")
        pods, pods_go_on = _held(marathon, "/v2/pods::status")
        marathon.answer("/v2/apps", answer)
        marathon.answer("/v2/groups", groups)
        marathon.answer("/v2/pods::status", pods)
        with Busbar(_config(marathon)) as busbar, busbar.events(from_oldest=True) as client:
            marathon.wait_requests(1, "/v2/apps")
            marathon.scale("/a00", 5)
            marathon.scale("/a01", 1)
            marathon.kill_task("/a02")  # nothing of topic App is told of it
            marathon.delete_app("/a03")
            marathon.delete_app("/a04")
            marathon.put_app("/a04", 1)
            marathon.restart("/a05")
            marathon.put_app("/b00", 2)
            _wait_told(marathon, client)
            asked = len(marathon.requests)
            marathon.answer("/v2/apps", None)
            go_on.set()
            marathon.wait_requests(1, "/v2/groups")
            marathon.put_group("/late/group")
            marathon.put_app("/late/app", 1)
            _wait_told(marathon, client)
            marathon.answer("/v2/groups", None)
            groups_go_on.set()
            marathon.wait_requests(1, "/v2/pods::status")
            marathon.put_pod("/pods/changed", 2)
            marathon.put_pod("/pods/new")  # pod_created_event does not say which
            _wait_told(marathon, client)
            marathon.answer("/v2/pods::status", None)
            pods_go_on.set()
            _wait_finished(busbar)
            frames = _read_to(busbar)
        assert _own(frames) == ["ResyncStarted", "ResyncFinished"]
        assert _picture(frames) == _tasks(marathon)
        told = collections.Counter(_told(frames))
        assert told["App", "/a03"] == 0 and max(told.values()) == 1
        paths = [request.path for request in marathon.requests[asked:]]
        singly = {path.removeprefix("/v2/apps") for path in paths if path.startswith("/v2/apps/")}
        assert singly >= {"/a00", "/a01", "/a02", "/a03", "/a04", "/a05"}
        assert singly.isdisjoint(names[6:])  # of which nothing was told
        assert {key for topic, key in told if topic == "Group"} == {"/", "/late", "/late/group", "/pods"}
        last = {_name(frame): json.loads(frame.data) for frame in frames if frame.event == "Snapshot"}
        assert {key: event["pod"] for (topic, key), event in last.items() if topic == "Pod"} == marathon.pods
        assert _of_stream(frames) == _sent(marathon)


def test_an_app_that_changes_with_each_question_is_told_when_it_rests():
    """Each answer to a question for it is older than what the stream says by then."""
    with Marathon() as marathon:
        marathon.put_app("/busy", 2)
        marathon.put_app("/calm", 2)
        asked = ["/v2/apps", *["/v2/apps/busy"] * 3]
        answer, go_on = _held(marathon, "/v2/apps", EMBED)
        marathon.answer("/v2/apps", answer)
        with Busbar(_config(marathon)) as busbar, busbar.events() as client:
            for number, path in enumerate(asked):
                marathon.wait_requests(number or 1, path)
                marathon.kill_task("/busy")
                _wait_told(marathon, client, 1)
                answer, next_go_on = _held(marathon, "/v2/apps/busy")
                marathon.answer("/v2/apps/busy", answer)
                go_on.set()
                go_on = next_go_on
            marathon.wait_requests(len(asked), "/v2/apps/busy")
            assert _resync(busbar)["state"] == "open"
            go_on.set()
            _wait_finished(busbar)
            frames = _read_to(busbar)
        assert _picture(frames) == _tasks(marathon)
        assert _told(frames).count(("App", "/busy")) == _told(frames).count(("App", "/calm")) == 1


# ---- answers that are none ----

TROUBLE = {
    "500": ("/v2/apps", refusal("500 Internal Server Error", "trouble"), "answered 500: trouble"),
    "401": ("/v2/groups", refusal("401 Unauthorized"), "answered 401"),
    "302": ("/v2/deployments", redirect("http://127.0.0.1:1/", 302), "answered 302, to http://127.0.0.1:1/"),
    "not JSON": ("/v2/pods::status", Answer(b"<html>It works!</html>", chunked=False), "not JSON"),
    "truncated": ("/v2/apps", Answer(b'{"apps":[{"id":"/', chunked=False), "it ends in the middle"),
    "wrong types": ("/v2/apps", Answer(b'{"apps":{"/web":{}}}', chunked=False), 'not an object with a list \\"apps\\"'),
    "endless": ("/v2/groups", Answer(*[b"[" * 65536] * 400, chunked=False), "more than 16777216 bytes"),
}


def test_answers_that_are_none_never_touch_the_stream():
    marathons = [Marathon() for _ in TROUBLE]
    try:
        for marathon, (path, answer, _) in zip(marathons, TROUBLE.values()):
            marathon.__enter__()
            marathon.put_app("/web", 2)
            marathon.answer(path, answer)
        with Busbar(_config(*marathons)) as busbar:
            for marathon in marathons:
                marathon.wait_streams(1)
            for number, (_, _, why) in enumerate(TROUBLE.values()):
                busbar.wait_log(f"event=resync_backoff source=m{number} ")
                wait_until(lambda: why.replace("\\", "") in (_resync(busbar, number)["last_error"] or ""), 30, why)
            for marathon in marathons:
                for count in (4, 2, 3):
                    marathon.scale("/web", count)
                marathon.answers.clear()
            for number, marathon in enumerate(marathons):
                state = _wait_finished(busbar, source=number)
                assert state["last_error"] is None
                with busbar.events(from_oldest=True, source=f"m{number}") as client:
                    sent = _sent(marathon)
                    wait_until(lambda: len(_of_stream(client.frames)) >= len(sent), 30, f"{len(sent)} events")
                    wait_until(lambda: "ResyncFinished" in _own(client.frames), 30, "the end of its resync at /events")
                    assert _of_stream(client.frames) == sent
                    assert _own(client.frames) == ["ResyncStarted", "ResyncFinished"]
                    assert _picture(client.frames) == _tasks(marathon)
                assert len([line for line in busbar.log_lines("resync_backoff") if f"source=m{number} " in line]) >= 1
                assert [line for line in busbar.log_lines("source_backoff") if f"source=m{number} " in line] == []
    finally:
        for marathon in marathons:
            marathon.close()


def test_a_list_of_which_one_is_not_understood_tells_the_rest_and_vanishes_nothing():
    with Marathon() as marathon:
        marathon.put_app("/one", 1)
        marathon.put_app("/two", 1)
        with Busbar(_config(marathon)) as busbar:
            _wait_finished(busbar)
            app = _get(marathon, "/v2/apps/one")[len(b'{"app":') : -1]
            marathon.answer("/v2/apps", Answer(b'{"apps":[%b,{"no":"id"}]}' % app, chunked=False))
            marathon.elect(None)
            marathon.elect(0)
            _wait_finished(busbar, 2)
            busbar.wait_log("event=resync_topic_incomplete")
            frames = _read_to(busbar, 2)
    assert _told(frames).count(("App", "/one")) == 2 and _told(frames).count(("App", "/two")) == 1
    assert _told(frames, "Vanished") == []


# ---- a restart ----


def test_a_kill_in_the_middle_goes_on_where_it_was():
    """What was told is not told again by that resync; the one that the restart's gap asks for tells all anew."""
    with Marathon() as marathon:
        marathon.put_app("/a000", 2)
        for number in range(1, 200):
            name = f"/a{number:03}"
            marathon.apps[name] = {**copy.deepcopy(marathon.apps["/a000"]), "id": name}
        now, go_on = _get(marathon, "/v2/apps" + EMBED), threading.Event()
        half = now.index(b'{"id":"/a150"')
        marathon.answer("/v2/apps", Answer(now[:half], go_on, now[half:], chunked=False))
        with Busbar(_config(marathon)) as busbar:
            wait_until(lambda: _resync(busbar)["told"] >= 64, 30, "some are told")
            assert _resync(busbar)["state"] == "open"
            busbar.kill9()
            marathon.answer("/v2/apps", None)
            go_on.set()
            busbar.start()
            _wait_finished(busbar, 2)
            frames = _read_to(busbar, 2)
    own = _own(frames)
    assert own[0] == "ResyncStarted" and own.count("Gap") == 1
    assert own[-3:] == ["ResyncFinished", "ResyncStarted", "ResyncFinished"]
    started = [number for number, frame in enumerate(frames) if frame.event == "ResyncStarted"]
    for part in (frames[: started[1]], frames[started[1] :]):
        counts = collections.Counter(name for name in _told(part) if name[0] == "App")
        assert len(counts) == 200 and set(counts.values()) == {1}
    assert _told(frames, "Vanished") == []


def test_a_stop_while_an_answer_is_on_its_way_is_quick():
    with Marathon() as marathon:
        marathon.put_app("/web", 1)
        marathon.answer("/v2/apps", Answer(b'{"apps":[', HOLD, chunked=False))
        with Busbar(_config(marathon)) as busbar:
            marathon.wait_requests(1, "/v2/apps")
            began = had()
            busbar.stop()
            assert had() - began < 10  # it would wait 30 s for more of the answer
            assert busbar.log_lines("resync_backoff") == []


# ---- many ----


def _fill(marathon: Marathon) -> None:
    """Many apps with many tasks, of which nothing is told."""
    model = copy.deepcopy(marathon.put_app("/many/a", TASKS // APPS, health=True))
    for number in range(APPS):
        name = f"/many/app-{number:05}"
        tasks = [{**task, "id": f"{task['id']}-{number}", "appId": name} for task in model["tasks"]]
        marathon.apps[name] = {**model, "id": name, "tasks": tasks}
    del marathon.apps["/many/a"]


def test_many_apps_are_read_in_few_requests_little_memory_and_no_delay():
    """With BUSBAR_TEST_STATE=2000x10000 and -s it prints what was measured."""
    with Marathon() as marathon:
        marathon.put_app("/said", 1)
        _fill(marathon)
        size = len(_get(marathon, "/v2/apps" + EMBED))
        with Busbar({**_config(marathon, start="now"), "journal": {"max_size": "4GiB"}}) as busbar:
            marathon.wait_streams(1)
            wait_until(lambda: busbar.status()["sources"][0]["state"] == "attached", 20, "attached")
            before = busbar.rss_anon()
            marathon.elect(None)
            marathon.elect(0)
            began, most, at = time.monotonic(), before, {}
            with busbar.events(type="said") as client:
                while busbar.log_lines("resync_finished") == [] and time.monotonic() - began < 120:
                    at[marathon.emit("said", {"n": len(at)})] = time.monotonic()
                    time.sleep(0.02)
                    most = max(most, busbar.rss_anon())
                took = time.monotonic() - began
                at[marathon.emit("said", {"n": len(at)})] = time.monotonic()  # one at least is told
                said = {sent.data for sent in marathon.sent if sent.type == "said" and sent.to}
                wait_until(lambda: {frame.data for frame in client.frames} >= said, 20, f"{len(said)} events said")
                arrived = zip(client.frames, client.arrivals)
                delays = sorted(when - at[frame.data] for frame, when in arrived if frame.event == "said")
            state = _wait_finished(busbar)
            waited = busbar.log_lines("resync_finished")[0].partition("stream_waited_max_us=")[2].split()[0]
        print(
            f"\n{APPS} apps, {TASKS} tasks, {size >> 20} MiB: {state['requests']} requests, {state['told']} told"
            f" in {took:.1f} s, RssAnon +{(most - before) >> 20} to {most >> 20} MiB, stream delayed p50"
            f" {delays[len(delays) // 2] * 1e3:.1f} max {delays[-1] * 1e3:.1f} ms of {len(delays)} events"
            f", the connector waited {waited} us at most"
        )
        assert state["told"] == APPS + 1 + 2  # /said; the groups / and /many
        assert state["requests"] == 4
        assert most - before < 48 << 20
