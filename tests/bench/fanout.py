#!/usr/bin/python3
"""The mirror at many clients, against a bare epoll writer in the same run.

tests/bench/fanout.py                 all of it, some ten minutes
tests/bench/fanout.py steady tls      only these parts: steady tls herd slow filters
tests/bench/fanout.py --quick         small: two minutes

steady: the mirror and the writer in turns, same clients, same frames of 1 KB, same kernel buffers. Server, clients and
generator share the machine, so what is late is late for want of a core too: compare within a row, not between machines.
tests/bench/run shows these tables as its mirror part (`measured`).
"""

import argparse
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "fanout"), str(HERE.parent / "integration")]

from many import Clients, send_queues  # noqa: E402
from measure import Figure, PeakRss, cpu_seconds, figure, rss_mib  # noqa: E402
from rig.proc import wait_until  # noqa: E402
from stage import BUFFER, Stage  # noqa: E402
from table import Table, Target, number, spread, table, verdict_table, verdicts  # noqa: E402

LOADS = ((100, 500), (1_000, 100), (10_000, 20), (10_000, 50))
QUICK_LOADS = ((100, 500), (1_000, 100))
TLS_LOADS = ((100, 500), (1_000, 100), (5_000, 20))
MANY = 10_000  # clients: what one costs shows where the ring's share is small
WARM_S = 1.5
P99_GUARD = 30  # on a busy machine the tail of one run is another's by as much


@dataclass
class Plan:
    build: pathlib.Path
    loads: tuple = LOADS
    rounds: int = 3
    seconds: float = 4
    many: int = MANY
    herd_events: int = 300_000
    say: Callable[[str], None] = print
    tls_loads: tuple = TLS_LOADS


@dataclass
class Found:
    """What a part found. figures: by the keys of its targets."""

    tables: list[Table] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)

    def add(self, other: "Found") -> None:
        self.tables += other.tables
        self.figures |= other.figures
        self.targets += other.targets


# ---- steady ----


@dataclass
class Point:
    """One run of one server: rates a second, CPU in µs a delivery, times in ms, memory in KiB a client."""

    deliveries_s: float
    cpu_us: float
    reader_us: float
    p50: float
    p99: float
    worst: float
    rss_kib: float
    cores: float
    attach_s: float
    batch: float  # deliveries a read


def point(pids: list[int], clients: Clients, none_mib: float, count: int) -> Point:
    """pids: of the server, all of them."""
    rss = []

    def look() -> float:
        rss.append(sum(map(rss_mib, pids)))
        return cpu_seconds(pids)

    result, cpu = clients.window(look)
    if result["missed"] or result["repeated"] or result["gaps"]:
        raise AssertionError(f"not each event once: {result}")
    delay, sent = result["delay_ms"], max(1, result["deliveries"])
    return Point(
        result["deliveries"] / result["seconds"],
        cpu * 1e6 / sent,
        result["cpu_s"] * 1e6 / sent,
        delay["p50"],
        delay["p99"],
        delay["max"],
        (max(rss) - none_mib) * 1024 / count,
        cpu / result["seconds"],
        result["attach_ms"]["max"] / 1e3,
        sent / max(1, result["reads"]),
    )


def steady_once(plan: Plan, bare: bool, count: int, rate: float) -> Point:
    with Stage(plan.build, rate, bare).start() as stage:
        none = rss_mib(stage.pid)
        with Clients(plan.build, stage.url + "/events", count, seconds=plan.seconds, warm=WARM_S) as clients:
            return point([stage.pid], clients, none, count)


def by(points: list[Point], name: str) -> Figure:
    return figure(getattr(p, name) for p in points)


def ratio(ours: list[Point], theirs: list[Point], name: str) -> Figure:
    """Round by round."""
    return figure(getattr(a, name) / max(1e-9, getattr(b, name)) for a, b in zip(ours, theirs, strict=True))


POINT_HEAD = ["clients × events/s", "server", "deliveries/s", "CPU, µs a delivery", "p50, ms", "p99, ms", "max, ms"]
POINT_HEAD += ["RSS, KiB a client", "its cores", "the readers' CPU, µs a delivery", "events a read"]


def point_cells(load: str, name: str, points: list[Point]) -> list[str]:
    figures = [spread(by(points, "deliveries_s"), 0), spread(by(points, "cpu_us"))]
    figures += [spread(by(points, key), 1) for key in ("p50", "p99", "worst")]
    figures += [spread(by(points, key)) for key in ("rss_kib", "cores", "reader_us", "batch")]
    return [load, name, *figures]


def steady(plan: Plan) -> Found:
    found, lines = Found(), []
    for count, rate in plan.loads:
        ours, bare = [], []
        for number_ in range(plan.rounds):
            for bare_one in (number_ % 2 == 0, number_ % 2 == 1):
                (bare if bare_one else ours).append(steady_once(plan, bare_one, count, rate))
        load, key = f"{count:,} × {rate}", f"mirror/{count}x{rate}"
        for name, points in (("bare writer", bare), ("busbar", ours)):
            lines.append(point_cells(load, name, points))
            plan.say("  ".join(lines[-1]))
        for name, what, limit, most in (
            ("deliveries_s", "deliveries/s", 0.95, False),
            ("cpu_us", "CPU a delivery", 1.15, True),
            ("p99", "p99 from publish to receipt", 1.5, True),
        ):
            found.figures[f"{key}/{name}"] = ratio(ours, bare, name)
            told = f"mirror, {load}: {what}, times the bare writer's"
            guard = P99_GUARD if name == "p99" else 2
            found.targets.append(Target(f"{key}/{name}", told, limit, at_least=not most, guard=guard))
        if count >= MANY:
            found.figures["mirror/rss"] = by(ours, "rss_kib")
    if "mirror/rss" in found.figures:
        found.targets.append(Target("mirror/rss", f"mirror: RSS a client, at {MANY:,} clients", 8, "KiB"))
    note = "The readers are one process beside it, the generator another, on the same cores. A server that gets too "
    note += "little of a core sends more events at once, which costs less each: CPU compares where the events a read "
    note += "are alike."
    found.tables.append(Table("The mirror against a bare epoll writer, frames of 1 KB", POINT_HEAD, lines, note))
    return found


# ---- TLS ----

TLS_WAYS = {"plain": {}, "TLS": {"secure": True}, "HAProxy's TLS": {"proxied": True}}


def tls(plan: Plan) -> Found:
    """The same path by the mirror's own TLS, in turns with the plain one; and through a HAProxy that ends TLS."""
    found, lines = Found(), []
    for count, rate in plan.tls_loads:
        told: dict[str, list[TlsPoint]] = {way: [] for way in TLS_WAYS if count <= HAPROXY_MOST or way != "HAProxy's TLS"}
        for _ in range(plan.rounds):
            for way, points in told.items():
                points.append(tls_once(plan, TLS_WAYS[way], count, rate))
        load = f"{count:,} × {rate}"
        for way, points in told.items():
            lines.append(tls_cells(load, way, points))
            plan.say("  ".join(lines[-1]))
        pairs = [[one.point for one in told[way]] for way in ("TLS", "plain")]
        found.figures |= {f"mirror/tls/{count}x{rate}/{name}": ratio(*pairs, name) for name in ("cpu_us", "p99", "rss_kib")}
    head = [*POINT_HEAD, "CPU to attach one, ms", "all attached in, s"]
    note = "TLS 1.3, ECDSA P-256, new sessions all; CPU is the mirror's, with HAProxy's (one thread, mode tcp) where that "
    note += "ends TLS. The readers decrypt on the same cores."
    found.tables.append(Table("With TLS, and without", head, lines, note))
    return found


HAPROXY_MOST = 4_000  # clients: two connections for each of them, and as many open files


@dataclass
class TlsPoint:
    point: Point
    attach_cpu_ms: float  # a client


def tls_once(plan: Plan, way: dict, count: int, rate: float) -> TlsPoint:
    with Stage(plan.build, rate, **way).start() as stage:
        pids = [stage.pid] + ([stage.front.pid] if stage.front else [])
        none, before = sum(map(rss_mib, pids)), cpu_seconds(pids)
        words = {"ca": stage.ca} if stage.ca else {}
        with Clients(plan.build, stage.url + "/events", count, seconds=plan.seconds, warm=WARM_S, **words) as clients:
            clients.wait("attached")
            shaken = cpu_seconds(pids) - before
            return TlsPoint(point(pids, clients, none, count), shaken * 1e3 / count)


def tls_cells(load: str, way: str, points: list[TlsPoint]) -> list[str]:
    cells = point_cells(load, way, [one.point for one in points])
    attach = [figure(one.attach_cpu_ms for one in points), figure(one.point.attach_s for one in points)]
    return [*cells, *(spread(each) for each in attach)]


# ---- the herd ----


HERD_RATE = 10  # events/s meanwhile: ten thousand clients that have caught up get each of them
HERD_TAIL = 2_000  # where most of the herd left off: so many events from the end
HERD_FAR = 100  # one in so many was away for longer: anywhere in the journal


def spread_ids(ids: pathlib.Path, count: int) -> None:
    """One id a client, of all that there are."""
    lines, far = ids.read_text().splitlines(), count // HERD_FAR
    tail, near = lines[-HERD_TAIL:], count - far
    chosen = [tail[i * len(tail) // near] for i in range(near)] + [lines[i * len(lines) // far] for i in range(far)]
    ids.write_text("\n".join(chosen) + "\n")


def herd_once(plan: Plan, count: int, events: int, folder: pathlib.Path) -> tuple[list[str], dict, dict]:
    """kill -9, and all come back at once, spread over the journal, while 50 others are served live."""
    with Stage(plan.build, HERD_RATE) as stage:
        stage.fill(events)
        ids = folder / "ids"
        words = {"write_ids": ids, "until": events, "seconds": 0, "warm": 0}
        with Clients(plan.build, stage.url + "/events?last_event_id=", 1, **words) as one:
            one.wait("result")
        spread_ids(ids, count)
        stage.server.kill9()
        stage.go_live()
        stage.server.start()
        stage.server.wait_attached()
        time.sleep(6)  # the mirror's ring begins 5 s in the past: what the herd wants is in the journal
        with Clients(plan.build, stage.url + "/events", 50, seconds=0, warm=1.5) as live:
            live.wait("begin")
            cpu, start = cpu_seconds([stage.pid]), time.monotonic()
            none = rss_mib(stage.pid)
            words = {"last_event_id": ids, "seconds": 0, "warm": 0, "until_caught": True, "patience": 600}
            with PeakRss([stage.pid]) as rss, Clients(plan.build, stage.url + "/events", count, **words) as back:
                result = back.wait("result", 640)
                took, cpu = time.monotonic() - start, cpu_seconds([stage.pid]) - cpu
            others = live.end()
    for told in (result, others):
        if told["missed"] or told["repeated"] or told["gaps"] or told["closed"]:
            raise AssertionError(f"not each event once: {told}")
    gigabytes = result["bytes"] / 1e9
    caught, attach, delay = result["caught_ms"], result["attach_ms"], others["delay_ms"]
    cells = [f"{count:,}", f"{events:,}", f"{result['caught']:,}", number(result["replayed"] / 1e6)]
    cells += [number(seconds / 1e3) for seconds in (attach["max"], caught["p50"], caught["max"])]
    cells += [number(gigabytes), f"{result['replayed'] / took:,.0f}", number(cpu / took)]
    cells += [number(rss.peak), number((rss.peak - none) * 1024 / count), number(delay["p50"]), number(delay["p99"])]
    return [*cells, number(delay["max"])], result, others


HERD_HEAD = ["clients", "events in the journal", "caught up", "millions replayed", "all attached, s", "half caught up, s"]
HERD_HEAD += ["all, s", "GB", "events/s", "its cores", "RSS, MiB", "KiB a client"]
HERD_HEAD += ["live to 50 others: p50, ms", "p99, ms", "max, ms"]


def herd(plan: Plan) -> Found:
    with tempfile.TemporaryDirectory(prefix="busbar-fanout-") as folder:
        cells, result, others = herd_once(plan, plan.many, plan.herd_events, pathlib.Path(folder))
    plan.say("  ".join(cells))
    worst, share = others["delay_ms"]["max"] / 1e3, result["caught"] / result["clients"]
    found = Found(figures={"mirror/herd/late": figure([worst]), "mirror/herd/caught": figure([share])})
    found.targets = [
        Target("mirror/herd/late", "mirror, a herd returns: the latest live delivery to others", 1, "s", guard=3),
        Target("mirror/herd/caught", "mirror, a herd returns: caught up", 1, "of all", at_least=True, guard=1),
    ]
    note = f"Frames of 1 KB, {HERD_RATE} events/s live. One in {HERD_FAR} begins anywhere in the journal, the others within the "
    note += f"last {HERD_TAIL:,} events, evenly spread. Each client checks that it gets each number behind its own once."
    found.tables.append(Table("A herd that returns at once after a kill -9", HERD_HEAD, [cells], note))
    return found


# ---- slow and dead readers ----


TIMEOUT_S, LAG_S = 2, 3  # who takes nothing is cut before who takes too little


def slow_once(plan: Plan, stopped: int, dead: int, slow_: int) -> list[str]:
    """Good readers beside others, of which each is cut and comes back, but for the dead."""
    readers, window_s = 900, 8
    http = {"client_timeout": f"{TIMEOUT_S}s", "client_lag": f"{LAG_S}s"}
    with Stage(plan.build, 100, http=http).start() as stage:
        bad = Clients(
            plan.build,
            stage.url + "/events",
            max(1, stopped + dead + slow_),
            stopped=stopped,
            closed=dead,
            slow=slow_,
            seconds=0,
            warm=0,
            reconnect=100,
            receive_buffer=8192,
            resume_after=window_s + 2,
        )
        with bad, Clients(plan.build, stage.url + "/events", readers, seconds=window_s, warm=WARM_S) as good:
            good.wait("begin")
            cpu, queues = cpu_seconds([stage.pid]), []
            for _ in range(window_s // 2):
                queues += send_queues(stage.server.http_port)
                time.sleep(1)
            good.wait("end")
            cpu = cpu_seconds([stage.pid]) - cpu
            result = good.wait("result")
            metrics = stage.server.metrics()
            cut = [metrics[f"busbar_clients_cut_{why}_total"] for why in ("timeout", "lag")]
            time.sleep(4)
            back = bad.end()
    if result["missed"] or result["repeated"] or back["missed"] or back["repeated"]:
        raise AssertionError(f"not each event once: {result} {back}")
    delay = result["delay_ms"]
    cells = [f"{readers}", f"{stopped}", f"{dead}", f"{slow_}", f"{result['deliveries'] / result['seconds']:,.0f}"]
    cells += [number(cpu * 1e6 / result["deliveries"]), *(number(delay[key]) for key in ("p50", "p99", "max"))]
    return [*cells, *(f"{count:.0f}" for count in cut), number(max(queues) / 1024)]


def slow(plan: Plan) -> Found:
    head = ["readers", "stop reading", "never read", "read 25 KB/s of 100", "deliveries/s to the readers"]
    head += ["CPU, µs a delivery", "p50, ms", "p99, ms", "max, ms", "cut by timeout", "by lag"]
    head += ["most in a send queue, KiB"]
    lines = []
    for many in (0, 50, 0, 50):
        lines.append(slow_once(plan, many, many, many))
        plan.say("  ".join(lines[-1]))
    note = f"client_timeout {TIMEOUT_S} s, client_lag {LAG_S} s, client_buffer {BUFFER // 1024} KiB, which the kernel "
    note += "doubles. Who was cut came back and missed nothing."
    return Found([Table("Readers that stop, and readers that never read", head, lines, note)])


# ---- filters ----


def filters_once(plan: Plan, count: int, distinct: int, query: str, rate: float) -> list[str]:
    words = {"query": query, "filters": distinct, "any_number": True} if distinct else {}
    with Stage(plan.build, rate).start() as stage:
        words |= {"seconds": plan.seconds, "warm": WARM_S}
        with Clients(plan.build, stage.url + "/events", count, **words) as clients:
            result, cpu = clients.window(lambda: cpu_seconds([stage.pid]))
    cells = [f"{count:,}", f"{distinct}", f"{result['deliveries'] / result['seconds']:,.0f}"]
    return [*cells, number(cpu * 1e6 / (rate * result["seconds"])), number(cpu / result["seconds"])]


def filters(plan: Plan) -> Found:
    head = ["clients", "distinct filters", "deliveries/s", "CPU, µs an event", "its cores"]
    found = Found()
    for title, query, rate, sizes in (
        ("Filters that match nothing", "topic=Nothing:%u", 200, (100, plan.many)),
        ("Filters that match a fifth", "topic=Job&topic=Nothing:%u", 20, (plan.many,)),
    ):
        lines = []
        for count in sizes:
            for distinct in (1, 10, 100):
                lines.append(filters_once(plan, count, distinct, query, rate))
                plan.say("  ".join(lines[-1]))
        found.tables.append(Table(f"{title}, {rate} events/s", head, lines))
    return found


# ---- all ----

PARTS = {"steady": steady, "tls": tls, "herd": herd, "slow": slow, "filters": filters}


def measured(plan: Plan, parts: list[str] | None = None) -> Found:
    """Runs the parts; one that fails says so and leaves no figure."""
    found = Found()
    for name in parts or PARTS:
        plan.say(f"---- {name}")
        found.add(PARTS[name](plan))
    return found


def quick(plan: Plan) -> Plan:
    return Plan(plan.build, QUICK_LOADS, 2, 2, 1_000, 5_000, plan.say, QUICK_LOADS)


def _loads(text: str) -> tuple:
    return tuple(tuple(int(word) for word in load.split("x")) for load in text.split(","))


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("parts", nargs="*", help=", ".join(PARTS))
    words.add_argument("--quick", action="store_true")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--seconds", type=float, default=4)
    words.add_argument("--loads", help="100x500,1000x100")
    words.add_argument("--tls-loads", help="the same, of tls")
    words.add_argument("--many", type=int, default=MANY, help="clients of the herd and of the filters")
    words.add_argument("--herd-events", type=int, default=300_000)
    words.add_argument("--build", type=pathlib.Path, default=HERE.parent.parent / "build" / "release")
    args = words.parse_args()
    loads = _loads(args.loads) if args.loads else LOADS
    build = args.build.resolve()
    plan = Plan(build, loads, args.rounds, args.seconds, args.many, args.herd_events)
    plan.tls_loads = _loads(args.tls_loads) if args.tls_loads else TLS_LOADS
    plan.say = lambda text: print(text, flush=True)
    found = measured(quick(plan) if args.quick else plan, args.parts)
    for one in found.tables:
        print(f"\n### {one.title}\n\n{table(one.head, one.lines, 2)}\n\n{one.note}")
    if found.targets:
        print("\n" + verdict_table(verdicts(found.targets, found.figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
