"""Sinks that go away, come back, are taken over, refuse: nothing lost, nothing twice, and said what was not had."""

import base64
import json
import shutil
import time

import pytest
from rig.busbar import Busbar
from rig.exits import from_kafka, from_redis, from_sse
from rig.kafka import Kafka
from rig.load import Load
from rig.nomad import Nomad
from rig.oracle import compare
from rig.proc import wait_until
from rig.proxy import Proxy
from rig.redis_server import Redis
from rig.standin import HOLD, Standin, event_line, stream
from rig.tap import Tap
from rig.wire import sent_bytes


@pytest.fixture
def upstream():
    """A Nomad, a recorder before it, and the oracle's tap on it."""
    with Nomad() as nomad, Proxy(nomad.http_port) as wire, Tap(nomad.address) as tap:
        yield nomad, wire, tap


def _config(name: str, wire: Proxy, *sinks: dict, **more) -> dict:
    source = {"name": name, "type": "nomad", "servers": [wire.address], "start": "oldest"}
    return {"name": "sinks", "sources": [source], "sinks": list(sinks), **more}


def _kafka(kafka, **more) -> dict:
    return {"name": "lake", "type": "kafka", "brokers": kafka.bootstrap, **more}


def _redis(redis, **more) -> dict:
    return {"name": "cache", "type": "redis", "url": redis.url, **more}


def _wait_caught_up(busbar: Busbar, nomad: Nomad, tap: Tap) -> None:
    def caught_up():
        sinks = [sink for source in busbar.status()["sources"] for sink in source["sinks"]]
        return all(sink["index"] >= tap.last_index and not sink["lag_events"] for sink in sinks)

    tap.wait_all(nomad)
    wait_until(caught_up, 90, f"every sink caught up\n{busbar.log_tail()}")


def _assert_exact(name: str, tap: Tap, wire: Proxy, arrivals: list) -> None:
    assert tap.intact
    mine = [a for a in arrivals if a.source == name]
    compare({name: tap.events}, mine, sent_bytes(wire)).assert_exact()


def test_redis_killed_and_restarted(upstream, source_name):
    nomad, wire, tap = upstream
    with Redis() as redis, Busbar(_config(source_name, wire, _redis(redis))) as busbar:
        with Load(nomad, rate=100):
            for _ in range(3):
                time.sleep(1.5)
                redis.kill9()
                time.sleep(0.7)
                redis.start()
        _wait_caught_up(busbar, nomad, tap)
        assert len(busbar.log_lines("sink_backoff")) >= 1
        _assert_exact(source_name, tap, wire, from_redis(redis.read_streams()))


def test_redis_paused(upstream, source_name):
    """A Redis that answers nothing for longer than the timeout: the outcome of what was sent is not known."""
    nomad, wire, tap = upstream
    with Redis() as redis, Busbar(_config(source_name, wire, _redis(redis, timeout="1s"))) as busbar:
        with Load(nomad, rate=100):
            time.sleep(1.5)
            redis.pause()
            time.sleep(2.5)
            redis.resume()
            time.sleep(1)
        _wait_caught_up(busbar, nomad, tap)
        _assert_exact(source_name, tap, wire, from_redis(redis.read_streams()))


def test_kafka_killed_and_restarted(upstream, source_name):
    nomad, wire, tap = upstream
    with Kafka() as kafka, Busbar(_config(source_name, wire, _kafka(kafka))) as busbar:
        with Load(nomad, rate=100):
            time.sleep(3)
            kafka.restart(hard=True)
            time.sleep(3)
            kafka.restart()
            time.sleep(2)
        _wait_caught_up(busbar, nomad, tap)
        _assert_exact(source_name, tap, wire, from_kafka(kafka.read_all()))


def test_a_paused_busbar_goes_on_where_the_broker_gave_it_up(upstream, kafka, redis, source_name):
    """Longer asleep than the transaction's timeout: the broker raises the epoch by itself; that is no fencing."""
    nomad, wire, tap = upstream
    with Busbar(_config(source_name, wire, _kafka(kafka), _redis(redis))) as busbar:
        with Load(nomad, rate=100):
            time.sleep(2)
            busbar.pause()
            time.sleep(13)
            busbar.resume()
            time.sleep(2)
        _wait_caught_up(busbar, nomad, tap)
        _assert_exact(source_name, tap, wire, from_kafka(kafka.read_all()))
        _assert_exact(source_name, tap, wire, from_redis(redis.read_streams()))


def test_a_second_instance_takes_over_and_the_first_ends_with_status_3(upstream, kafka, redis, source_name):
    nomad, wire, tap = upstream
    config = _config(source_name, wire, _kafka(kafka), _redis(redis))
    with Busbar(config) as first:
        with Load(nomad, rate=100):
            first.wait_attached()
            time.sleep(2)
            with Busbar(config) as second:
                assert first.process.wait(30) == 3, first.log_tail()
                assert len(first.log_lines("sink_ended")) == 2
                time.sleep(2)
                second.wait_attached()
        # The second one is gone too; a third, with a journal that knows nothing, ends the story.
        with Busbar(config) as third:
            _wait_caught_up(third, nomad, tap)
    _assert_exact(source_name, tap, wire, from_kafka(kafka.read_all()))
    _assert_exact(source_name, tap, wire, from_redis(redis.read_streams()))


def test_a_journal_that_was_deleted_costs_nothing_while_nomad_still_has_it(upstream, kafka, redis, source_name):
    nomad, wire, tap = upstream
    with Busbar(_config(source_name, wire, _kafka(kafka), _redis(redis))) as busbar:
        with Load(nomad, rate=100):
            time.sleep(3)
            busbar.stop()
            shutil.rmtree(busbar.folder / "journal")
            busbar.start()
            time.sleep(2)
        _wait_caught_up(busbar, nomad, tap)
        busbar.stop()
        shutil.rmtree(busbar.folder / "journal")
        busbar.start()  # and now the source is quiet: nothing is new
        _wait_caught_up(busbar, nomad, tap)
        assert busbar.metrics()[f'busbar_sink_gaps_total{{source="{source_name}",sink="lake"}}'] == 0
        _assert_exact(source_name, tap, wire, from_kafka(kafka.read_all()))
        _assert_exact(source_name, tap, wire, from_redis(redis.read_streams()))


def test_a_narrow_sink_gets_what_it_asks_for_and_the_others_all(upstream, redis, source_name):
    nomad, wire, tap = upstream
    narrow = {"name": "jobs", "type": "redis", "url": redis.url, "stream": "jobs-of-%{source}", "topics": ["Job"], "types": ["JobRegistered"]}
    with Busbar(_config(source_name, wire, _redis(redis), narrow)) as busbar:
        registered = lambda: [e for e in tap.events if e.topic == "Job" and e.type == "JobRegistered"]  # noqa: E731
        with Load(nomad, rate=60):
            wait_until(lambda: len(registered()) > 20, 60, "some are registered")
        _wait_caught_up(busbar, nomad, tap)
        assert len(redis.read_stream(f"jobs-of-{source_name}")) == len(registered())


def test_an_event_that_kafka_refuses_is_replaced_there_and_whole_elsewhere(upstream, kafka, redis, source_name):
    nomad, wire, tap = upstream
    lake = _kafka(kafka, topic_config={"max.message.bytes": "20000"}, properties={"compression.type": "none"})
    with Busbar(_config(source_name, wire, lake, _redis(redis))) as busbar:
        busbar.wait_attached()
        nomad.register_job("small-1")
        nomad.register_job("large", payload_size=60000)
        nomad.register_job("small-2")
        _wait_caught_up(busbar, nomad, tap)
        large = [e for e in tap.events if len(e.data) > 20000]
        assert large
        records = [r for r in kafka.read_all() if r.topic.startswith(f"{source_name}.")]
        said = [json.loads(r.value) for r in records if r.topic == f"{source_name}.Busbar"]
        assert [e["Type"] for e in said] == ["Rejected"] * len(large)
        assert said[0]["Payload"]["Size"] > 20000
        assert f"/{large[0].topic}/" in said[0]["Payload"]["Event"]
        assert len(records) == len(tap.events)
        _assert_exact(source_name, tap, wire, from_redis(redis.read_streams()))
        # The place it names gives the whole of it.
        client = busbar.events(since=said[0]["Payload"]["Read"].split("since=")[1], source=source_name)
        with client:
            client.wait_frames(1)
            assert len(client.frames[0].data) == said[0]["Payload"]["Size"]


def test_the_mirror_resumes_where_a_client_left(upstream, source_name):
    """A client that comes and goes twenty times, and a busbar that is killed meanwhile, see each event once."""
    nomad, wire, tap = upstream
    frames, last = [], ""
    with Busbar(_config(source_name, wire)) as busbar:
        with Load(nomad, rate=100):
            for turn in range(20):
                with busbar.events(last_event_id=last) if last else busbar.events(from_oldest=True) as client:
                    time.sleep(0.3)
                assert client.status == 200
                frames += client.frames
                last = frames[-1].id if frames else ""
                if turn % 7 == 3:
                    busbar.restart(hard=True)
        tap.wait_all(nomad)
        with busbar.events(last_event_id=last) as client:
            wait_until(lambda: len(frames) + len(client.frames) >= len(tap.events), 30, "the rest")
            time.sleep(0.5)
        frames += client.frames
    _assert_exact(source_name, tap, wire, from_sse(frames))


def test_what_cannot_be_read_arrives_once_at_every_exit(kafka, redis, source_name):
    """A malformed and an oversized line, told again after each reconnect and kill: one Busbar event each, bytes kept."""
    bad = b'{"Events":[{"Index":8,\xff]}'
    huge = event_line(9, size=33 << 20)
    again = stream(event_line(7), bad + b"\n", huge, event_line(10), event_line(11), HOLD)
    source = {"name": source_name, "type": "nomad", "servers": [], "start": "oldest"}
    with Standin(default=again) as server:
        source["servers"] = [server.address]
        config = {"name": "sinks", "sources": [source], "sinks": [_kafka(kafka), _redis(redis)]}
        with Busbar(config) as busbar:
            for turn in range(3):
                busbar.wait_attached()
                wait_until(lambda: all(s["index"] == 11 for s in busbar.status()["sources"][0]["sinks"]), 30, "both sinks at 11")
                time.sleep(0.3)
                if turn < 2:
                    busbar.restart(hard=True)
            with busbar.events(from_oldest=True) as client:
                client.wait_frames(5)
                frames = list(client.frames)
    records = sorted((r for r in kafka.read_all() if r.topic.startswith(f"{source_name}.")), key=lambda r: r.topic)
    values = {
        "kafka": [r.value for r in records],
        "redis": [f["data"] for name, entries in redis.read_streams().items() if name.startswith(f"{source_name}:") for _, f in entries],
        "sse": [frame.data for frame in frames],
    }
    wanted = [("JobRegistered", 7), ("JobRegistered", 10), ("JobRegistered", 11), ("Malformed", 7), ("Malformed", 7)]
    told = {where: sorted((json.loads(v)["Type"], json.loads(v)["Index"]) for v in found) for where, found in values.items()}
    assert told == {where: wanted for where in values}
    for where, found in values.items():
        said = [json.loads(v)["Payload"] for v in found if json.loads(v)["Topic"] == "Busbar"]
        small, large = sorted(said, key=lambda payload: payload["Size"])
        assert base64.b64decode(small["Base64"]) == bad and not small["Truncated"]
        assert large["Size"] == len(huge) - 1 and large["Truncated"] and base64.b64decode(large["Base64"]) == huge[: 1 << 20]
