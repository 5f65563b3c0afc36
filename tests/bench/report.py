"""A run of the benchmark as a whole: what was found, on what, with what; kept as JSON, told as Markdown and charts."""

import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field

import targets
from chart import Value, bar_chart
from measure import Figure, Result, Row
from peers import EXTRAS, PEERS, fetched
from table import (
    Table,
    WAYS,
    Target,
    Verdict,
    form,
    full,
    notes,
    put_between,
    rounded,
    spread,
    summary,
    table,
    verdict_table,
    verdicts,
)

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = HERE / "results"
PACKAGES = (
    "librdkafka1",
    "libhiredis0.14",
    "libcurl4",
    "libmicrohttpd12",
    "liblz4-1",
    "redis-server",
    "openjdk-17-jre-headless",
    "kcat",
    "jq",
    "curl",
    "python3",
)


@dataclass
class Report:
    """All of a run. figures: by the targets' keys. failures: what gave no figure, and why."""

    date: str = ""
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    minutes: float = 0.0
    interrupted: bool = False
    rows: list[Row] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    more_targets: list[Target] = field(default_factory=list)

    def verdicts(self) -> list[Verdict]:
        found = targets.of_rows(self.rows) | self.figures
        return verdicts([*targets.PEERS, *targets.ALONE, *self.more_targets], found)

    def save(self, path: pathlib.Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def load(path: pathlib.Path) -> Report:
    data = json.loads(path.read_text())
    rows = [Row(**{**row, "results": [Result(**found) for found in row["results"]]}) for row in data["rows"]]
    figures = {key: Figure(*found) for key, found in data["figures"].items()}
    tables = [Table(*found) for found in data["tables"]]
    more = [Target(*found) for found in data["more_targets"]]
    return Report(**{**data, "rows": rows, "figures": figures, "tables": tables, "more_targets": more})


# ---- on what, with what ----


def machine() -> str:
    """`AMD EPYC, 2 cores, 24 GiB, Linux 6.1.0`: no name, no path."""
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    kib = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1])
    cpu = model[1].strip() if model else platform.machine()
    return f"{cpu}, {os.cpu_count()} cores, {kib / 2**20:.0f} GiB, Linux {platform.release().split('-')[0]}"


def _told(argv: list, pattern: str) -> str:
    """What the pattern finds in what the command says; empty where there is no such command."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else ""


def versions(build: pathlib.Path) -> dict[str, str]:
    """Of busbar, the servers, and all that the peers are made of."""
    found = {"busbar": _told([build / "busbar", "version"], r"(\d+\.\d+\S*)")}
    commit = _told(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], r"^([0-9a-f]+)")
    changed = _told(["git", "-C", ROOT, "status", "--porcelain", "--", "bridge", "connectors", "config"], r"^(.)")
    if commit:
        found["busbar"] += f" at {commit}{' and changes' if changed else ''}"
    jars = [jar.name for jar in fetched("kafka").glob("kafka_2.13-*.jar")]
    found["kafka"] = jars[0].removeprefix("kafka_2.13-").removesuffix(".jar") if jars else "?"
    for package in PACKAGES:
        found[package] = _told(["dpkg-query", "-W", "-f", "${Version}", package], r"(\S+)")
    found |= pins()
    return {name: version for name, version in found.items() if version}


def pins() -> dict[str, str]:
    """What the peers that are fetched are pinned to."""
    wheels = (ROOT / "tests/servers/pyglue/requirements.txt").read_text()
    modules = (HERE / "peers/connect/go.mod").read_text()
    found = re.findall(r"^(aiohttp|confluent-kafka|redis|hiredis)==([^\s\\]+)", wheels, re.MULTILINE)
    found += re.findall(r"^\s+github.com/(redpanda-data/\w+)/v4 v(\S+)", modules, re.MULTILINE)
    return {f"glue's {name}" if "/" not in name else name: version for name, version in found}


def new(build: pathlib.Path) -> Report:
    now = datetime.datetime.now(datetime.UTC)
    return Report(date=now.strftime("%Y-%m-%d %H:%M UTC"), machine=machine(), versions=versions(build))


# ---- told ----


def heading(report: Report) -> str:
    """Date, machine and versions; and whether it is whole."""
    used = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    rounds = max((len(row.results) for row in report.rows), default=0)
    turns = f", {rounds} rounds in turns" if rounds else ""
    text = f"{report.date}, {report.minutes:.0f} minutes{turns}. {report.machine}; servers, source and bridge share it."
    text += f" With {used}."
    return text + ("\n\n**Interrupted: not all of it was measured.**" if report.interrupted else "")


HOW_TO_READ = """\
Medians of the rounds, and what they lie between in brackets. CPU: user and system time of all processes of the bridge,
for an event. Multiples are of rounds side by side. RSS is anonymous memory at its highest. Rates depend on what shares
the machine: the columns of cores say who used it."""


BACKLOG = {"events": "events", "live": "live, events/s", "rate": "catching up, events/s", "share": "of the live peak"}
BACKLOG |= {"rss": "RSS, MiB"}


def backlogs(report: Report) -> list[Table]:
    """How a sink that was away caught up."""
    lines = []
    for into in ("kafka", "redis"):
        found = {key: report.figures.get(f"{into}/backlog/{key}") for key in BACKLOG}
        if any(found.values()):
            rates = [found[key] and Figure(*map(rounded, found[key])) for key in ("events", "live", "rate")]
            told = [spread(rate, 0) for rate in rates]
            lines.append([into.capitalize(), *told, spread(found["share"]), spread(found["rss"], 0)])
    note = "The sink is away while all events come, as fast as they can; live: through to the sink at that speed."
    return [Table("A sink that was away", ["sink", *BACKLOG.values()], lines, note)] if lines else []


def extra_tables(report: Report) -> str:
    parts = []
    for one in backlogs(report) + report.tables:
        parts.append(f"### {one.title}\n\n{table(one.head, one.lines)}" + (f"\n\n{one.note}" if one.note else ""))
    return "\n\n".join(parts)


def failures(report: Report) -> str:
    lines = [f"- {what}: {why}" for what, why in report.failures.items()]
    return "\n".join(["Gave no figure:", "", *lines]) if lines else ""


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown(report: Report) -> str:
    """The whole of it."""
    return _joined(
        "# The last run of tests/bench/run",
        heading(report),
        HOW_TO_READ,
        "## Targets",
        verdict_table(report.verdicts()),
        failures(report),
        "## Peers\n\n![CPU of the bridge by peer](peers.svg)" if report.rows else "",
        full(report.rows),
        extra_tables(report),
        "What is unequal:" if report.rows else "",
        notes(peers_of(report)),
    )


def peers_of(report: Report) -> list:
    names = {row.peer for row in report.rows}
    return [peer for peer in PEERS + EXTRAS if peer.name in names]


def charts(report: Report, folder: pathlib.Path) -> None:
    """peers.svg: the targets' form of events; kafka.svg, redis.svg …: every form."""
    main = [row for row in report.rows if (row.size, row.a_line) == (targets.SIZE, targets.A_LINE)]
    unit = "µs of CPU an event"
    groups: dict[str, dict[str, Value]] = {}
    for row in main:
        groups.setdefault(WAYS[row.into], {})[row.peer] = _bar(row)
    if groups:
        bar_chart("CPU of the bridge for an event of 2 KB", unit, groups, folder / "peers.svg", log=True)
    for into, way in WAYS.items():
        groups = {}
        for row in report.rows:
            if row.into == into:
                groups.setdefault(form(row.size, row.a_line), {})[row.peer] = _bar(row)
        if groups:
            bar_chart(f"CPU of the bridge for an event {way}", unit, groups, folder / f"{into}.svg", log=True)


def _bar(row: Row) -> Value:
    return tuple(row.cpu_us) if row.cpu_us else f"no figure: {row.failed or 'not run'}"


def write(report: Report, folder: pathlib.Path) -> None:
    """last.json, table.md and the charts."""
    folder.mkdir(parents=True, exist_ok=True)
    report.save(folder / "last.json")
    (folder / "table.md").write_text(markdown(report))
    charts(report, folder)


def publish(report: Report) -> None:
    """Writes it into results/ and, between their markers, into this folder's README and the project's."""
    write(report, RESULTS)
    put_between(HERE / "README.md", told_here(report))
    put_between(ROOT / "README.md", told_in_project(report))


def told_here(report: Report) -> str:
    return _joined(
        heading(report),
        summary(report.rows),
        "![CPU of the bridge by peer](results/peers.svg)",
        verdict_table(report.verdicts()),
        failures(report),
        extra_tables(report),
        notes(peers_of(report)),
        "Every size, and many events a line: [results/table.md](results/table.md).",
    )


def told_in_project(report: Report) -> str:
    when = f"{report.date.split()[0]}, {report.machine}"
    return _joined(
        f"{when}; medians (and what they lie between) of rounds in turns in one run, by `tests/bench/run`:",
        summary(report.rows),
        "![CPU of the bridge by peer](tests/bench/results/peers.svg)",
        promises(report),
    )


def promises(report: Report) -> str:
    """Who promises what, in a sentence a promise: it is not the same work."""
    kinds: dict[str, list[str]] = {}
    for peer in peers_of(report):
        promise = "nothing" if peer.guarantee == "none" else peer.guarantee
        kinds.setdefault(promise, []).append(f"`{peer.name}`")
    told = [f"{', '.join(names)}: {promise}." for promise, names in kinds.items()]
    return f"Not the same work. What is promised by {' By '.join(told)}" if told else ""


def printed(report: Report) -> str:
    """For the terminal: the tables as they are, the verdicts in columns."""
    lines = [full(report.rows), ""] if report.rows else []
    for verdict in report.verdicts():
        target = verdict.target
        lines.append(f"{target.what:<74} {spread(verdict.found):>24}  {target.text:<18} {verdict.word.strip('*')}")
    return "\n".join(lines)
