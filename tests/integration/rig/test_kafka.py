"""Real Kafka brokers and the committed reader."""

import os

import confluent_kafka
import pytest

from . import fabricate
from .exits import from_kafka
from .kafka import QUIET, Kafka
from .oracle import compare
from .proc import wait_until


@pytest.fixture(name="kafka", scope="module")
def _kafka():
    with Kafka(session_timeout_ms=4_000) as kafka:
        yield kafka


def transaction(kafka, topic, values, commit):
    settings = {"bootstrap.servers": kafka.bootstrap, "transactional.id": f"rig-{topic}", **QUIET}
    producer = confluent_kafka.Producer(settings)
    producer.init_transactions(60)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, key=b"k\0\n", headers=[("h", "ä\n".encode()), ("none", None)])
    producer.flush(60)
    producer.commit_transaction(60) if commit else producer.abort_transaction(60)


def values_of(kafka, topics):
    return [record.value for record in kafka.read_all(topics)]


def test_kafka_reads_committed_records_byte_for_byte(kafka):
    kafka.create_topic("bytes", 3, {"cleanup.policy": "compact"})
    assert kafka.topics()["bytes"] == 3 and kafka.topic_config("bytes")["cleanup.policy"] == "compact"
    values = [b"", bytes(range(256)), b"\n\n", os.urandom(50_000)]
    transaction(kafka, "bytes", values, commit=True)
    transaction(kafka, "bytes", [b"aborted"], commit=False)
    records = kafka.read_all(["bytes"])
    assert [record.value or b"" for record in records] == values
    assert records[0].key == b"k\0\n" and records[0].headers == {"h": "ä\n".encode(), "none": None}
    assert len(kafka.read_all(["bytes"], committed=False)) == 5


def test_kafka_keeps_what_was_committed_through_kill9(kafka):
    kafka.create_topic("kept")
    transaction(kafka, "kept", [b"1", b"2"], commit=True)
    kafka.kill9()
    kafka.start()
    transaction(kafka, "kept", [b"3"], commit=True)
    wait_until(lambda: len(values_of(kafka, lambda name: name == "kept")) == 3, 30, "the last transaction is over")
    assert values_of(kafka, lambda name: name == "kept") == [b"1", b"2", b"3"]


def test_kafka_pauses(kafka):
    kafka.create_topic("paused")
    kafka.pause()
    with pytest.raises(confluent_kafka.KafkaException):
        kafka.admin().list_topics(timeout=1)
    kafka.resume()
    assert "paused" in kafka.topics()


def test_kafka_reports_lost_and_doubled_records(kafka):
    told = fabricate.told_events()
    kafka.create_topic("prod.all")
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap, **QUIET})
    for record in [fabricate.kafka_record(0, event) for event in told[1:] + told[-1:]]:
        producer.produce("prod.all", record.value, record.key, headers=list(record.headers.items()))
    producer.flush()
    verdict = compare({"prod": told}, from_kafka(kafka.read_all(["prod.all"])))
    assert verdict.summary() == "400 events, 1 lost, 1 twice, 0 out of order"


def test_three_brokers_survive_one():
    with Kafka(brokers=3) as kafka:
        kafka.create_topic("copied", 3, {"min.insync.replicas": "2"})
        transaction(kafka, "copied", [b"1"], commit=True)
        kafka.kill9(2)
        wait_until(lambda: _writes(kafka), 60, "the other two take a transaction")
        wait_until(lambda: b"2" in values_of(kafka, ["copied"]), 30, "what they took is there")
        assert b"1" in values_of(kafka, ["copied"])


def _writes(kafka):
    try:
        transaction(kafka, "copied", [b"2"], commit=True)
        return True
    except confluent_kafka.KafkaException:
        return False


def test_clients_of_a_proxied_kafka_go_through_its_proxies_alone():
    with Kafka(proxied=True) as kafka:
        (proxy,) = kafka.proxies
        kafka.create_topic("far")
        assert not proxy.open_links
        settings = {"bootstrap.servers": kafka.proxied_bootstrap, "message.timeout.ms": 300_000, **QUIET}
        producer = confluent_kafka.Producer(settings)
        producer.produce("far", b"1")
        producer.flush()
        assert proxy.open_links
        proxy.refuse()
        producer.produce("far", b"2")
        assert producer.flush(2) == 1
        assert [record.value for record in kafka.read_all(["far"])] == [b"1"]
        proxy.heal()
        assert producer.flush(120) == 0
        assert [record.value for record in kafka.read_all(["far"])] == [b"1", b"2"]
