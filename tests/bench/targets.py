"""What is aimed at, and the figures that tell how far it is met.

A figure's key is a path: `kafka/C floor` is busbar's CPU an event into Kafka as a multiple of the C floor's, in the
same run, and `kafka/bare/C floor` that of busbar without headers; all else comes by its own name (alone.py, the
mirror's, the profile's).

The issue's own floor writes less than busbar does: no headers, one field. Behind each of its two ratios stand those of
equal work, with the same limit: busbar beside a floor that writes busbar's records, and busbar beside the issue's floor
when it writes that floor's.
"""

from collections.abc import Iterable

from measure import Figure, Row, figure
from table import OURS, OURS_BARE, Target, find, ratios

SIZE, A_LINE = 2048, 1  # the form of events that the targets are about

FULL = "{}/C floor, busbar's headers and fields"
PEERS = (
    Target("kafka/C floor", "into Kafka: CPU, times the C floor's (lz4 both), which writes no headers", 1.25, guard=5),
    Target(FULL.format("kafka"), "into Kafka: CPU, times the C floor's with the same ten headers", 1.25, guard=3),
    Target("kafka/bare/C floor", "into Kafka, `headers: none`: CPU, times the plain C floor's", 1.25, guard=4),
    Target("kafka/curl | kcat", "into Kafka: CPU, times that of `curl | kcat`", 0.5, guard=6),
    Target("kafka/Python glue", "into Kafka: CPU, times the Python glue's", 1 / 6),
    Target("kafka/Redpanda Connect", "into Kafka: CPU, times Redpanda Connect's", 1 / 15),
    Target("redis/C floor", "into Redis: CPU, times the C floor's, which writes one field", 1.5, guard=5),
    Target(FULL.format("redis"), "into Redis: CPU, times the C floor's with the same eight fields", 1.5, guard=4),
    Target("redis/Python glue", "into Redis: CPU, times the Python glue's", 1 / 15),
    Target("redis/Redpanda Connect", "into Redis: CPU, times Redpanda Connect's", 1 / 30),
)
# Of one machine, so the guard leaves room for slower ones.
ALONE = (
    Target("kafka/cpu", "into Kafka: CPU", 15, "µs an event", guard=3),
    Target("redis/cpu", "into Redis: CPU", 8, "µs an event", guard=3),
    Target("both/sse/cpu", "into both and to an SSE client: CPU", 22, "µs an event", guard=3),
    Target("redis/redact", "into Redis, three paths redacted: CPU, times that without", 1.5),
    Target("profile/scan", "the scan's share", 2.5, "µs an event", guard=3),
    Target("profile/journal", "the journal's share", 1.5, "µs an event", guard=3),
    Target("rss", "RSS, the highest of all these runs", 64, "MiB"),
    Target("redis/backlog/share", "catching up into Redis: rate, of the live peak", 0.9, "×", at_least=True, guard=3),
    Target("kafka/backlog/share", "catching up into Kafka: rate, of the live peak", 0.9, "×", at_least=True, guard=3),
    Target("redis/backlog/rss", "a backlog for Redis: RSS", 64, "MiB"),
    Target("kafka/backlog/rss", "a backlog for Kafka: RSS", 64, "MiB"),
    Target("idle", "nothing to do (Kafka, Redis, mirror): CPU", 0.5, "% of a core", guard=3),
    Target("redis/p99", "latency p99 to Redis, 100 events/s", 10, "ms", guard=10),
    Target("sse/p99", "latency p99 to an SSE client, 100 events/s", 10, "ms", guard=10),
    Target("kafka/p99", "latency p99 to a committed Kafka record, 100 events/s", 150, "ms", guard=5),
)


def of_rows(rows: Iterable[Row]) -> dict[str, Figure]:
    """The figures that a comparison tells of the targets' form of events."""
    rows = list(rows)
    found: dict[str, Figure] = {}
    for into in ("kafka", "redis"):
        found |= _beside(rows, OURS, into, into) | _beside(rows, OURS_BARE, into, f"{into}/bare")
    memory = [r.rss_mib for row in rows if row.peer in (OURS, OURS_BARE) for r in row.results]
    return found | ({"rss": figure(memory)._replace(median=max(memory))} if memory else {})


def _beside(rows: list[Row], name: str, into: str, path: str) -> dict[str, Figure]:
    """CPU of one of ours: of an event, and as a multiple of each other row's."""
    ours = find(rows, name, into, SIZE, A_LINE)
    if ours is None or not ours.results:
        return {}
    found = {f"{path}/cpu": ours.cpu_us}
    for row in rows:
        if (row.into, row.size, row.a_line) == (into, SIZE, A_LINE) and row.peer != name:
            times = ratios(ours, row)
            found |= {f"{path}/{row.peer}": times} if times else {}
    return found
