"""The judge for a Marathon: what was sent against what came out of one exit.

Marathon's events have no number: its times go back, and events may be equal byte for byte. So an event is
its bytes, the n-th arrival of the same bytes is the n-th time that they were sent, and order of arrival is
the only order. Compare with what one connection was told (`m.history[0].told`), or, where nothing is
shuffled or cut, with `m.sent`.
"""

import collections
from dataclasses import dataclass

from .exits import Arrival
from .oracle import Verdict, gap_of

__all__ = ["compare", "compare_attachments", "gap_of"]


@dataclass
class _Sent:
    type: str
    data: bytes
    segment: int  # the number of the attachment in which it was told

    def __str__(self):
        return f"{self.type} {self.data[:200]!r}"


def compare(sent, arrivals: list[Arrival], source: str | None = None) -> Verdict:
    """Each event exactly once, byte for byte, in the order of arrival: per lane, and per key over the
    partitions of a topic. sent: (type, data, …) each; source: only what came from that one is looked at."""
    return _compare([list(sent)], arrivals, source)


def compare_attachments(told, arrivals: list[Arrival], source: str | None = None, clean_end: bool = True) -> Verdict:
    """For tests with faults. told: what each attachment of the busbar's was told, in order:
    `m.attachments()`; what was sent between them it can't have. None may be there twice,
    and order holds. Missing may be the last events of an attachment, which were under way when it ended, and only
    where a Gap stands between what came before and what came after; of the last attachment nothing may be missing
    (clean_end=False: it ended too). Each end of an attachment needs a Gap of its own, since nobody can
    know what was sent meanwhile. `excused` has what is missing in that way."""
    segments = [list(one) for one in told]
    return _compare(segments, arrivals, source, excuse=True, open_end=not clean_end)


def _compare(segments: list[list], arrivals: list[Arrival], source, excuse=False, open_end=False) -> Verdict:
    sent = [_Sent(*event[:2], number) for number, segment in enumerate(segments) for event in segment]
    mine = [arrival for arrival in arrivals if source is None or arrival.source == source]
    verdict = Verdict(events=len(sent))
    verdict.own = [arrival for arrival in mine if arrival.is_own]
    told = [arrival for arrival in mine if not arrival.is_own]
    for arrival in told:
        verdict.mislabelled += [f"{arrival.place}: {fault}" for fault in arrival.faults]
    at = _match(verdict, sent, told)
    _judge_identities(verdict, told)
    _judge_order(verdict, told, at)
    found = set(at.values())
    missing = [number for number in range(len(sent)) if number not in found]
    excused = _excused(verdict, sent, found, open_end) if excuse else set()
    lost = [number for number in missing if number not in excused]
    verdict.lost = [f"number {number}: {sent[number]}" for number in lost]
    verdict.excused = [f"number {number}: {sent[number]}" for number in missing if number in excused]
    if excuse:
        _judge_gaps(verdict, sent, mine, at)
    _judge_altered(verdict, [sent[number].type for number in lost], told, at)
    return verdict


def _match(verdict: Verdict, sent: list[_Sent], told: list[Arrival]) -> dict[int, int]:
    """Number of an arrival: number of the event that was sent."""
    waiting = collections.defaultdict(collections.deque)
    for number, event in enumerate(sent):
        waiting[event.type, event.data].append(number)
    at = {}
    for number, arrival in enumerate(told):
        same = waiting.get((arrival.type, arrival.data))
        if same:
            at[number] = same.popleft()
        elif same is not None:
            verdict.twice.append(f"{arrival.place}: once too often: {arrival.type} {arrival.data[:200]!r}")
        else:
            verdict.unexpected.append(f"{arrival.place}: never sent: {arrival.type} {arrival.data[:200]!r}")
    return at


def _judge_identities(verdict: Verdict, told: list[Arrival]) -> None:
    """No two events have one identity, equal bytes or not."""
    seen: dict[tuple, Arrival] = {}
    for arrival in told:
        key = (arrival.source, arrival.lane[:2], arrival.identity)
        if arrival.identity is not None and key in seen:
            verdict.mislabelled.append(f"{arrival.place}: {arrival.identity} is also the identity of {seen[key].place}")
        seen[key] = arrival


def _judge_order(verdict: Verdict, told: list[Arrival], at: dict[int, int]) -> None:
    of_lane: dict[tuple, int] = {}
    of_key: dict[tuple, int] = {}
    for number, position in at.items():
        arrival = told[number]
        lane, key = (arrival.source, arrival.lane), (arrival.source, arrival.lane[:2], arrival.what[3])
        before = of_lane.get(lane, number)
        if position < at[before]:
            text = f"{arrival.place}: number {position} after {at[before]} ({told[before].place})"
            verdict.source_order.append(text)
        before = of_key.get(key, number)
        if arrival.what[3] and told[before].lane != arrival.lane:
            text = f"{arrival.place}: {key[2]} was in {told[before].place} before: no order between them"
            verdict.key_order.append(text)
        elif arrival.what[3] and position < at[before]:
            verdict.key_order.append(f"{arrival.place}: {key[2]}: number {position} after {at[before]}")
        of_lane[lane] = of_key[key] = number


def _excused(verdict: Verdict, sent: list[_Sent], found: set[int], open_end: bool) -> set[int]:
    """Under way when their attachment ended: nothing that was told behind them in there arrived."""
    last_found = {sent[number].segment: number for number in sorted(found)}
    last_segment = sent[-1].segment if sent else 0
    return {
        number
        for number, event in enumerate(sent)
        if number > last_found.get(event.segment, -1)
        and (verdict.gaps if event.segment != last_segment else open_end)
    }


def _judge_gaps(verdict: Verdict, sent: list[_Sent], mine: list[Arrival], at: dict[int, int]) -> None:
    """Between any two attachments of which something arrived a Gap stands, in its lane behind all of the
    former and before all of the latter."""
    lanes = collections.defaultdict(list)
    number = 0
    for arrival in mine:
        segment = None
        if not arrival.is_own:
            segment = sent[at[number]].segment if number in at else None
            number += 1
        lanes[arrival.lane].append((arrival, segment))
    arrived = sorted({sent[position].segment for position in at.values()})
    for former, latter in zip(arrived, arrived[1:]):
        if not any(_has_gap_between(lane, former, latter) for lane in lanes.values()):
            verdict.lost.append(f"what was sent between attachments {former} and {latter}: no Gap stands there")


def _has_gap_between(lane: list[tuple], former: int, latter: int) -> bool:
    for place, (arrival, _) in enumerate(lane):
        if arrival.type != "Gap":
            continue
        before = [one for _, one in lane[:place] if one is not None]
        after = [one for _, one in lane[place:] if one is not None]
        if all(one <= former for one in before) and all(one >= latter for one in after):
            return True
    return False


def _judge_altered(verdict: Verdict, lost: list[str], told: list[Arrival], at: dict[int, int]) -> None:
    """What was never sent, but is of the type of one that is lost: changed on its way."""
    kinds = collections.Counter(lost)
    places = {text.partition(": never sent")[0] for text in verdict.unexpected}
    for number, arrival in enumerate(told):
        if number not in at and arrival.place in places and kinds[arrival.type] > 0:
            kinds[arrival.type] -= 1
            verdict.altered.append(f"{arrival.place}: not the bytes that were sent: {arrival.data[:200]!r}")
