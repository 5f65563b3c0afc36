"""A region read without its event stream (`type: nomad_blocking`): from a real Nomad whose event broker is off, and
from a stand-in for one that is older than the stream.

What is told is compared with what the API has in the end, since this mode sees no states in between.
"""

import collections
import contextlib
import json
import os
import time

import pytest
from rig.busbar import Busbar
from rig.exits import from_redis
from rig.load import Load
from rig.nomad import Nomad
from rig.oldnomad import OldNomad
from rig.proc import Failed, wait_until

NO_BROKER = {"enable_event_broker": False}
LISTS = {topic: f"{topic.lower()}s" for topic in ("Job", "Allocation", "Evaluation", "Deployment", "Node")}
LOAD_SECONDS = float(os.environ.get("BUSBAR_TEST_BLOCKING_SECONDS", 6))


@pytest.fixture(scope="module")
def quiet_nomad():
    """For tests that leave nothing behind but some jobs."""
    with Nomad(server=NO_BROKER) as nomad:
        yield nomad


@contextlib.contextmanager
def _bridge(name: str, redis, *servers: str, start="oldest", **more):
    source = {"name": name, "type": "nomad_blocking", "servers": list(servers), "start": start, **more}
    sink = {"name": "cache", "type": "redis", "url": redis.url, "stream": "%{source}"}
    with Busbar({"name": name, "sources": [source], "sinks": [sink]}) as busbar:
        busbar.wait_attached()
        yield busbar


class Told:
    """What came out at the Redis sink."""

    def __init__(self, redis, name: str):
        self.arrivals = from_redis({name: redis.read_stream(name)})
        self.events = [json.loads(arrival.data) for arrival in self.arrivals]

    def of(self, topic: str, key: str | None = None) -> list[dict]:
        return [event for event in self.events if event["Topic"] == topic and key in (None, event["Key"])]

    def last(self) -> dict:
        """The last event of each object."""
        return {(event["Topic"], event["Namespace"], event["Key"]): event for event in self.events}

    def assert_sound(self) -> None:
        """No faults, nothing twice, no index that falls, and no Gap."""
        assert [fault for arrival in self.arrivals for fault in arrival.faults] == []
        identities = collections.Counter(arrival.identity for arrival in self.arrivals)
        assert [identity for identity, count in identities.items() if count > 1] == []
        told = [arrival.index for arrival in self.arrivals if not arrival.is_own]
        assert told == sorted(told)
        polled = [event for event in self.events if event["Type"] == "Polled"]
        assert [event for event in polled if event["Index"] != _modify_index(event)] == []
        assert [event for event in self.events if event["Type"] == "Gap"] == []


def _modify_index(event: dict) -> int:
    return next(iter(event["Payload"].values()))["ModifyIndex"]


def _wait_told(redis, name: str, topic: str, key: str, kind: str, timeout=20) -> dict:
    def found():
        return next((event for event in reversed(Told(redis, name).of(topic, key)) if event["Type"] == kind), None)

    return wait_until(found, timeout, f"{topic} {key} is told as {kind}")


def _api(nomad: Nomad) -> dict:
    """What there is: {(topic, namespace, key): ModifyIndex}."""
    found = {}
    for topic, path in LISTS.items():
        for entry in nomad.api("GET", f"/v1/{path}?namespace=*"):
            found[topic, entry.get("Namespace", ""), entry["ID"]] = entry["ModifyIndex"]
    return found


def _difference(nomad: Nomad, told: Told) -> list:
    """Each object whose last event is not what there is."""
    there, last = _api(nomad), told.last()
    wrong = []
    for name in set(there) | {name for name in last if name[0] in LISTS}:
        event = last.get(name)
        is_there = event is not None and event["Type"] not in ("Deleted", "Vanished")
        index = event["Payload"][name[0]]["ModifyIndex"] if is_there else 0
        if index != there.get(name, 0):
            wrong.append((name, there.get(name), event and (event["Type"], event["Index"])))
    return wrong


def _wait_same(nomad: Nomad, redis, name: str, timeout=20) -> Told:
    try:
        wait_until(lambda: not _difference(nomad, Told(redis, name)), timeout, "all is told as it is")
    except Failed:
        assert _difference(nomad, Told(redis, name)) == []
    return Told(redis, name)


def test_each_objects_last_state_is_told_under_load_and_through_kill_9(redis, source_name):
    with Nomad(client=True, server=NO_BROKER) as nomad:
        with _bridge(source_name, redis, nomad.address) as busbar, Load(nomad, rate=60) as load:
            for _ in range(2):
                time.sleep(LOAD_SECONDS / 2)
                busbar.kill9()
                busbar.start()
            polled = lambda: sum(event["Type"] == "Polled" for event in Told(redis, source_name).events)  # noqa: E731
            time.sleep(1)
            wait_until(lambda: polled() > 100, 60, "much is told")
            load.stop()
            _wait_same(nomad, redis, source_name).assert_sound()
            assert [line for line in busbar.log_lines() if "level=error" in line] == []


def test_an_event_has_the_streams_shape(redis, source_name):
    with Nomad(client=True, server=NO_BROKER) as nomad, _bridge(source_name, redis, nomad.address):
        nomad.register_job("web", count=1, service=True)
        _wait_told(redis, source_name, "Service", _service_id(nomad), "Polled", timeout=20)
        same = lambda: _payload(Told(redis, source_name), "Job") == nomad.api("GET", "/v1/job/web")  # noqa: E731
        wait_until(same, 20, "the job is told as the API has it")
        # What changed meanwhile is told at its new index only, behind all this.
        others = ("Allocation", "Deployment", "Service", "Node")
        wait_until(lambda: all(Told(redis, source_name).of(topic) for topic in others), 20, "one of each")
        told = Told(redis, source_name)
        event = told.of("Job", "web")[-1]
        assert list(event) == ["FilterKeys", "Index", "Key", "Namespace", "Payload", "Topic", "Type"]
        assert event["Index"] == event["Payload"]["Job"]["ModifyIndex"]
        allocation = told.of("Allocation")[-1]["Payload"]["Allocation"]
        assert told.of("Allocation")[-1]["FilterKeys"] == ["web", allocation["DeploymentID"]]
        assert told.of("Deployment")[-1]["FilterKeys"] == ["web"]
        assert told.of("Service")[-1]["FilterKeys"] == ["web", "rig-service"]
        assert told.of("Node")[-1]["Payload"]["Node"]["SecretID"] == ""


def _payload(told: Told, topic: str) -> dict:
    return told.of(topic)[-1]["Payload"][topic]


def _service_id(nomad: Nomad) -> str:
    found = wait_until(lambda: nomad.api("GET", "/v1/service/rig-service"), 20, "the service is registered")
    return found[0]["ID"]


def test_a_deletion_is_told(quiet_nomad, redis, source_name):
    with _bridge(source_name, redis, quiet_nomad.address, start="now", topics=["Job"]):
        quiet_nomad.register_job("passing")
        _wait_told(redis, source_name, "Job", "passing", "Polled")
        quiet_nomad.deregister("passing", purge=True)
        event = _wait_told(redis, source_name, "Job", "passing", "Deleted")
        assert event["Payload"] == {} and event["Namespace"] == "default"
        Told(redis, source_name).assert_sound()


def test_start_now_tells_only_what_changes(quiet_nomad, redis, source_name):
    quiet_nomad.register_job("older")
    quiet_nomad.wait_evaluated()
    with _bridge(source_name, redis, quiet_nomad.address, start="now", topics=["Job"]):
        quiet_nomad.register_job("newer")
        _wait_told(redis, source_name, "Job", "newer", "Polled")
        assert Told(redis, source_name).of("Job", "older") == []


def test_a_first_start_tells_the_state_as_snapshots(quiet_nomad, redis, source_name):
    quiet_nomad.register_job("before")
    quiet_nomad.wait_evaluated()
    with _bridge(source_name, redis, quiet_nomad.address, start="snapshot"):
        _wait_told(redis, source_name, "Job", "before", "Snapshot")
        quiet_nomad.register_job("after")
        _wait_told(redis, source_name, "Job", "after", "Polled")
        assert {event["Type"] for event in Told(redis, source_name).of("Job", "before")} == {"Snapshot"}


def test_what_happened_while_the_bridge_was_down_is_told_and_nothing_else(quiet_nomad, redis, source_name):
    for job_id in ("stays", "goes", "changes"):
        quiet_nomad.register_job(job_id)
    with _bridge(source_name, redis, quiet_nomad.address) as busbar:
        quiet_nomad.register_job("gone")
        _wait_told(redis, source_name, "Job", "gone", "Polled")
        quiet_nomad.deregister("gone", purge=True)
        _wait_told(redis, source_name, "Job", "gone", "Deleted")
        quiet_nomad.wait_evaluated()
        _wait_same(quiet_nomad, redis, source_name)
        busbar.stop()
        before = len(Told(redis, source_name).events)
        quiet_nomad.deregister("goes", purge=True)
        quiet_nomad.register_job("changes", number=2)
        busbar.start()
        busbar.wait_log("event=resync_finished")
        _wait_told(redis, source_name, "Job", "goes", "Vanished")
        told = _wait_same(quiet_nomad, redis, source_name)
        told.assert_sound()
        since = [event for event in told.events[before:] if event["Topic"] not in ("Busbar", "Evaluation")]
        assert {event["Key"] for event in since} == {"goes", "changes"}


def test_a_restarted_nomad_is_no_gap(redis, source_name):
    with Nomad(server=NO_BROKER) as nomad, _bridge(source_name, redis, nomad.address) as busbar:
        nomad.register_job("web")
        _wait_told(redis, source_name, "Job", "web", "Polled")
        nomad.kill9()
        busbar.wait_log("event=source_backoff")
        nomad.start()
        nomad.register_job("web", number=2)
        nomad.register_job("api")
        _wait_told(redis, source_name, "Job", "api", "Polled", timeout=40)
        _wait_same(nomad, redis, source_name).assert_sound()


def test_topics_that_the_token_may_not_list_are_left_out_and_said_once(redis, source_name):
    with Nomad(acl=True, server=NO_BROKER) as nomad:
        token = nomad.create_token('namespace "default" { policy = "read" }')
        with _bridge(source_name, redis, nomad.address, token=token) as busbar:
            nomad.register_job("web")
            _wait_told(redis, source_name, "Job", "web", "Polled")
            refused = lambda: [line.split(" ts=")[0] for line in busbar.log_lines("poll_topic_refused")]  # noqa: E731
            wait_until(lambda: any("topic=Node " in line for line in refused()), 20, "it is said")
            assert len(refused()) == len(set(refused()))
            assert Told(redis, source_name).of("Node") == []


# ---- older than the stream ----


def test_a_nomad_without_services_pages_and_wildcards_is_read(redis, source_name):
    with OldNomad() as old:
        old.put("jobs", "web", SubmitTime=(1 << 60) + 1, Name="\ud83d\ude8c \\u2028")
        with _bridge(source_name, redis, old.address, wait="1s") as busbar:
            _wait_told(redis, source_name, "Job", "web", "Polled")
            verbatim = json.dumps(old.tables["jobs"]["web"], separators=(",", ":")).encode()
            assert b'"Payload":{"Job":' + verbatim + b"}" in Told(redis, source_name).arrivals[-1].data
            old.put("jobs", "api", Status="pending")
            old.put("evaluations", "e1", JobID="api")
            _wait_told(redis, source_name, "Evaluation", "e1", "Polled")
            old.remove("jobs", "web")
            _wait_told(redis, source_name, "Job", "web", "Deleted")
            Told(redis, source_name).assert_sound()
            missing = busbar.log_lines("poll_topic_missing")
            assert any("topic=Service " in line for line in missing)
            assert [line for line in busbar.log_lines() if "level=warn" in line] == []


def test_a_quiet_cluster_is_hardly_asked(redis, source_name):
    with OldNomad() as old:
        old.put("jobs", "web", Status="running")
        with _bridge(source_name, redis, old.address, wait="60s"):
            _wait_told(redis, source_name, "Job", "web", "Polled")
            old.put("jobs", "api", Status="running")
            _wait_told(redis, source_name, "Job", "api", "Polled")
            quiet = lambda count: (time.sleep(3), len(old.requests) - count)[1] <= 1  # noqa: E731
            wait_until(lambda: quiet(len(old.requests)), 20, "hardly asked any more")
            polls = [query for _, query in old.requests if "index" in query]
            assert {path for path, query in old.requests if "index" in query} == set(old.paths)
            assert all(int(query["index"][0]) >= 1 and query["wait"] == ["60000ms"] for query in polls)


def test_an_index_that_starts_over_is_a_gap_and_everything_is_told_again(redis, source_name):
    with OldNomad(index=1000) as old:
        old.put("jobs", "web", Status="running")
        with _bridge(source_name, redis, old.address, wait="1s") as busbar:
            first = _wait_told(redis, source_name, "Job", "web", "Polled")
            assert first["Index"] > 1000
            old.start_over(index=10)
            old.put("jobs", "api", Status="running")
            event = _wait_told(redis, source_name, "Job", "api", "Polled", timeout=20)
            assert event["Index"] < 1000
            told = Told(redis, source_name)
            assert [event["Type"] for event in told.events if event["Type"] == "Gap"] == ["Gap"]
            assert [a.epoch for a in told.arrivals if (a.topic, a.type) == ("Job", "Polled")] == [0, 1]
            assert busbar.log_lines("index_started_over")


def test_a_listing_that_lags_is_not_believed(redis, source_name):
    """One answer from an older state, as a follower gives it: the connection is tried again, nothing is told back."""
    with OldNomad() as old:
        old.put("jobs", "web", Status="running")
        earlier = old.state("jobs")
        with _bridge(source_name, redis, old.address, wait="1s") as busbar:
            old.put("jobs", "web", Status="dead")
            _wait_told(redis, source_name, "Job", "web", "Polled")
            with old.lagging("jobs", earlier):
                old.put("jobs", "api", Status="running")
                busbar.wait_log("event=source_backoff")
            _wait_told(redis, source_name, "Job", "api", "Polled", timeout=20)
            told = Told(redis, source_name)
            told.assert_sound()
            assert told.of("Job", "web")[-1]["Payload"]["Job"]["Status"] == "dead"


def test_a_table_whose_long_poll_is_late_is_told_in_its_place(redis, source_name):
    with OldNomad() as old:
        old.put("jobs", "web", Status="running")
        with _bridge(source_name, redis, old.address, wait="60s"):
            _wait_told(redis, source_name, "Job", "web", "Polled")
            with old.deaf("evaluations"):
                old.put("evaluations", "e1", JobID="web")
                old.put("jobs", "api", Status="running")
                _wait_told(redis, source_name, "Job", "api", "Polled")
                told = Told(redis, source_name)
                told.assert_sound()
                assert [event["Key"] for event in told.events[-2:]] == ["e1", "api"]


def test_the_rest_of_an_index_is_told_after_a_restart(redis, source_name):
    with OldNomad() as old:
        old.put("jobs", "web", Status="running")
        with _bridge(source_name, redis, old.address, wait="1s") as busbar:
            _wait_told(redis, source_name, "Job", "web", "Polled")
            busbar.stop()
            old.put("evaluations", "e1", same_index=True, JobID="web")
            busbar.start()
            _wait_told(redis, source_name, "Evaluation", "e1", "Polled")
            Told(redis, source_name).assert_sound()
