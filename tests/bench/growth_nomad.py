"""The sweep over who subscribes: what a real Nomad server pays for its event stream, with clients straight at it and
with one busbar in between."""

import contextlib
import json
import subprocess

import measure
from growth_rig import HERE, Busbar, Rig
from growth_sweeps import Curve, Sweep
from rig.load import Load
from rig.nomad import Nomad

RATE = 100  # events/s, about
BUFFER = 300  # so little that what is old is soon told, so much that no reader here is too slow for it


def _drain(url: str, count: int, seconds: float, ends: contextlib.ExitStack) -> subprocess.Popen:
    argv = ["/usr/bin/python3", str(HERE / "growth_follow.py"), "drain", url, str(count), str(seconds)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    ends.callback(process.stdout.close)
    ends.callback(process.wait)
    ends.callback(process.kill)
    assert process.stdout.readline() == "ready\n"
    return process


def _point(rig: Rig, nomad: Nomad, url: str, count: int, seconds: float) -> tuple[float, float]:
    """Nomad's CPU in µs for each event that it told (to however many), and the events/s that each client got."""
    with rig.alone(), contextlib.ExitStack() as ends:
        process = _drain(url, count, seconds, ends)
        before = measure.cpu_seconds([nomad.pid])
        told = json.loads(process.stdout.readline())
        used = measure.cpu_seconds([nomad.pid]) - before
    assert told["lost"] == 0, told
    events = told["events"] / count
    return used * 1e6 / max(events, 1), events / seconds


def nomad(rig: Rig, short: bool) -> Sweep:
    """Readers of one region's event stream."""
    counts = (1, 20) if short else (1, 50, 200)
    seconds = 3 if short else 6
    straight = Curve("cpu", "µs of Nomad's CPU an event", "straight at Nomad", "linear")
    behind = Curve("cpu", "µs of Nomad's CPU an event", "behind one busbar", "flat")
    with contextlib.ExitStack() as ends:
        server = ends.enter_context(Nomad(event_buffer_size=BUFFER))
        ends.enter_context(Load(server, rate=RATE))
        source = {"name": "region", "type": "nomad", "servers": [server.address], "start": "now"}
        busbar = Busbar({"name": rig.name(), "sources": [source]})
        for count in counts:
            cpu, rate = _point(rig, server, server.address, count, seconds)
            print(f"  nomad {count}: straight: {cpu:.0f} us of its CPU an event at {rate:.0f} events/s", flush=True)
            straight.add(count, cpu)
        ends.enter_context(busbar)
        busbar.wait_attached()
        for count in counts:
            cpu, rate = _point(rig, server, busbar.url, count, seconds)
            print(f"  nomad {count}: behind a busbar: {cpu:.0f} us of its CPU an event at {rate:.0f} events/s", flush=True)
            behind.add(count, cpu)
    fixed = f"a real Nomad 1.5.0, one server; a scripted load of some {RATE} events/s, whose own cost is in all figures"
    return Sweep("nomad", "Readers of one Nomad's event stream", "readers", fixed, [straight, behind])
