"""What was measured as Markdown: tables of peers, the verdict on the targets, and their place in a README."""

import pathlib
import re
import statistics
from collections.abc import Iterable
from typing import NamedTuple

from measure import Figure, Row, figure

OURS = "busbar"
OURS_BARE = "busbar, headers: none"
WAYS = {"kafka": "into Kafka", "redis": "into Redis", "both": "into both"}
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def number(value: float) -> str:
    """Three figures or more: 61,200, 104, 8.42, 0.031."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def rounded(value: float) -> float:
    """Three figures, for rates: 61,234 is 61,200."""
    return float(f"{value:.3g}")


def spread(found: Figure | None, places: int | None = None) -> str:
    """`8.4 (8.1–9.0)`; without the range where there was one round only; a dash for nothing."""
    if found is None:
        return "–"
    told = number if places is None else lambda v: f"{v:,.{places}f}"
    middle, low, high = map(told, found)
    return middle if low == high else f"{middle} ({low}–{high})"


def ratios(row: Row, other: Row) -> Figure | None:
    """CPU an event of the row, times that of the other: round by round, since both drift alike within one."""
    found = [mine.cpu_us / its.cpu_us for mine, its in zip(row.results, other.results, strict=False) if its.cpu_us > 0]
    return figure(found) if found else None


def find(rows: Iterable[Row], peer: str, into: str, size: int, a_line: int) -> Row | None:
    wanted = (peer, into, size, a_line)
    return next((row for row in rows if (row.peer, row.into, row.size, row.a_line) == wanted), None)


def form(size: int, a_line: int) -> str:
    """`2 KB, 32 a line`."""
    return f"{size / 1024:g} KB, {a_line} a line"


def cells(words: Iterable[str]) -> str:
    """One row of a table; a bar within a cell is escaped."""
    return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"


def table(head: list[str], lines: Iterable[Iterable[str]], right: int = 1) -> str:
    """Markdown; all but the first `right` columns are set to the right."""
    rule = "|" + "|".join("---" if at < right else "---:" for at in range(len(head))) + "|"
    return "\n".join([cells(head), rule, *map(cells, lines)])


# ---- peers ----


def _busy(row: Row) -> str:
    """What each target and the whole machine were busy with, in cores."""
    named = {"kafka": "Kafka", "redis": "Redis", "generator": "source", "machine": "all"}
    told = [f"{name} {used:.2f}" for key, name in named.items() if (used := row.cores(key)) is not None]
    wanted = {"kafka": ("Kafka",), "redis": ("Redis",), "both": ("Kafka", "Redis")}.get(row.into, ())
    return ", ".join(word for word in told if word.split()[0] in (*wanted, "source", "all"))


def _bridge_cores(row: Row) -> str:
    return f"{statistics.median(r.cpu / r.wall for r in row.results):.2f}"


def _rate(found: Figure | None) -> str:
    return spread(Figure(*map(rounded, found)) if found else None, 0)


def row_cells(row: Row, ours: Row | None) -> list[str]:
    """The row of a peer; where it gave no figure, the reason stands in the place of the figures."""
    if not row.results:
        return [row.peer, f"**no figure**: {row.failed or 'not run'}", "–", "–", "–", "–", "–"]
    times = ratios(row, ours) if ours and ours.results else None
    name = row.peer + (f" (then failed: {row.failed})" if row.failed else "")
    figures = [_rate(row.events_s), spread(row.cpu_us), spread(times), spread(row.rss_mib, 0)]
    return [name, *figures, _bridge_cores(row), _busy(row)]


HEAD = ["peer", "events/s", "CPU, µs an event", "times busbar's", "RSS, MiB", "its cores", "the others' cores"]


def peers_table(rows: list[Row]) -> str:
    """Rows of one way and one form, in their order."""
    ours = next((row for row in rows if row.peer == OURS), None)
    return table(HEAD, [row_cells(row, ours) for row in rows])


def full(rows: list[Row]) -> str:
    """A table for each way (into Kafka, …) and each form of events."""
    parts = []
    for into, way in WAYS.items():
        those = [row for row in rows if row.into == into]
        if those:
            parts.append(f"### {way[0].upper()}{way[1:]}")
        for size, a_line in dict.fromkeys((row.size, row.a_line) for row in those):
            parts.append(f"Events of {form(size, a_line)}:")
            parts.append(peers_table([row for row in those if (row.size, row.a_line) == (size, a_line)]))
    return "\n\n".join(parts)


def summary(rows: list[Row], size: int = 2048, a_line: int = 1) -> str:
    """One table, a row a peer: µs of CPU an event by each way, with the multiple of busbar's, and the highest RSS."""
    those = [row for row in rows if (row.size, row.a_line) == (size, a_line) and row.into in WAYS]
    ways = [into for into in WAYS if any(row.into == into for row in those)]
    lines = []
    for name in dict.fromkeys(row.peer for row in those):
        mine = {row.into: row for row in those if row.peer == name}
        lines.append([name, *(_summed(mine.get(into), those) for into in ways), _highest(mine.values())])
    head = [f"CPU of the bridge, µs an event of {size / 1024:g} KB", *(WAYS[into] for into in ways), "RSS, MiB"]
    return table(head, lines)


def _summed(row: Row | None, rows: list[Row]) -> str:
    if row is None:
        return "–"
    if not row.results:
        return f"no figure: {row.failed or 'not run'}"
    ours = find(rows, OURS, row.into, row.size, row.a_line)
    times = ratios(row, ours) if ours and row.peer != OURS else None
    rate = f"{rounded(row.events_s.median):,.0f}/s"
    return f"{spread(row.cpu_us)}{f', {number(times.median)} ×' if times else ''}, {rate}"


def _highest(rows: Iterable[Row]) -> str:
    found = [row.rss_mib.high for row in rows if row.rss_mib]
    return f"{max(found):.0f}" if found else "–"


def notes(peers: Iterable) -> str:
    """What is unequal about each peer, and what it promises."""
    return "\n".join(
        f"- **{peer.name}** promises: {peer.guarantee}. Other than busbar: {peer.differs}."
        for peer in peers
        if peer.name != OURS
    )


# ---- targets ----


class Table(NamedTuple):
    """A table of a part of its own, e.g. the mirror's."""

    title: str
    head: list[str]
    lines: list[list[str]]
    note: str = ""


class Target(NamedTuple):
    """`key` names the figure; guard: where --assert draws the line, since machines differ (times the limit)."""

    key: str
    what: str
    limit: float
    unit: str = "×"
    at_least: bool = False
    guard: float = 1.5

    @property
    def text(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {_plain(self.limit)} {self.unit}"

    def is_met(self, value: float, slack: float = 1.0) -> bool:
        return value >= self.limit / slack if self.at_least else value <= self.limit * slack


def _plain(value: float) -> str:
    return f"{value:.3g}"


class Verdict(NamedTuple):
    target: Target
    found: Figure | None

    @property
    def word(self) -> str:
        if self.found is None:
            return "not measured"
        return "met" if self.target.is_met(self.found.median) else "**missed**"

    @property
    def is_broken(self) -> bool:
        """Missed by more than machines differ by."""
        return self.found is not None and not self.target.is_met(self.found.median, self.target.guard)


def verdicts(targets: Iterable[Target], figures: dict[str, Figure]) -> list[Verdict]:
    return [Verdict(target, figures.get(target.key)) for target in targets]


def verdict_table(found: Iterable[Verdict]) -> str:
    lines = [[v.target.what, v.target.text, spread(v.found), v.word] for v in found]
    return table(["target", "limit", "measured", ""], lines)


# ---- into a README ----


def between(text: str, new: str) -> str:
    """The text with what stands between the two markers replaced; they must be there, once and in this order."""
    pattern = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"expected {BEGIN} and {END}, once")
    return pattern.sub(lambda m: f"{m[1]}{new.strip()}\n{m[2]}", text)


def put_between(path: pathlib.Path, new: str) -> None:
    path.write_text(between(path.read_text(), new))
