"""Measures one run of one bridge, and several of them in turns: CPU, rate and memory, with medians and spread.

A run: the generator starts and is stopped at once (SIGSTOP); the bridge starts, connects and comes to rest; from then
on the clock runs. It ends when the target itself (Kafka's end offsets, a stream's length) tells that all events are
there; the CPU is read a moment later, when the bridge has come to rest again, so that what it does behind counts too.
What the bridge did until it came to rest at its start does not count. CPU is of all processes of the bridge and their
children, by the scheduler's own count in ns. RSS is RssAnon, the highest of some ten looks a second.
"""

import contextlib
import os
import pathlib
import re
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

TICK = os.sysconf("SC_CLK_TCK")
LOOK_S = 0.05  # how often the target is asked while the clock runs
REST_S = 0.25  # at rest: less than 3 % of a core for so long
SETTLE_MAX_S = 20.0


class Failed(Exception):
    """A run that gave no figure; the text says why, in a line."""


# ---- what Linux tells of processes ----


def _stat(pid: int) -> list[str]:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of the processes, all their threads, and the children that they waited for. One that has
    ended counts until it is waited for, then no more."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            # The process' own clock: ns, threads that have ended too. Children: ticks of 10 ms, when waited for.
            total += time.clock_gettime((~pid << 3) | 2)
            fields = _stat(pid)
            total += (int(fields[13]) + int(fields[14])) / TICK
    return total


def threads(pid: int) -> dict[str, float]:
    """User and system time of each thread that lives, by `name/tid`."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            name = (task / "comm").read_text().strip()
            found[f"{name}/{task.name}"] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


def rss_mib(pid: int) -> float:
    """RssAnon now, in MiB; 0 for a process that is gone."""
    with contextlib.suppress(OSError):
        found = re.search(r"RssAnon:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


def is_alive(pid: int) -> bool:
    """It runs, and is no zombie."""
    with contextlib.suppress(OSError):
        return _stat(pid)[0] not in "ZX"
    return False


def machine_busy() -> float:
    """CPU seconds that the whole machine was busy, since its start."""
    fields = [int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK


def connections(port: int) -> int:
    """So many are connected to the port of 127.0.0.1, be they accepted or not."""
    rows = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "01" for row in rows)


def has_connection(port: int) -> bool:
    """Somebody is connected to the port of 127.0.0.1, be it accepted or not."""
    return connections(port) > 0


class PeakRss:
    """The highest sum of RssAnon of the processes while it runs, in MiB."""

    def __init__(self, pids: Iterable[int], every: float = 0.1):
        self.pids, self.every, self.peak, self.done = list(pids), every, 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, sum(map(rss_mib, self.pids)))
            if self.done.wait(self.every):
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


# ---- the source ----


class Generator:
    """The stand-in Nomad (generator.c): serves `lines` lines of `events` events of about `size` bytes each, at `rate`
    lines a second or, with 0, as fast as they are read. hold() keeps it from answering until release()."""

    def __init__(
        self,
        build: pathlib.Path,
        lines: int,
        rate: float = 0,
        size: int = 2048,
        events: int = 1,
        keys: int = 1000,
        more: Iterable[str] = (),
    ):
        argv = [build / "tests" / "generator", "--lines", lines, "--rate", rate, "--size", size, "--keys", keys]
        argv += ["--events-a-line", events, *more]
        self.process = subprocess.Popen([str(word) for word in argv], stdout=subprocess.PIPE, text=True)
        said = self.process.stdout.readline().split()
        if len(said) != 2:
            raise Failed(f"the generator said {said}")
        self.port = int(said[1])
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def hold(self) -> None:
        """Connections are made, by the kernel, and requests wait."""
        self.process.send_signal(signal.SIGSTOP)

    def release(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


# ---- one run ----


@dataclass
class Result:
    """One run: wall and cpu in seconds, RSS in MiB; cores: how many cores each other party used meanwhile."""

    events: int
    wall: float
    cpu: float
    rss_mib: float
    cores: dict[str, float] = field(default_factory=dict)

    @property
    def events_s(self) -> float:
        return self.events / self.wall

    @property
    def cpu_us(self) -> float:
        return self.cpu * 1e6 / self.events


def settle(pids: Iterable[int], timeout: float = SETTLE_MAX_S) -> None:
    """Waits until the processes use less than 3 % of a core; or until the time is over."""
    pids = list(pids)
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        before, start = cpu_seconds(pids), time.monotonic()
        time.sleep(REST_S)
        if cpu_seconds(pids) - before < 0.03 * (time.monotonic() - start):
            return


def _await_connection(port: int, running) -> None:
    until = time.monotonic() + SETTLE_MAX_S
    while not has_connection(port):
        if time.monotonic() > until or not all(map(is_alive, running.pids)):
            raise Failed(f"did not connect to the source: {last_line(running.log_tail())}")
        time.sleep(0.02)


def last_line(text: str) -> str:
    """The last line that says something, short enough for a table."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("---")]
    return lines[-1][:200] if lines else "it said nothing"


def await_events(published: Callable[[], float], events: int, timeout: float, running) -> None:
    """Returns when `published` has come to `events`. A process that ends before is a failure, unless the peer itself
    ended it (`running.finished`)."""
    until = time.monotonic() + timeout
    while (found := published()) < events:
        now = time.monotonic()
        # A `finished` peer ended a part of itself on purpose: kcat lets go of its last lines at its input's end.
        dead = not getattr(running, "finished", False) and not all(map(is_alive, running.pids))
        if now > until or dead:
            why = "it ended" if dead else f"not within {timeout:g} s"
            raise Failed(f"{found:.0f} of {events} events, {why}: {last_line(running.log_tail())}")
        time.sleep(LOOK_S)


def once(
    peer,
    job,
    events: int,
    size: int = 2048,
    a_line: int = 1,
    servers: dict[str, int] | None = None,
    timeout: float = 120,
) -> Result:
    """One run of the peer with so many events (rounded up to whole lines). The job's source, events_a_line and expect
    are filled in here. servers: pids of the targets by name, whose share of a core is told beside."""
    servers = servers or {}
    lines = -(-events // a_line)
    events = lines * a_line
    with Generator(job.build, lines, size=size, events=a_line) as generator:
        generator.hold()
        told = job._replace(source=generator.url, events_a_line=a_line, expect=events)
        with peer.start(told) as running:
            pids = list(running.pids)
            _await_connection(generator.port, running)
            settle(pids)
            watched = {**servers, "generator": generator.pid}
            before = {name: cpu_seconds([pid]) for name, pid in watched.items()} | {"machine": machine_busy()}
            cpu, start = cpu_seconds(pids), time.monotonic()
            with PeakRss(pids) as rss:
                generator.release()
                await_events(running.published, events, timeout, running)
                wall = time.monotonic() - start
                after = {name: cpu_seconds([pid]) for name, pid in watched.items()} | {"machine": machine_busy()}
                settle(pids, 2.0)
            cpu = cpu_seconds(pids) - cpu
    cores = {name: (after[name] - before[name]) / wall for name in after}
    return Result(events, wall, cpu, rss.peak, cores)


# ---- several, in turns ----


class Figure(NamedTuple):
    """A median and what it lies between."""

    median: float
    low: float
    high: float


def figure(values: Iterable[float]) -> Figure:
    """Of at least one value."""
    values = list(values)
    return Figure(statistics.median(values), min(values), max(values))


@dataclass
class Row:
    """What was found of one peer in one comparison; `failed` where a round gave no figure, and why."""

    peer: str
    into: str
    size: int
    a_line: int
    results: list[Result] = field(default_factory=list)
    failed: str = ""

    @property
    def cpu_us(self) -> Figure | None:
        return figure(r.cpu_us for r in self.results) if self.results else None

    @property
    def events_s(self) -> Figure | None:
        return figure(r.events_s for r in self.results) if self.results else None

    @property
    def rss_mib(self) -> Figure | None:
        return figure(r.rss_mib for r in self.results) if self.results else None

    def cores(self, name: str) -> float | None:
        """The median share of a core, e.g. of "kafka"."""
        found = [r.cores[name] for r in self.results if name in r.cores]
        return statistics.median(found) if found else None


def rounds(rows: list[Row], run: Callable[[Row, int], Result], count: int) -> None:
    """Runs all rows in turns (A B C, A B C, …), so that drift of the machine hits all alike. A row that fails is not
    tried again. What `run` raises besides Failed and OSError ends it, with what there is kept in the rows."""
    for number in range(count):
        for row in rows:
            if row.failed:
                continue
            try:
                row.results.append(run(row, number))
            except (Failed, OSError, AssertionError) as e:
                row.failed = last_line(str(e)) if str(e) else type(e).__name__
