"""The sinks that the kit is held against. A new one is a class here and a name in LISTED; see README.md."""

from rig.exits import Arrival, from_kafka, from_redis
from rig.kafka import Kafka
from rig.redis_server import Redis


# That Kafka is away is said after this, and not after ten seconds.
SOON = {"transaction.timeout.ms": 3000}


class KafkaSink:
    def __init__(self):
        self.server = Kafka(settings={"group.min.session.timeout.ms": 1000}, proxied=True)

    def start(self) -> None:
        self.server.start()

    def close(self) -> None:
        self.server.close()

    def section(self) -> dict:
        return {"type": "kafka", "brokers": self.server.proxied_bootstrap, "properties": SOON}

    def arrivals(self, source: str) -> list[Arrival]:
        return from_kafka(self.server.read_all(lambda topic: topic.startswith(f"{source}.")))

    def break_it(self) -> None:
        """Nobody listens; that a broker takes ten seconds to start is for test_kafka_faults.py."""
        for proxy in self.server.proxies:
            proxy.refuse(reset=True)

    def mend_it(self) -> None:
        for proxy in self.server.proxies:
            proxy.heal()

    def missed_sooner(self) -> dict:
        return {"properties": {**SOON, "session.timeout.ms": 2500}}

    def refusing(self) -> tuple[dict, int]:
        limits = {"topic_config": {"max.message.bytes": "20000"}, "properties": {**SOON, "compression.type": "none"}}
        return limits, 60_000


class RedisSink:
    def __init__(self):
        self.server = Redis({"proto-max-bulk-len": "1mb"})

    def start(self) -> None:
        self.server.start()

    def close(self) -> None:
        self.server.close()

    def section(self) -> dict:
        return {"type": "redis", "url": self.server.url, "timeout": "2s"}

    def arrivals(self, source: str) -> list[Arrival]:
        return from_redis(self.server.read_streams(lambda stream: not stream.startswith(f"{source}:")))

    def break_it(self) -> None:
        self.server.kill9()

    def mend_it(self) -> None:
        self.server.start()

    def missed_sooner(self) -> dict:
        return {}

    def refusing(self) -> tuple[dict, int]:
        return {}, 1_200_000


LISTED = {"kafka": KafkaSink, "redis": RedisSink}
