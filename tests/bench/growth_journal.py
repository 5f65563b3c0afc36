"""The sweep over the journal's length: one journal that grows from stage to stage, and what depends on how long it is.

At each length: the time from exec to an answer of /healthz and of /readyz, after a clean end, after kill -9 and with
another journal id (`meta` lost), with the CPU until it is at rest (the state table reads what it had not read of the journal: all of it under another id); the CPU of 50,000 more events; and how long a client
waits for the first event behind a Last-Event-ID, a time or a Nomad index anywhere in the journal.
"""

import contextlib
import http.client
import itertools
import pathlib
import shutil
import socket
import statistics
import time

import growth_fit
import measure
from growth_rig import Busbar, Plan, Rig
from growth_sweeps import Curve, Sweep

SIZE = 2048
LENGTHS = (1000, 60_000, 200_000, 500_000, 2_000_000)
SHORT_LENGTHS = (10_000, 100_000)
PLACES = (0.0, 0.5, 0.9)  # of the journal, where a client comes back to
WARM = 2  # returns that are not counted: the first ones pay for what is not there yet
TRIES = (5, 40)  # at least; and at most, where that does not take longer than …
TRIES_S = 1.0
REST_S = 0.05  # what a thread has used since it last slept is known when it sleeps again
CATCH_UP_S = 7  # the state table begins to read what it had not read of the journal within so long
STARTS_EACH = 3  # the best one counts: a start is short, and others are on the machine
OTHER = "00000000000000ff"  # the id of a journal that is not here


class Place:
    """One busbar on one journal, its generator always at the same port, with as many events as the stage has."""

    def __init__(self, rig: Rig, ends: contextlib.ExitStack):
        self.rig, self.run = rig, rig.name()
        with measure.Generator(rig.build, 0) as first:
            self.port = first.port
        url = f"http://127.0.0.1:{self.port}"
        config = rig.config(Plan(sinks=("redis",)), self.run, url) | {"journal": {"max_size": "64GiB"}}
        self.busbar = Busbar(config, folder=rig.folder / self.run)
        self.generator = None
        ends.callback(shutil.rmtree, self.busbar.folder, ignore_errors=True)
        ends.callback(self.end)

    def end(self) -> None:
        self.busbar.close()
        self.serve(None)

    def serve(self, events: int | None) -> None:
        """The source has so many events now; None: it is gone."""
        if self.generator:
            self.generator.__exit__()
        more = ("--port", str(self.port))
        self.generator = measure.Generator(self.rig.build, events, size=SIZE, more=more) if events is not None else None

    def lose_meta(self) -> None:
        for path in self.busbar.folder.rglob("meta"):
            path.unlink()

    def start(self) -> dict[str, float]:
        """ms to /healthz, ms to /readyz, CPU s until at rest, MiB, MiB read from files."""
        begun = time.monotonic()
        self.busbar.start(wait=False)
        found = {}
        for path in ("/healthz", "/readyz"):
            while not self._answers(path):
                assert self.busbar.running, self.busbar.log_tail()
                time.sleep(0.002)
            found[path] = (time.monotonic() - begun) * 1e3
        measure.settle([self.busbar.pid], 60)
        pid = self.busbar.pid
        return found | {"cpu": measure.cpu_seconds([pid]), "rss": measure.rss_mib(pid), "read": read_mib(pid)}

    def _answers(self, path: str) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.busbar.get(path)[0] == 200
        return False

    def grow(self, have: int, to: int) -> float:
        """µs CPU an event until all of them are in the sink; the busbar is stopped before and after."""
        self.serve(to)
        self.busbar.start()
        before = measure.cpu_seconds([self.busbar.pid])
        self.await_published(to)
        used = measure.cpu_seconds([self.busbar.pid]) - before
        self.busbar.stop()
        return used * 1e6 / (to - have)

    def await_published(self, to: int, timeout: float = 300) -> None:
        until = time.monotonic() + timeout
        stream = f"{self.run}-redis0"
        client = self.rig.redis.client()
        while not client.exists(stream) or client.xinfo_stream(stream)["entries-added"] < to:
            if time.monotonic() > until:
                raise measure.Failed(f"not {to} in {timeout:g} s\n{self.busbar.log_tail()}")
            time.sleep(0.05)

    # ---- a client that comes back ----

    def first(self, path: str, header: str = "") -> tuple[float, bytes]:
        """ms to the first event, and what came up to its end."""
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.busbar.http_port), timeout=60) as link:
            link.sendall(f"GET {path} HTTP/1.1\r\nHost: growth\r\n{header}\r\n".encode())
            data = b""
            while b'"Index":' not in data:
                more = link.recv(65536)
                assert more, data
                data += more
        return (time.monotonic() - begun) * 1e3, data

    def seek(self, path: str, header: str = "") -> tuple[float, float]:
        """Of some returns: the median of the ms to the first event, and the busbar's CPU ms for one, all told."""
        for _ in range(WARM):
            self.first(path, header)
        measure.settle([self.busbar.pid], 5)  # the reader before this one is still being noticed as gone
        before, until = measure.cpu_seconds([self.busbar.pid]), time.monotonic() + TRIES_S
        took: list[float] = []
        while len(took) < TRIES[0] or len(took) < TRIES[1] and time.monotonic() < until:
            took.append(self.first(path, header)[0])
        time.sleep(REST_S)
        return statistics.median(took), (measure.cpu_seconds([self.busbar.pid]) - before) / len(took) * 1e3

    def ids_at(self, part: float, events: int) -> tuple[str, str]:
        """The id of the event at that part of the journal, here and as an instance with another journal has it."""
        event = f"{self.run}-0:{max(int(events * part), 2)}.0"
        asked = f"{event}@{time.time_ns() // 1000}.{OTHER}"
        data = self.first("/events", f"Last-Event-ID: {asked}\r\n")[1]
        own = next(line for line in data.split(b"\n") if line.startswith(b"id: "))[4:].strip().decode()
        assert own.startswith(f"{event}@"), (own, asked)
        return own, f"{own.rpartition('.')[0]}.{OTHER}"


def read_mib(pid: int) -> float:
    """What the process has read so far, from the disk or from the kernel's memory of it."""
    told = pathlib.Path(f"/proc/{pid}/io").read_text()
    return int(told.partition("rchar: ")[2].split()[0]) / 2**20


BOUNDED = "up to a bound that 1,000 events stay below: see the end of this page"
DISK = f"{BOUNDED}; and the disk's time, which others use too"
BUSY = "less than a ms, on a machine that others use too: the CPU beside it tells more"
OVERLAP = "all that arrived in the 5 s before the id is looked through: 5 s of a fill at 100,000/s, and no more than that"
STARTS = {"clean": "after a clean end", "killed": "after kill -9", "new id": "with another journal id"}


def _curves() -> dict[str, Curve]:
    curves = {}
    for key, name in STARTS.items():
        most, why = ("linear", "") if key == "new id" else ("flat", BOUNDED)
        curves[f"ready {key}"] = Curve("start", "ms to /readyz", name, "flat", why=DISK, guarded=False)
        curves[f"cpu {key}"] = Curve("start-cpu", "CPU ms until at rest", name, most, why=why)
        curves[f"read {key}"] = Curve("start-read", "MiB read until at rest", name, most, why=why, guarded=False)
    curves["append"] = Curve("cpu", "µs/event", "into the journal and Redis", "flat")
    curves["rss"] = Curve("memory", "RssAnon, MiB", "at rest after a start", "flat")
    names = {"sse": "Last-Event-ID", "foreign": "another instance's id", "nomad": "Nomad index"}
    for part, (key, name) in itertools.product(PLACES, names.items()):
        why = OVERLAP if key == "foreign" else ""
        text = f"{name} at {part:.0%}"
        curves[f"{key} {part}"] = Curve("seek", "ms to the first event", text, "flat", why=why or BUSY, guarded=False)
        curves[f"{key} cpu {part}"] = Curve("seek-cpu", "CPU ms a return", text, "flat", why=why, guarded=not why)
    return curves


def what_is_read(curves: dict[str, Curve]) -> str:
    """Why a start costs more with 20,000 events than with 1,000, and no more with 2,000,000: from the figures."""
    keys = ("clean", "killed")
    read = [y for key in keys for _, y in curves[f"read {key}"].points]
    cpu = [y for key in keys for _, y in curves[f"cpu {key}"].points]
    fixed, each, off = growth_fit.line(list(zip(read, cpu)))
    return (
        "**What a start reads** has a bound: the newest 16,384 events, by whose identities a repeat is known (33 MiB of 2 KB each), "
        "and the last segment, whole, for its checksums (up to 64 MiB, by where in it the journal ends). 1,000 events are 2 MiB, "
        f"read for each of the two. The CPU follows from it, whatever the length: {fixed:.3g} ms, and {each:.2g} ms for each MiB "
        f"read (±{off * 100:.0f} %). Of a finished segment only the header and the index are read."
    )


def _stage(place: Place, events: int, more: int, curves: dict[str, Curve], short: bool) -> None:
    """All figures at one length; the busbar is stopped before and after. The first start is not counted: what the state
    table had not read before (up to a minute's events) is read by it. short: not what needs long waits."""
    place.serve(events)
    place.start()
    if not short:
        time.sleep(CATCH_UP_S)
    measure.settle([place.busbar.pid], 60)
    ways = {"clean": STARTS_EACH, "killed": STARTS_EACH} | ({} if short else {"new id": 1})
    for key, tries in ways.items():
        found = [_start(place, key) for _ in range(tries)]
        told = {name: min(one[name] for one in found) for name in found[0]}
        print(f"  journal {events}: {key}: " + ", ".join(f"{k} {v:.3g}" for k, v in told.items()), flush=True)
        curves[f"ready {key}"].add(events, told["/readyz"])
        curves[f"cpu {key}"].add(events, told["cpu"] * 1e3)
        curves[f"read {key}"].add(events, told["read"])
        if key == "clean":
            curves["rss"].add(events, told["rss"])
    _seeks(place, events, curves)
    place.busbar.stop()
    with place.rig.alone():
        curves["append"].add(events, place.grow(events, events + more))


def _start(place: Place, key: str) -> dict[str, float]:
    """Ends it in that way and starts it again."""
    if key == "killed":
        place.busbar.kill9()
    else:
        place.busbar.stop()
    if key == "new id":
        place.lose_meta()
    with place.rig.alone():
        found = place.start()
    if key == "new id":
        time.sleep(CATCH_UP_S)
        measure.settle([place.busbar.pid], 60)
        found |= {"cpu": measure.cpu_seconds([place.busbar.pid]), "read": read_mib(place.busbar.pid)}
    return found


def _seeks(place: Place, events: int, curves: dict[str, Curve]) -> None:
    for part in PLACES:
        own, foreign = place.ids_at(part, events)
        nomad = f"/sources/{place.run}-0/v1/event/stream?topic=*&index={max(int(events * part), 1)}"
        with place.rig.alone():
            found = {
                "sse": place.seek("/events", f"Last-Event-ID: {own}\r\n"),
                "foreign": place.seek("/events", f"Last-Event-ID: {foreign}\r\n"),
                "nomad": place.seek(nomad),
            }
        told = ", ".join(f"{kind} {ms:.2f} ms ({cpu:.2f} CPU)" for kind, (ms, cpu) in found.items())
        print(f"  journal {events}: at {part:.0%}: {told}", flush=True)
        for kind, (ms, cpu) in found.items():
            curves[f"{kind} {part}"].add(events, ms)
            curves[f"{kind} cpu {part}"].add(events, cpu)


def journal(rig: Rig, short: bool) -> Sweep:
    """The length of the journal, up to 4 GiB."""
    curves = _curves()
    more = 10_000 if short else 50_000
    with contextlib.ExitStack() as ends:
        place, have = Place(rig, ends), 0
        for events in SHORT_LENGTHS if short else LENGTHS:
            if events > have:
                place.grow(have, events)
                have = events
            _stage(place, have, more, curves, short)
            have += more
    fixed = "2 KB an event, one Redis sink; clients one at a time"
    notes = [what_is_read(curves)]
    return Sweep("journal", "Length of the journal", "events in the journal", fixed, list(curves.values()), notes)
