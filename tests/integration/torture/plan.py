"""Which faults, in which order: all of it follows from the seed and the shape of the stage."""

import random
from dataclasses import dataclass, field

from .faults import KINDS, Kind
from .stage import Shape

PAUSE_MAX = 1.6  # seconds between two steps, for the busbar to get anywhere
TWO_AT_ONCE = 0.4
TRIES = 10_000


@dataclass
class Fault:
    kind: Kind
    target: str
    length: float
    seed: int
    # What became of it:
    began: float | None = None
    took: float = 0.0
    said: str = ""

    @property
    def touches(self) -> set[str]:
        return {self.target, *self.kind.also}

    @property
    def cost(self) -> float:
        return self.length + self.kind.cost

    def __str__(self) -> str:
        when = "" if self.began is None else f"{self.began:8.2f} s  {self.took:5.2f} s  "
        return f"{when}{self.kind.name} [{self.target}]" + (f" {self.said}" if self.said else "")


@dataclass
class Step:
    """Lanes run side by side, the faults of each one after the other."""

    lanes: list[list[Fault]]
    pause: float

    @property
    def faults(self) -> list[Fault]:
        return [fault for lane in self.lanes for fault in lane]


@dataclass
class Plan:
    shape: Shape
    rng: random.Random
    leave_out: frozenset = field(default_factory=frozenset)

    def steps(self):
        """Endless."""
        while True:
            first = self._fault(set())
            if first is None:
                raise ValueError("no fault is left to be applied")
            lanes = [[first]]
            # Beside a long one there are several short ones.
            while self.rng.random() < TWO_AT_ONCE or sum(f.cost for f in lanes[-1]) + 2 < first.cost:
                other = self._fault(first.touches, longest=3.0)
                if other is None:
                    break
                if len(lanes) == 1:
                    lanes.append([])
                lanes[1].append(other)
                if sum(f.cost for f in lanes[1]) + 1 >= first.cost:
                    break
            yield Step(lanes, self.rng.uniform(0, PAUSE_MAX))

    def _fault(self, taken: set[str], longest: float = 100.0) -> Fault | None:
        """None where those that are wanted have nothing left to hit."""
        for _ in range(TRIES):
            (kind,) = self.rng.choices(KINDS, [kind.weight for kind in KINDS])
            targets = self._targets(kind.scope)
            if not targets or kind.name in self.leave_out or kind.shortest + kind.cost > longest:
                continue
            length = self.rng.uniform(kind.shortest, min(kind.longest, max(kind.shortest, longest)))
            fault = Fault(kind, self.rng.choice(targets), length, self.rng.getrandbits(32))
            if not fault.touches & taken:
                return fault
        return None

    def _targets(self, scope: str) -> list[str]:
        return ["redis"] if scope == "redis" else getattr(self.shape, scope)
