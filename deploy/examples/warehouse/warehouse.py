#!/usr/bin/python3
"""warehouse.py - takes Busbar's events from Kafka into PostgreSQL, each exactly once.

How far it is stands in PostgreSQL, beside the events, and moves in the transaction that inserts them: killed at
any moment it goes on where that transaction was, or was not, committed. Kafka is told nothing. README.md says more.
"""

import logging
import os
import pathlib
import re
import signal
import sys
import time

import confluent_kafka
import psycopg2

BATCH, BATCH_BYTES = 1000, 16 << 20  # records, and their bytes, that are read before they are written
LOOK_FOR_TOPICS = 10  # seconds
# Data that PostgreSQL refuses, by SQLSTATE class: such as a \u0000 in a string, or a name longer than an index takes.
REFUSALS = ("22", "23", "54")


class StartAnew(Exception):
    """What we believe of our place may be wrong: PostgreSQL knows better, and Kafka's reader is made afresh."""


class Warehouse:
    def __init__(self, brokers: str, topics: str, properties: dict):
        self.topics = re.compile(topics)
        self.consumer = self.db = None
        self.places: dict[tuple[str, int], int] = {}  # (topic, partition): the offset that is next
        self.looked = 0.0
        self.settings = {
            "group.id": "busbar-warehouse",  # of which we are no member, and nothing is committed
            "enable.auto.commit": False,
            "auto.offset.reset": "error",  # what Kafka no longer has is a gap: written down, not jumped
            "isolation.level": "read_committed",  # Busbar's other half of exactly once
            "queued.max.messages.kbytes": 32768,
            **properties,
            "bootstrap.servers": brokers,
        }

    def run(self, is_stopping) -> None:
        """Until asked to stop; or an exception, after which it can be called again."""
        # A machine that is gone holds the lock for half a minute at most.
        alive = "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
        self.db = psycopg2.connect(os.environ.get("DATABASE", ""), options=alive)
        self.db.autocommit = True  # each call of ask() is a transaction
        self.consumer = confluent_kafka.Consumer(self.settings, logger=logging.getLogger("kafka"))
        self.places, self.looked = {}, 0.0
        if self.wait_for_turn(is_stopping):
            logging.info("event=started")
        while not is_stopping():
            self.look_for_topics()
            for place, records in self.read().items():
                self.store(place, records)

    def close(self) -> None:
        for each in (self.consumer, self.db):
            if each is not None:
                each.close()
        self.consumer = self.db = None

    def ask(self, statement: str, *values):
        with self.db.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchone()[0]

    def wait_for_turn(self, is_stopping) -> bool:
        """One works, others stand by. The lock is the connection's: gone with it, so that who can write has it. That
        nothing is taken twice does not rest on it, but on take()."""
        is_told = False
        while not is_stopping():
            if self.ask("SELECT pg_try_advisory_lock(hashtext('busbar-warehouse'))"):
                return True
            if not is_told:
                logging.info("event=stands_by")
            is_told = True
            time.sleep(0.5)
        return False

    def look_for_topics(self) -> None:
        """Partitions that were not there before are read from where PostgreSQL says, else from their beginning."""
        if time.monotonic() - self.looked < LOOK_FOR_TOPICS and self.places:
            return
        self.looked = time.monotonic()
        there = self.consumer.list_topics(timeout=10).topics
        ours = [name for name in there if self.topics.fullmatch(name)]
        found = [(name, part) for name in sorted(ours) for part in sorted(there[name].partitions)]
        new = [place for place in found if place not in self.places]
        for place in new:
            oldest, _ = self.consumer.get_watermark_offsets(confluent_kafka.TopicPartition(*place), timeout=10)
            self.places[place] = self.ask(
                "INSERT INTO progress (kafka_topic, part, next_offset) VALUES (%s, %s, %s) "
                "ON CONFLICT (kafka_topic, part) DO UPDATE SET moved = progress.moved RETURNING next_offset",
                *place, oldest,
            )  # fmt: skip
            logging.info("event=reads topic=%s partition=%d offset=%d", *place, self.places[place])
        if new:
            parts = [confluent_kafka.TopicPartition(*place, self.places[place]) for place in new]
            self.consumer.incremental_assign(parts)

    def read(self) -> dict:
        """What there is, at most a batch, by partition and in order; waits half a second for the first."""
        found: dict = {}
        count = size = 0
        message = self.consumer.poll(0.5)
        while message is not None:
            place = (message.topic(), message.partition())
            error = message.error()
            if error is None:
                found.setdefault(place, []).append(message)
            elif error.code() == confluent_kafka.KafkaError._AUTO_OFFSET_RESET:
                self.store(place, found.get(place, []))
                self.pass_what_expired(place)
            else:
                raise confluent_kafka.KafkaException(error)
            count, size = count + 1, size + len(message.value() or b"")
            message = self.consumer.poll(0) if count < BATCH and size < BATCH_BYTES else None
        return found

    def store(self, place: tuple, messages: list) -> None:
        if not messages:
            return
        end = messages[-1].offset() + 1
        try:
            rows = [row_of(message) for message in messages]
            moved = self.ask(TAKE, *place, self.places[place], end, *map(list, zip(*rows)))
        except (ValueError, psycopg2.Error) as error:
            if isinstance(error, psycopg2.Error) and (error.pgcode or "")[:2] not in REFUSALS:
                raise
            if len(messages) > 1:
                for message in messages:
                    self.store(place, [message])
                return
            moved = self.refuse(place, messages[0], str(error).strip())
        self.move(place, end, moved)

    def move(self, place: tuple, end: int, moved: bool) -> None:
        if not moved:
            raise StartAnew(f"somebody else moved {place} on from {self.places[place]}")
        self.places[place] = end

    def refuse(self, place: tuple, message, reason: str) -> bool:
        logging.warning("event=refused topic=%s partition=%d offset=%d err=%r", *place, message.offset(), reason)
        here, end = self.places[place], message.offset() + 1
        try:
            headers = {name: (value or b"").decode() for name, value in message.headers() or []}
            known = headers.get("ce_source"), "Refused", headers.get("ce_time")
            return self.ask(PASS, *place, here, end, *known, reason, message.value())
        except (ValueError, psycopg2.DataError):
            return self.ask(PASS, *place, here, end, None, "Refused", None, reason, message.value())

    def pass_what_expired(self, place: tuple) -> None:
        """Kafka has not what is next: deleted before it was read, or the topic is a new one of that name."""
        here = self.places[place]
        oldest, newest = self.consumer.get_watermark_offsets(confluent_kafka.TopicPartition(*place), timeout=10)
        if not oldest <= here <= newest:
            what = f"{place[0]}[{place[1]}]: {here} was next, Kafka has {oldest} to {newest}"
            logging.warning("event=expired what=%r", what)
            self.move(place, oldest, self.ask(PASS, *place, here, oldest, None, "Expired", None, what, None))
        raise StartAnew(f"{place} is read from {self.places[place]} on")


PASS = "SELECT pass_over(%s, %s, %s, %s, %s, %s, %s, %s, %s)"
TAKE = (
    "SELECT take(%s, %s, %s, %s, %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], "
    "%s::bigint[], %s::timestamptz[], %s::text[])"
)


def row_of(message) -> tuple:
    """As take() wants it. ValueError where it is no event of Busbar's, or no UTF-8."""
    headers = {name: value.decode() for name, value in message.headers() or [] if value is not None}
    for name in ("ce_id", "ce_source", "ce_topic", "ce_type", "ce_index", "ce_time"):
        if name not in headers:
            raise ValueError(f"no header {name}: not Busbar's")
    return (
        message.offset(),
        headers["ce_id"],
        headers["ce_source"],
        headers["ce_topic"],
        headers["ce_type"],
        headers.get("ce_subject", ""),
        headers.get("ce_namespace", ""),
        int(headers["ce_index"]),
        headers["ce_time"],
        (message.value() or b"").decode(),
    )


def properties_of(path: str) -> dict:
    """librdkafka's own, one NAME=VALUE a line: security.protocol, sasl.*, ssl.*."""
    lines = pathlib.Path(path).read_text().splitlines() if path else []
    return dict(line.strip().split("=", 1) for line in lines if line.strip() and not line.startswith("#"))


def main() -> int:
    logging.basicConfig(format="level=%(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    settings = {name: os.environ.get(name, "") for name in ("KAFKA_BROKERS", "KAFKA_TOPICS", "KAFKA_PROPERTIES")}
    warehouse = Warehouse(
        settings["KAFKA_BROKERS"] or "127.0.0.1:9092",
        settings["KAFKA_TOPICS"] or "warehouse",
        properties_of(settings["KAFKA_PROPERTIES"]),
    )
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: asked.append(received))
    pause = 0.0
    while not asked:
        began = time.monotonic()
        try:
            warehouse.run(lambda: asked)
        except (StartAnew, psycopg2.OperationalError, psycopg2.InterfaceError, confluent_kafka.KafkaException) as error:
            pause = 0.2 if time.monotonic() - began > 10 else min(5.0, max(0.2, 2 * pause))
            logging.warning("event=starts_anew retry_s=%g err=%r", pause, str(error).strip())
        except psycopg2.ProgrammingError as error:
            logging.error("event=ends err=%r hint='was schema.sql run here, by this role?'", str(error).strip())
            return 1
        finally:
            warehouse.close()
        if not asked:
            time.sleep(pause)
    return 0


if __name__ == "__main__":
    sys.exit(main())
