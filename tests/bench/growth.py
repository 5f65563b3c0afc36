#!/usr/bin/python3
"""How cost grows: the benchmark's second half. One thing is varied at a time, all else is fixed.

tests/bench/growth.py [--sweep NAME]... [--short] [--build DIR] [--results DIR]
tests/bench/growth.py --check      measures nothing: says what FLEET.md quotes of results/ and they no longer have

For each sweep CPU, memory and latency are drawn (results/growth-NAME-WHAT.svg) and listed with a computed verdict
(results/growth-NAME.md): flat, linear, or what else (growth_fit.py). --short: few, small points, in about a minute,
nothing is written; a curve that grows faster than expected by far, twice in a row, makes it fail.
"""

import argparse
import datetime
import os
import pathlib
import platform
import re
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

import chart  # noqa: E402
import growth_clients  # noqa: E402
import growth_depth  # noqa: E402
import growth_fit  # noqa: E402
import growth_fleet  # noqa: E402
import growth_journal  # noqa: E402
import growth_keys  # noqa: E402
import growth_nomad  # noqa: E402
import growth_sweeps  # noqa: E402
from growth_rig import Rig  # noqa: E402
from growth_sweeps import Curve, Sweep  # noqa: E402

SWEEPS = {
    "rate": growth_sweeps.rate,
    "size": growth_sweeps.size,
    "sources": growth_sweeps.sources,
    "sinks": growth_sweeps.sinks,
    "clients": growth_clients.clients,
    "keys": growth_keys.keys,
    "depth": growth_depth.depth,
    "regions": growth_sweeps.regions,
    "nomad": growth_nomad.nomad,
    "journal": growth_journal.journal,
}
RESULTS = HERE / "results"
SHORT = ("rate", "size", "sources", "clients", "keys", "journal")
SHORT_TAIL = {"linear": 1.5, "flat": 0.7}  # exponents: on a busy machine figures may seem to grow so fast


def machine() -> str:
    """What the figures are of."""
    with open("/proc/cpuinfo") as told:
        model = re.search(r"model name\s*: (.*)", told.read())
    with open("/proc/meminfo") as told:
        memory = int(re.search(r"MemTotal:\s+(\d+)", told.read())[1]) / 2**20
    name = model[1].strip() if model else platform.machine()
    kernel = platform.release().partition("-")[0]
    return f"{os.cpu_count()} cores ({name}), {memory:.0f} GiB, Linux {kernel}"


def number(value: float) -> str:
    if value != value:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def groups(sweep: Sweep) -> dict[str, list[Curve]]:
    """What is drawn into one chart."""
    found: dict[str, list[Curve]] = {}
    for curve in sweep.curves:
        found.setdefault(curve.what, []).append(curve)
    return found


def rows(x_name: str, curves: list[Curve]) -> list[str]:
    """The curves side by side, a row for each x."""
    lines = [f"| {' | '.join([x_name, *(curve.name for curve in curves)])} |", "|" + "---|" * (len(curves) + 1)]
    for x in sorted({x for curve in curves for x, _ in curve.points}):
        found = [dict(curve.points).get(x, float("nan")) for curve in curves]
        lines.append(f"| {' | '.join([number(x), *map(number, found)])} |")
    return lines


def verdicts(curves: list[Curve]) -> list[str]:
    lines = ["| of | found | expected at most | |", "|---|---|---|---|"]
    for curve in curves:
        if curve.fit:
            ok = "" if curve.ok else f"**more**: {curve.why or 'not explained'}"
            lines.append(f"| {curve.name} | {curve.fit.says()} | {curve.expected} | {ok} |")
    return lines


def page(sweep: Sweep, when: str, where: str) -> str:
    parts = [f"# {sweep.title}", f"{when}; {where}. Fixed: {sweep.fixed}."]
    for what, curves in groups(sweep).items():
        name = chart_name(sweep, what)
        parts += [f"## {curves[0].unit}", f"![{curves[0].unit}]({name})"]
        parts += ["\n".join(rows(sweep.x, curves)), "\n".join(verdicts(curves))]
    return "\n\n".join([*parts, *sweep.notes]) + "\n"


def chart_name(sweep: Sweep, what: str) -> str:
    return f"growth-{sweep.key}-{what}.svg"


def draw(sweep: Sweep, folder: pathlib.Path) -> None:
    """A chart for each thing measured."""
    for what, curves in groups(sweep).items():
        points = {c.name: [p for p in c.points if p[1] == p[1] and p[1] > 0] for c in curves}
        values = [y for found in points.values() for _, y in found]
        log_y = bool(values) and max(values) / min(values) > 20
        path = folder / chart_name(sweep, what)
        chart.line_chart(f"{sweep.title}: {curves[0].unit}", sweep.x, curves[0].unit, points, path, True, log_y)


def write(sweep: Sweep, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    (folder / f"growth-{sweep.key}.md").write_text(page(sweep, when, machine()))
    draw(sweep, folder)


def too_much(curve: Curve) -> bool:
    """For a short run: worse than linear by far, or what should be flat grows nearly as fast as what is counted."""
    if not curve.fit or not curve.guarded:
        return False
    return curve.fit.tail > SHORT_TAIL[curve.expected] and growth_fit.is_worse(curve.fit.verdict, curve.expected)


def short(rig: Rig, name: str) -> list[str]:
    """What grows too fast: where something does, a second time too, for others may have had the machine."""
    found: set[str] = set()
    for again in (False, True):
        wrong = {f"{c.name}, {c.unit}": c.fit.says() for c in SWEEPS[name](rig, True).curves if too_much(c)}
        for curve, says in wrong.items():
            print(f"  {'again ' if again else ''}too fast: {curve}: {says}", flush=True)
        found = found & set(wrong) if again else set(wrong)
        if not found:
            break
    return [f"{name}, {curve}" for curve in sorted(found)]


def tell_fleet(results: pathlib.Path) -> int:
    """Whether FLEET.md says what they have."""
    lines = growth_fleet.wrong((HERE / "FLEET.md").read_text(), results)
    for line in lines:
        print(f"FLEET.md: {line}")
    return 1 if lines else 0


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", action="append", choices=SWEEPS, help="only this one; may be repeated")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent.parent / "build" / "release")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(words)
    if args.check:
        return tell_fleet(args.results)
    build, failed = args.build.resolve(), []
    os.environ["BUSBAR_BIN"] = str(build / "busbar")
    with Rig(build) as rig:
        for name in args.sweep or (SHORT if args.short else SWEEPS):
            print(f"{name}:", flush=True)
            start = time.monotonic()
            if args.short:
                failed += short(rig, name)
            else:
                sweep = SWEEPS[name](rig, False)
                print("\n".join(f"  {c.unit}, {c.name}: {c.fit.says()}" for c in sweep.curves if c.fit), flush=True)
                write(sweep, args.results)
            print(f"  {name} took {time.monotonic() - start:.0f} s", flush=True)
    for line in failed:
        print(f"grows too fast: {line}", file=sys.stderr)
    if not args.short and args.results == RESULTS:
        tell_fleet(args.results)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
