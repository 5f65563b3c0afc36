"""What came out of every exit, judged against what a Marathon told.

It tells nothing again: what it told while nobody was attached can't be had, and a Gap says from when to
when. So an event that is not there has to lie within a Gap that this exit was told (`excused`); none is there once more
often than it was told; and none comes behind another that was told more than a little later.
"""

import collections
import json
from dataclasses import dataclass

from rig.exits import Arrival
from rig.marathon_exits import from_kafka, from_redis, from_sse
from rig.marathon_shapes import milliseconds_of
from rig.oracle import Verdict, gap_of

SLACK_MS = 1500  # what two streams may tell apart


@dataclass
class MarathonVerdict(Verdict):
    covered_ms: int = 0  # the Gaps' length

    def summary(self) -> str:
        return f"{super().summary()}, {len(self.excused)} excused by {self.covered_ms / 1000:.1f} s of gaps"


def judge_exits(stage) -> dict[str, Verdict]:
    told = [(event.data, time_of(event.data)) for event in stage.marathon.sent if b'"number"' in event.data]
    arrivals = {"redis": from_redis(stage.redis.read_streams())}
    if stage.kafka:
        arrivals["kafka"] = from_kafka(stage.kafka.read_all())
    verdicts = {name: judge_arrivals(told, arrived) for name, arrived in arrivals.items()}
    for name, instance in stage.instances.items():
        verdicts[f"mirror of {name}"] = _judge_mirror(told, instance.follower.all, name)
    return verdicts


def time_of(data: bytes) -> int:
    return milliseconds_of(json.loads(data).get("timestamp"))


def judge_arrivals(told: list[tuple], arrivals: list[Arrival]) -> MarathonVerdict:
    """told: (bytes, time in ms) each."""
    verdict = MarathonVerdict(events=len(told))
    verdict.own = [arrival for arrival in arrivals if arrival.is_own]
    gaps = _gaps_of(arrivals)
    verdict.covered_ms = sum(max(0, to - first) for first, to in gaps if first)
    numbered = [arrival for arrival in arrivals if not arrival.is_own and b'"number"' in arrival.data]
    for arrival in numbered:
        verdict.mislabelled += [f"{arrival.place}: {fault}" for fault in arrival.faults]
    wanted, found = collections.Counter(data for data, _ in told), collections.Counter(a.data for a in numbered)
    times = dict(told)
    for data, count in wanted.items():
        text = f"{found[data]} of {count}: {data[:160]!r}"
        missing = [text] * (count - found[data])
        is_excused = any(first <= times[data] <= to for first, to in gaps)
        (verdict.excused if is_excused else verdict.lost).extend(missing)
        verdict.twice += [text] * (found[data] - count)
    verdict.unexpected = [f"{data[:160]!r}" for data in found if data not in wanted]
    _judge_order(verdict, numbered, times)
    return verdict


def _gaps_of(arrivals: list[Arrival]) -> list[tuple[int, int]]:
    """(from, to) in ms of each Gap; one that does not know where it ends does so at what comes next."""
    found, told = [], [(arrival, arrival.index) for arrival in arrivals]
    for number, (arrival, _) in enumerate(told):
        if arrival.type == "Gap":
            first, to = gap_of(arrival)[1:]
            later = (time for other, time in told[number:] if not other.is_own)
            found.append((first, to or next(later, 0)))
    return found


def _judge_order(verdict: Verdict, numbered: list[Arrival], times: dict) -> None:
    newest: dict[tuple, int] = {}
    for arrival in numbered:
        time, key = times.get(arrival.data, 0), (arrival.lane[:2], arrival.what[3])
        for lane, found in ((arrival.lane, verdict.source_order), (key, verdict.key_order)):
            if time < newest.get(lane, 0) - SLACK_MS:
                found.append(f"{arrival.place}: {time} after {newest[lane]}")
            newest[lane] = max(time, newest.get(lane, 0))


def _judge_mirror(told: list[tuple], frames: list, name: str) -> MarathonVerdict:
    """Its client is told again, from some seconds earlier, where a journal is new; never of one journal."""
    verdict = judge_arrivals(told, from_sse(frames, name))
    ids = collections.Counter(frame.id for frame in frames if frame.event == "status_update_event")
    verdict.twice = [f"{frame_id}: {count} times" for frame_id, count in ids.items() if count > 1]
    verdict.key_order, verdict.source_order = [], []
    return verdict
