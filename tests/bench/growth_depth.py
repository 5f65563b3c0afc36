"""The sweep over a tree of mirrors: a busbar that follows a busbar that follows … the source."""

import contextlib
import json

import measure
from growth_rig import Busbar, Found, Plan, Rig
from growth_sweeps import Curve, Sweep

RATE = 200  # events/s: one region of the fleet in FLEET.md


def _run(rig: Rig, depth: int, seconds: float) -> tuple[Found, float]:
    """The reader is at the last one; and the CPU of all, in percent of a core."""
    run = rig.name()
    plan = Plan(int(RATE * seconds * 4), sinks=(), rate=RATE, seconds=seconds, follow=("sse",))
    with contextlib.ExitStack() as ends:
        ends.enter_context(rig.alone())
        generator = ends.enter_context(measure.Generator(rig.build, plan.events, RATE))
        url, chain = generator.url, []
        for level in range(depth):
            source = {"name": "region", "type": "nomad", "servers": [url], "start": "now" if level else "oldest"}
            config = {"name": f"{run}-{level}", "sources": [source]}
            chain.append(ends.enter_context(Busbar(config)))
            chain[-1].wait_attached()
            url = chain[-1].url
        pids = [busbar.pid for busbar in chain]
        _, process = rig.follow("sse", plan, run, chain[-1], ends)
        before = [measure.cpu_seconds([pid]) for pid in pids]
        told = json.loads(process.stdout.readline())
        used = [measure.cpu_seconds([pid]) - cpu for pid, cpu in zip(pids, before)]
    assert told["count"] > RATE * seconds * 0.7, told
    return Found(round(RATE * seconds), used[-1], seconds, 0.0, {"sse": told}), sum(used) / seconds * 100


def depth(rig: Rig, short: bool) -> Sweep:
    """Levels of mirrors, one below the other."""
    core = Curve("cpu", "% of a core", "all of them together", "linear")
    curves = {key: Curve("latency", "ms from the source to the last reader", key, "linear") for key in ("p50", "p99")}
    for levels in (1, 2) if short else (1, 2, 4):
        found, cores = _run(rig, levels, 2.5 if short else 5)
        late = found.latency["sse"]
        print(f"  depth {levels}: {cores:.1f} % of a core, p50 {late['p50']:.2f} ms, p99 {late['p99']:.2f} ms", flush=True)
        core.add(levels, cores)
        for key, curve in curves.items():
            curve.add(levels, late[key])
    fixed = f"{RATE} events/s of 2 KB, one reader at the last mirror"
    return Sweep("depth", "Mirrors of mirrors", "levels", fixed, [core, *curves.values()])
