#!/usr/bin/python3
"""Reads one exit of a busbar for some time and tells how late events came: latencies of "SentUs" (generator.c) in ms.

growth_follow.py sse URL SECONDS | redis URL STREAM SECONDS | kafka BOOTSTRAP TOPIC SECONDS
growth_follow.py drain URL COUNT SECONDS      only reads, with so many connections

A process of its own, so that its work is not the bridge's. Prints `ready` when it listens, then one line of JSON:
count, p50, p99, max. The first fifth of the time is left out: consumers attach, commits find their pace.
"""

import http.client
import json
import re
import selectors
import socket
import sys
import time
import urllib.parse

SENT = re.compile(rb'"SentUs":(\d+),')
ENTRY = re.compile(rb"\r\n(\d+-\d+)\r\n\*")
READ_BYTES = 1 << 20


class Delays:
    """What came after the warm-up."""

    def __init__(self, seconds: float):
        self.start = time.time()
        self.warm, self.until = self.start + seconds / 5, self.start + seconds
        self.ms: list[float] = []

    @property
    def over(self) -> bool:
        return time.time() >= self.until

    def note(self, data: bytes) -> None:
        now = time.time()
        if now >= self.warm:
            self.ms += [now * 1e3 - int(sent) / 1e3 for sent in SENT.findall(data)]

    def summary(self) -> dict:
        found = sorted(self.ms)
        if not found:
            return {"count": 0, "p50": float("nan"), "p99": float("nan"), "max": float("nan")}
        return {
            "count": len(found),
            "p50": found[len(found) // 2],
            "p99": found[int(len(found) * 0.99)],
            "max": found[-1],
        }


def ready() -> None:
    print("ready", flush=True)


def follow_sse(url: str, seconds: float) -> Delays:
    """By blocks as they come; a number that is cut by the end of one is not counted."""
    at = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=30)
    connection.request("GET", f"{at.path}?{at.query}")
    answer = connection.getresponse()
    ready()
    delays = Delays(seconds)
    while not delays.over:
        data = answer.read1(READ_BYTES)
        if not data:
            break
        delays.note(data)
    return delays


def follow_redis(url: str, stream: str, seconds: float) -> Delays:
    """XREAD by hand: redis-py takes longer for an entry than the bridge."""
    at = urllib.parse.urlsplit(url)
    link = socket.create_connection((at.hostname, at.port), timeout=30)
    ready()
    delays, last = Delays(seconds), b"0"
    while not delays.over:
        words = [b"XREAD", b"COUNT", b"5000", b"BLOCK", b"200", b"STREAMS", stream.encode(), last]
        link.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        answer = _reply(link)
        delays.note(answer)
        ids = ENTRY.findall(answer)
        last = ids[-1] if ids else last
    return delays


def _reply(link: socket.socket) -> bytes:
    """One whole answer of XREAD: nil, or nested arrays, whose end is found by a PING sent behind."""
    link.sendall(b"*1\r\n$4\r\nPING\r\n")
    data = bytearray()
    while not data.endswith(b"+PONG\r\n"):
        more = link.recv(READ_BYTES)
        if not more:
            raise SystemExit("redis closed")
        data += more
    return bytes(data)


def follow_kafka(bootstrap: str, topic: str, seconds: float) -> Delays:
    """A read_committed consumer."""
    import confluent_kafka

    settings = {"bootstrap.servers": bootstrap, "group.id": "growth", "isolation.level": "read_committed", "log_level": 0}
    consumer = confluent_kafka.Consumer({**settings, "fetch.wait.max.ms": 10})
    part = confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_END)
    consumer.assign([part])
    consumer.poll(1.0)
    ready()
    delays = Delays(seconds)
    while not delays.over:
        for message in consumer.consume(500, 0.1):
            if not message.error():
                delays.note(message.value())
    consumer.close()
    return delays


def drain(url: str, count: str, seconds: float) -> dict:
    """So many readers of url's /v1/event/stream that throw away what comes: events, and connections that ended."""
    at = urllib.parse.urlsplit(url)
    request = f"GET /v1/event/stream?topic=*&index=0 HTTP/1.1\r\nHost: {at.netloc}\r\n\r\n".encode()
    found, told = selectors.DefaultSelector(), {"events": 0, "lost": 0}
    for _ in range(int(count)):
        link = socket.create_connection((at.hostname, at.port), timeout=30)
        link.sendall(request)
        found.register(link, selectors.EVENT_READ)
    _drain_for(found, 2.5, dict(told))  # heads, and what is old
    ready()
    _drain_for(found, seconds, told)
    return told


def _drain_for(found: selectors.BaseSelector, seconds: float, told: dict) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        for key, _ in found.select(left):
            data = key.fileobj.recv(READ_BYTES)
            told["events"] += data.count(b'"Topic":')
            if not data:
                told["lost"] += 1
                found.unregister(key.fileobj)


def main(words: list[str]) -> int:
    if words[0] == "drain":
        print(json.dumps(drain(*words[1:-1], float(words[-1]))), flush=True)
        return 0
    kinds = {"sse": follow_sse, "redis": follow_redis, "kafka": follow_kafka}
    delays = kinds[words[0]](*words[1:-1], float(words[-1]))
    print(json.dumps(delays.summary()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
