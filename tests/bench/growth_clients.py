"""The sweep over the mirror's clients, with the tools of fanout/."""

import pathlib
import sys

import measure
from growth_rig import Rig
from growth_sweeps import Curve, Sweep

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "fanout"))

from many import Clients  # noqa: E402
from stage import Stage  # noqa: E402

RATE = 20
SIZE = 1024
BURST = "an event is a burst of as many deliveries; where server and readers together fill the cores, bursts meet"


def _point(rig: Rig, count: int, seconds: float) -> dict[str, float]:
    with rig.alone(), Stage(rig.build, RATE, size=SIZE).start() as stage:
        none = measure.rss_mib(stage.pid)
        with Clients(rig.build, stage.url + "/events", count, seconds=seconds, warm=1) as clients:
            told, cpu = clients.window(lambda: measure.cpu_seconds([stage.pid]))
            rss = measure.rss_mib(stage.pid)
    assert not told["missed"] and not told["repeated"] and not told["gaps"], told
    return {
        "core": cpu / told["seconds"] * 100,
        "us": cpu * 1e6 / max(told["deliveries"], 1),
        "rss": rss - none,
        "p50": told["delay_ms"]["p50"],
        "p99": told["delay_ms"]["p99"],
        "late": told["deliveries"] / max(count * RATE * told["seconds"], 1),
    }


def clients(rig: Rig, short: bool) -> Sweep:
    """Clients of one mirror, each getting every event."""
    counts = (10, 100, 1000) if short else (10, 100, 1000, 10_000)
    curves = {
        "core": Curve("core", "% of a core", "the mirror", "linear"),
        "us": Curve("cpu", "µs a delivery", "the mirror", "flat"),
        "rss": Curve("memory", "RssAnon, MiB above none", "the mirror", "linear"),
        "p50": Curve("latency", "ms from publish to receipt", "p50", "linear", why=BURST, guarded=False),
        "p99": Curve("latency", "ms from publish to receipt", "p99", "linear", why=BURST, guarded=False),
    }
    for count in counts:
        found = _point(rig, count, 1.5 if short else 4)
        print(f"  clients {count}: " + ", ".join(f"{k} {v:.3g}" for k, v in found.items()), flush=True)
        for key, curve in curves.items():
            curve.add(count, found[key])
    fixed = f"{RATE} events/s of 1 KB, every one to every client; the readers share the machine's cores"
    return Sweep("clients", "Clients of one mirror", "clients", fixed, list(curves.values()))
