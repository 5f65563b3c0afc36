"""What busbar alone is measured for: a sink that was away, latency, redaction, and a pipeline with nothing to do."""

import contextlib
import os
import pathlib
import re
import subprocess
import threading
import time

import confluent_kafka
import cpu_parts
from compare import Servers
from measure import Failed, Figure, Generator, PeakRss, Row
from measure import cpu_seconds, figure, is_alive, last_line, once, rounds, settle
from peers import FLOOR, TOPICS, BusbarPeer, Job, Peer
from rig.busbar import Busbar
from rig.kafka import Kafka
from rig.redis_server import Redis
from table import ratios

REDACT = ["$..Message", "$..Resources.CPU", "$.Payload.Job.Tasks[*].AllocID"]  # some twelve values an event
IDLE_EVENTS = 1000
WARM_EVENTS = 60_000
LIVE_EVENTS = 200_000
LATENCY_RATE = 100
LATENCY_WARM_S = 5
SENT = re.compile(rb'"SentUs":(\d+)')

Figures = dict[str, Figure]


class Redacting(BusbarPeer):
    """With three paths redacted at every sink."""

    name = "busbar, three paths redacted"

    def sinks(self, job: Job) -> list[dict]:
        return [sink | {"redact": REDACT} for sink in super().sinks(job)]


class Watched(BusbarPeer):
    """With one SSE client that reads all."""

    name = "busbar, and one SSE client"

    def launch(self, job, running) -> None:
        super().launch(job, running)
        command = ["curl", "-sN", "-o", os.devnull, running.busbar.url + "/events?last_event_id="]
        client = subprocess.Popen(command)
        running.ends.callback(client.wait)
        running.ends.callback(client.kill)


class Alone:
    """Measures busbar with the servers given; each method returns its figures by the keys of the targets."""

    def __init__(self, at: Servers, build: pathlib.Path, folder: pathlib.Path):
        self.at, self.build, self.folder = at, build, folder
        self.number = 0
        os.environ["BUSBAR_BIN"] = str(build / "busbar")

    def _name(self, what: str) -> str:
        self.number += 1
        return f"{what}{self.number}-{time.monotonic_ns() // 1000 % 10**9}"

    def _job(self, into: str, what: str) -> Job:
        name = self._name(what)
        return Job(into, "", self.at.kafka.bootstrap, self.at.redis.url, name, self.build, self.folder / name)

    def _once(self, peer: Peer, into: str, events: int):
        job = self._job(into, "alone")
        try:
            return once(peer, job, events, servers=self.at.pids(into))
        finally:
            self.at.clear(job.name)

    def _busbar(self, source: str, sinks: list[str], name: str) -> Busbar:
        job = self._job("both", name)._replace(source=source)
        config = {sink["type"]: sink for sink in BusbarPeer().sinks(job)}
        sources = [{"name": name, "type": "nomad", "servers": [source], "start": "oldest"}]
        return Busbar({"name": name, "sources": sources, "sinks": [config[sink] for sink in sinks]})

    # ---- variants ----

    def variants(self, events: int, count: int) -> Figures:
        """Redaction beside none, into Redis; and into both with an SSE client."""
        peers = {"plain": BusbarPeer(), "redacting": Redacting(), "watched": Watched()}
        rows = {name: Row(name, "both" if name == "watched" else "redis", 2048, 1) for name in peers}
        rounds(list(rows.values()), lambda row, _: self._once(peers[row.peer], row.into, events), count)
        failed = [row.failed for row in rows.values() if row.failed]
        if failed:
            raise Failed(failed[0])
        found = {"redis/redact": ratios(rows["redacting"], rows["plain"]), "both/sse/cpu": rows["watched"].cpu_us}
        return found | {"both/sse/rss": rows["watched"].rss_mib}

    def profile(self, into: str, events: int) -> dict[str, float]:
        """µs of CPU an event of each part of the program, by perf."""
        job = self._job(into, "profile")
        try:
            return cpu_parts.profile(job, events, self.at.pids(into))[1]
        finally:
            self.at.clear(job.name)

    # ---- a sink that was away ----

    def backlog(self, into: str, events: int) -> Figures:
        """So many events come while the sink is away; then it is back. How fast, as a share of the rate at which events
        come in and go out at once (measured here, before and after), and in how much memory."""
        live = [self._once(BusbarPeer(), into, min(events, LIVE_EVENTS)).events_s]
        server = {"kafka": self.at.kafka, "redis": self.at.redis}[into]
        server.stop()
        try:
            with Generator(self.build, events) as generator:
                name = self._name("backlog")
                with self._busbar(generator.url, [into], name) as busbar:
                    with PeakRss([busbar.pid]) as away:
                        _await(busbar, "busbar_events_total", events, 600, 0.5)
                    self._bring_back(into, busbar)
                    with PeakRss([busbar.pid]) as back:
                        rate = _catch_up(busbar, events)
        finally:
            if not _runs(server):
                server.start()
        self.at.clear(name)
        live.append(self._once(BusbarPeer(), into, min(events, LIVE_EVENTS)).events_s)
        ours = {"events": events, "rate": rate, "share": rate / max(live), "rss": max(away.peak, back.peak)}
        return {f"{into}/backlog/{k}": _one(value) for k, value in ours.items()} | {f"{into}/backlog/live": figure(live)}

    def _bring_back(self, into: str, busbar: Busbar) -> None:
        """Starts the server again. A Kafka that has just started is slow for want of compiled code, which has nothing
        to do with a backlog: it gets something to do first, while busbar is stopped."""
        if into == "redis":
            self.at.redis.start()
            return
        busbar.process.pause()
        self.at.kafka.start()
        for _ in range(2):
            self._once(FLOOR, into, WARM_EVENTS)
        busbar.process.resume()

    # ---- nothing to do ----

    def idle(self, seconds: float) -> Figures:
        """CPU in % of a core of a pipeline into Kafka, Redis and the mirror whose stream has heartbeats only."""
        name = self._name("idle")
        with (
            Generator(self.build, IDLE_EVENTS) as generator,
            self._busbar(generator.url, ["kafka", "redis"], name) as busbar,
        ):
            _await(busbar, "busbar_published_total", IDLE_EVENTS, 60, 0.2)
            time.sleep(2)
            settle([busbar.pid], 5)
            before, start = cpu_seconds([busbar.pid]), time.monotonic()
            time.sleep(seconds)
            used = (cpu_seconds([busbar.pid]) - before) / (time.monotonic() - start)
        self.at.clear(name)
        return {"idle": _one(100 * used)}

    # ---- latency ----

    def latency(self, seconds: int) -> Figures:
        """p99 in ms at 100 events/s, from the byte's departure at the source to each exit (Kafka: committed)."""
        name, events = self._name("latency"), seconds * LATENCY_RATE
        for topic in TOPICS:
            self.at.kafka.create_topic(f"{name}.{topic}", 1)
        with (
            Generator(self.build, events, LATENCY_RATE) as generator,
            self._busbar(generator.url, ["kafka", "redis"], name) as busbar,
            Followers(self.at.kafka, self.at.redis, busbar.url, name) as followers,
        ):
            _await(busbar, "busbar_published_total", events, seconds + 60, 0.5)
            until = time.monotonic() + 20
            while any(len(found) < events for found in followers.delays.values()) and time.monotonic() < until:
                time.sleep(0.1)
        self.at.clear(name)
        warm = min(LATENCY_WARM_S, seconds // 2) * LATENCY_RATE  # consumers attach
        short = {exit_: len(found) for exit_, found in followers.delays.items() if len(found) < events}
        if short:
            raise Failed(f"of {events} events were seen {short}")
        return {f"{exit_}/p99": _one(p99(found[warm:])) for exit_, found in followers.delays.items()}


def _one(value: float) -> Figure:
    return Figure(value, value, value)


def _runs(server: Kafka | Redis) -> bool:
    return all(broker.running for broker in server.brokers) if isinstance(server, Kafka) else server.running


def _least(busbar: Busbar, metric: str) -> float:
    """The least of the metric over its labels; 0 while there is none."""
    found = [value for key, value in busbar.metrics().items() if key.startswith(metric)]
    return min(found, default=0)


def _await(busbar: Busbar, metric: str, count: float, timeout: float, every: float) -> None:
    until = time.monotonic() + timeout
    while (found := _least(busbar, metric)) < count:
        if time.monotonic() > until or not is_alive(busbar.pid):
            raise Failed(f"{metric} {found:.0f} of {count:.0f} within {timeout:g} s: {last_line(busbar.log_tail())}")
        time.sleep(every)


def _catch_up(busbar: Busbar, events: int) -> float:
    """Events/s from the first look that finds something published to the last event. Looks twice a second, and more
    often near the ends only."""
    _await(busbar, "busbar_published_total", 1, 120, 0.05)
    first, start = _least(busbar, "busbar_published_total"), time.monotonic()
    if first < events * 0.9:
        _await(busbar, "busbar_published_total", events * 0.9, 900, 0.5 if events > 400_000 else 0.1)
    _await(busbar, "busbar_published_total", events, 120, 0.05)
    return (events - first) / max(time.monotonic() - start, 1e-3)


class Followers:
    """A reader at each exit that notes how old each event is when it comes; `delays` in ms, by exit."""

    def __init__(self, kafka: Kafka, redis: Redis, url: str, name: str):
        self.kafka, self.redis, self.url, self.name = kafka, redis, url, name
        self.delays: dict[str, list[float]] = {"kafka": [], "redis": [], "sse": []}
        self.done = threading.Event()
        self.threads = [threading.Thread(target=f) for f in (self._follow_kafka, self._follow_redis, self._follow_sse)]
        self.curl = subprocess.Popen(["curl", "-sN", f"{url}/events?last_event_id="], stdout=subprocess.PIPE)

    def _note(self, exit_: str, data: bytes) -> None:
        found = SENT.search(data)
        if found:
            self.delays[exit_].append(time.time() * 1e3 - int(found[1]) / 1e3)

    def _follow_redis(self) -> None:
        client = self.redis.client()
        last = {f"{self.name}:{topic}": "0" for topic in TOPICS}
        while not self.done.is_set():
            for stream, entries in client.xread(last, block=200) or []:
                for entry, fields in entries:
                    self._note("redis", fields[b"data"])
                    last[stream.decode()] = entry

    def _follow_kafka(self) -> None:
        """A read_committed consumer of all topics, which are there beforehand."""
        settings = {"bootstrap.servers": self.kafka.bootstrap, "group.id": "bench", "isolation.level": "read_committed"}
        consumer = confluent_kafka.Consumer({**settings, "fetch.wait.max.ms": 10})
        consumer.assign([confluent_kafka.TopicPartition(f"{self.name}.{topic}", 0, 0) for topic in TOPICS])
        while not self.done.is_set():
            message = consumer.poll(0.2)
            if message is not None and not message.error():
                self._note("kafka", message.value())
        consumer.close()

    def _follow_sse(self) -> None:
        for line in self.curl.stdout:
            self._note("sse", line)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        with contextlib.suppress(ProcessLookupError):
            self.curl.kill()
        self.curl.wait()
        for thread in self.threads:
            thread.join()
        self.curl.stdout.close()


def p99(delays: list[float]) -> float:
    ordered = sorted(delays)
    return ordered[int(len(ordered) * 0.99)] if ordered else float("inf")
