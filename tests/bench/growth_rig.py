"""What the sweeps of growth.py are made of: servers that stay, one busbar at a time, and what is read off it.

A run: generator held, busbar started, all its sources connected and it at rest, then the clock: CPU of the busbar's
process, RssAnon (highest), wall clock until the target itself has everything. With a rate: so many seconds of it, with
followers (growth_follow.py) that tell the latency. `Rig.alone` may be set to a context manager under which each run is
made.
"""

import contextlib
import itertools
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import measure
import peers

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

from rig.busbar import Busbar  # noqa: E402
from rig.kafka import Kafka  # noqa: E402
from rig.redis_server import Redis  # noqa: E402

TOPICS = peers.TOPICS


@dataclass
class Found:
    """One run. cpu and wall in seconds; latencies in ms by exit."""

    events: int
    cpu: float
    wall: float
    rss_mib: float
    latency: dict[str, dict] = field(default_factory=dict)
    servers: dict[str, float] = field(default_factory=dict)  # CPU seconds of each target meanwhile

    @property
    def us(self) -> float:
        return self.cpu * 1e6 / max(self.events, 1)

    @property
    def core(self) -> float:
        """Percent of a core."""
        return self.cpu / self.wall * 100

    @property
    def rate(self) -> float:
        return self.events / self.wall


@dataclass
class Plan:
    """What one run does; everything that a sweep may vary."""

    events: int = 100_000  # of all sources together
    size: int = 2048
    keys: int = 1000
    sources: int = 1
    sinks: tuple[str, ...] = ("redis",)  # kinds, one entry a sink
    warm: int = 0  # so many more of them come before the clock runs: memory that stays is filled
    rate: float = 0  # events/s of all sources together
    seconds: float = 0  # with a rate, or with no events at all
    follow: tuple[str, ...] = ()  # exits whose latency is read: sse, redis, kafka
    source: dict = field(default_factory=dict)  # further settings of each source


class Rig:
    """The servers, started when first needed, and names that are never used twice."""

    def __init__(self, build: pathlib.Path):
        self.build = build
        self.numbers = itertools.count(1)
        self.ends = contextlib.ExitStack()
        self.alone: Callable = contextlib.nullcontext
        self._kafka: Kafka | None = None
        self._redis: Redis | None = None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="busbar-growth-"))
        self.ends.callback(shutil.rmtree, self.folder, ignore_errors=True)

    @property
    def kafka(self) -> Kafka:
        self._kafka = self._kafka or self.ends.enter_context(Kafka())
        return self._kafka

    @property
    def redis(self) -> Redis:
        self._redis = self._redis or self.ends.enter_context(Redis({"appendonly": "no", "save": ""}))
        return self._redis

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ends.close()

    def name(self) -> str:
        return f"g{next(self.numbers)}"

    # ---- configuration ----

    def sink(self, kind: str, name: str, run: str) -> dict:
        """One topic or stream for each sink and run, so that followers have one thing to read."""
        if kind == "redis":
            return {"name": name, "type": "redis", "url": self.redis.url, "stream": f"{run}-{name}", "max_entries": 20000}
        properties = {"compression.type": "lz4"}
        settings = {"brokers": self.kafka.bootstrap, "topic": f"{run}-{name}", "partitions": 1, "properties": properties}
        return {"name": name, "type": "kafka", **settings}

    def config(self, plan: Plan, run: str, url: str) -> dict:
        more = {"type": "nomad", "servers": [url], "start": "oldest", **plan.source}
        sources = [{"name": f"{run}-{k}", **more} for k in range(plan.sources)]
        sinks = [self.sink(kind, f"{kind}{k}", run) for k, kind in enumerate(plan.sinks)]
        return {"name": run, "sources": sources, "sinks": sinks}

    def prepare(self, plan: Plan, run: str) -> None:
        for k, kind in enumerate(plan.sinks):
            if kind == "kafka":
                self.kafka.create_topic(f"{run}-{kind}{k}", 1)

    # ---- one run ----

    def run(self, plan: Plan) -> Found:
        run = self.name()
        self.prepare(plan, run)
        lines = -(-(plan.events + plan.warm) // plan.sources)
        rate = plan.rate / plan.sources
        more = ("--pause-after", str(plan.warm // plan.sources))
        with self.alone(), measure.Generator(self.build, lines, rate, plan.size, 1, plan.keys, more) as generator:
            generator.hold()
            with Busbar(self.config(plan, run, generator.url), folder=self.folder / run) as busbar:
                try:
                    self.await_sources(plan, busbar, generator)
                    measure.settle([busbar.pid])
                    with contextlib.ExitStack() as followers:
                        followed = [self.follow(exit_, plan, run, busbar, followers) for exit_ in plan.follow]
                        return self.watch(plan, busbar, generator, followed)
                finally:
                    busbar.close()
                    shutil.rmtree(busbar.folder, ignore_errors=True)

    def await_sources(self, plan: Plan, busbar: Busbar, generator, timeout: float = 60) -> None:
        """All are connected. Before that a busbar rests too: a source asks for nothing until each sink has told its
        checkpoint, which takes Kafka some seconds, and ten where it does not answer."""
        until = time.monotonic() + timeout
        while (found := measure.connections(generator.port)) < plan.sources:
            if time.monotonic() > until or not busbar.running:
                raise measure.Failed(f"{found} of {plan.sources} sources connected\n{busbar.log_tail()}")
            time.sleep(0.05)

    def watch(self, plan: Plan, busbar: Busbar, generator, followed: list) -> Found:
        pids = [busbar.pid]
        done, goal = 0, -(-(plan.events + plan.warm) // plan.sources) * plan.sources
        if plan.warm:
            generator.release()
            done = self.await_events(busbar, plan, plan.warm // plan.sources * plan.sources)
            measure.settle(pids, 5.0)
        servers = {name: measure.cpu_seconds([pid]) for name, pid in self.servers(plan).items()}
        cpu, start = measure.cpu_seconds(pids), time.monotonic()
        with measure.PeakRss(pids) as rss:
            generator.process.send_signal(signal.SIGUSR1 if plan.warm else signal.SIGCONT)
            if plan.seconds:
                time.sleep(plan.seconds)
            else:
                self.await_events(busbar, plan, goal)
            wall = time.monotonic() - start
            servers = {name: measure.cpu_seconds([pid]) - servers[name] for name, pid in self.servers(plan).items()}
            if not plan.seconds:
                measure.settle(pids, 2.0)
            cpu = measure.cpu_seconds(pids) - cpu
        events = self.count(busbar, plan) if plan.seconds else goal - done
        if plan.events and not events:
            raise measure.Failed(f"nothing came in {plan.seconds:g} s\n{busbar.log_tail()}")
        latency = {exit_: json.loads(process.stdout.readline()) for exit_, process in followed}
        return Found(round(events), cpu, wall, rss.peak, latency, servers)

    def servers(self, plan: Plan) -> dict[str, int]:
        """The pids of the targets."""
        found = {"redis": self.redis.pid} if "redis" in plan.sinks else {}
        return found | ({"kafka": self.kafka.brokers[0].pid} if "kafka" in plan.sinks else {})

    def count(self, busbar: Busbar, plan: Plan) -> float:
        """Events that all sinks have published, or, without a sink, that are journaled."""
        wanted = "busbar_published_total" if plan.sinks else "busbar_events_total"
        return sum(v for k, v in busbar.metrics().items() if k.startswith(wanted)) / max(len(plan.sinks), 1)

    def await_events(self, busbar: Busbar, plan: Plan, goal: int, timeout: float = 300) -> float:
        """How many there are then. Asked twice a second at most: each time costs CPU."""
        start = time.monotonic()
        while (found := self.count(busbar, plan)) < goal:
            took = time.monotonic() - start
            if took > timeout:
                raise measure.Failed(f"{found:.0f} of {goal} in {timeout:g} s\n{busbar.log_tail()}")
            time.sleep(min(max(took * (goal - found) / max(found, 1), 0.05), 0.5))
        return found

    def follow(self, exit_: str, plan: Plan, run: str, busbar: Busbar, ends: contextlib.ExitStack) -> tuple:
        at = next((k for k, kind in enumerate(plan.sinks) if kind == exit_), 0)
        words = {
            "sse": [busbar.url + "/events"],
            "redis": [self.redis.url if exit_ == "redis" else "", f"{run}-{exit_}{at}"],
            "kafka": [self.kafka.bootstrap if exit_ == "kafka" else "", f"{run}-{exit_}{at}"],
        }[exit_]
        argv = ["/usr/bin/python3", str(HERE / "growth_follow.py"), exit_, *words, str(plan.seconds)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        ends.callback(_end, process)
        assert process.stdout.readline() == "ready\n", f"no follower of {exit_}"
        return exit_, process


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    process.stdout.close()
