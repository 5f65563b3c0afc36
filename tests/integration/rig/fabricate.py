"""What a faultless bridge would have put out, for the tests of the judge."""

import pathlib

from .events import Event, LineReader
from .exits import Arrival, from_kafka
from .kafka import Record
from .sse import Frame

CAPTURE = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "nomad" / "capture.ndjson"


def told_events(most: int = 400) -> list[Event]:
    """Real ones, from the capture."""
    reader = LineReader()
    return [event for line in CAPTURE.read_bytes().splitlines() for event in reader.read(line)][:most]


def exits_of(events, source="prod") -> list[Arrival]:
    """All in one Kafka partition."""
    return from_kafka([kafka_record(number, event, source) for number, event in enumerate(events)])


def kafka_record(offset: int, event: Event, source="prod") -> Record:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event.identity(source),
        "ce_source": source,
        "ce_type": event.type,
        "ce_subject": event.key,
        "ce_time": "2026-01-01T00:00:00Z",
        "content-type": "application/json",
        "ce_topic": event.topic,
        "ce_namespace": event.namespace,
        "ce_index": str(event.index),
    }
    encoded = {name: value.encode() for name, value in headers.items()}
    return Record("all", 0, offset, event.key.encode(), event.data, encoded)


def redis_entry(event: Event) -> dict:
    text = dict(id=event.identity("prod"), source="prod", topic=event.topic, type=event.type, key=event.key)
    text |= dict(namespace=event.namespace, time="2026-01-01T00:00:00Z")
    return {name: value.encode() for name, value in text.items()} | {"data": event.data}


def sse_frame(event: Event) -> Frame:
    return Frame(f"prod:{event.index}.0@1.abc", event.type, event.data)
