"""What came out of a busbar, from whichever exit, in one form for the oracle."""

import json
from dataclasses import dataclass, field

from .events import LineReader


@dataclass
class Arrival:
    """One event at one exit. `lane` is what promises an order: a partition, a stream, a connection.

    `what` is (index, topic, namespace, key, type) as the bytes themselves say, whatever the
    attributes beside them claim; `faults` says where those contradict the bytes.
    """

    source: str
    lane: tuple
    place: str
    what: tuple
    identity: str | None
    data: bytes
    faults: list[str] = field(default_factory=list)
    epoch: int = 0  # how often the source's index had started over, as the identity says

    @property
    def index(self) -> int:
        return self.what[0]

    @property
    def topic(self) -> str:
        return self.what[1]

    @property
    def type(self) -> str:
        return self.what[4]

    @property
    def is_own(self) -> bool:
        """Said by the busbar itself, not by the source: gaps and the like, and what a resync told."""
        return self.topic == "Busbar" or self.is_of_resync

    @property
    def is_of_resync(self) -> bool:
        return self.topic != "Busbar" and self.type in ("Snapshot", "Vanished")

    @property
    def order(self) -> tuple[int, int]:
        """What never falls in one lane."""
        return self.epoch, self.index


def from_kafka(records) -> list[Arrival]:
    """Of Kafka.read_all()."""
    return [_from_record(record) for record in records]


def _from_record(record) -> Arrival:
    headers = {name: (value or b"").decode() for name, value in record.headers.items()}
    identity = headers.get("ce_id", "")
    claims = {
        "Topic": headers.get("ce_topic"),
        "Namespace": headers.get("ce_namespace", ""),  # left out where there is none
        "Index": headers.get("ce_index"),
        "Key": (record.key or b"").decode(),
    }
    lane = ("kafka", record.topic, record.partition)
    arrival = _arrival(lane, f"{record.topic}[{record.partition}]@{record.offset}", identity, claims, record.value)
    needed = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "content-type")
    arrival.faults += [f"no header {name}" for name in needed if name not in headers]
    return arrival


def from_redis(streams: dict) -> list[Arrival]:
    """Of Redis.read_streams()."""
    return [_from_entry(name, *entry) for name, entries in streams.items() for entry in entries]


def _from_entry(stream: str, entry_id: str, fields: dict) -> Arrival:
    text = {name: value.decode() for name, value in fields.items() if name != "data"}
    claims = {"Topic": text.get("topic"), "Namespace": text.get("namespace")}
    claims |= {"Key": text.get("key"), "Type": text.get("type")}
    arrival = _arrival(("redis", stream), f"{stream}@{entry_id}", text.get("id", ""), claims, fields.get("data", b""))
    missing = {"id", "source", "topic", "type", "key", "namespace", "time", "data"} - fields.keys()
    arrival.faults += [f"no field {name}" for name in sorted(missing)]
    return arrival


def from_sse(frames, client="sse") -> list[Arrival]:
    """Of an SseClient's frames; `client` tells one connection from another."""
    return [_from_frame(client, number, frame) for number, frame in enumerate(frames)]


def _from_frame(client: str, number: int, frame) -> Arrival:
    source, _, position = frame.id.partition(":")
    arrival = _arrival(("sse", client), f"{client}#{number} {frame.id}", None, {"Type": frame.event}, frame.data)
    arrival.source = source
    index, _, epoch = position.partition(".")[0].partition("~")
    arrival.epoch = int(epoch or 0)
    if not arrival.is_own and index != str(arrival.index):
        arrival.faults.append(f"id {frame.id} is not at index {arrival.index}")
    return arrival


def _arrival(lane: tuple, place: str, identity: str | None, claims: dict, data: bytes | None) -> Arrival:
    source, index, *_ = f"{identity or ''}/".split("/")
    epoch = index.partition("~")[2]
    try:
        (event,) = LineReader().read(b'{"Events":[' + (data or b"") + b"]}")
        body = json.loads(data)
    except (ValueError, KeyError) as error:
        return Arrival(source, lane, place, (-1, "", "", "", ""), identity, data or b"", [f"no event: {error!r}"])
    faults = [
        f"{name} is told as {claimed!r} but is {body[name]!r}"
        for name, claimed in claims.items()
        if claimed is None or claimed != str(body[name])
    ]
    return Arrival(source, lane, place, event.what, identity, data, faults, int(epoch or 0))
