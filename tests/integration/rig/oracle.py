"""The judge: what Nomad said against what came out of one exit.

Lost and twice are counted by (index, topic, namespace, key, type): how often the tap saw
it against how often it is there. The occurrence number alone would not do, since
within one index two connections may see two equal tuples in either order. For the same
reason order is judged between indexes, not within one.

What the busbar says itself (gaps, resyncs, what it could not read) is set apart in `own`; of a
resync's objects only one thing is judged: that none is older than what the stream had told of the
same key before.
"""

import collections
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .events import Event, canonical
from .exits import Arrival


@dataclass
class Verdict:
    """Each list holds texts, one for each finding; empty is good."""

    events: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)  # the tap never saw it
    key_order: list[str] = field(default_factory=list)
    source_order: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    mislabelled: list[str] = field(default_factory=list)  # attributes or identity wrong
    excused: list[str] = field(default_factory=list)  # not there, but inside a gap that was told
    stale: list[str] = field(default_factory=list)  # a resync's object overwrote a newer event
    own: list[Arrival] = field(default_factory=list)  # what the busbar said itself, resyncs included
    told_gaps: list[tuple] = field(default_factory=list)  # (source, from, to) that excuse

    @property
    def findings(self) -> dict[str, list[str]]:
        named = ("lost", "twice", "unexpected", "key_order", "source_order", "altered", "mislabelled", "stale")
        return {name: getattr(self, name) for name in named if getattr(self, name)}

    @property
    def gaps(self) -> list[Arrival]:
        return [arrival for arrival in self.own if arrival.type == "Gap"]

    @property
    def exact(self) -> bool:
        """Every event, once, in order, untouched, and no gap told."""
        return not self.findings and not self.gaps

    def summary(self) -> str:
        out_of_order = len(self.key_order) + len(self.source_order)
        text = f"{self.events} events, {len(self.lost)} lost, {len(self.twice)} twice, {out_of_order} out of order"
        for name in ("unexpected", "altered", "mislabelled", "stale"):
            if getattr(self, name):
                text += f", {len(getattr(self, name))} {name}"
        return text + (f", {len(self.gaps)} gaps" if self.gaps else "")

    def details(self, most: int = 10) -> str:
        lines = [self.summary()]
        for name, texts in self.findings.items():
            lines += [f"{name}: {text}" for text in texts[:most]]
            if len(texts) > most:
                lines.append(f"{name}: and {len(texts) - most} more")
        return "\n".join(lines + [f"gap: {arrival.place} {arrival.data[:300]!r}" for arrival in self.gaps])

    def assert_exact(self) -> "Verdict":
        assert self.exact, self.details()
        return self


def compare(
    taps: dict[str, list[Event]],
    arrivals: list[Arrival],
    sent: dict | None = None,
    excuse_gaps: bool = False,
    versions: Iterable[Event] = (),
) -> Verdict:
    """taps: by the source's name, all that it told. sent: wire.sent_bytes() of the busbar's own
    connections, where a proxy recorded them; then the bytes are compared exactly, else as JSON.
    excuse_gaps: what lies inside a Gap that this exit was told is not lost. versions: the same events as
    other servers told them: a leader may change one in its own memory (an evaluation's Wait)."""
    verdict = Verdict(events=sum(map(len, taps.values())))
    verdict.own = [arrival for arrival in arrivals if arrival.is_own]
    verdict.told_gaps = [gap_of(arrival) for arrival in verdict.gaps] if excuse_gaps else []
    told = [arrival for arrival in arrivals if not arrival.is_own]
    allowed = collections.defaultdict(set)
    for event in versions:
        allowed[event.what].add(canonical(event.data))
    for arrival in told if sent is not None else ():
        if arrival.data in sent.get(arrival.what, ()):  # judged by that, whatever it had become when the tap was told
            allowed[arrival.what].add(canonical(arrival.data))
    for arrival in told:
        verdict.mislabelled += [f"{arrival.place}: {fault}" for fault in arrival.faults]
    for source, events in taps.items():
        _judge_source(verdict, source, events, [one for one in told if one.source == source], allowed)
    strangers = [arrival for arrival in told if arrival.source not in taps]
    verdict.unexpected += [f"{arrival.place}: of no source {arrival.source!r}" for arrival in strangers]
    if sent is not None:
        _judge_bytes(verdict, told, sent)
    _judge_order(verdict, told)
    _judge_resyncs(verdict, arrivals)
    return verdict


def _judge_source(verdict: Verdict, source: str, events: list[Event], arrivals: list[Arrival], allowed: dict) -> None:
    expected, found = collections.defaultdict(list), collections.defaultdict(list)
    for event in events:
        expected[event.what].append(event.data)
    for arrival in arrivals:
        found[arrival.what].append(arrival)
    for what, sent in expected.items():
        name = f"{source} {'/'.join(map(str, what))}"
        _judge_count(verdict, name, len(sent), found.get(what, []))
        missing = len(sent) - len(found.get(what, []))
        if missing > 0 and _is_excused(verdict, source, what[0]):
            verdict.excused += verdict.lost[-missing:]
            del verdict.lost[-missing:]
        _judge_payloads(verdict, name, sent, found.get(what, []), allowed.get(what, set()))
    for what in found.keys() - expected.keys():
        verdict.unexpected += [f"{arrival.place}: {what}" for arrival in found[what]]


def gap_of(arrival: Arrival) -> tuple[str, int, int]:
    """(source, from, to) of a Gap."""
    payload = json.loads(arrival.data)["Payload"]
    return arrival.source, payload["From"], payload["To"]


def _is_excused(verdict: Verdict, source: str, index: int) -> bool:
    return any(gap == source and first <= index <= last for gap, first, last in verdict.told_gaps)


def _judge_count(verdict: Verdict, name: str, sent: int, found: list[Arrival]) -> None:
    places = ", ".join(arrival.place for arrival in found)
    verdict.lost += [f"{name}: {len(found)} of {sent} arrived"] * (sent - len(found))
    verdict.twice += [f"{name}: {len(found)} for {sent}: {places}"] * (len(found) - sent)
    identities = [without_epoch(arrival.identity) for arrival in found if arrival.identity is not None]
    wanted = {name.replace(" ", "/", 1) + f"/{number}" for number in range(len(found))}
    if identities and len(found) == sent and set(identities) != wanted:
        verdict.mislabelled.append(f"{name}: identities are {sorted(identities)}")


def without_epoch(identity: str) -> str:
    """`source/INDEX~EPOCH/…` is `source/INDEX/…` of a later epoch."""
    return re.sub(r"^([^/]*/\d+)~\d+/", r"\1/", identity)


def _difference(arrived: bytes, sent: bytes) -> str:
    """Where the two begin to differ, and how both go on."""
    try:
        ours, told = (json.dumps(json.loads(one), sort_keys=True) for one in (arrived, sent))
    except ValueError:
        return f"no JSON: {arrived[:200]!r}"
    place = next((i for i, (a, b) in enumerate(zip(ours, told)) if a != b), min(len(ours), len(told)))
    return f"{ours[max(0, place - 60) : place + 200]} for {told[max(0, place - 60) : place + 200]}"


def _judge_payloads(verdict: Verdict, name: str, sent: list[bytes], found: list[Arrival], more: set) -> None:
    """Each that arrived must be one of those sent; as sets, since their order may differ."""
    if sorted(sent) == sorted(arrival.data for arrival in found):
        return
    allowed = more | {canonical(data) for data in sent}
    for arrival in found:
        if canonical(arrival.data) not in allowed:
            verdict.altered.append(f"{arrival.place}: {name}: not as told: {_difference(arrival.data, sent[0])}")


def _judge_bytes(verdict: Verdict, told: list[Arrival], sent: dict) -> None:
    for arrival in told:
        if arrival.data not in sent.get(arrival.what, ()):
            verdict.altered.append(f"{arrival.place}: not the bytes that were sent: {arrival.data[:200]!r}")


def _judge_order(verdict: Verdict, told: list[Arrival]) -> None:
    """Arrivals come in the order of their lane."""
    last_of_source: dict[tuple, Arrival] = {}
    last_of_key: dict[tuple, Arrival] = {}
    for arrival in told:
        source_lane = (arrival.source, arrival.lane)
        # A key's order holds across the partitions of one topic, hence lane[:2].
        key = (arrival.source, arrival.lane[:2], *arrival.what[1:4])
        before = last_of_source.get(source_lane, arrival)
        if arrival.order < before.order:
            verdict.source_order.append(f"{arrival.place}: index {arrival.index} after {before.index} ({before.place})")
        before = last_of_key.get(key, arrival)
        if arrival.order < before.order and arrival.lane == before.lane:
            verdict.key_order.append(f"{arrival.place}: {key[2:]}: {arrival.index} after {before.index}")
        elif arrival.lane != before.lane:
            verdict.key_order.append(f"{arrival.place}: {key[2:]} was in {before.place} before: no order between them")
        last_of_source[source_lane] = last_of_key[key] = arrival


def _judge_resyncs(verdict: Verdict, arrivals: list[Arrival]) -> None:
    last: dict[tuple, Arrival] = {}
    for arrival in arrivals:
        key = (arrival.source, arrival.lane, *arrival.what[1:4])
        newer = last.get(key, arrival)
        if not arrival.is_own:
            last[key] = arrival
        elif arrival.is_of_resync and arrival.index < newer.index and arrival.epoch <= newer.epoch:
            said = f"{arrival.type} of {key[2:]} at {arrival.index} after {newer.index} ({newer.place})"
            verdict.stale.append(f"{arrival.place}: {said}")
