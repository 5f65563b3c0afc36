"""How a cost grows with what it is measured against: flat, linear, or what else. Computed, never looked at.

Two figures are taken of the points (x, y), y > 0:
- the exponent b of y ~ x^b, as the median of the slopes between all pairs of points that are at least 1.5 times apart in
  x (Theil and Sen): one bad point of a noisy machine does not move it. `tail` is the same over the upper half of the
  points, where a fixed part of the cost weighs least.
- y = a + c*x by least squares of the relative errors, and how far the worst point is off it.

From them the verdict: "flat", "falls", "linear" (a fixed part and a constant price for each more of x), "below linear",
"worse than linear". `worst` compares two verdicts.
"""

import math
import statistics
from typing import NamedTuple

FLAT_RATIO = 1.3  # highest to lowest: within the noise of a shared machine
FLAT_EXPONENT = 0.1  # a quarter more for ten times as much
FLAT_TAIL = 0.2
LINEAR_TAIL = 1.2  # above: worse than linear, whatever the line says
LINE_OFF = 0.3  # so far a point may be off the line
ORDER = ("falls", "flat", "below linear", "linear", "worse than linear")

Points = list[tuple[float, float]]


class Fit(NamedTuple):
    verdict: str
    exponent: float  # over all points
    tail: float  # over the upper half
    fixed: float  # a of y = a + c*x
    each: float  # c
    off: float  # relative error of the worst point on that line

    def says(self) -> str:
        """For a table: the verdict and what it rests on."""
        line = f"{short(self.fixed)} + {short(self.each)}·x, ±{self.off * 100:.0f} %"
        return f"{self.verdict} (x^{self.exponent:.2f}, above x^{self.tail:.2f}; {line})"


def short(value: float) -> str:
    """Three figures."""
    return f"{value:.3g}"


def exponent(points: Points) -> float:
    """0 where no two points are far enough apart to tell."""
    logs = [(math.log(x), math.log(y)) for x, y in sorted(points)]
    far = math.log(1.5)
    slopes = [(v - w) / (u - t) for i, (u, v) in enumerate(logs) for t, w in logs[:i] if u - t >= far]
    return statistics.median(slopes) if slopes else 0.0


def upper_half(points: Points) -> Points:
    """By number of points: at least three of them, if there are so many."""
    points = sorted(points)
    return points[-max(3, (len(points) + 1) // 2) :]


def line(points: Points) -> tuple[float, float, float]:
    """a, c and the worst relative error of y = a + c*x, each point weighing by 1/y; a is never below 0."""
    weight = [1 / (y * y) for _, y in points]
    total = sum(weight)
    mean_x = sum(w * x for w, (x, _) in zip(weight, points)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weight, points)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weight, points))
    c = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weight, points)) / spread if spread > 0 else 0.0
    a = mean_y - c * mean_x
    if a < 0:
        a, c = 0.0, sum(x / y for x, y in points) / sum(x * x / (y * y) for x, y in points)
    return a, c, max(abs(a + c * x - y) / y for x, y in points)


def fit(points: Points) -> Fit:
    """Of at least two points with x > 0; a y of 0 counts as the smallest that is not."""
    least = min((y for _, y in points if y > 0), default=1.0)
    points = sorted((x, max(y, least)) for x, y in points)
    overall, tail = exponent(points), exponent(upper_half(points))
    a, c, off = line(points)
    return Fit(_verdict(points, overall, tail, c, off), overall, tail, a, c, off)


def _verdict(points: Points, overall: float, tail: float, each: float, off: float) -> str:
    values = [y for _, y in points]
    rises = points[-1][1] / min(values)
    if max(values) / min(values) <= FLAT_RATIO or abs(overall) <= FLAT_EXPONENT and abs(tail) <= FLAT_TAIL:
        return "flat"
    if rises <= FLAT_RATIO and (overall < 0 or values[0] > values[-1]):
        return "falls"
    if tail > LINEAR_TAIL and overall > LINEAR_TAIL / 2:
        return "worse than linear"
    if off <= LINE_OFF and each > 0:
        return "linear"
    return "linear" if tail > 0.85 else "below linear"


def is_worse(found: str, expected: str) -> bool:
    """The first grows faster than the second allows."""
    return ORDER.index(found) > ORDER.index(expected)
