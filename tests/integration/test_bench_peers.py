"""The peers of the benchmark do the work that is measured: what each brings to Kafka and Redis is what was told."""

import json
import os
import random
import re
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from rig.busbar import binary
from rig.proc import wait_until
from rig.standin import HOLD, Answer, Standin

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import peers  # noqa: E402
from measure import Generator  # noqa: E402

LINES, A_LINE = 667, 3
EVENTS = LINES * A_LINE
SENT = re.compile(rb'"SentUs":\d+')
SLOW_TO_FETCH = (peers.CONNECT,)  # minutes: BUSBAR_TEST_CONNECT=1 asks for it
ALL = peers.PEERS + peers.EXTRAS
WITH_HEADERS = (peers.BUSBAR, peers.FLOOR_FULL)  # the tables compare these with each other, and the others likewise
HEADERS = {"content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time"}
HEADERS |= {"ce_topic", "ce_namespace", "ce_index"}
CASES = [(peer, into) for peer in ALL for into in ("kafka", "redis", "both") if into in peer.into]


def _plain(data: bytes) -> bytes:
    """Without the time at which it was told, the only thing that differs from one connection to the next."""
    return SENT.sub(b'"SentUs":0', data)


def _rounded(data: bytes) -> dict:
    """As a program sees it that knows no integers above 2^53, and no order of keys."""
    return json.loads(data, parse_int=float)


def _told(url: str) -> list[bytes]:
    with urllib.request.urlopen(f"{url}/v1/event/stream?topic=*&index=0", timeout=20) as answer:
        assert answer.readline() == b"{}\n"
        return [_plain(answer.readline().rstrip(b"\n")) for _ in range(LINES)]


@pytest.fixture(scope="module")
def source():
    build = binary().parent
    with Generator(build, LINES, size=700, events=A_LINE, keys=100) as generator:
        lines = _told(generator.url)
        yield build, generator.url, lines, [event for line in lines for event in _cut(line)]


def _cut(line: bytes) -> list[bytes]:
    """The bytes of each event of a line."""
    decoder, text, at, found = json.JSONDecoder(), line.decode(), len('{"Events":['), []
    for _ in range(A_LINE):
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end].encode())
        at = end + 1
    assert text[end] == "]"
    return found


@pytest.fixture
def job(source, kafka, redis, source_name, tmp_path):
    build, url, _, _ = source
    return peers.Job("", url, kafka.bootstrap, redis.url, f"peer-{source_name}", build, tmp_path, A_LINE, EVENTS)


def _run(peer: peers.Peer, job: peers.Job) -> None:
    """Until the target tells that all is there; a moment more shows what is there twice."""
    peer.prepare()
    with peer.start(job) as running:
        wait_until(lambda: running.published() >= EVENTS, 60, f"{EVENTS} events\n{running.log_tail()}")
        assert running.alive and running.pids
        time.sleep(0.5)
        assert running.published() == EVENTS


def _check_records(peer: peers.Peer, job: peers.Job, records: list, source) -> None:
    _, _, lines, events = source
    told = _headers(records)
    assert told == (HEADERS if peer in WITH_HEADERS else set())
    if not peer.keyed:
        assert sorted(_plain(record.value) for record in records if record.value != b"{}") == sorted(lines)
        return
    wanted = {}
    for event in events:
        told = json.loads(event)
        topic = peer.topics(job)[0] if len(peer.topics(job)) == 1 else f"{job.name}.{told['Topic']}"
        wanted.setdefault((topic, told["Key"].encode()), []).append(event)
    found = {}
    for record in records:
        found.setdefault((record.topic, record.key), []).append(_plain(record.value))
    _same(peer, found, wanted)


def _headers(records: list) -> set[str]:
    """What stands in every record's; in all of them the same."""
    (names,) = {frozenset(record.headers) for record in records}
    return set(names)


def _same(peer: peers.Peer, found: dict, wanted: dict) -> None:
    """All that belongs together, in its order; to the byte where the peer leaves the bytes alone."""
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        if peer.same_bytes:
            assert found[name] == values, name
        else:
            assert [_rounded(value) for value in found[name]] == [_rounded(value) for value in values], name


def _check_entries(peer: peers.Peer, job: peers.Job, redis, source) -> None:
    wanted = {}
    for event in source[3]:
        wanted.setdefault(f"{job.name}:{json.loads(event)['Topic']}", []).append(event)
    found = {name: [_plain(fields["data"]) for _, fields in redis.read_stream(name)] for name in wanted}
    _same(peer, found, wanted)


def _codecs(kafka, topics: list[str]) -> set[int]:
    """The compression of every batch of events in the broker's log (3: lz4), by the format of record batches."""
    found = set()
    for topic in topics:
        (folder,) = (kafka.brokers[0].folder / "data").glob(f"{topic}-[0-9]*")
        for segment in folder.glob("*.log"):
            data, at = segment.read_bytes(), 0
            while at + 61 <= len(data) and data[at + 16] == 2:  # magic
                attributes = int.from_bytes(data[at + 21 : at + 23], "big")
                if not attributes & 0x20:  # no control batch
                    found.add(attributes & 7)
                at += 12 + int.from_bytes(data[at + 8 : at + 12], "big")
    return found


@pytest.mark.parametrize(("peer", "into"), CASES, ids=[f"{peer.name}-{into}" for peer, into in CASES])
def test_a_peer_brings_what_was_told(peer, into, job, source, kafka, redis):
    if peer in SLOW_TO_FETCH and "BUSBAR_TEST_CONNECT" not in os.environ:
        pytest.skip("takes minutes to fetch: BUSBAR_TEST_CONNECT=1 asks for it")
    job = job._replace(into=into)
    _run(peer, job)
    if into != "redis":
        _check_records(peer, job, kafka.read_all(peer.topics(job)), source)
        # The tables compare lz4 with lz4.
        assert _codecs(kafka, peer.topics(job)) == {0 if "uncompressed" in peer.differs else 3}
    if into != "kafka":
        _check_entries(peer, job, redis, source)


def test_the_floor_takes_chunks_of_any_size(job, source, redis):
    """The generator's end with a line; a Nomad's, or a proxy's, need not."""
    dice, body, steps = random.Random(7), b"{}\n" + b"".join(line + b"\n" for line in source[2]), []
    while body:
        size = dice.choice((1, 2, 50, 3000, 100_000))
        steps.append(body[:size])
        body = body[size:]
    with Standin(Answer(*steps, HOLD)) as server:
        job = job._replace(into="redis", source=server.address)
        _run(peers.FLOOR, job)
        _check_entries(peers.FLOOR, job, redis, source)
