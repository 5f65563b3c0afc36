"""The judge: what Nomad said against what came out of one exit.

Lost and twice are counted by (index, topic, namespace, key, type): how often the tap saw
it against how often it is there. The occurrence number alone would not do, since
within one index two connections may see two equal tuples in either order. For the same
reason order is judged between indexes, not within one.
"""

import collections
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
    own: list[Arrival] = field(default_factory=list)  # what the busbar said itself

    @property
    def findings(self) -> dict[str, list[str]]:
        named = ("lost", "twice", "unexpected", "key_order", "source_order", "altered", "mislabelled")
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
        for name in ("unexpected", "altered", "mislabelled"):
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


def compare(taps: dict[str, list[Event]], arrivals: list[Arrival], sent: dict | None = None) -> Verdict:
    """taps: by the source's name, all that it told. sent: wire.sent_bytes() of the busbar's own
    connections, where a proxy recorded them; then the bytes are compared exactly, else as JSON."""
    verdict = Verdict(events=sum(map(len, taps.values())))
    verdict.own = [arrival for arrival in arrivals if arrival.is_own]
    told = [arrival for arrival in arrivals if not arrival.is_own]
    for arrival in told:
        verdict.mislabelled += [f"{arrival.place}: {fault}" for fault in arrival.faults]
    for source, events in taps.items():
        _judge_source(verdict, source, events, [arrival for arrival in told if arrival.source == source])
    strangers = [arrival for arrival in told if arrival.source not in taps]
    verdict.unexpected += [f"{arrival.place}: of no source {arrival.source!r}" for arrival in strangers]
    if sent is not None:
        _judge_bytes(verdict, told, sent)
    _judge_order(verdict, told)
    return verdict


def _judge_source(verdict: Verdict, source: str, events: list[Event], arrivals: list[Arrival]) -> None:
    expected, found = collections.defaultdict(list), collections.defaultdict(list)
    for event in events:
        expected[event.what].append(event.data)
    for arrival in arrivals:
        found[arrival.what].append(arrival)
    for what, sent in expected.items():
        name = f"{source} {'/'.join(map(str, what))}"
        _judge_count(verdict, name, len(sent), found.get(what, []))
        _judge_payloads(verdict, name, sent, found.get(what, []))
    for what in found.keys() - expected.keys():
        verdict.unexpected += [f"{arrival.place}: {what}" for arrival in found[what]]


def _judge_count(verdict: Verdict, name: str, sent: int, found: list[Arrival]) -> None:
    places = ", ".join(arrival.place for arrival in found)
    verdict.lost += [f"{name}: {len(found)} of {sent} arrived"] * (sent - len(found))
    verdict.twice += [f"{name}: {len(found)} for {sent}: {places}"] * (len(found) - sent)
    identities = [arrival.identity for arrival in found if arrival.identity is not None]
    wanted = {name.replace(" ", "/", 1) + f"/{number}" for number in range(len(found))}
    if identities and len(found) == sent and set(identities) != wanted:
        verdict.mislabelled.append(f"{name}: identities are {sorted(identities)}")


def _judge_payloads(verdict: Verdict, name: str, sent: list[bytes], found: list[Arrival]) -> None:
    """Each that arrived must be one of those sent; as sets, since their order may differ."""
    if sorted(sent) == sorted(arrival.data for arrival in found):
        return
    allowed = {canonical(data) for data in sent}
    for arrival in found:
        if canonical(arrival.data) not in allowed:
            verdict.altered.append(f"{arrival.place}: {name}: not as told: {arrival.data[:200]!r}")


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
        if arrival.index < before.index:
            verdict.source_order.append(f"{arrival.place}: index {arrival.index} after {before.index} ({before.place})")
        before = last_of_key.get(key, arrival)
        if arrival.index < before.index and arrival.lane == before.lane:
            verdict.key_order.append(f"{arrival.place}: {key[2:]}: {arrival.index} after {before.index}")
        elif arrival.lane != before.lane:
            verdict.key_order.append(f"{arrival.place}: {key[2:]} was in {before.place} before: no order between them")
        last_of_source[source_lane] = last_of_key[key] = arrival
