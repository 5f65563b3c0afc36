"""Where the bridge's CPU goes: `perf` on one run, summed by the part of the program that each sample is in.

A sample belongs to the source file of the function it stands in; in libc or the kernel, to what the thread is for.
What a thread is for is told by our own code in it. What is copied by memcpy is told apart, since without frame
pointers nobody knows for whom.
"""

import collections
import functools
import pathlib
import re
import signal
import subprocess
from typing import NamedTuple

from measure import Failed, Result, once
from peers import BusbarPeer, Job

HZ = 997
ENOUGH = 0.005  # of a thread's samples
ROLES = ("scan", "sink", "mirror", "state", "librdkafka")

# The part by source file, the first that matches.
PARTS = (
    ("scan", r"connectors/(json_scan|nomad_line|ndjson)|connectors/nomad/"),
    ("journal", r"bridge/(journal|base/crc)"),
    ("identity", r"bridge/(ingest|seen|arrival|event|own|unchanged)|bridge/base/(map|hash)"),
    ("state", r"bridge/(state|resync)"),
    ("sink", r"bridge/(sink|route|checkpoint|redact)|connectors/(kafka|redis)/"),
    ("mirror", r"connectors/(mirror|http_server)"),
    ("receive", r"connectors/http_stream"),
)
COPY = re.compile(r"mem(move|cpy|set)|mempcpy")
SYSTEM = (
    ("receive", r"^(__libc_)?recv(from)?$|^recvmsg"),
    ("journal", r"p?writev?(64|v2)?$|fdatasync|fsync|fallocate|crc32"),
    ("reading the journal", r"pread"),
)


class Sample(NamedTuple):
    thread: int
    symbol: str
    library: str


def parse(text: str) -> list[Sample]:
    """`perf script -F tid,ip,sym,dso`: the first frame of each sample that is not the kernel's."""
    found = []
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        frames = [re.match(r"\s*([0-9a-f]+) (.*) \((\S*)\)$", line) for line in lines[1:]]
        users = [frame for frame in frames if frame and "kernel" not in frame[3]]
        if lines and lines[0].strip().isdigit():
            frame = users[0] if users else None
            name = re.sub(r"@.*", "", frame[2]) if frame else "[kernel]"
            found.append(Sample(int(lines[0]), name, pathlib.Path(frame[3]).name if frame else ""))
    return found


@functools.cache
def files(binary: pathlib.Path) -> dict[str, str]:
    """The source file of each function of the program, by its debug information."""
    done = subprocess.run(["nm", "-l", "--defined-only", binary], capture_output=True, text=True, check=False)
    found = {}
    for line in done.stdout.splitlines():
        match = re.match(r"\S+ [tT] (\S+)\t(.*):\d+$", line)
        if match:
            found[match[1]] = re.sub(r"^.*/((bridge|connectors|config)/)", r"\1", match[2])
    return found


def own_part(symbol: str, at: dict[str, str]) -> str | None:
    """The part of a function of ours; None for anything else."""
    path = at.get(symbol, "")
    return next((part for part, pattern in PARTS if re.match(pattern, path)), None)


def is_librdkafka(sample: Sample) -> bool:
    """Whether it is a part of the program or a library beside it."""
    return "rdkafka" in sample.library or sample.symbol.startswith("rd_kafka_")


def roles(samples: list[Sample], at: dict[str, str]) -> dict[int, str]:
    """What each thread is for, the first in ROLES of which it has enough. (Who reads the journal has its code too.)"""
    counted: dict[int, collections.Counter] = collections.defaultdict(collections.Counter)
    for sample in samples:
        part = own_part(sample.symbol, at) or ("librdkafka" if is_librdkafka(sample) else "")
        counted[sample.thread][part] += 1
    found = {}
    for thread, count in counted.items():
        enough = [role for role in ROLES if count[role] > ENOUGH * count.total()]
        found |= {thread: enough[0]} if enough else {}
    return found


READING = {"sink": "the sink", "state": "the state table", "mirror": "the mirror", "librdkafka": "librdkafka"}


def part_of(sample: Sample, thread: str | None, at: dict[str, str]) -> str:
    """The part that a sample counts for. In a thread that only reads the journal, all is that thread's."""
    if thread in READING:
        return READING[thread]
    part = own_part(sample.symbol, at)
    if part:
        return part
    if COPY.search(sample.symbol):
        return "copies on the way in"
    told = next((part for part, pattern in SYSTEM if re.search(pattern, sample.symbol)), None)
    if told:
        return told
    return "other threads" if thread is None else "all else on the way in"


def shares(samples: list[Sample], at: dict[str, str]) -> dict[str, float]:
    """Of each part, its share of all samples."""
    threads = roles(samples, at)
    counted = collections.Counter(part_of(sample, threads.get(sample.thread), at) for sample in samples)
    return {part: count / len(samples) for part, count in counted.most_common()}


class Profiled(BusbarPeer):
    """A busbar with perf on it from its start."""

    def __init__(self, data: pathlib.Path):
        self.data = data

    def launch(self, job: Job, running) -> None:
        super().launch(job, running)
        argv = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(HZ), "--call-graph", "fp"]
        perf = subprocess.Popen(
            [*argv, "-o", self.data, "-p", str(running.busbar.pid)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        running.ends.callback(_end, perf)


def _end(perf: subprocess.Popen) -> None:
    """It writes the rest of its file."""
    perf.send_signal(signal.SIGINT)
    perf.wait(30)


def profile(job: Job, events: int, servers: dict[str, int]) -> tuple[Result, dict[str, float]]:
    """One run under perf: its result, and µs of CPU an event of each part, the dearest first."""
    job.folder.mkdir(parents=True, exist_ok=True)
    data = job.folder / "perf.data"
    found = once(Profiled(data), job, events, servers=servers)
    argv = ["perf", "script", "-i", data, "-F", "tid,ip,sym,dso"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    samples = parse(done.stdout)
    if len(samples) < 100:
        raise Failed(f"perf told {len(samples)} samples: {done.stderr.strip()[-200:]}")
    return found, {part: share * found.cpu_us for part, share in shares(samples, files(job.build / "busbar")).items()}
