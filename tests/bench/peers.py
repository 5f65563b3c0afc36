"""The peers of the benchmark: busbar and what people use instead, all with one face.

Each reads the event stream of one stand-in Nomad (generator.c) and writes into real servers. `published()` is told by
the target, not by the peer. peers/README.md says what each one is and what it leaves out; nobody else knows how one
is started.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

import confluent_kafka  # noqa: E402
import confluent_kafka.admin  # noqa: E402
import redis as redis_client  # noqa: E402
from rig.busbar import Busbar  # noqa: E402
from rig.fetched import fetched  # noqa: E402
from rig.stopwatch import had  # noqa: E402
from table import OURS, OURS_BARE  # noqa: E402

TOPICS = ("Allocation", "Evaluation", "Job", "Node", "Deployment")  # those of the generator's events
PARTITIONS = 1
MAX_ENTRIES = 20000  # about so many a stream keeps
POLL_S = 0.5  # how often a busbar is asked: each time costs it something
QUIET_S = 0.1  # a curl that wrote nothing for so long has no more


class Job(NamedTuple):
    """One run of one peer. A generator plays a Nomad once for each `name`: never use one twice with the same
    servers."""

    into: str  # "kafka", "redis" or "both"; fanout.py has what is measured of the mirror
    source: str  # http://127.0.0.1:PORT of the generator
    kafka: str  # bootstrap servers
    redis: str  # redis://HOST:PORT/DB
    name: str  # prefix of its topics (NAME.Allocation …) and streams (NAME:Allocation …)
    build: Path  # a release build: busbar, tests/generator, tests/floor
    folder: Path  # scratch; what a peer puts there goes with it
    events_a_line: int = 1  # what the generator was told: kcat counts lines
    expect: int = 0  # how many events will come: without it the end of a run is seen POLL_S late, and kcat's never


class Running:
    """A peer at work; leaving the `with` statement ends it."""

    def __init__(self, published: Callable[[], int], log: Path):
        self.processes: list[subprocess.Popen] = []
        self.others: list[int] = []
        self.published = published  # how many events are at the target, as told by the target
        self.log = log
        self.finished = False
        self.ends = contextlib.ExitStack()

    @property
    def pids(self) -> list[int]:
        """The processes whose CPU and memory count."""
        return [process.pid for process in self.processes] + self.others

    @property
    def alive(self) -> bool:
        """Whether all still run, but for what the peer ended itself. (One that ended is not waited for, so that what it
        used stays to be read: a zombie.)"""
        return self.finished or all(_runs(pid) for pid in self.pids)

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def add(self, argv: list, stdin=subprocess.DEVNULL, stdout=None, env: dict | None = None) -> subprocess.Popen:
        """Starts one more process of the peer; what it says goes to the log."""
        with open(self.log, "ab") as log:
            words, env = [str(word) for word in argv], {**os.environ, **(env or {})}
            process = subprocess.Popen(words, stdin=stdin, stdout=stdout or log, stderr=log, env=env)
        self.processes.append(process)
        self.ends.callback(_end, process)
        return process

    def pipe(self, *commands: list) -> None:
        """Starts them as a shell does `a | b | c`."""
        before = subprocess.DEVNULL
        for at, argv in enumerate(commands):
            last = at == len(commands) - 1
            process = self.add(argv, stdin=before, stdout=None if last else subprocess.PIPE)
            if before is not subprocess.DEVNULL:
                before.close()  # ours: the reader's end must be the only one
            before = process.stdout

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ends.close()


def _runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _written(pid: int) -> int:
    """Bytes that a process of ours has written so far."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["wchar"])


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


class Peer:
    """What is compared. `differs`: one sentence, what it does not do, or does otherwise, than busbar."""

    name: str
    into: tuple[str, ...]
    differs: str
    keyed = True
    same_bytes = True  # an event's bytes arrive as they were told
    guarantee = "none"
    fetch = ""  # what tests/servers/fetch has to make first

    def prepare(self) -> None:
        """Fetches what it needs (once, minutes for some): outside of what is measured."""
        if self.fetch:
            fetched(self.fetch)

    def topics(self, job: Job) -> list[str]:
        return [f"{job.name}.{topic}" for topic in TOPICS]

    def streams(self, job: Job) -> list[str]:
        return [f"{job.name}:{topic}" for topic in TOPICS]

    def start(self, job: Job) -> Running:
        assert job.into in self.into, f"{self.name} does not go into {job.into}"
        job.folder.mkdir(parents=True, exist_ok=True)
        counts = []
        if job.into in ("kafka", "both"):
            make_topics(job.kafka, self.topics(job))
            counts.append(self.count_kafka(job))
            counts[0]()  # they have leaders
        if job.into in ("redis", "both"):
            counts.append(count_streams(job.redis, self.streams(job)))
        running = Running(lambda: min((count() for count in counts), default=0), job.folder / f"{job.name}.log")
        try:
            self.launch(job, running)
        except BaseException:
            running.ends.close()
            raise
        return running

    def count_kafka(self, job: Job) -> Callable[[], int]:
        return count_records(job.kafka, self.topics(job))

    def launch(self, job: Job, running: Running) -> None:
        raise NotImplementedError


# ---- what the targets tell ----


def make_topics(bootstrap: str, names: list[str]) -> None:
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    new = [confluent_kafka.admin.NewTopic(name, PARTITIONS, 1) for name in names]
    for done in admin.create_topics(new, operation_timeout=20).values():
        done.result(30)


def count_records(bootstrap: str, names: list[str]) -> Callable[[], int]:
    """The sum of the end offsets: of a transactional producer it counts control records too."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "log_level": 0})
    parts = [confluent_kafka.TopicPartition(name, number) for name in names for number in range(PARTITIONS)]

    def end(part) -> int:
        until = time.monotonic() + 20
        while True:
            try:
                return consumer.get_watermark_offsets(part, timeout=20)[1]
            except confluent_kafka.KafkaException:  # a topic that was just made has no leader for a moment
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    return lambda: sum(end(part) for part in parts)


def count_streams(url: str, names: list[str]) -> Callable[[], int]:
    """All entries that were ever added, trimmed ones included (Redis 7)."""
    client = redis_client.Redis.from_url(url)

    def count() -> int:
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.xinfo_stream(name)
        found = pipeline.execute(raise_on_error=False)  # an error: no such stream yet
        return sum(info["entries-added"] for info in found if not isinstance(info, redis_client.ResponseError))

    return count


# ---- the peers ----


class BusbarPeer(Peer):
    name = OURS
    into = ("kafka", "redis", "both")
    differs = "-"
    guarantee = "each event once, in order; a gap is told"

    def sinks(self, job: Job) -> list[dict]:
        kafka = {"name": "lake", "type": "kafka", "brokers": job.kafka, "partitions": PARTITIONS}
        kafka["properties"] = {"compression.type": "lz4"}
        redis = {"name": "cache", "type": "redis", "url": job.redis, "max_entries": MAX_ENTRIES}
        return {"kafka": [kafka], "redis": [redis], "both": [kafka, redis]}[job.into]

    def launch(self, job: Job, running: Running) -> None:
        os.environ["BUSBAR_BIN"] = str(job.build / "busbar")
        source = {"name": job.name, "type": "nomad", "servers": [job.source], "start": "oldest"}
        config = {"name": job.name, "sources": [source], "sinks": self.sinks(job)}
        busbar = Busbar(config, folder=job.folder / f"{job.name}-busbar")
        running.ends.callback(shutil.rmtree, busbar.folder, ignore_errors=True)
        running.ends.enter_context(busbar)
        running.others.append(busbar.pid)
        running.log, running.busbar = busbar.log, busbar
        running.published = self._counter(job, busbar, running.published)

    def _counter(self, job: Job, busbar: Busbar, at_target: Callable[[], int]) -> Callable[[], int]:
        """Redis tells its own. In Kafka's offsets control records hide among the events, so it is busbar that is asked,
        seldom, and only from the time when the offsets show that all may be there (or POLL_S is over)."""
        state = {"asked": 0.0, "count": 0}

        def count() -> int:
            if job.into == "redis":
                return at_target()
            now = time.monotonic()
            near_end = 0 < job.expect <= at_target() and now - state["asked"] >= 0.1
            if near_end or (not job.expect and now - state["asked"] >= POLL_S):
                found = [value for key, value in busbar.metrics().items() if key.startswith("busbar_published_total")]
                state.update(asked=now, count=int(min(found, default=0)))
            return state["count"]

        return count


class BareBusbar(BusbarPeer):
    """Its Kafka records are those of the C floor and of all other peers: key and value, no headers."""

    name = OURS_BARE
    into = ("kafka",)
    differs = "records without headers: of what they tell, the event's id and its time are lost"

    def sinks(self, job: Job) -> list[dict]:
        return [sink | {"headers": "none"} for sink in super().sinks(job)]


class Floor(Peer):
    """peers/floor.c: slices and produces, and keeps no promise at all."""

    into = ("kafka", "redis", "both")

    def __init__(self, name: str, differs: str, *options: str, into: tuple[str, ...] = into):
        self.name, self.differs, self.options, self.into = name, differs, options, into

    def launch(self, job: Job, running: Running) -> None:
        argv = [job.build / "tests" / "floor", "--source", job.source, "--name", job.name, "--max-entries", MAX_ENTRIES]
        if job.into in ("kafka", "both"):
            argv += ["--kafka", job.kafka]
        if job.into in ("redis", "both"):
            argv += ["--redis", job.redis]
        running.add([*argv, *self.options])


class KcatPipe(Peer):
    """What ends in kcat. It reads its input by the KiB and keeps what is less to itself until more comes: when only its
    last lines are missing of `expect`, and curl has no more, curl is ended, and kcat lets go of them."""

    into = ("kafka",)

    def launch(self, job: Job, running: Running) -> None:
        running.pipe(["curl", "-sN", f"{job.source}/v1/event/stream?topic=*&index=0"], *self.commands(job))
        at_target, curl = running.published, running.processes[0]
        seen = {"written": -1, "since": 0.0}

        def published() -> int:
            count, now = at_target(), had()
            if not running.finished and 0 < job.expect - count <= self.kept(job):
                if _written(curl.pid) != seen["written"]:
                    seen.update(written=_written(curl.pid), since=now)
                elif now - seen["since"] >= QUIET_S:
                    running.finished = True
                    curl.terminate()
            return count

        running.published = published

    def kept(self, job: Job) -> int:
        """The most events that kcat may keep to itself: a KiB of lines, none much shorter than 300 bytes."""
        return 4

    def commands(self, job: Job) -> list[list[str]]:
        raise NotImplementedError


class Pipe(KcatPipe):
    """`curl … | kcat -P`: whole lines, heartbeats included, into one topic."""

    keyed = False

    def __init__(self, name: str, differs: str, *options: str):
        self.name, self.differs, self.options = name, differs, options

    def topics(self, job: Job) -> list[str]:
        return [f"{job.name}.lines"]

    def count_kafka(self, job: Job) -> Callable[[], int]:
        """Records are lines; the first is the stream's `{}`, and so are those that follow when all lines were told."""
        records = count_records(job.kafka, self.topics(job))

        def count() -> int:
            events = max(records() - 1, 0) * job.events_a_line
            return min(events, job.expect) if job.expect else events

        return count

    def kept(self, job: Job) -> int:
        return max(super().kept(job), job.events_a_line)

    def commands(self, job: Job) -> list[list[str]]:
        return [["kcat", "-P", "-b", job.kafka, "-t", self.topics(job)[0], *self.options]]


class JqPipe(KcatPipe):
    """`curl … | jq | kcat -P -K`: jq takes the lines apart, and each event has its key."""

    name = "curl | jq | kcat -K"
    differs = (
        "one topic for all; jq corrupts integers above 2^53 and writes the JSON anew; no headers, no journal, "
        "no transactions, no resume"
    )
    # Without --unbuffered the last events would wait in jq's buffer until more come.
    same_bytes = False
    jq = ("jq", "--unbuffered", "-rc", r'.Events[]? | "\(.Key)\t\(tojson)"')

    def topics(self, job: Job) -> list[str]:
        return [f"{job.name}.events"]

    def commands(self, job: Job) -> list[list[str]]:
        kcat = ["kcat", "-P", "-b", job.kafka, "-t", self.topics(job)[0], "-K", r"\t", "-z", "lz4"]
        return [list(self.jq), kcat]


class Glue(Peer):
    """peers/glue.py, by the Python that its wheels fit."""

    name = "Python glue"
    into = ("kafka", "redis", "both")
    differs = "writes the JSON anew; no headers (Redis: key and data only), no journal, no transactions, no resume"
    same_bytes = False
    fetch = "pyglue"

    def launch(self, job: Job, running: Running) -> None:
        folder = fetched(self.fetch)
        argv = [folder / "python", "-B", HERE / "peers" / "glue.py", job.source, job.name]
        if job.into in ("kafka", "both"):
            argv += ["--kafka", job.kafka]
        if job.into in ("redis", "both"):
            argv += ["--redis", job.redis]
        running.add(argv, env={"PYTHONPATH": str(folder)})


class Connect(Peer):
    """Redpanda Connect, by peers/connect: stdin's and stdout's place is taken by what `config` says."""

    name = "Redpanda Connect"
    into = ("kafka", "redis", "both")
    differs = (
        "writes the JSON anew, its keys sorted; idempotent but not transactional; no headers (Redis: the data field "
        "only), no journal, no resume"
    )
    guarantee = "at least once while it runs"
    same_bytes = False
    fetch = "connect"

    def launch(self, job: Job, running: Running) -> None:
        path = job.folder / f"{job.name}.yaml"
        path.write_text(json.dumps(self.config(job), indent=1))
        running.add([fetched(self.fetch), "run", path])

    def config(self, job: Job) -> dict:
        lines = {"lines": {"max_buffer_size": 64 << 20}}  # the default of 64 KiB is less than one line may have
        url = f"{job.source}/v1/event/stream?topic=*&index=0"
        source = {"http_client": {"url": url, "timeout": "0s", "stream": {"enabled": True, "scanner": lines}}}
        batches = {"broker": {"inputs": [source], "batching": {"count": 128, "period": "50ms"}}}
        taking_apart = [
            {"mapping": 'root = if this.exists("Events") { this.Events } else { deleted() }'},
            {"unarchive": {"format": "json_array"}},
        ]
        outputs = {  # more than one batch in flight, or more than one thread, lose the order
            "kafka": {
                "kafka_franz": {
                    "seed_brokers": [job.kafka],
                    "topic": job.name + '.${! json("Topic") }',
                    "key": '${! json("Key") }',
                    "compression": "lz4",
                    "max_in_flight": 1,
                }
            },
            "redis": {
                "redis_streams": {
                    "url": job.redis,
                    "stream": job.name + ':${! json("Topic") }',
                    "body_key": "data",
                    "max_length": MAX_ENTRIES,
                    "max_in_flight": 1,
                }
            },
        }
        outputs["both"] = {"broker": {"pattern": "fan_out", "outputs": [outputs["kafka"], outputs["redis"]]}}
        return {
            "http": {"enabled": False},
            "input": batches,
            "pipeline": {"threads": 1, "processors": taking_apart},
            "output": outputs[job.into],
            "logger": {"level": "WARN"},
        }


BUSBAR = BusbarPeer()
BUSBAR_BARE = BareBusbar()
CONNECT = Connect()
_UNSAFE = "no journal, no transactions, {}no resume; trusts the order of Nomad's keys"
_NO_HEADERS = "no headers (Redis: the data field only), "
_NOT_IDEMPOTENT = "no idempotence, "
FLOOR = Floor("C floor", _UNSAFE.format(_NOT_IDEMPOTENT + _NO_HEADERS))
FLOOR_FULL = Floor("C floor, busbar's headers and fields", _UNSAFE.format(_NOT_IDEMPOTENT), "--full")
FLOOR_IDEMPOTENT = Floor(
    "C floor, idempotent producer", _UNSAFE.format(_NO_HEADERS), "--idempotent", into=("kafka",)
)
_LINES = (
    "one topic, no key; a line is one record, its events are not taken apart, heartbeats are records too; "
    "no headers, no journal, no transactions, no resume"
)
PIPE = Pipe("curl | kcat -z lz4", _LINES, "-z", "lz4")
PIPE_PLAIN = Pipe("curl | kcat", f"uncompressed; {_LINES}")

PEERS: list[Peer] = [BUSBAR, FLOOR, PIPE, PIPE_PLAIN, JqPipe(), Glue(), CONNECT]
EXTRAS: list[Peer] = [BUSBAR_BARE, FLOOR_FULL, FLOOR_IDEMPOTENT]  # what a part alone costs; not in the table of peers
