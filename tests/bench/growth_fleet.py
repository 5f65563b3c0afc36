"""What FLEET.md quotes of results/growth-*.md, checked: the page says a figure, and the results still have about that.

A row of QUOTES: a piece of the page with the figure in braces, and where it was measured. A figure that has moved by more
than OFF times either way makes the page's arithmetic another one: measure again, or mend the page and its row.
"""

import pathlib
import re
from typing import NamedTuple

OFF = 1.6


class Quote(NamedTuple):
    says: str  # as the page has it, but for the braces
    sweep: str
    unit: str  # the heading above the table
    curve: str  # its column
    x: str  # its row; or "fixed", "each": of the line through the points
    per: float = 1  # so many of the results' units in one of the page's


QUOTES = (
    Quote("an event costs its server {0.9} ms to make", "nomad", "µs of Nomad's CPU an event", "straight at Nomad", "1", 1000),
    Quote("**{60} µs more for each reader of the stream**", "nomad", "µs of Nomad's CPU an event", "straight at Nomad", "each"),
    Quote("| 1 | {6.2} % of a core |", "regions", "% of a core", "busbar", "1"),
    Quote("| 5 | {26} % |", "regions", "% of a core", "busbar", "5"),
    Quote("| 20 | {89} % |", "regions", "% of a core", "busbar", "20"),
    Quote("| 6.2 % | {10} MiB |", "regions", "RssAnon, MiB", "busbar", "1"),
    Quote("| 5.3 % | {34} MiB |", "regions", "RssAnon, MiB", "busbar", "5"),
    Quote("| 4.5 % | {101} MiB |", "regions", "RssAnon, MiB", "busbar", "20"),
    Quote("| 102 % | | {189} MiB |", "regions", "RssAnon, MiB", "busbar", "50"),
    Quote("as it comes (p99 {0.84} ms)", "regions", "p99, ms", "to an SSE client of all", "1"),
    Quote("at full speed the same event costs {5} µs into Redis", "sources", "µs/event", "into Redis", "1"),
    Quote("and {15} to 20 into Kafka", "sources", "µs/event", "into Kafka", "1"),
    Quote("took {0.38} of a core of one broker", "regions", "% of a core", "kafka", "20", 100),
    Quote("are some {46} MiB of file", "keys", "MiB on disk", "state table", "100,000"),
    Quote("and {22} MiB of RssAnon while it is made anew", "keys", "RssAnon, MiB", "state table made anew", "100,000"),
    Quote("readers on the same two cores): {10} µs of CPU a delivery at 1,000 clients × 20/s", "clients", "µs a delivery", "the mirror", "1,000"),
    Quote("at 1,000 clients × 20/s, {3} at 10,000 × 20/s", "clients", "µs a delivery", "the mirror", "10,000"),
    Quote("each level adds {0.12} ms to the median", "depth", "ms from the source to the last reader", "p50", "each"),
)


def tables(page: str) -> dict[str, list[list[str]]]:
    """By the heading above them: rows of cells, the head first."""
    found: dict[str, list[list[str]]] = {}
    for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        rows = [line for line in part.splitlines() if line.startswith("|") and not line.startswith("|---")]
        found[part.partition("\n")[0]] = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return found


def measured(page: str, quote: Quote) -> float | None:
    """What the results have; None: nothing of that name."""
    rows = tables(page).get(quote.unit, [])
    if quote.x in ("fixed", "each"):
        says = next((row[1] for row in rows if row[0] == quote.curve and "·x" in row[1]), "")
        line = re.search(r"([-\d.e]+) \+ ([-\d.e]+)·x", says)
        return float(line[1 if quote.x == "fixed" else 2]) if line else None
    if not rows or quote.curve not in rows[0]:
        return None
    column = rows[0].index(quote.curve)
    cell = next((row[column] for row in rows[1:] if row[0] == quote.x and len(row) > column), "–")
    return None if cell == "–" else float(cell.replace(",", ""))


def wrong(page: str, results: pathlib.Path, quotes: tuple[Quote, ...] = QUOTES) -> list[str]:
    """What page and results do not agree on, a line each."""
    lines = []
    flat = " ".join(page.split())
    for quote in quotes:
        if quote.says.replace("{", "").replace("}", "") not in flat:
            lines.append(f"the page no longer says: {quote.says}")
            continue
        path = results / f"growth-{quote.sweep}.md"
        found = measured(path.read_text(), quote) if path.exists() else None
        where = f"growth-{quote.sweep}.md, {quote.unit}, {quote.curve} at {quote.x}"
        if found is None:
            lines.append(f"{quote.says}: not in {where}")
            continue
        said = float(re.search(r"{([\d.]+)}", quote.says)[1])
        if not 1 / OFF <= found / quote.per / said <= OFF:
            lines.append(f"{quote.says}: now {found / quote.per:.3g} ({where})")
    return lines
