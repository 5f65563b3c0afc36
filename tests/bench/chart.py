"""Charts as SVG text, with nothing but the standard library: horizontal bars in groups, and lines.

bar_chart(title, unit, groups, path) and line_chart(title, x_label, y_label, series, path) write a file each. Colours
follow the reader's light or dark scheme; each chart brings its own background, so that it can be read on any page.
"""

import math
import pathlib
import re
from collections.abc import Iterable
from xml.sax.saxutils import escape

PALETTE = ("#2f7ec7", "#d9772b", "#2b9a66", "#b8478f", "#7f6bd0", "#a68a12", "#c8443a", "#607d8b", "#1f9aa8", "#9c6b4e")
STYLE = """\
text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#24292f}
.title{font-size:15px;font-weight:600}.head{font-weight:600}.faint{fill:#6e7781}.back{fill:#fff}
.grid{stroke:#d0d7de;stroke-width:1}.spread{stroke:#24292f;stroke-width:1.2;fill:none}.line{fill:none;stroke-width:2}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.faint{fill:#9198a1}.back{fill:#0d1117}.grid{stroke:#30363d}\
.spread{stroke:#e6edf3}}"""
WIDTH = 760

Value = float | tuple[float, float, float] | str  # a figure; median, lowest and highest; or why there is none
Groups = dict[str, dict[str, Value]]  # of bars, by their names
Series = dict[str, list[tuple[float, float]]]  # of points, by the lines' names


def short(value: float) -> str:
    """For axes: 2.5M, 20k, 0.05."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:.3g}"


def exact(value: float) -> str:
    """For labels: three or four figures, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}".rstrip("0").rstrip(".") or "0"


class Axis:
    """From figures to pixels between `start` and `end`, by a linear or a logarithmic scale with round ticks."""

    def __init__(self, values: Iterable[float], start: float, end: float, log: bool = False):
        known = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
        self.start, self.end, self.log = start, end, log
        self.ticks = _log_ticks(min(known), max(known)) if log else _linear_ticks(max(known), min(known))
        self.low, self.high = self.ticks[0], self.ticks[-1]

    def at(self, value: float) -> float:
        """Where the value stands; what is beyond the axis stands at its end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def _linear_ticks(highest: float, lowest: float) -> list[float]:
    """Some four to nine, from 0 (or below it) past the highest."""
    span = (max(highest, 0) - min(lowest, 0)) or 1.0
    rough = span / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(min(lowest, 0) / step), math.ceil(max(highest, 0) / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def _log_ticks(lowest: float, highest: float) -> list[float]:
    """Powers of ten, with 2 and 5 between them where there are few; around what is shown."""
    decades = math.log10(highest / lowest)
    steps = (1, 2, 5) if decades < 3 else (1,)
    every = [m * 10.0**power for power in range(-12, 13) for m in steps]
    below = max((t for t in every if t <= lowest * 1.0001), default=every[0])
    above = min((t for t in every if t >= highest * 0.9999), default=every[-1])
    if below == above:
        above = every[every.index(above) + 1]
    return [t for t in every if below <= t <= above]


def _document(height: float, title: str, body: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}" '
    head += f'viewBox="0 0 {WIDTH} {height:g}" role="img">'
    return "\n".join(
        [
            head,
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="back" width="{WIDTH}" height="{height:g}" rx="6"/>',
            f'<text class="title" x="16" y="26">{escape(title)}</text>',
            *body,
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, words: str, style: str = "", anchor: str = "start", more: str = "") -> str:
    classed = f' class="{style}"' if style else ""
    anchored = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text{classed} x="{x:g}" y="{y:g}"{anchored}{more}>{escape(words)}</text>'


def _wide(words: str) -> float:
    """About how many pixels the text takes."""
    return 6.6 * len(words)


# ---- bars ----


def _figures(groups: Groups) -> list[float]:
    found: list[float] = []
    for bars in groups.values():
        for value in bars.values():
            if not isinstance(value, str):
                found += value if isinstance(value, tuple) else (value,)
    return found


def _bar(axis: Axis, y: float, colour: str, value: Value) -> list[str]:
    """The bar, a line from the lowest to the highest, the figure behind it; or the reason in its place."""
    if isinstance(value, str):
        return [_text(axis.start + 4, y + 12, value, "faint")]
    middle, low, high = value if isinstance(value, tuple) else (value, value, value)
    width = max(axis.at(middle) - axis.start, 1)
    parts = [f'<rect x="{axis.start:g}" y="{y:g}" width="{width:g}" height="16" fill="{colour}" rx="2"/>']
    if high > low:
        parts.append(f'<path class="spread" d="M{axis.at(low):g} {y + 8:g}H{axis.at(high):g}"/>')
    return [*parts, _text(axis.at(max(middle, high)) + 6, y + 12, exact(middle))]


def bars_svg(title: str, unit: str, groups: Groups, log: bool = False) -> str:
    """The chart's text. A name has the same colour in every group."""
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    colours = {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(names)}
    left = min(max(map(_wide, names), default=0) + 28, WIDTH * 0.5)
    axis = Axis(_figures(groups), left, WIDTH - 78, log)
    body, y = [], 46.0
    grid = len(body)
    for group, bars in groups.items():
        body.append(_text(16, y + 12, group, "head"))
        y += 22
        for name, value in bars.items():
            body.append(_text(left - 8, y + 12, name, anchor="end"))
            body += _bar(axis, y, colours[name], value)
            y += 22
        y += 8
    lines = [f'<path class="grid" d="M{axis.at(tick):g} 42V{y:g}"/>' for tick in axis.ticks]
    labels = [_text(axis.at(tick), y + 16, short(tick), "faint", "middle") for tick in axis.ticks]
    scale = f"{unit} (logarithmic scale)" if log else unit
    labels.append(_text((axis.start + axis.end) / 2, y + 36, scale, "faint", "middle"))
    return _document(y + 48, title, body[:grid] + lines + body[grid:] + labels)


def bar_chart(title: str, unit: str, groups: Groups, path: pathlib.Path, log: bool = False) -> None:
    """Groups of named bars, e.g. {"into Kafka": {"busbar": (9.1, 8.8, 9.6), "C floor": 7.5, "kcat": "not found"}}:
    a figure, or (median, lowest, highest), or words where there is no figure."""
    pathlib.Path(path).write_text(bars_svg(title, unit, groups, log))


# ---- lines ----


def _legend(names: list[str], y: float) -> tuple[list[str], float]:
    """The names with their colours, in as many rows as they need, and where the rows end."""
    parts, x = [], 16.0
    for k, name in enumerate(names):
        if x > 16 and x + _wide(name) + 30 > WIDTH:
            x, y = 16.0, y + 18
        parts.append(f'<circle cx="{x + 5:g}" cy="{y - 4:g}" r="4.5" fill="{PALETTE[k % len(PALETTE)]}"/>')
        parts.append(_text(x + 14, y, name))
        x += _wide(name) + 34
    return parts, y


def _frame(across: Axis, up: Axis, x_label: str, y_label: str) -> list[str]:
    """The grid, its figures and the names of both axes."""
    parts = []
    for tick in across.ticks:
        parts.append(f'<path class="grid" d="M{across.at(tick):g} {up.end:g}V{up.start:g}"/>')
        parts.append(_text(across.at(tick), up.start + 16, short(tick), "faint", "middle"))
    for tick in up.ticks:
        parts.append(f'<path class="grid" d="M{across.start:g} {up.at(tick):g}H{across.end:g}"/>')
        parts.append(_text(across.start - 6, up.at(tick) + 4, short(tick), "faint", "end"))
    middle = (up.start + up.end) / 2
    turned = f' transform="rotate(-90 16 {middle:g})"'
    parts.append(_text((across.start + across.end) / 2, up.start + 36, x_label, "faint", "middle"))
    parts.append(_text(16, middle, y_label, "faint", "middle", turned))
    return parts


def _line(across: Axis, up: Axis, colour: str, name: str, points: list[tuple[float, float]]) -> list[str]:
    placed = [(across.at(x), up.at(y), x, y) for x, y in sorted(points)]
    path = "M" + "L".join(f"{px:g} {py:g}" for px, py, _, _ in placed)
    told = [f"<title>{escape(name)}: {short(x)}, {exact(y)}</title>" for _, _, x, y in placed]
    dots = [
        f'<circle cx="{px:g}" cy="{py:g}" r="3" fill="{colour}">{words}</circle>'
        for (px, py, _, _), words in zip(placed, told, strict=True)
    ]
    return [f'<path class="line" stroke="{colour}" d="{path}"/>', *dots]


def lines_svg(title: str, x_label: str, y_label: str, series: Series, log_x: bool = False, log_y: bool = False) -> str:
    """The chart's text. A series without points stands in the legend only."""
    legend, bottom = _legend(list(series), 50)
    top = bottom + 16
    x_values = [x for points in series.values() for x, _ in points]
    y_values = [y for points in series.values() for _, y in points]
    across = Axis(x_values, 74, WIDTH - 24, log_x)
    up = Axis(y_values, top + 260, top, log_y)
    body = legend + _frame(across, up, x_label, y_label)
    for k, (name, points) in enumerate(series.items()):
        if points:
            body += _line(across, up, PALETTE[k % len(PALETTE)], name, points)
    return _document(top + 308, title, body)


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Series,
    path: pathlib.Path,
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """One line a series, {"into Kafka": [(1, 9.0), (50, 9.4)]}; points are sorted by x."""
    pathlib.Path(path).write_text(lines_svg(title, x_label, y_label, series, log_x, log_y))


def values_of(svg: str) -> list[str]:
    """All texts of a chart in their order, for tests."""
    return [re.sub(r"<[^>]*>", "", text) for text in re.findall(r"<text[^>]*>.*?</text>", svg)]
