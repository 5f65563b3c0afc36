"""Real Kafka brokers (KRaft, from Maven Central's jars) and a committed reader of all they hold."""

import contextlib
import time
import uuid
from typing import NamedTuple

import confluent_kafka
import confluent_kafka.admin

from .fetched import fetched
from .ports import free_ports
from .proc import Failed, Process, Server, wait_until
from .proxy import Proxy
from .stopwatch import had

# Small topics of its own and no waiting for members: a transaction is possible
# within a second of the start. Segments of 64 MB are allocated lazily.
SETTINGS = {
    "auto.create.topics.enable": "false",
    "default.replication.factor": 1,
    "group.initial.rebalance.delay.ms": 0,
    "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
    "log.cleaner.threads": 1,
    "num.io.threads": 2,
    "num.network.threads": 2,
    "num.recovery.threads.per.data.dir": 1,
    "offsets.topic.num.partitions": 1,
    "replica.fetch.wait.max.ms": 100,
    "share.coordinator.state.topic.num.partitions": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "transaction.state.log.num.partitions": 2,
}


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict


class Broker(Server):
    """One of a Kafka's brokers; use Kafka."""

    name = "broker"
    ready_timeout = 120.0
    stop_timeout = 60.0

    def __init__(self, kafka: "Kafka", number: int):
        super().__init__()
        self.kafka, self.number = kafka, number
        self.port, self.controller_port, self._behind_port = free_ports(3)
        self.proxy = Proxy(self._behind_port, record=False) if kafka.proxied else None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def proxied_address(self) -> str:
        return f"127.0.0.1:{self.proxy.port}"

    def start(self, wait: bool = True):
        if not (self.folder / "data").exists():
            self._format()
        return super().start(wait)

    def _argv(self):
        return self._java("kafka.Kafka", self._config())

    def close(self) -> None:
        if self.proxy:
            self.proxy.close()
        super().close()

    def _java(self, main: str, *words) -> list:
        jars = fetched("kafka")
        # A core each is not to be had here: the light compiler and collector.
        options = ["-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        return ["java", *options, "-cp", f"{jars}/*:{self.folder}", main, *words]

    def _format(self) -> None:
        """Writes the cluster's id into the empty data folder."""
        argv = self._java("kafka.tools.StorageTool", "format", "-t", self.kafka.cluster_id, "-c", self._config())
        status = Process(argv, self.log, self.mark).wait(60)
        if status != 0:
            raise Failed(f"StorageTool format ended with {status}\n{self.log.read_text()[-3000:]}")

    def _config(self):
        path = self.folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))
        (self.folder / "log4j2.properties").write_text(LOG4J)
        return path

    def _settings(self) -> dict:
        brokers = self.kafka.brokers
        copies = min(3, len(brokers))
        listeners = f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{self.controller_port}"
        advertised = f"PLAINTEXT://{self.address}"
        if self.proxy:
            listeners += f",PROXIED://127.0.0.1:{self._behind_port}"
            advertised += f",PROXIED://{self.proxied_address}"
        return {
            **SETTINGS,
            "process.roles": "broker,controller",
            "node.id": self.number,
            "listeners": listeners,
            "advertised.listeners": advertised,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": ",".join(f"{b.number}@127.0.0.1:{b.controller_port}" for b in brokers),
            "log.dirs": self.folder / "data",
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": min(2, copies),
            "broker.session.timeout.ms": self.kafka.session_timeout_ms,
            **self.kafka.settings,
        }

    def _is_ready(self) -> bool:
        """It is when all partitions of all topics have a leader, not only when it answers."""
        try:
            topics = self.kafka.admin(self.address).list_topics(timeout=2)
        except confluent_kafka.KafkaException:
            return False
        return self.number in topics.brokers and all(
            partition.leader >= 0 for topic in topics.topics.values() for partition in topic.partitions.values()
        )


LOG4J = """\
rootLogger.level = WARN
rootLogger.appenderRefs = out
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n
"""


class Kafka:
    """A cluster of so many brokers, each of them a controller too.

    settings: broker settings by their Kafka names, over the rig's own. stop, kill9,
    restart, pause and resume take the broker's number (from 1), or mean all.
    proxied: each broker has a second listener behind a Proxy, which it advertises there: a client of
    `proxied_bootstrap` goes through `proxies` (one a broker, in their order) and nowhere else, while the rig's own
    readers and the brokers among themselves use the direct one.
    """

    def __init__(
        self,
        brokers: int = 1,
        settings: dict | None = None,
        session_timeout_ms: int = 9_000,
        proxied: bool = False,
    ):
        self.settings = settings or {}
        self.session_timeout_ms = session_timeout_ms
        self.proxied = proxied
        self.cluster_id = uuid.uuid4().hex[:22]
        self.brokers: list[Broker] = []
        self.brokers += [Broker(self, number + 1) for number in range(brokers)]

    @property
    def bootstrap(self) -> str:
        """For `brokers:` in a busbar's configuration and kcat's -b."""
        return ",".join(broker.address for broker in self.brokers)

    @property
    def proxied_bootstrap(self) -> str:
        return ",".join(broker.proxied_address for broker in self.brokers)

    @property
    def proxies(self) -> list[Proxy]:
        return [broker.proxy for broker in self.brokers]

    def start(self):
        for broker in self.brokers:
            if broker.proxy and not broker.process:
                broker.proxy.start()
            if not broker.running:
                broker.start(wait=False)
        for broker in self.brokers:
            broker.wait_ready()
        return self

    def _each(self, number: int | None) -> list[Broker]:
        return [broker for broker in self.brokers if number in (None, broker.number)]

    def stop(self, number: int | None = None) -> None:
        for broker in self._each(number):
            broker.stop()

    def kill9(self, number: int | None = None) -> None:
        for broker in self._each(number):
            broker.kill9()

    def pause(self, number: int | None = None) -> None:
        for broker in self._each(number):
            broker.pause()

    def resume(self, number: int | None = None) -> None:
        for broker in self._each(number):
            broker.resume()

    def restart(self, hard: bool = False) -> None:
        """All of them, down and up again on their data."""
        self.kill9() if hard else self.stop()
        self.start()

    def log_tail(self) -> str:
        return "\n".join(broker.log_tail() for broker in self.brokers)

    def close(self) -> None:
        for broker in self.brokers:
            broker.close()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def admin(self, address: str | None = None) -> confluent_kafka.admin.AdminClient:
        return confluent_kafka.admin.AdminClient({"bootstrap.servers": address or self.bootstrap, **QUIET})

    def topics(self) -> dict[str, int]:
        """The number of partitions of every topic, internal ones left out."""
        found = self.admin().list_topics(timeout=20).topics
        return {name: len(topic.partitions) for name, topic in found.items() if not name.startswith("__")}

    def create_topic(self, name: str, partitions: int = 1, config: dict | None = None) -> None:
        copies = min(3, len(self.brokers))
        new = confluent_kafka.admin.NewTopic(name, partitions, copies, config=config or {})
        admin = self.admin()  # to be kept until the answer is there
        for done in admin.create_topics([new], operation_timeout=20).values():
            done.result(30)
        # The controller has made it: the brokers, which others ask, hear of it a little later.
        wait_until(lambda: self.topics().get(name) == partitions, 30, f"topic {name} is known")

    def delete_topic(self, name: str) -> None:
        admin = self.admin()
        for done in admin.delete_topics([name], operation_timeout=20).values():
            done.result(30)
        wait_until(lambda: name not in self.topics(), 20, f"topic {name} is gone")

    def topic_config(self, name: str) -> dict[str, str]:
        resource = confluent_kafka.admin.ConfigResource("topic", name)
        admin = self.admin()
        (done,) = admin.describe_configs([resource]).values()
        return {entry.name: entry.value for entry in done.result(20).values()}

    def read_all(self, topics=None, committed: bool = True, timeout: float = 60) -> list[Record]:
        """Every record of the topics (a list, or a predicate over names; none: all but
        internal ones and busbar.checkpoints) up to the ends they have now.

        A committed reader ends at the last stable offset. Who commits is told so before the brokers have
        written that into each partition: so it waits, not for long, until what is there now is stable.
        """
        names = self._choose(topics)
        with contextlib.closing(self._consumer(committed)) as consumer:
            if committed:
                self._await_stable(consumer, names)
            return _read_to_ends(consumer, names, timeout)

    def _consumer(self, committed: bool) -> confluent_kafka.Consumer:
        return confluent_kafka.Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"rig-{uuid.uuid4().hex}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed" if committed else "read_uncommitted",
                **QUIET,
            }
        )

    def _await_stable(self, consumer, names: dict[str, int]) -> None:
        """Until a committed reader may read up to the ends that there are now; a transaction that goes on for longer, as
        one whose writer was killed does, is not waited for."""
        with contextlib.closing(self._consumer(committed=False)) as uncommitted, contextlib.suppress(Failed):
            ends = _ends(uncommitted, names)
            wait_until(lambda: all(end >= ends[part] for part, end in _ends(consumer, names).items()), STABLE, "stable")

    def _choose(self, topics) -> dict[str, int]:
        there = self.topics()
        if topics is None:
            topics = lambda name: name != "busbar.checkpoints"  # noqa: E731
        chosen = topics if callable(topics) else set(topics).__contains__
        return {name: partitions for name, partitions in there.items() if chosen(name)}


# Clients that outlive a killed broker say so on stderr by the thousand lines.
QUIET = {"log_level": 0, "socket.keepalive.enable": True, "reconnect.backoff.max.ms": 500}


STABLE = 10.0  # seconds that a committed reader waits for transactions that are about to end


def _ends(consumer, names: dict[str, int]) -> dict[tuple, int]:
    """Where the consumer's reading would end now, by topic and partition."""
    end = confluent_kafka.OFFSET_END  # in the place of a time
    parts = [confluent_kafka.TopicPartition(name, number, end) for name, count in names.items() for number in range(count)]
    found = consumer.offsets_for_times(parts, timeout=20) if parts else []
    return {(part.topic, part.partition): part.offset for part in found}


def _read_to_ends(consumer, names: dict[str, int], timeout: float) -> list[Record]:
    """Reads until each partition has told its end. In order within a partition only."""
    beginning = confluent_kafka.OFFSET_BEGINNING
    parts = [
        confluent_kafka.TopicPartition(name, number, beginning)
        for name, count in names.items()
        for number in range(count)
    ]
    open_parts = {(part.topic, part.partition) for part in parts}
    records: list[Record] = []
    if parts:
        consumer.assign(parts)
    deadline = had() + timeout
    while open_parts:
        if had() > deadline:
            raise Failed(f"no end of {sorted(open_parts)} within {timeout:g} s; {len(records)} records so far")
        for message in consumer.consume(1000, 0.5):
            _take(message, open_parts, records)
    records.sort(key=lambda record: record[:3])
    return records


def _take(message, open_parts: set, records: list[Record]) -> None:
    where = (message.topic(), message.partition())
    error = message.error()
    if error is None:
        headers = dict(message.headers() or [])
        records.append(Record(*where, message.offset(), message.key(), message.value(), headers))
    elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
        open_parts.discard(where)
    elif error.fatal() or not error.retriable():
        raise confluent_kafka.KafkaException(error)
