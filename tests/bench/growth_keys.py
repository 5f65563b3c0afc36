"""The sweep over different keys: what each costs at ingest, and in the state table, which reads the journal behind it."""

import shutil

import measure
from growth_rig import Busbar, Found, Plan, Rig
from growth_sweeps import Curve, Sweep

SIZE = 256


def _point(rig: Rig, keys: int, events: int, more: dict) -> tuple[Found, float, float, float]:
    """The run; then CPU s, RssAnon and MiB of file of a state table that is made anew from the whole journal."""
    run = rig.name()
    plan = Plan(events, size=SIZE, keys=keys, sinks=(), source=more)
    with rig.alone(), measure.Generator(rig.build, events, 0, SIZE, 1, keys) as generator:
        generator.hold()
        with Busbar(rig.config(plan, run, generator.url), folder=rig.folder / run) as busbar:
            try:
                measure.settle([busbar.pid])
                found = rig.watch(plan, busbar, generator, [])
                busbar.stop()
                table = busbar.folder / "journal" / f"{run}-0" / "state"
                shutil.rmtree(table)
                busbar.start()
                with measure.PeakRss([busbar.pid]) as rss:
                    measure.settle([busbar.pid], 60)
                cpu = measure.cpu_seconds([busbar.pid])
                bytes_ = sum(path.stat().st_blocks * 512 for path in table.iterdir())
                return found, cpu, rss.peak, bytes_ / 2**20
            finally:
                busbar.close()
                shutil.rmtree(busbar.folder, ignore_errors=True)


WRITES = "the table writes each page that it touched since its last commit: few keys, the same few pages over and over"


def keys(rig: Rig, short: bool) -> Sweep:
    """Different keys among as many events."""
    counts = (10, 1000, 20_000) if short else (10, 1000, 100_000, 1_000_000)
    events = 40_000 if short else 1_000_000
    cpu = {"default": Curve("cpu", "µs/event", "ingest", "flat"), "drop": Curve("cpu", "µs/event", "ingest, drop_unchanged", "flat")}
    cpu["state"] = Curve("cpu", "µs/event", "state table", "flat", why=WRITES, guarded=False)
    rss = {"default": Curve("memory", "RssAnon, MiB", "ingest", "linear")}
    rss["drop"] = Curve("memory", "RssAnon, MiB", "ingest, drop_unchanged", "linear")
    rss["state"] = Curve("memory", "RssAnon, MiB", "state table made anew", "linear")
    disk = Curve("disk", "MiB on disk", "state table", "linear")
    for count in counts:
        for name, more in (("default", {}), ("drop", {"drop_unchanged": True})):
            found, again, peak, mib = _point(rig, count, events, more)
            cpu[name].add(count, found.us)
            rss[name].add(count, found.rss_mib)
            text = f"{found.us:.2f} us/event, {found.rss_mib:.1f} MiB; state table {again * 1e6 / events:.2f} us/event, {peak:.1f} MiB, {mib:.1f} MiB on disk"
            print(f"  keys, {name} {count}: {text}", flush=True)
        cpu["state"].add(count, again * 1e6 / events)
        rss["state"].add(count, peak)
        disk.add(count, mib)
    fixed = f"{events:,} events of {SIZE} B at full speed into the journal; the table made anew from all of it"
    return Sweep("keys", "Different keys", "keys", fixed, [*cpu.values(), *rss.values(), disk])
