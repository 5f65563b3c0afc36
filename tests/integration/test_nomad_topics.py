"""Every topic, every namespace, every filter: nothing lost, nothing twice, nothing touched."""

import collections
import json
import time

import pytest
from rig.busbar import Busbar, run_busbar
from rig.exits import from_redis
from rig.expanding import Expanding
from rig.http_stream import HttpStream
from rig.load import Load
from rig.nomad import Nomad
from rig.oracle import compare
from rig.proc import Failed, wait_until
from rig.proxy import Proxy
from rig.standin import HOLD, Standin, refusal, stream
from rig.stopwatch import had
from rig.tap import Tap
from rig.wire import sent_bytes


def _source(name: str, *servers: str, **more) -> dict:
    return {"name": name, "type": "nomad", "servers": list(servers), "start": "oldest", **more}


def _busbar(*sources: dict, redis=None, **more) -> Busbar:
    sinks = [{"name": "cache", "type": "redis", "url": redis.url}] if redis else []
    return Busbar({"name": "topics", "sources": list(sources), "sinks": sinks, **more})


def _own_streams(redis, name: str) -> dict:
    return redis.read_streams(leave_out=lambda stream: not stream.startswith(f"{name}:"))


def _wait_published(nomad: Nomad, busbar: Busbar, tap: Tap) -> None:
    """The index of all that has happened so far has passed every sink."""

    def is_published():
        sinks = [sink for source in busbar.status()["sources"] for sink in source["sinks"]]
        return all(sink["index"] >= tap.last_index and not sink["lag_events"] for sink in sinks)

    tap.wait_all(nomad)
    wait_until(is_published, 30, f"the sinks caught up\n{busbar.log_tail()}")


def _wait_in_redis(redis, name: str, nomad: Nomad, tap: Tap, told=lambda event: True) -> None:
    """All that has happened so far is there; `told`: whether an event is to be."""

    def missing():
        wanted = collections.Counter(event.what for event in list(tap.events) if told(event))
        return wanted - collections.Counter(arrival.what for arrival in from_redis(_own_streams(redis, name)))

    tap.wait_all(nomad)
    try:
        wait_until(lambda: not missing(), 30, f"all of {name} in Redis")
    except Failed as failed:
        raise Failed(f"{failed}: {missing()}") from None


def _gaps(busbar: Busbar) -> list[int]:
    return [source["gaps"] for source in busbar.status()["sources"]]


def _keys(client, topic: str = "Job", **member) -> list[str]:
    """The keys of the topic's events that came by SSE."""
    events = [json.loads(frame.data) for frame in client.frames]
    return [event["Key"] for event in events if event["Topic"] == topic and member.items() <= event.items()]


# ---- namespaces that come while the stream stands ----


def test_namespaces_that_come_under_load_cost_nothing(redis, source_name):
    """A real 1.5, which tells them anyway: to subscribe again must not lose, double or doubt anything."""
    with Nomad() as nomad, Proxy(nomad.http_port) as wire, Tap(nomad.address) as tap:
        with _busbar(_source(source_name, wire.address), redis=redis) as busbar:
            busbar.wait_attached()
            with Load(nomad, rate=60):
                for number in range(3):
                    time.sleep(0.7)
                    nomad.create_namespace(f"new{number}")
                    nomad.register_job("first", namespace=f"new{number}")
                time.sleep(1.2)
            _wait_in_redis(redis, source_name, nomad, tap)
            connects = f'busbar_connects_total{{source="{source_name}"}}'
            wait_until(lambda: busbar.metrics()[connects] >= 2, 20, "another subscription")
            wait_until(lambda: len(busbar.log_lines("namespace_new")) >= 3, 20, "all are noticed")
            assert tap.intact and _gaps(busbar) == [0]
            assert len(busbar.log_lines("namespace_new")) == 3 and not busbar.log_lines("source_backoff")
        arrivals = from_redis(_own_streams(redis, source_name))
        compare({source_name: tap.events}, arrivals, sent_bytes(wire)).assert_exact()


@pytest.fixture
def expanding():
    with Nomad() as nomad, Expanding(nomad) as front, Tap(nomad.address) as tap:
        yield nomad, front, tap


def _assert_all_but_in_order(name: str, tap: Tap, redis) -> None:
    """Late events stand where they came; each key's are in order nevertheless."""
    verdict = compare({name: tap.events}, from_redis(_own_streams(redis, name)))
    assert tap.intact and not verdict.gaps
    assert set(verdict.findings) <= {"source_order"}, verdict.details()


def test_a_new_namespace_is_told_at_once(expanding, redis, source_name):
    nomad, front, tap = expanding
    with _busbar(_source(source_name, front.address), redis=redis) as busbar, busbar.events(from_oldest=True) as client:
        busbar.wait_attached()
        time.sleep(1.1)
        began, created = time.monotonic(), had()
        nomad.create_namespace("apps")
        nomad.register_job("first", namespace="apps")
        wait_until(lambda: "first" in _keys(client, Namespace="apps"), 10, "the first event", 0.005)
        took, wall = had() - created, time.monotonic() - began
        assert took < 2.5, took
        _wait_in_redis(redis, source_name, nomad, tap)
        assert _gaps(busbar) == [0] and not busbar.log_lines("source_backoff")
        time.sleep(3.2)
        # It has told something of the namespace: that is enough, unless a machine that stood still made it late.
        assert len(front.subscriptions) == 2 or wall > 2.5
    _assert_all_but_in_order(source_name, tap, redis)
    print(f"first event of a new namespace after {took * 1000:.0f} ms")


@pytest.mark.parametrize("filter_at", ["bridge", "server"])
def test_what_a_namespace_told_before_it_was_noticed_is_told_late(filter_at, expanding, redis, source_name):
    nomad, front, tap = expanding
    source = _source(source_name, front.address, filter_at=filter_at)
    with _busbar(source, redis=redis) as busbar:
        busbar.wait_attached()
        nomad.register_job("before")
        time.sleep(1)
        front.hold_lists.set()
        nomad.create_namespace("apps")
        for number in range(5):
            nomad.register_job(f"job{number % 2}", namespace="apps")
            nomad.register_job("elsewhere")
        _wait_published(nomad, busbar, tap)
        assert len(front.subscriptions) == 1
        front.hold_lists.clear()
        wait_until(lambda: len(front.subscriptions) > 1, 10, "another subscription")
        assert int(front.subscriptions[1]["index"][0]) > 0  # the newest before it, not all that the buffer holds
        nomad.register_job("after", namespace="apps")
        _wait_in_redis(redis, source_name, nomad, tap)
        assert _gaps(busbar) == [0] and not busbar.log_lines("source_lags")
    _assert_all_but_in_order(source_name, tap, redis)


def _wait_read(index: int, busbar: Busbar, tap: Tap) -> None:
    """A Nomad of a small buffer cuts whoever falls behind by as much: the test goes on in step with those who read."""
    read = lambda: min(tap.last_index, busbar.status()["sources"][0]["last_index"])  # noqa: E731
    wait_until(lambda: read() >= index, 20, f"{index} is read", 0.005)


def test_what_the_buffer_lost_before_it_was_noticed_is_a_gap(redis, source_name):
    with Nomad(event_buffer_size=30) as nomad, Expanding(nomad) as front, Tap(nomad.address) as tap:
        with _busbar(_source(source_name, front.address), redis=redis) as busbar:
            busbar.wait_attached()
            nomad.register_job("before")
            time.sleep(1)
            front.hold_lists.set()
            nomad.create_namespace("apps")
            nomad.register_job("early", namespace="apps")
            for number in range(40):
                _wait_read(nomad.register_job(f"elsewhere{number}")["JobModifyIndex"], busbar, tap)
            _wait_published(nomad, busbar, tap)
            front.hold_lists.clear()
            wait_until(lambda: _gaps(busbar) == [1], 10, f"a gap\n{busbar.log_tail()}")
            after = nomad.register_job("after", namespace="apps")["JobModifyIndex"]
            busbar.wait_log("event=resync_finished", 60)
            _wait_in_redis(redis, source_name, nomad, tap, lambda event: event.namespace != "apps" or event.index >= after)
            _wait_published(nomad, busbar, tap)
            assert tap.intact and _gaps(busbar) == [1]
        verdict = compare({source_name: tap.events}, from_redis(_own_streams(redis, source_name)), excuse_gaps=True)
        assert set(verdict.findings) <= {"source_order"} and len(verdict.excused) >= 2, verdict.details()


def test_a_kill_before_it_was_noticed_loses_nothing(expanding, redis, source_name):
    nomad, front, tap = expanding
    with _busbar(_source(source_name, front.address), redis=redis) as busbar:
        busbar.wait_attached()
        nomad.register_job("before")
        time.sleep(1)
        front.hold_lists.set()
        nomad.create_namespace("apps")
        for number in range(5):
            nomad.register_job(f"job{number % 2}", namespace="apps")
            nomad.register_job("elsewhere")
        _wait_published(nomad, busbar, tap)
        busbar.kill9()
        front.hold_lists.clear()
        busbar.start()
        busbar.wait_attached()
        nomad.register_job("after", namespace="apps")
        _wait_in_redis(redis, source_name, nomad, tap)
        assert _gaps(busbar) == [0]
    _assert_all_but_in_order(source_name, tap, redis)


def test_a_server_that_learns_of_it_later_is_asked_once_more(redis, source_name):
    """As behind a client agent: the list says it is there, the stream's server does not know it yet."""
    with Nomad() as nomad, Expanding(nomad) as front, Tap(nomad.address) as tap:
        with _busbar(_source(source_name, front.address), redis=redis) as busbar:
            busbar.wait_attached()
            nomad.register_job("before")
            front.listed["apps"] = 1
            nomad.create_namespace("apps")
            nomad.register_job("early", namespace="apps")
            nomad.register_job("elsewhere")
            wait_until(lambda: len(front.subscriptions) >= 3, 10, "two subscriptions more")
            _wait_in_redis(redis, source_name, nomad, tap)
            assert _gaps(busbar) == [0]
        _assert_all_but_in_order(source_name, tap, redis)


def test_another_server_that_lags_is_watched_until_it_knows_all(expanding, redis, source_name):
    nomad, first, tap = expanding
    with Expanding(nomad) as second, Proxy(first.port) as wire:
        with _busbar(_source(source_name, wire.address, second.address), redis=redis) as busbar:
            busbar.wait_attached()
            nomad.register_job("before")
            nomad.create_namespace("apps")
            wait_until(lambda: len(first.subscriptions) >= 2, 10, "another subscription")
            nomad.register_job("early", namespace="apps")
            nomad.wait_evaluated()
            nomad.register_job("elsewhere")  # two indexes that the second server tells, too
            _wait_published(nomad, busbar, tap)
            second.hidden = {"apps"}
            wire.close_door()
            wire.cut()
            wait_until(lambda: second.subscriptions, 10, "the second server is asked")
            nomad.register_job("late", namespace="apps")
            nomad.register_job("elsewhere")
            _wait_published(nomad, busbar, tap)
            second.hidden = set()
            wait_until(lambda: len(second.subscriptions) >= 2, 10, "the second server is asked again")
            _wait_in_redis(redis, source_name, nomad, tap)
            assert _gaps(busbar) == [0]
        _assert_all_but_in_order(source_name, tap, redis)


def test_a_small_token_sees_the_namespaces_that_it_may_read():
    with Nomad(acl=True) as nomad:
        token = nomad.create_token('namespace "apps*" { policy = "read" }')
        source = _source("prod", nomad.address, token=token, filter_at="server", topics=["Job", "Evaluation"])
        with _busbar(source) as busbar, busbar.events(from_oldest=True) as client:
            busbar.wait_attached()
            for name in ("other", "apps1"):
                nomad.create_namespace(name)
            assert "namespace=apps1" in busbar.wait_log("namespace_new")
            nomad.register_job("web", namespace="apps1")
            wait_until(lambda: _keys(client, Namespace="apps1"), 10, f"its events\n{busbar.log_tail()}")
            assert len(busbar.log_lines("namespace_new")) == 1
            assert [line for line in busbar.log_lines() if "level=warn" in line] == []
            assert token not in busbar.log.read_text() and _gaps(busbar) == [0]


def test_a_list_of_namespaces_that_is_refused_is_told_once():
    with Nomad() as nomad, Proxy(nomad.http_port) as wire:
        with _busbar(_source("prod", wire.address)) as busbar:
            busbar.wait_attached()
            time.sleep(0.5)
            assert not busbar.log_lines("namespaces_unknown")
    server = Standin(stream(HOLD))
    with server, _busbar(_source("prod", server.address)) as busbar:
        assert "answered 404" in busbar.wait_log("namespaces_unknown")
        time.sleep(1)
        assert len(busbar.log_lines("namespaces_unknown")) == 1 and busbar.is_attached()


def test_a_list_of_namespaces_that_comes_at_once_is_not_asked_for_again_and_again():
    """Without an index, as behind a proxy that takes headers away."""
    listed = refusal("200 OK", '[{"Name":"default","CreateIndex":1}]', {"Content-Type": "application/json"})
    server = Standin(stream(HOLD)).on("/v1/namespaces", listed)
    with server, _busbar(_source("prod", server.address)) as busbar:
        asked = lambda: [one.when for one in list(server.requests) if one.path == "/v1/namespaces"]  # noqa: E731
        wait_until(lambda: len(asked()) >= 3, 20, "asked again and again")
        assert asked()[2] - asked()[0] > 1, asked()
        assert not busbar.log_lines("namespaces_unknown") and not busbar.log_lines("namespace_new")


# ---- filters ----


def _mirror_events(busbar: Busbar, query: str, count: int) -> list[dict]:
    """The first events of the mirror's /v1/event/stream."""
    answer, pending, events = HttpStream(f"{busbar.url}/v1/event/stream?index=1&{query}"), b"", []
    while len(events) < count:
        pending += answer.read()
        *lines, pending = pending.split(b"\n")
        events += [event for line in lines for event in json.loads(line).get("Events") or []]
    answer.close()
    return events


OVERLAPPING = ["Job:web", "Job:other", "Evaluation:web", "*:web"]


def test_what_matches_two_keys_is_told_once(source_name, redis):
    """Nomad tells it twice, with the members of maps in another order each time."""
    with Nomad() as nomad, Tap(nomad.address, topics=OVERLAPPING) as tap:
        source = _source(source_name, nomad.address, filter_at="server", topics=OVERLAPPING)
        with _busbar(source, redis=redis) as busbar:
            busbar.wait_attached()
            for number in range(20):
                nomad.register_job("web", meta={f"k{i}": str(i) for i in range(9)}, number=number)
                nomad.register_job("other")
                nomad.register_job("neither")
            nomad.deregister("web")
            nomad.register_job("web")  # two events of one index, of the same job: both are meant
            _wait_in_redis(redis, source_name, nomad, tap, lambda event: event.occurrence % 2 == 0)
            _wait_published(nomad, busbar, tap)
            assert _gaps(busbar) == [0]
        arrivals = from_redis(_own_streams(redis, source_name))
    with_doubles = collections.Counter(event.what for event in tap.events)
    told = collections.Counter(arrival.what for arrival in arrivals)
    assert told.keys() == with_doubles.keys() and len(arrivals) < len(tap.events)
    assert {what for what, count in told.items() if count > 1} == {
        what for what, count in with_doubles.items() if count > 3
    }, told
    assert {arrival.topic for arrival in arrivals} == {"Job", "Evaluation"}
    keys = {arrival.what[3] for arrival in arrivals if arrival.topic == "Job"}
    assert keys == {"web", "other"}


def test_a_filter_key_is_a_key_in_every_filter(redis, source_name):
    """An evaluation's Key is its id; its job is one of its FilterKeys."""
    source = _source(source_name, "", topics=["Job", "Evaluation:web", "Evaluation:db"])
    sink = {"name": "cache", "type": "redis", "url": redis.url, "topics": ["Job:web", "Evaluation:web"]}
    with Nomad() as nomad:
        source["servers"] = [nomad.address]
        with Busbar({"name": "keys", "sources": [source], "sinks": [sink]}) as busbar, busbar.events(
            from_oldest=True, topic=["Evaluation:db", "Job:db"]
        ) as client:
            busbar.wait_attached()
            for key in ("web", "db", "out"):
                nomad.register_job(key)
            nomad.wait_evaluated()
            wait_until(lambda: len(client.frames) >= 4, 20, "two of Job, two of Evaluation")
            told = _mirror_events(busbar, "topic=Evaluation:web", 2)
            wait_until(lambda: len(from_redis(_own_streams(redis, source_name))) >= 4, 20, "as many in Redis")
            time.sleep(0.3)
    by_sse = [json.loads(frame.data) for frame in client.frames]
    in_redis = [json.loads(arrival.data) for arrival in from_redis(_own_streams(redis, source_name))]
    for events, key in ((by_sse, "db"), (told, "web"), (in_redis, "web")):
        evaluations = [event for event in events if event["Topic"] == "Evaluation"]
        assert len(evaluations) == 2 and all(key in e["FilterKeys"] and key != e["Key"] for e in evaluations)
        assert all(event["Key"] == key for event in events if event["Topic"] == "Job")
    assert len(by_sse) == len(in_redis) == 4 and len(told) == 2


def test_a_key_with_colons_is_filtered_here():
    with Nomad() as nomad, _busbar(_source("prod", nomad.address, topics=["Job:a:b:c"])) as busbar:
        busbar.wait_attached()
        with busbar.events(from_oldest=True) as client:
            for key in ("a", "a:b", "a:b:c", "a:b:c:d"):
                nomad.register_job(key)
            wait_until(lambda: client.frames, 10, "its events")
            time.sleep(0.5)
    assert set(_keys(client)) == {"a:b:c"} and len(_keys(client)) == len(client.frames)


REFUSED = {
    "a colon in the key": (["Job:a:b"], "can't filter a key with a colon"),
    "a topic and a key of it": (["Job", "Job:web"], "besides Job"),
    "the same by *": (["Job:*", "Job:web"], "besides Job:*"),
    "a topic twice": (["Job", "Job"], "besides Job"),
    "a key of all, and a whole topic": (["Job", "*:web"], "*:web besides Job"),
}


@pytest.mark.parametrize("topics, words", REFUSED.values(), ids=REFUSED)
def test_what_nomad_cannot_filter_is_refused(topics, words, tmp_path):
    path = tmp_path / "busbar.yaml"
    source = _source("prod", "http://127.0.0.1:4646", filter_at="server", topics=topics)
    config = {"name": "t", "journal": {"path": str(tmp_path)}, "http": {"listen": "127.0.0.1:8484"}}
    path.write_text(json.dumps({**config, "sources": [source]}))
    found = run_busbar("check", "-c", path)
    assert found.returncode == 2 and words in found.stderr and "filter_at: bridge" in found.stderr, found.stderr
    path.write_text(json.dumps({**config, "sources": [{**source, "filter_at": "bridge"}]}))
    assert run_busbar("check", "-c", path).returncode == 0


# ---- what is not known ----

def _odd(topic, kind, key, payload: str, before='"FilterKeys":null,', namespace="default", after="") -> bytes:
    """An event at index %d, as text, with what no busbar has seen before."""
    middle = f'"Index":%d,"Key":"{key}","Namespace":"{namespace}","Payload":{payload}'
    return f'{{{before}{middle},"Topic":"{topic}","Type":"{kind}"{after}}}'.encode()


ODD = [
    _odd("NodePool", "NodePoolUpserted", "gpu", '{"NodePool":{"Name":"gpu"}}', namespace=""),
    _odd("HostVolume", "HostVolumeDeleted", "", "null", before='"FilterKeys":["a","b"],'),
    _odd("CSIVolume", "CSIVolumeClaim", "vol", '{"N":123456789012345678901234567890.5e-7}', before='"FilterKeys":[],'),
    _odd("CSIPlugin", "CSIPluginUpserted", "plug", '{"Id":18446744073709551615}', before=""),
    b'{ "Type" : "VariableUpserted" , "Topic" : "Variable" , "Key" : "a/b" , "Index" : %d , "New" : [ ] }',
    _odd("ACLAuthMethod", "ACLAuthMethodUpserted", "sso", '{"AuthMethod":{"Config":{"x":[]}}}', namespace=""),
    _odd("Quantum", "Entangled", r"k\u00e9y\ud83d\ude8c\n", r'[1,{"\u0041":"\u2028 \/ \\"}]', after=',"New":{"A":[]}'),
    _odd("Job", "JobTeleported", "web", '"text"'),
]


def test_what_is_not_known_passes_untouched(redis, source_name):
    events = [text % (20 + number) for number, text in enumerate(ODD)]
    keyless = b'{"Events":[{"Index":40,"Namespace":"","Payload":{},"Topic":"Node","Type":"X"}],"Index":40}\n'
    lines = [b'{"Events":[%b],"Index":%d}\n' % (event, 20 + at) for at, event in enumerate(events)]
    with Standin(stream(*lines, keyless, HOLD)) as server:
        with _busbar(_source(source_name, server.address), redis=redis) as busbar:
            with busbar.events(from_oldest=True) as client:
                wait_until(lambda: len(client.frames) > len(ODD), 20, "all of them by SSE")
                mirror = HttpStream(f"{busbar.url}/v1/event/stream?index=1")
                told = b""
                while told.count(b"\n") <= len(ODD):
                    told += mirror.read()
                wait_until(lambda: len(from_redis(_own_streams(redis, source_name))) > len(ODD), 20, "all in Redis")
    *frames, last = client.frames
    assert [frame.data for frame in frames] == events
    assert b'"Type":"Malformed"' in last.data and b'\\"Key\\" is missing' in last.data
    for event in events:
        assert event in told
    entries = [arrival for arrival in from_redis(_own_streams(redis, source_name)) if not arrival.is_own]
    assert sorted(arrival.data for arrival in entries) == sorted(events)


# ---- several regions ----


class _Region(Nomad):
    def __init__(self, region: str):
        super().__init__(node_name=f"node-{region}")
        self.region = region

    def _config(self) -> dict:
        return {**super()._config(), "region": self.region}


def _states(busbar: Busbar) -> list[dict]:
    return busbar.status()["sources"]


def test_a_region_that_is_down_harms_no_other(redis, source_name):
    names = [f"{source_name}{region}" for region in ("eu", "us", "ap")]
    with _Region("eu") as eu, _Region("us") as us, _Region("ap") as ap:
        sources = [_source(names[0], eu.address), _source(names[1], us.address, region="us")]
        sources.append(_source(names[2], ap.address))
        ap.stop()
        with Tap(eu.address) as tap_eu, Tap(us.address) as tap_us, _busbar(*sources, redis=redis) as busbar:
            wait_until(lambda: [s["state"] for s in _states(busbar)][:2] == ["attached"] * 2, 20, "two are attached")
            for region in (eu, us):
                region.register_job(f"of-{region.region}")
            for name, region, tap in zip(names, (eu, us), (tap_eu, tap_us)):
                _wait_in_redis(redis, name, region, tap)
            tells = lambda answer: answer[0] == 503 and f"source {names[2]}: backoff" in answer[1].decode()  # noqa: E731
            wait_until(lambda: tells(busbar.get("/readyz")), 20, "/readyz tells of it")  # now and then it tries again
            status, why = busbar.get("/readyz")
            assert status == 503 and names[2] in why.decode() and names[0] not in why.decode()
            assert "refused" in _states(busbar)[2]["last_error"]
            began = had()
            busbar.stop()
            assert busbar.process.exit_status == 0 and had() - began < 5
            busbar.start()
            ap.start()
            busbar.wait_attached()
            with Tap(ap.address) as tap_ap:
                ap.register_job("of-ap")
                _wait_in_redis(redis, names[2], ap, tap_ap)
        taps = dict(zip(names, (tap_eu.events, tap_us.events, tap_ap.events)))
        compare(taps, [arrival for name in names for arrival in from_redis(_own_streams(redis, name))]).assert_exact()
