"""The sweeps of growth.py: each varies one thing with all else fixed, and gives curves with what is expected of them.

A sweep is a function of the rig and of `short` (few and small points, for CI) that gives a Sweep.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import growth_fit
from growth_rig import Found, Plan, Rig

RING_EVENTS = 5000  # of 2 KB: more than a journal keeps in memory (8 MiB)
BYTES_A_RUN = 80_000_000  # of the sweep over sizes
SECONDS = 5.0  # of each point at a rate
IDLE_SECONDS = 6.0
REGION_RATE = 200

FULL = "at the end generator, broker, readers and busbar together want more than the machine has"
FILLS = "the newest blocks (8 MiB) and the mirror's ring (8 MiB) fill in a point's few seconds only where much comes"
OWN_COMMITS = "each source commits a transaction of its own ten times a second, whatever is in it"


@dataclass
class Curve:
    """One line of a chart. `expected`: the most that it may do ("flat", "linear"), as the verdicts of growth_fit."""

    what: str  # cpu, memory, latency, …: one chart each
    unit: str
    name: str
    expected: str
    points: list[tuple[float, float]] = field(default_factory=list)
    why: str = ""  # what explains a verdict that is not the expected one
    guarded: bool = True  # a short run fails for it

    def add(self, x: float, y: float) -> None:
        self.points.append((x, y))

    @property
    def fit(self) -> growth_fit.Fit | None:
        known = [(x, y) for x, y in self.points if y == y]
        return growth_fit.fit(known) if len(known) > 1 else None

    @property
    def ok(self) -> bool:
        return self.fit is None or not growth_fit.is_worse(self.fit.verdict, self.expected)


@dataclass
class Sweep:
    key: str
    title: str
    x: str  # what is varied
    fixed: str  # what is not
    curves: list[Curve]
    notes: list[str] = field(default_factory=list)


NAMES = {("redis",): "into Redis", ("kafka",): "into Kafka", (): "journal alone"}


def _tell(sweep: str, x: float, found: Found) -> None:
    late = "".join(f", {exit_} p99 {told['p99']:.1f} ms" for exit_, told in found.latency.items())
    text = f"{found.us:.1f} us/event, {found.core:.1f} % of a core, {found.rss_mib:.1f} MiB, {found.rate:,.0f}/s"
    print(f"  {sweep} {x:>9g}: {text}{late}", flush=True)


def rate(rig: Rig, short: bool) -> Sweep:
    """Events/s, one SSE client attached. The last point of the CPU is as fast as it goes, without followers."""
    rates = (100, 5000) if short else (10, 100, 1000, 5000, 20000)
    seconds = 2.5 if short else SECONDS
    curves = []
    for kind in ("redis",) if short else ("redis", "kafka"):
        name = NAMES[(kind,)]
        core = Curve("core", "% of a core", name, "linear")
        each = Curve("cpu", "µs/event", name, "flat")
        rss = Curve("memory", "RssAnon, MiB", name, "flat", why=FILLS, guarded=False)
        late = {exit_: Curve("latency", "p99, ms", f"{name}: to {exit_}", "flat", why=FULL, guarded=False) for exit_ in ("sse", kind)}
        middle = {exit_: Curve("latency", "p99, ms", f"{name}: to {exit_}, p50", "flat", why=FULL, guarded=False) for exit_ in ("sse", kind)}
        for events_s in rates:
            plan = Plan(int(events_s * seconds * 3), sinks=(kind,), rate=events_s, seconds=seconds, follow=("sse", kind))
            found = rig.run(plan)
            _tell(f"rate, {name}", events_s, found)
            core.add(events_s, found.core)
            each.add(events_s, found.us)
            rss.add(events_s, found.rss_mib)
            for exit_, told in found.latency.items():
                late[exit_].add(events_s, told["p99"])
                middle[exit_].add(events_s, told["p50"])
        found = rig.run(Plan(30_000 if short else 150_000, warm=RING_EVENTS, sinks=(kind,)))
        _tell(f"rate, {name}, full speed", found.rate, found)
        each.add(found.rate, found.us)
        curves += [core, each, rss, *late.values(), *middle.values()]
    fixed = "2 KB an event, one a line, 1,000 keys, one sink, one SSE client (none at full speed, the last point)"
    return Sweep("rate", "Events per second", "events/s", fixed, curves)


def size(rig: Rig, short: bool) -> Sweep:
    """Bytes an event."""
    sizes = (512, 4096, 32768) if short else (256, 1024, 2048, 4096, 16384, 65536)
    curves = []
    for sinks in (("redis",),) if short else ((), ("redis",), ("kafka",)):
        each = Curve("cpu", "µs/event", NAMES[sinks], "linear")
        kib = Curve("cpu-kib", "µs/KiB", NAMES[sinks], "flat")
        rss = Curve("memory", "RssAnon, MiB", NAMES[sinks], "flat")
        for bytes_ in sizes:
            events = max(2000, min(BYTES_A_RUN // bytes_, 100_000)) // (4 if short else 1)
            found = rig.run(Plan(events, warm=RING_EVENTS * 2048 // bytes_, size=bytes_, sinks=sinks))
            _tell(f"size, {NAMES[sinks]}", bytes_, found)
            each.add(bytes_ / 1024, found.us)
            kib.add(bytes_ / 1024, found.us / bytes_ * 1024)
            rss.add(bytes_ / 1024, found.rss_mib)
        curves += [each, kib, rss]
    return Sweep("size", "Event size", "KiB an event", "full speed, one event a line, 1,000 keys", curves)


def _counted(rig: Rig, short: bool, what: str, counts: tuple, vary: Callable[[int, str], Plan], each_flat: str) -> list[Curve]:
    """Sources or sinks: at full speed, then with nothing to do."""
    curves = []
    for kind in ("redis",) if short else ("redis", "kafka"):
        name = NAMES[(kind,)]
        cpu = Curve("cpu", "µs/event", name, each_flat, why=OWN_COMMITS if kind == "kafka" else "")
        rss = Curve("memory", "RssAnon, MiB", name, "linear")
        idle = Curve("idle", "% of a core, idle", name, "linear")
        rest = Curve("memory", "RssAnon, MiB", f"{name}, idle", "linear")
        for count in counts:
            plan = vary(count, kind)
            found = rig.run(plan)
            _tell(f"{what}, {name}", count, found)
            cpu.add(count, found.us)
            rss.add(count, found.rss_mib)
            plan.events, plan.warm, plan.seconds = 0, 0, 2.0 if short else IDLE_SECONDS
            found = rig.run(plan)
            print(f"  {what}, {name}, idle {count}: {found.core:.2f} % of a core, {found.rss_mib:.1f} MiB", flush=True)
            idle.add(count, found.core)
            rest.add(count, found.rss_mib)
        curves += [cpu, rss, rest, idle]
    return curves


def sources(rig: Rig, short: bool) -> Sweep:
    """Sources in one busbar."""
    counts = (1, 8) if short else (1, 5, 20, 50)
    events = 20_000 if short else 100_000
    curves = _counted(rig, short, "sources", counts, lambda n, kind: Plan(events, warm=n * RING_EVENTS, sources=n, sinks=(kind,)), "flat")
    fixed = f"{events:,} events of 2 KB shared out among them at full speed, one sink for all; idle: attached, nothing comes"
    return Sweep("sources", "Sources in one busbar", "sources", fixed, curves)


def sinks(rig: Rig, short: bool) -> Sweep:
    """Sinks of one source."""
    counts = (1, 2, 4) if short else (1, 2, 4, 8)
    events = 20_000 if short else 60_000
    curves = _counted(rig, short, "sinks", counts, lambda n, kind: Plan(events, warm=RING_EVENTS, sinks=(kind,) * n), "linear")
    fixed = f"{events:,} events of 2 KB of one source at full speed, every one to every sink"
    return Sweep("sinks", "Sinks of one source", "sinks", fixed, curves)


def regions(rig: Rig, short: bool) -> Sweep:
    """Regions of the fleet in FLEET.md in one busbar: each 200 events/s, into Kafka and Redis."""
    counts = (1, 5) if short else (1, 5, 20, 50)
    seconds = 2.5 if short else 8.0
    own = Curve("cpu", "% of a core", "busbar", "linear")
    servers = {name: Curve("cpu", "% of a core", name, "linear") for name in ("kafka", "redis")}
    rss = Curve("memory", "RssAnon, MiB", "busbar", "linear")
    late = Curve("latency", "p99, ms", "to an SSE client of all", "linear", why=FULL, guarded=False)
    for count in counts:
        events_s = count * REGION_RATE
        plan = Plan(int(events_s * seconds * 3), sources=count, rate=events_s, seconds=seconds, sinks=("kafka", "redis"), follow=("sse",))
        found = rig.run(plan)
        _tell("regions", count, found)
        own.add(count, found.core)
        rss.add(count, found.rss_mib)
        late.add(count, found.latency["sse"]["p99"])
        for name, curve in servers.items():
            curve.add(count, found.servers[name] / found.wall * 100)
        print(f"  regions {count}: " + ", ".join(f"{n} {s / found.wall * 100:.1f} %" for n, s in found.servers.items()), flush=True)
    fixed = f"{REGION_RATE} events/s of 2 KB from each, every event to one Kafka, one Redis and one SSE client"
    return Sweep("regions", "Regions in one busbar", "regions", fixed, [own, *servers.values(), rss, late])
