"""`headers:` of a Kafka sink: the same events whatever their records tell beside key and value."""

import json
import time

from rig.busbar import Busbar
from rig.proc import wait_until

KINDS = ("cloudevents", "id", "none")
TOPICS = ("Job", "Node", "Busbar")
LARGE = 20_000  # bytes: more than these topics take


def _config(feed, kafka, name: str) -> dict:
    source = {"name": name, "type": "nomad", "servers": [feed.address], "start": "oldest"}
    lake = {"type": "kafka", "brokers": kafka.bootstrap, "partitions": 1, "properties": {"compression.type": "none"}}
    lake["topic_config"] = {"max.message.bytes": str(LARGE)}
    sinks = [{**lake, "name": kind, "headers": kind, "topic": f"%{{source}}.{kind}.%{{topic}}"} for kind in KINDS]
    del sinks[0]["headers"]  # cloudevents is what it is without a word
    return {"name": "headers", "sources": [source], "sinks": sinks}


def _wait_for(busbar: Busbar, index: int) -> None:
    def arrived():
        return all(sink["index"] >= index and not sink["lag_events"] for sink in busbar.status()["sources"][0]["sinks"])

    wait_until(arrived, 60, f"all sinks at {index}\n{busbar.log_tail()}")


def _tell_all(feed, busbar: Busbar) -> list[bytes]:
    """Kills the busbar twice in mid-stream, has it miss some events, and tells it one that is too large: what it is to
    publish."""
    told = []
    for turn in range(30):
        told += feed.say(4, key=f"k{turn % 7}", topic=TOPICS[turn % 2])
        time.sleep(0.03)
        if turn in (10, 20):
            busbar.restart(hard=True)
    large = feed.say(size=3 * LARGE)
    told += feed.say(3)
    _wait_for(busbar, feed.index)
    busbar.stop()
    feed.say(5)
    feed.forget()
    told += feed.say(3, topic="Node")
    busbar.start()
    _wait_for(busbar, feed.index)
    assert len(large) == 1
    return told


def _read(kafka, name: str) -> dict:
    """The records of each sink's topics."""
    found = {(kind, topic): [] for kind in KINDS for topic in TOPICS}
    for record in kafka.read_all(lambda topic: topic.startswith(f"{name}.")):
        _, kind, topic = record.topic.split(".")
        found[kind, topic].append(record)
    return found


def _own(record) -> tuple:
    """What each sink tells of its own the same way; what it says of a refusal has the names of its topics."""
    event = json.loads(record.value)
    return event["Type"], event["Index"]


def test_each_event_once_whatever_its_records_tell(feed, kafka, source_name):
    with Busbar(_config(feed, kafka, source_name)) as busbar:
        told = _tell_all(feed, busbar)
    records = _read(kafka, source_name)
    for kind in KINDS:
        for topic in ("Job", "Node"):
            wanted = [event for event in told if json.loads(event)["Topic"] == topic]
            assert [record.value for record in records[kind, topic]] == wanted
            assert all(record.key.decode() == json.loads(record.value)["Key"] for record in records[kind, topic])
        own = [_own(record) for record in records[kind, "Busbar"]]
        assert [name for name, _ in own if name in ("Rejected", "Gap")] == ["Rejected", "Gap"]
        assert own == [_own(record) for record in records["cloudevents", "Busbar"]]
    for topic in TOPICS:
        ids = [record.headers["ce_id"] for record in records["cloudevents", topic]]
        assert len(set(ids)) == len(ids) > 0
        assert all(len(record.headers) >= 9 for record in records["cloudevents", topic])
        assert [record.headers for record in records["id", topic]] == [{"ce_id": one} for one in ids]
        assert all(record.headers == {} for record in records["none", topic])
