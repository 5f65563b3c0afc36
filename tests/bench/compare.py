"""The comparison of peers: every peer, way and form of events, in turns.

A slow peer gets fewer events than a fast one, so that each run takes about as long; how many is found by a first run of
each, which also warms the servers up and counts for nothing. The figures are per event.
"""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import NamedTuple

import confluent_kafka
import redis as redis_client
from measure import Failed, Result, Row, last_line, once, rounds
from peers import Job, Peer
from rig.kafka import Kafka
from rig.redis_server import Redis

SIZES = (512, 2048, 16384)
MANY = 32  # events a line, where there are many
WAYS = ("kafka", "redis", "both")
MAIN = (2048, 1)  # the form that the targets are about
FIRST_EVENTS = 8000  # of the first run
EVENTS = 100_000  # of 2 KB, of a run; less of what is larger or slower
BYTES_MAX = 300 << 20  # of one run: so much fits the page cache of a small machine
RUN_TIMEOUT_S = 90


class Servers(NamedTuple):
    kafka: Kafka
    redis: Redis

    def pids(self, into: str) -> dict[str, int]:
        every = {"kafka": self.kafka.brokers[0].pid, "redis": self.redis.pid}
        return {name: pid for name, pid in every.items() if into in (name, "both")}

    def clear(self, prefix: str) -> None:
        """Removes the topics and streams of a run: neither disk nor memory fills up."""
        client = self.redis.client()
        keys = list(client.scan_iter(f"*{prefix}*", count=1000))
        if keys:
            client.unlink(*keys)
        topics = [name for name in self.kafka.topics() if name.startswith(f"{prefix}.")]
        if topics:
            admin = self.kafka.admin()
            for done in admin.delete_topics(topics, operation_timeout=20).values():
                done.result(30)


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    """A broker and a Redis as the tests' rig starts them, without Redis' log of every write."""
    quick = {"file.delete.delay.ms": 1000, "log.segment.bytes": 64 << 20}
    with Kafka(settings=quick) as kafka, Redis({"appendonly": "no", "save": ""}) as redis:
        yield Servers(kafka, redis)


class Plan(NamedTuple):
    """What is to be measured."""

    peers: list[Peer]
    extras: list[Peer]  # beside them in the form that the targets are about: what a part alone costs
    ways: tuple[str, ...]
    forms: list[tuple[int, int]]  # size, events a line
    count: int  # rounds
    events: int  # of 2 KB, for a peer that is fast enough
    seconds: float  # of CPU: a slower peer gets as many events as it can do in so long

    def rows(self, into: str, size: int, a_line: int) -> list[Row]:
        chosen = self.peers + (self.extras if (size, a_line) == MAIN else [])
        return [Row(peer.name, into, size, a_line) for peer in chosen if into in peer.into]


class Comparison:
    """Runs a plan; `rows` has what was found so far, at any time."""

    def __init__(self, plan: Plan, at: Servers, build: pathlib.Path, folder: pathlib.Path, say: Callable[[str], None]):
        self.plan, self.at, self.build, self.folder, self.say = plan, at, build, folder, say
        self.rows: list[Row] = []
        self.peers = {peer.name: peer for peer in plan.peers + plan.extras}
        self.unfit: dict[tuple[str, str], str] = {}  # peer, way: why it gives no figure at all
        self.cost_us: dict[tuple[str, str], float] = {}  # of an event of 2 KB, about
        self.number = 0

    def run(self, on_progress: Callable[[], None]) -> None:
        """All of it; on_progress is called after each form."""
        forms = sorted(self.plan.forms, key=lambda one: one != MAIN)  # that one first: the run may be interrupted
        for into in self.plan.ways:
            self._first(into)
            for size, a_line in forms:
                if self._wanted(into, size):
                    self._form(into, size, a_line)
                    on_progress()

    def _wanted(self, into: str, size: int) -> bool:
        """Into both it costs what either costs: one size is enough, that of the targets where it is among them."""
        sizes = [form[0] for form in self.plan.forms]
        return into != "both" or size == (MAIN[0] if MAIN[0] in sizes else sizes[0])

    def _first(self, into: str) -> None:
        """The first run of each peer, with few events: is it there at all, and how fast about."""
        for peer in self.plan.peers + self.plan.extras:
            if into not in peer.into:
                continue
            try:
                peer.prepare()
                self.cost_us[peer.name, into] = self._once(peer, into, FIRST_EVENTS, *MAIN).cpu_us
            except Exception as e:  # whatever it is, the row must say it
                self.unfit[peer.name, into] = last_line(str(e)) if str(e) else type(e).__name__
                self.say(f"{peer.name} into {into}: {self.unfit[peer.name, into]}")

    def _events(self, peer: str, into: str, size: int) -> int:
        """How many. Small events cost less, large ones more, if less than in proportion."""
        scale = (MAIN[0] / size) ** 0.7
        affordable = self.plan.seconds * 1e6 / self.cost_us[peer, into]
        return max(int(min(min(self.plan.events, affordable) * scale, BYTES_MAX / size)), 2000)

    def _form(self, into: str, size: int, a_line: int) -> None:
        rows = self.plan.rows(into, size, a_line)
        for row in rows:
            row.failed = self.unfit.get((row.peer, into), "")
        self.rows += rows
        rounds(rows, self._row_once, self.plan.count)

    def _row_once(self, row: Row, number: int) -> Result:
        events = self._events(row.peer, row.into, row.size)
        try:
            found = self._once(self.peers[row.peer], row.into, events, row.size, row.a_line)
        except (confluent_kafka.KafkaException, redis_client.RedisError) as e:
            raise Failed(str(e)) from e
        self.say(
            f"{row.into:<6} {row.size:>6} B x{row.a_line:<3} round {number + 1}  {row.peer:<36} "
            f"{found.cpu_us:>8.2f} us/event {found.events_s:>9.0f} events/s "
            f"{found.rss_mib:>6.0f} MiB  {found.events} events"
        )
        return found

    def _once(self, peer: Peer, into: str, events: int, size: int, a_line: int) -> Result:
        self.number += 1
        name = f"b{self.number}-{time.monotonic_ns() // 1000 % 10**9}"
        brokers, url = self.at.kafka.bootstrap, self.at.redis.url
        job = Job(into, "", brokers, url, name, self.build, self.folder / name)
        try:
            return once(peer, job, events, size, a_line, self.at.pids(into), RUN_TIMEOUT_S)
        finally:
            self.at.clear(name)


def rows_as_data(rows: list[Row]) -> list[dict]:
    return [asdict(row) for row in rows]


def rows_from_data(data: list[dict]) -> list[Row]:
    return [Row(**{**row, "results": [Result(**found) for found in row["results"]]}) for row in data]
