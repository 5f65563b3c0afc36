"""What came out of every exit, judged."""

from dataclasses import dataclass, field

from rig.exits import from_kafka, from_redis, from_sse
from rig.oracle import Verdict, compare
from rig.wire import sent_bytes

from .marathon_judge import judge_exits
from .stage import SOURCE, Stage


@dataclass
class Judgement:
    """By exit; `broken` has what is wrong besides: a busbar that ended, a fault that could not be mended."""

    exits: dict[str, Verdict] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    events: int = 0

    def _count(self, *names: str) -> int:
        return sum(len(getattr(verdict, name)) for verdict in self.exits.values() for name in names)

    @property
    def counts(self) -> dict[str, int]:
        return {
            "lost": self._count("lost"),
            "twice": self._count("twice"),
            "out of order": self._count("key_order", "source_order"),
            "unexpected": self._count("unexpected"),
            "altered": self._count("altered"),
            "mislabelled": self._count("mislabelled"),
            "stale": self._count("stale"),
            "broken": len(self.broken),
        }

    @property
    def gaps(self) -> int:
        """Those that a sink was told: a mirror whose journal was deleted has every right to tell its clients one."""
        return sum(len(verdict.gaps) for name, verdict in self.exits.items() if not name.startswith("mirror"))

    @property
    def clean(self) -> bool:
        return not any(self.counts.values())

    def details(self) -> str:
        told = {name: verdict for name, verdict in self.exits.items() if verdict.findings or verdict.gaps}
        lines = [f"--- {name}: {verdict.details()}" for name, verdict in told.items()]
        return "\n".join(lines + [f"--- broken: {text}" for text in self.broken])


def judge(stage: Stage, judgement: Judgement, excuse_gaps: bool) -> None:
    """The busbars have stopped; Kafka and Redis run."""
    if stage.shape.marathons:
        judgement.events = stage.load.count
        judgement.exits = judge_exits(stage)
        return
    told = {SOURCE: stage.tap.events}
    judgement.events = len(stage.tap.events)
    if not stage.tap.intact:
        judgement.broken.append(f"the judge itself missed something: {stage.tap.disconnects}")
    sent = sent_bytes(*[wire for instance in stage.instances.values() for wire in instance.upstream])
    arrivals = {"redis": from_redis(stage.redis.read_streams())}
    if stage.kafka:
        arrivals["kafka"] = from_kafka(stage.kafka.read_all())
    for name, instance in stage.instances.items():
        arrivals[f"mirror of {name}"] = from_sse(instance.follower.kept, name)
        judgement.broken += [f"mirror of {name}: {text}" for text in instance.follower.surprises]
    for name, arrived in arrivals.items():
        judgement.exits[name] = compare(told, arrived, sent, excuse_gaps or name.startswith("mirror"))
