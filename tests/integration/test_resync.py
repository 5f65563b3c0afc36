"""Reading a Nomad's whole state: what is told, in which shape, and that it is told once, whatever happens.

What is told is compared with what the stream tells and with what the API has; the stream's own events with the oracle.
"""

import collections
import json
import os
import re
import time
import urllib.parse

import pytest
from rig.busbar import Busbar
from rig.exits import from_kafka, from_redis, from_sse
from rig.nomad import Nomad
from rig.oracle import compare
from rig.proc import Failed, wait_until
from rig.proxy import Proxy
from rig.redis_server import Redis
from rig.region import Region
from rig.stopwatch import had
from rig.tap import Tap

# The size of the stand-in's region; as large as issue 4 asks for: BUSBAR_TEST_STATE=10000x50000
JOBS, ALLOCS = (int(number) for number in os.environ.get("BUSBAR_TEST_STATE", "500x2500").split("x"))


def _source(*servers: str, **more) -> dict:
    return {"name": "prod", "type": "nomad", "servers": list(servers), **more}


def _redis(server: Redis) -> dict:
    return {"name": "cache", "type": "redis", "url": server.url, "stream": "%{source}:%{topic}"}


def _resync(busbar: Busbar) -> dict:
    return busbar.status()["sources"][0]["resync"]


def _wait_resync(busbar: Busbar, number=1, timeout=30) -> dict:
    """Until so many are finished."""

    def finished():
        return len(busbar.log_lines("resync_finished")) >= number and _resync(busbar)["state"] == "idle"

    try:
        wait_until(finished, timeout, f"resync {number} is finished")
    except Failed as failed:
        raise Failed(f"{failed}\n{busbar.log_tail()}") from None
    return _resync(busbar)


def _bodies(arrivals) -> list[dict]:
    return [json.loads(arrival.data) for arrival in arrivals]


def _read_redis(redis: Redis) -> list:
    return from_redis(redis.read_streams(lambda name: not name.startswith("prod:")))


def _name(event: dict) -> tuple:
    return event["Topic"], event["Namespace"], event["Key"]


def _told_to(client) -> list[dict]:
    """But for the busbar's own, which pass every filter."""
    events = [json.loads(frame.data) for frame in client.frames]
    return [event for event in events if event["Topic"] != "Busbar"]


def _wait_told(client, resyncs=1) -> None:
    """Until the end of so many resyncs was told, behind all that they told."""
    ends = lambda: sum(frame.event == "ResyncFinished" for frame in list(client.frames))  # noqa: E731
    wait_until(lambda: ends() >= resyncs, 30, "the resync's end is told")


def _snapshots(events: list[dict]) -> list[dict]:
    return [event for event in events if event["Type"] == "Snapshot"]


def _types_of(events: list[dict], topic="Busbar") -> list[str]:
    return [event["Type"] for event in events if event["Topic"] == topic]


def _assert_once(events: list[dict]) -> None:
    counts = collections.Counter(_name(event) for event in _snapshots(events))
    assert [name for name, count in counts.items() if count > 1] == []


def _api(nomad: Nomad) -> dict:
    """What there is: {(topic, namespace, key): ModifyIndex}, of what every Nomad has."""
    found = {("Node", "", node["ID"]): 0 for node in nomad.api("GET", "/v1/nodes")}
    lists = {"Job": "jobs", "Allocation": "allocations", "Evaluation": "evaluations", "Deployment": "deployments"}
    for topic, path in lists.items():
        for entry in nomad.api("GET", f"/v1/{path}?namespace=*"):
            found[topic, entry["Namespace"], entry["ID"]] = entry["ModifyIndex"]
    for group in nomad.api("GET", "/v1/services?namespace=*"):
        for service in group["Services"]:
            query = f"{urllib.parse.quote(service['ServiceName'])}?namespace={group['Namespace']}"
            for one in nomad.api("GET", f"/v1/service/{query}"):
                found["Service", one["Namespace"], one["ID"]] = one["ModifyIndex"]
    return found


def _last(events) -> dict:
    """The last event of each object that the stream told."""
    return {_name(event): event for event in (json.loads(event.data) for event in events)}


# ---- a first start ----

MEMBERS = ["FilterKeys", "Index", "Key", "Namespace", "Payload", "Topic", "Type"]


def _fill(nomad: Nomad) -> None:
    nomad.create_namespace("apps")
    nomad.create_namespace("apps-2")
    nomad.register_job("web", count=2, service=True)
    nomad.register_job("batch", count=1, kind="batch", command="exit 0", namespace="apps")
    for number, job_id in enumerate(("with:colon", "team/ä", '"quoted"?%41#&', "漢字-🚌")):
        nomad.register_job(job_id, namespace=("apps", "apps-2")[number % 2], payload_size=3000)
    wait_until(lambda: len(nomad.api("GET", "/v1/service/rig-service")) == 2, 20, "the services are registered")
    wait_until(lambda: _is_settled(nomad), 20, "all is settled")


ASIDE = (b"/v1/namespaces?stale", b"/v1/status/leader")  # each time on a connection of its own


def _assert_one_connection(wire: Proxy) -> None:
    """One for the stream, and one for all requests of the resync."""
    asked = [bytes(link.request).split(b"\r\n")[0] for link in list(wire.links)]
    others = [line for line in asked if not any(word in line for word in ASIDE)]
    assert len(others) == 2 and sum(b"/v1/event/stream" in line for line in others) == 1, asked


def _is_published(busbar: Busbar) -> bool:
    """Every sink has all that the journal has."""
    return not any(sink["lag_events"] for sink in busbar.status()["sources"][0]["sinks"])


def _is_settled(nomad: Nomad) -> bool:
    jobs, deployments = nomad.api("GET", "/v1/jobs?namespace=*"), nomad.api("GET", "/v1/deployments?namespace=*")
    return all(job["Status"] != "pending" for job in jobs) and all(d["Status"] == "successful" for d in deployments)


def test_a_first_start_tells_every_object_in_the_streams_own_shape(kafka, redis):
    lake = {"name": "lake", "type": "kafka", "brokers": kafka.bootstrap, "topic": "first.%{topic}"}
    with Nomad(client=True) as nomad, Tap(nomad.address) as tap, Proxy(nomad.http_port) as wire:
        _fill(nomad)
        tap.wait_all(nomad)
        with Busbar({"name": "first", "sources": [_source(wire.address)], "sinks": [lake, _redis(redis)]}) as busbar:
            with busbar.events(from_oldest=True) as client:
                _wait_resync(busbar)
                nomad.register_job("later")
                tap.wait_all(nomad)
                wait_until(lambda: _is_published(busbar), 60, "all is in Redis and in Kafka")
                _assert_one_connection(wire)
                assert [line for line in busbar.log_lines() if re.match("level=warn event=(source|resync)_", line)] == []
                there = _api(nomad)
                nomad.pause()  # a Nomad client finds something new of its node at any time
                client.wait_quiet()
                journal = busbar.status()["sources"][0]["journal"]
                sse = from_sse(client.wait_frames(journal["next_seq"] - journal["first_seq"]))
            wait_until(lambda: _is_published(busbar), 60, "the rest, too")
        in_kafka = from_kafka([record for record in kafka.read_all() if record.topic.startswith("first.")])
        told, last = _bodies(sse), _last(tap.events)
        for arrivals in (sse, in_kafka, _read_redis(redis)):
            compare({"prod": tap.events}, arrivals).assert_exact()
            events = _bodies(arrivals)
            assert _types_of(events) == ["ResyncStarted", "ResyncFinished"]
            _assert_once(events)
            assert {_name(event) for event in _snapshots(events)} == {_name(event) for event in _snapshots(told)}
        redis.client().flushall()
        snapshots = {_name(event): event for event in _snapshots(told)}
        has = {name: index for name, index in there.items() if name in snapshots or "later" not in str(name)}
        later = {name for name, event in last.items() if "later" in json.dumps(event)}
        assert snapshots.keys() == has.keys() - later
        compared = set()
        for name, event in snapshots.items():
            assert list(event) == list(last[name]) == MEMBERS
            if last[name]["Index"] > event["Index"]:
                continue  # changed since: a node, most likely
            assert {**event, "Type": ""} == {**last[name], "Type": ""}, name
            compared.add(event["Topic"])
        assert compared >= {"Job", "Allocation", "Evaluation", "Deployment"}


POLICY = 'namespace "apps" { policy = "read" }'


def test_acl_objects_are_told_without_their_secrets():
    method = {
        "Name": "sso",
        "Type": "OIDC",
        "TokenLocality": "local",
        "MaxTokenTTL": "1h0m0s",
        "Config": {
            "OIDCDiscoveryURL": "http://127.0.0.1:1/",
            "OIDCClientID": "id",
            "OIDCClientSecret": "clandestine",
            "BoundAudiences": ["x"],
            "AllowedRedirectURIs": ["http://x/"],
        },
    }
    with Nomad(acl=True) as nomad, Tap(nomad.address, token=nomad.token) as tap:
        secret = nomad.create_token(POLICY)
        nomad.api("PUT", "/v1/acl/role", {"Name": "role", "Policies": [{"Name": "policy0"}]})
        nomad.api("PUT", "/v1/acl/auth-method", method)
        nomad.api("PUT", "/v1/acl/binding-rule", {"AuthMethod": "sso", "BindType": "role", "BindName": "role"})
        nomad.api("PUT", "/v1/var/some/path", {"Path": "some/path", "Items": {"k": "clandestine"}})
        tap.wait_quiet()
        source = _source(nomad.address, token=nomad.token, start="snapshot", topics=["*", "Variable"])
        with Busbar({"name": "acl", "sources": [source]}) as busbar:
            with busbar.events(from_oldest=True, type=["Snapshot"]) as client:
                _wait_resync(busbar)
                _wait_told(client)
                text = b"".join(frame.data for frame in client.frames)
                told = [event for event in _told_to(client) if event["Topic"].startswith(("ACL", "Variable"))]
        last = _last(tap.events)
    assert secret.encode() not in text and nomad.token.encode() not in text and b"clandestine" not in text
    kinds = collections.Counter(event["Topic"] for event in told)
    named = ("ACLToken", "ACLPolicy", "ACLRole", "ACLAuthMethod", "ACLBindingRule", "Variable")
    assert kinds == dict(zip(named, (2, 1, 1, 1, 1, 1)))
    for event in told:
        if _name(event) not in last:  # the token of the bootstrap, and variables, have no event in 1.5
            continue
        on_stream = last[_name(event)]
        if event["Topic"] == "ACLAuthMethod":
            on_stream["Payload"]["AuthMethod"]["Config"]["OIDCClientSecret"] = ""
        if event["Topic"] == "ACLToken":
            on_stream["Payload"]["ACLToken"]["Roles"] = None  # [] on the stream, null in the API
        assert {**event, "Type": ""} == {**on_stream, "Type": ""}


def test_a_small_token_gets_what_it_may_read():
    """1.5.0 lists deployments of every namespace to a token that may read one."""
    with Nomad(acl=True) as nomad:
        nomad.create_namespace("apps")
        for job_id, namespace in (("mine", "apps"), ("theirs", "default")):
            nomad.register_job(job_id, count=1, namespace=namespace)
        reader = nomad.create_token(POLICY)
        wait_until(lambda: len(nomad.api("GET", "/v1/deployments?namespace=*")) == 2, 20, "both are deployed")
        listed = nomad.api("GET", "/v1/deployments?namespace=*", token=reader)
        small = {"filter_at": "server", "topics": ["Job", "Evaluation", "Deployment", "Service"]}
        with Busbar({"name": "small", "sources": [_source(nomad.address, token=reader, **small)]}) as busbar:
            with busbar.events(from_oldest=True, type="Snapshot") as client:
                _wait_resync(busbar)
                _wait_told(client)
                told = _told_to(client)
            assert busbar.log_lines("resync_topic_refused") == []
    assert {deployment["Namespace"] for deployment in listed} == {"apps", "default"}
    topics = collections.Counter(event["Topic"] for event in told)
    assert topics["Job"] == topics["Deployment"] == 1 and topics["Evaluation"] >= 1
    assert {event["Namespace"] for event in told} == {"apps"}


def test_only_what_the_source_lets_through_is_asked_for():
    with Region(20) as region:
        source = _source(region.address, topics=["Job:job-000007", "Deployment"])
        with Busbar({"name": "some", "sources": [source]}) as busbar:
            with busbar.events(from_oldest=True, type="Snapshot") as client:
                _wait_resync(busbar)
                _wait_told(client)
                told = collections.Counter(event["Topic"] for event in _told_to(client))
    assert told == {"Job": 1, "Deployment": 20}
    aside = ("namespaces", "status")  # asked by the stream, too
    assert {word: n for word, n in region.requests.items() if word not in aside} == {"jobs": 1, "job": 1, "deployments": 1}


# ---- interruptions ----


def _jobs_of(nomad: Nomad, count: int) -> None:
    for number in range(count):
        nomad.register_job(f"job-{number}")


def _told_of_resync(redis: Redis) -> list[dict]:
    return _bodies(_read_redis(redis))


def _assert_all_once(nomad: Nomad, tap: Tap, redis: Redis) -> None:
    arrivals = _read_redis(redis)
    compare({"prod": tap.events}, arrivals).assert_exact()
    events = _bodies(arrivals)
    _assert_once(events)
    assert {_name(event) for event in _snapshots(events)} == _api(nomad).keys()
    assert _types_of(events) == ["ResyncStarted", "ResyncFinished"]


def test_a_kill_in_the_middle_goes_on_where_it_was():
    """Told all in all: every object once."""
    with Nomad() as nomad, Redis() as redis, Tap(nomad.address) as tap:
        _jobs_of(nomad, 150)
        tap.wait_all(nomad)
        config = {"name": "kill", "sources": [_source(nomad.address, snapshot_rate=20)], "sinks": [_redis(redis)]}
        with Busbar(config) as busbar:
            for least in (20, 80):
                wait_until(lambda: len(_snapshots(_told_of_resync(redis))) >= least, 20, f"{least} are told")
                state = _resync(busbar)
                assert state["state"] == "open" and 0 < state["told"] <= state["expected"]
                assert busbar.log_lines("resync_finished") == []
                busbar.kill9()
                if least == 80:
                    busbar.configure({**config, "sources": [_source(nomad.address)]})
                busbar.start()
            state = _wait_resync(busbar)
            assert state["skipped"] >= 64  # told before it was killed, and not again
            wait_until(lambda: "ResyncFinished" in _types_of(_told_of_resync(redis)), 20, "all is in Redis")
        _assert_all_once(nomad, tap, redis)


def test_a_server_that_breaks_off_in_the_middle():
    with Nomad() as nomad, Redis() as redis, Tap(nomad.address) as tap, Proxy(nomad.http_port) as wire:
        _jobs_of(nomad, 100)
        tap.wait_all(nomad)
        slow = _source(wire.address, snapshot_rate=20)
        with Busbar({"name": "cut", "sources": [slow], "sinks": [_redis(redis)]}) as busbar:
            wait_until(lambda: len(_snapshots(_told_of_resync(redis))) >= 10, 20, "some are told")
            wire.cut_after(1500)
            assert re.search(r"/v1/job/job-\d+: the connection broke off", busbar.wait_log("resync_backoff"))
            _wait_resync(busbar)
            wait_until(lambda: "ResyncFinished" in _types_of(_told_of_resync(redis)), 20, "all is in Redis")
        _assert_all_once(nomad, tap, redis)


# ---- gaps ----


def _miss_something(nomad: Nomad, busbar: Busbar) -> None:
    """More than the buffer holds, while it is away."""
    busbar.stop()
    nomad.register_job("newcomer")
    nomad.deregister("goner", purge=True)
    nomad.deregister("stays")
    for number in range(30):
        nomad.register_job(f"churn-{number % 3}")
    nomad.wait_evaluated()
    nomad.api("PUT", "/v1/system/gc")  # takes its time; what it purges has an evaluation, too
    kept = lambda: [job["ID"] for job in nomad.api("GET", "/v1/jobs")]  # noqa: E731
    wait_until(lambda: "stays" not in kept() and len(nomad.api("GET", "/v1/evaluations")) <= 1, 20, "it is collected")
    nomad.wait_evaluated()
    busbar.start()


def test_after_a_gap_it_is_told_what_is_and_what_is_no_more():
    with Nomad(event_buffer_size=20) as nomad, Redis() as redis:
        for name in ("goner", "stays", "still"):
            nomad.register_job(name, payload_size=100)
        nomad.wait_evaluated()
        config = {"name": "gap", "sources": [_source(nomad.address)], "sinks": [_redis(redis)]}
        with Busbar(config) as busbar:
            _wait_resync(busbar)
            _miss_something(nomad, busbar)
            busbar.wait_log("resync_started")
            _wait_resync(busbar, 2)
            wait_until(lambda: _types_of(_told_of_resync(redis)).count("ResyncFinished") == 2, 20, "all is in Redis")
            events = _told_of_resync(redis)
        assert _types_of(events) == ["ResyncStarted", "ResyncFinished", "Gap", "ResyncStarted", "ResyncFinished"]
        vanished = {_name(event) for event in events if event["Type"] == "Vanished"}
        assert ("Job", "default", "goner") in vanished
        assert vanished <= {_name(event) for event in events if event["Type"] != "Vanished"}
        assert vanished.isdisjoint(_api(nomad))
        last = {}
        for event in (event for event in events if event["Topic"] != "Busbar"):
            assert event["Index"] >= last.get(_name(event), event)["Index"], event
            last[_name(event)] = event
        for name, index in _api(nomad).items():
            assert last[name]["Index"] >= index, f"{name} is told older than it is"
        gone = {name for name, event in last.items() if event["Type"] == "Vanished"}
        assert last.keys() - gone == _api(nomad).keys()


def test_a_sink_that_fell_behind_the_journal_gets_its_own_gap_and_a_resync():
    with Nomad() as nomad, Redis() as redis:
        _jobs_of(nomad, 5)
        nomad.wait_evaluated()
        config = {"name": "slow", "sources": [_source(nomad.address)], "sinks": [_redis(redis)]}
        with Busbar({**config, "journal": {"max_size": "1MiB"}}) as busbar:
            _wait_resync(busbar)
            wait_until(lambda: "ResyncFinished" in _types_of(_told_of_resync(redis)), 20, "all is in Redis")
            redis.stop()
            for number in range(80):  # more than what memory and journal hold
                nomad.register_job(f"large-{number % 4}", payload_size=120_000)
            last = nomad.wait_evaluated()
            wait_until(lambda: busbar.status()["sources"][0]["last_index"] >= last, 20, "all is journaled")
            redis.start()
            _wait_resync(busbar, 2)
            wait_until(lambda: _types_of(_told_of_resync(redis)).count("ResyncFinished") == 2, 20, "all is in Redis")
            wait_until(lambda: _is_published(busbar), 20, "what came meanwhile, too")
        own = _types_of(_told_of_resync(redis))
        assert own[:2] == ["ResyncStarted", "ResyncFinished"] and "Gap" in own
        assert own[-2:] == ["ResyncStarted", "ResyncFinished"]
        has = _api(nomad)
        last = {_name(event): event for event in _told_of_resync(redis)}
        assert all(last[name]["Index"] >= index for name, index in has.items())


# ---- pages ----


def test_pages_that_turn_in_a_circle_lose_nothing():
    """A real 1.5.0's do: with namespaces `pages` and `pages-2`, and with create indexes of three and of four digits."""
    with Nomad() as nomad:
        for namespace in ("pages", "pages-2"):
            nomad.create_namespace(namespace)
        for number in range(520):
            nomad.register_job(f"job-{number}", namespace=("pages", "pages-2")[number % 2])
        nomad.wait_evaluated()
        with Busbar({"name": "pages", "sources": [_source(nomad.address, snapshot_rate=10_000)]}) as busbar:
            with busbar.events(from_oldest=True, type="Snapshot") as client:
                state = _wait_resync(busbar)
                _wait_told(client)
                told = _told_to(client)
            assert busbar.log_lines("resync_topic_incomplete") == []
        _assert_once(told)
        assert {_name(event) for event in told} == _api(nomad).keys()
        assert state["vanished"] == 0


# ---- a large region ----


def test_a_large_region_is_read_in_few_requests_little_memory_and_no_delay():
    """With BUSBAR_TEST_STATE=10000x50000 and -s it prints what was measured."""
    full_size = "BUSBAR_TEST_STATE" in os.environ
    rate = 100 if full_size else 200  # some seconds, so that nobody comes too late for it
    with Region(JOBS, ALLOCS // JOBS) as region:
        sources = [_source(region.address, snapshot_rate=rate)]
        with Busbar({"name": "large", "sources": sources, "journal": {"max_size": "4GiB"}}) as busbar:
            began = time.monotonic()
            with busbar.events(type="JobRegistered") as client:
                wait_until(lambda: _resync(busbar)["state"] == "open", 20, "it has begun")
                rss = most = busbar.rss_anon()
                said = 0
                while busbar.log_lines("resync_finished") == [] and time.monotonic() - began < 900:
                    region.say()
                    said += 1
                    time.sleep(0.05)
                    most = max(most, busbar.rss_anon())
                took = time.monotonic() - began
                wait_until(lambda: len(_told_to(client)) == said, 10, f"{said} events")
                arrived = [(json.loads(frame.data), at) for frame, at in zip(client.frames, client.arrivals)]
            jobs = [(event["Payload"]["Job"], at) for event, at in arrived if event["Topic"] == "Job"]
            delays = sorted(at - float(job["Meta"]["at"]) for job, at in jobs)
            state = _resync(busbar)
        requests = sum(region.requests.values())
        print(
            f"\n{JOBS} jobs, {ALLOCS} allocations: {requests} requests {region.requests} on {len(region.kinds)}"
            f" connection, {state['told']} objects in {took:.1f} s, RssAnon +{(most - rss) >> 20} to {most >> 20} MiB"
            f", stream delayed p50 {delays[len(delays) // 2] * 1e3:.1f} p99 {delays[len(delays) * 99 // 100] * 1e3:.1f}"
            f" max {delays[-1] * 1e3:.1f} ms of {said} events"
        )
        assert state["told"] == region.objects
        assert len(region.kinds) == 1, region.kinds  # besides those of the stream: one for all of it
        assert requests <= JOBS + 2 * region.nodes + (3 * JOBS + ALLOCS) // 500 + 30
        assert most - rss < 64 << 20
        assert delays[len(delays) // 2] < max(0.1, took / 20)


@pytest.mark.skipif(JOBS > 1000, reason="seconds, not minutes")
def test_the_rate_is_kept():
    with Region(60) as region:
        began = time.monotonic()
        with Busbar({"name": "rate", "sources": [_source(region.address, snapshot_rate=40)]}) as busbar:
            since = had()
            _wait_resync(busbar)
            took, had_took = time.monotonic() - began, had() - since
    requests = sum(region.requests.values())
    assert 0.8 * (requests - 4) / 40 < took and had_took < 3 * requests / 40
