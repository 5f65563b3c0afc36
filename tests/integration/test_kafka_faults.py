"""Kafka that fails in every way we know: each event there once and in order, Redis untouched, the operator told."""

import contextlib
import json
import os
import random
import socket
import struct
import threading
import time

import confluent_kafka
import confluent_kafka.admin
import pytest
from rig.acls import TOPIC, TRANSACTIONAL_ID, WRITE, Acls
from rig.busbar import Busbar
from rig.events import LineReader
from rig.exits import from_kafka, from_redis
from rig.feed import Feed
from rig.kafka import QUIET, Kafka
from rig.oracle import compare
from rig.ports import free_port
from rig.proc import Failed, wait_until
from rig.standin import Answer, Standin, refusal, shut

# What a dead transaction holds up is looked for once a second, not every ten.
THREE = {
    "default.replication.factor": 3,
    "min.insync.replicas": 2,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
}
# Without an ACL everybody may do everything; a test adds those it is about.
WITH_ACLS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
TOPICS = ("Job", "Node", "Evaluation")
END_TXN = 26  # Kafka protocol, ApiKeys
# A leader whose state is further than all that is told here, for a busbar that asks whether an index started over.
LISTS = refusal("200 OK", "[]", {"Content-Type": "application/json", "X-Nomad-Index": 1 << 40})


@pytest.fixture(scope="module")
def _three():
    with Kafka(brokers=3, settings=THREE, session_timeout_ms=6_000) as kafka:
        first = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": "first", **QUIET})
        first.init_transactions(60)  # so that there is a log of transactions, and who coordinates is known
        yield kafka


@pytest.fixture
def three(_three):
    """A cluster of three, all of them up, whatever the last test did."""
    _three.start()
    yield _three
    for broker in _three.brokers:
        if broker.running:
            broker.resume()


@pytest.fixture(scope="module")
def wire():
    with CommitCutter() as cutter:
        yield cutter


@pytest.fixture(scope="module")
def lone(wire):
    """One broker with ACLs; who comes through the wire is told to come through it again."""
    kafka = Kafka()
    (broker,), behind = kafka.brokers, free_port()
    wire.server_port = behind
    listeners = f"PLAINTEXT://{broker.address},CONTROLLER://127.0.0.1:{broker.controller_port}"
    kafka.settings = WITH_ACLS | {
        "listeners": f"{listeners},WIRE://127.0.0.1:{behind}",
        "advertised.listeners": f"PLAINTEXT://{broker.address},WIRE://{wire.address}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,WIRE:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    with kafka:
        yield kafka


class CommitCutter:
    """A proxy that knows one request of Kafka's protocol: EndTxn, which is "commit". Once for each fate in `fates`
    it goes wrong: `unsent` (the broker never has it), `racing` (sent, and the connection reset at once), `answer`
    (done, the answer cut at a random byte), `late` (the client is cut off, and the broker has it a moment later)."""

    def __init__(self, seed: int = 4):
        self.port, self.server_port, self.fates = free_port(), 0, []
        self.random, self.met = random.Random(seed), 0
        self.door_open = threading.Event()
        self.door_open.set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.door_open.is_set():
                    threading.Thread(target=self._serve, args=(client,), daemon=True).start()
                else:
                    client.close()

    def _serve(self, client: socket.socket) -> None:
        cut_answer: list = []  # the correlation id of an answer that is not to arrive
        with contextlib.suppress(OSError), client, contextlib.ExitStack() as ends:
            server = ends.enter_context(socket.create_connection(("127.0.0.1", self.server_port)))
            down = threading.Thread(target=self._answers, args=(client, server, cut_answer), daemon=True)
            down.start()
            ends.callback(lambda: (shut(client), shut(server), down.join(20)))  # before their descriptors are closed
            while request := _frame(client):
                is_commit = struct.unpack_from(">h", request, 4)[0] == END_TXN
                fate = self.fates.pop(0) if is_commit and self.fates else ""
                self.met += bool(fate)
                if fate == "answer":
                    cut_answer.append(request[8:12])
                elif fate:
                    _reset(client)
                    time.sleep(self.random.uniform(0, 0.6) if fate == "late" else 0)
                if fate != "unsent":
                    server.sendall(request)

    def _answers(self, client: socket.socket, server: socket.socket, cut_answer: list) -> None:
        with contextlib.suppress(OSError):
            while answer := _frame(server):
                if answer[4:8] in cut_answer:
                    client.sendall(answer[: self.random.randrange(len(answer))])
                    break
                client.sendall(answer)
        shut(client)
        shut(server)


def _frame(end: socket.socket) -> bytes:
    """A request or answer, its size before it; empty at the end."""
    size = _exactly(end, 4)
    return size and size + _exactly(end, struct.unpack(">i", size)[0])


def _exactly(end: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        more = end.recv(count - len(received))
        if not more:
            raise ConnectionError
        received += more
    return bytes(received)


def _reset(end: socket.socket) -> None:
    """RST; its descriptor stays taken, since the other thread may be about to use it."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    shut(end)
    with open(os.devnull, "rb") as nowhere:
        os.dup2(nowhere.fileno(), end.fileno())


class Story:
    """A source that tells numbered events all the time, a busbar, and what Kafka and Redis then must hold.

    lakes: the Kafka sinks by name, with what is special about their configuration.
    brokers: where they are for the busbar, if not where they are for everybody.
    """

    def __init__(self, feed, name: str, kafka: Kafka, redis, lakes: dict | None = None, brokers: str = ""):
        self.feed, self.name, self.kafka, self.redis = feed, name, kafka, redis
        self.lakes, self.told = lakes or {"lake": {}}, []
        sinks = [{"name": "cache", "type": "redis", "url": redis.url}]
        for lake, more in self.lakes.items():
            topic = f"%{{source}}.{lake}.%{{topic}}"
            sinks.append({"name": lake, "type": "kafka", "brokers": brokers or kafka.bootstrap, "topic": topic, **more})
        source = {"name": name, "type": "nomad", "servers": [feed.address], "start": "oldest"}
        self.busbar = Busbar({"name": "faults", "sources": [source], "sinks": sinks})
        self._over, self._telling = threading.Event(), threading.Lock()
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self):
        try:
            self.busbar.start()
            for topic in TOPICS:
                self.say(2, topic=topic)
            self.goes_on(*self.lakes, index=self.feed.index)
        except BaseException:
            self.busbar.close()
            raise
        self._teller.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self.busbar.close()

    def say(self, count: int = 1, **more) -> None:
        with self._telling:  # what is told first stands first
            self.told += self.feed.say(count, **more)

    def _tell(self) -> None:
        turn = 0
        while not self._over.wait(0.02):
            self.say(2, topic=TOPICS[turn % 3], key=f"k{turn % 7}")
            turn += 1

    def hush(self) -> None:
        """No more is told."""
        self._over.set()
        self._teller.join()

    def sink(self, name: str) -> dict:
        (source,) = self.busbar.status()["sources"]
        return next(sink for sink in source["sinks"] if sink["name"] == name)

    def goes_on(self, *sinks: str, timeout: float = 120, index: int = 0) -> None:
        """What is told from now on arrives there."""
        index = index or self.feed.index + 1
        for sink in sinks:
            try:
                wait_until(lambda: self.sink(sink)["index"] >= index, timeout, f"{sink} at {index}")
            except Failed as failed:
                raise Failed(f"{failed}\n{self.busbar.log_tail()}") from None

    def others_go_on(self) -> None:
        self.goes_on("cache", timeout=30)

    def said(self, *texts: str, timeout: float = 90, since: int = 0) -> str:
        """The log's first line that has all of these, so many lines left out."""

        def found():
            lines = self.busbar.log_lines()[since:]
            return next((line for line in lines if all(text in line for text in texts)), None)

        try:
            return wait_until(found, timeout, f"{texts} in the log")
        except Failed as failed:
            raise Failed(f"{failed}\n{self.busbar.log_tail()}") from None

    def end(self) -> None:
        """No more is told, and all of it has arrived."""
        self.hush()
        self.goes_on("cache", *self.lakes, index=self.feed.index)
        assert not [line for line in self.busbar.log_lines("sink_backoff") if "sink=cache" in line]

    def values(self, lake: str, topic: str) -> list[bytes]:
        return [record.value for record in self.kafka.read_all([f"{self.name}.{lake}.{topic}"])]

    def assert_exact(self) -> None:
        """All that was told is at each exit, once, in order, untouched, and nothing else."""
        self.end()
        events = [event for data in self.told for event in LineReader().read(b'{"Events":[' + data + b"]}")]
        sent = {event.what: {event.data} for event in events}
        entries = self.redis.read_streams(lambda name: not name.startswith(f"{self.name}:"))
        compare({self.name: events}, from_redis(entries), sent).assert_exact()
        for lake in self.lakes:
            records = self.kafka.read_all(lambda name: name.startswith(f"{self.name}.{lake}."))
            compare({self.name: events}, from_kafka(records), sent).assert_exact()

    def transactional_id(self, lake: str = "lake") -> str:
        return _transactional_id(self.name, lake)


def _transactional_id(source: str, lake: str) -> str:
    return f"faults.{source}.{lake}"


def _leader(kafka: Kafka, topic: str, partition: int = 0) -> int:
    return kafka.admin().list_topics(topic, timeout=20).topics[topic].partitions[partition].leader


def _coordinator(kafka: Kafka, transactional_id: str) -> int:
    """Kafka's own rule: String.hashCode() modulo the two partitions of the transaction log."""
    code = 0
    for character in transactional_id:
        code = (code * 31 + ord(character)) & 0xFFFFFFFF
    return _leader(kafka, "__transaction_state", (code & 0x7FFFFFFF) % 2)


def _lake_of(kafka: Kafka, source: str, role: str, coordinator: bool, leader: bool, victim: int) -> tuple[str, dict]:
    """A sink by name and configuration: does the victim coordinate its transactions, does it lead its checkpoints?"""
    names = [f"{role}{number}" for number in range(10)]
    coordinated = [name for name in names if _coordinator(kafka, _transactional_id(source, name)) == victim]
    # Where a slow start left it to coordinate all there is, it does so for the other role too.
    name = coordinated[0] if coordinator else next((name for name in names if name not in coordinated), names[0])
    topic, others = f"{source}-{role}", [broker.number for broker in kafka.brokers if broker.number != victim]
    replicas = [victim, *others] if leader else [*others, victim]
    new = confluent_kafka.admin.NewTopic(topic, 1, replica_assignment=[replicas], config={"cleanup.policy": "compact"})
    admin = kafka.admin()  # to be kept until the answer is there
    admin.create_topics([new], operation_timeout=20)[topic].result(30)
    return name, {"checkpoint_topic": topic}


# ---- brokers that go ----


def test_brokers_killed_one_then_all(three, redis, feed, source_name):
    """One of three, which coordinates the transactions of one sink and leads the checkpoints of another: the others
    take over and both go on without it. Then the other two, and all three come back."""
    victim = _leader(three, "__transaction_state")
    roles = [("coordinator", True, False), ("checkpoints", False, True)]
    lakes = dict(_lake_of(three, source_name, *role, victim) for role in roles)
    with Story(feed, source_name, three, redis, lakes) as story:
        three.kill9(victim)
        story.others_go_on()
        story.goes_on(*lakes)
        since = len(story.busbar.log_lines())
        three.kill9()
        for lake in lakes:
            refused = "refused: is the broker up, is brokers: right?"
            story.said("level=warn event=sink_backoff", f"sink={lake}", refused, since=since)
        story.others_go_on()
        wait_until(lambda: "publishing" not in [story.sink(lake)["state"] for lake in lakes], 60, "both are held up")
        three.start()
        story.goes_on(*lakes)
        story.assert_exact()


def test_a_broker_frozen_for_longer_than_the_transaction_lives(three, redis, feed, source_name):
    """It comes back believing that it still leads, and the transaction that it coordinated is long aborted."""
    lakes = {"lake": {"properties": {"transaction.timeout.ms": 3000}}}
    with Story(feed, source_name, three, redis, lakes) as story:
        frozen = _coordinator(three, story.transactional_id())
        three.pause(frozen)
        story.others_go_on()
        time.sleep(8)  # the brokers' own session is 6 s
        story.others_go_on()
        three.resume(frozen)
        story.goes_on("lake")
        story.assert_exact()


# ---- a right that is missing, while other tests run ----


@pytest.fixture(scope="module")
def denied(lone, redis):
    """A story whose sinks have each lost a right, said so, and been given it back, while half a minute goes by until
    they try again: other tests run meanwhile."""
    lakes = {"topic": {}, "id": {}, "log": {"checkpoint_topic": "rights-checkpoints"}, "free": {}}
    rights = {
        "topic": (TOPIC, "rights.topic.Job"),
        "id": (TRANSACTIONAL_ID, _transactional_id("rights", "id")),
        "log": (TOPIC, "rights-checkpoints"),
    }
    feed, answer, acls = Feed(), Answer(), Acls(lone.brokers[0].port)
    answer.steps = feed
    with Standin(answer, default=LISTS) as server:
        feed.address = server.address
        with Story(feed, "rights", lone, redis, lakes) as story:
            for right in rights.values():
                acls.deny(*right, WRITE)
            story.refusals = {lake: story.said("event=sink_backoff", f"sink={lake}", "authorization failed") for lake in rights}
            story.goes_on("cache", "free")
            for right in rights.values():
                acls.grant(*right)
            story.hush()
            yield story


def test_a_right_taken_away_is_said_and_what_to_grant(denied):
    """WRITE on one topic, on the transactional id, on the checkpoint topic: each stops its own sink only."""
    topic = ("Broker: Topic authorization failed", "grant this user WRITE and DESCRIBE on the topic")
    advice = {
        "topic": topic,
        "id": ("Transactional Id authorization failed", "grant this user WRITE and DESCRIBE on this transactional id"),
        "log": topic,
    }
    for lake, texts in advice.items():
        assert all(text in denied.refusals[lake] for text in texts)


# ---- commits of which nobody knows what became ----


def test_a_commit_or_its_answer_lost_again_and_again(lone, wire, redis, feed, source_name):
    with Story(feed, source_name, lone, redis, brokers=wire.address) as story:
        wire.met = 0
        fates = ["unsent", "racing", "answer", "late"] * 4
        wire.random.shuffle(fates)
        for fate in fates:
            wire.fates.append(fate)
            wait_until(lambda: not wire.fates, 60, f"a commit to be {fate}")
            story.goes_on("lake")
        assert wire.met == len(fates)
        story.assert_exact()


def test_a_commit_that_comes_a_second_time_commits_nothing(lone, wire, redis, feed, source_name):
    """The client has sent it again over another connection, and is amid the next transaction when the first arrives."""
    with Story(feed, source_name, lone, redis, brokers=wire.address) as story:
        for _ in range(10):
            wire.fates.append("late")
            wait_until(lambda: not wire.fates, 60, "a commit to be late")
            story.goes_on("lake")
        assert not story.busbar.log_lines("kafka_epoch_lost")
        story.assert_exact()


def test_a_commit_that_times_out(lone, wire, redis, feed, source_name):
    """The broker has committed; the answer is lost and nobody is let in for longer than the sink waits."""
    with Story(feed, source_name, lone, redis, brokers=wire.address) as story:
        wire.door_open.clear()
        wire.fates.append("answer")
        wait_until(lambda: not wire.fates, 60, "a commit")
        try:
            story.said("level=warn event=sink_backoff", "sink=lake")
            story.others_go_on()
        finally:
            wire.door_open.set()
        story.goes_on("lake")
        story.assert_exact()


def test_a_busbar_killed_with_its_commit_under_way(lone, wire, redis, feed, source_name):
    with Story(feed, source_name, lone, redis, brokers=wire.address) as story:
        for fate in ("unsent", "racing", "answer", "late", "answer", "late"):
            wire.fates.append(fate)
            wait_until(lambda: not wire.fates, 60, f"a commit to be {fate}")
            story.busbar.restart(hard=True)
            story.goes_on("lake")
        story.assert_exact()


# ---- a broker that says no ----

def test_records_too_large_stand_aside_and_the_rest_arrives(lone, redis, feed, source_name):
    """Larger than the broker's own limit (1 MB): told once each what, why, and where the whole of it is to be had."""
    lake = {"partitions": 1, "properties": {"compression.type": "none"}}
    with Story(feed, source_name, lone, redis, {"lake": lake}) as story:
        for _ in range(3):
            story.say(size=1_200_000)
            time.sleep(0.2)
        large = {json.loads(data)["Index"] for data in story.told if len(data) > 1_000_000}
        story.end()
        said = [json.loads(value) for value in story.values("lake", "Busbar")]
        assert [(event["Type"], event["Index"]) for event in said] == [("Rejected", index) for index in sorted(large)]
        line = story.said("level=error event=rejected")
        assert "sink=lake" in line and "Message size too large" in line
        told = [data for data in story.told if b'"Topic":"Job"' in data and len(data) < 1_000_000]
        assert story.values("lake", "Job") == told
        for topic in TOPICS[1:]:
            assert story.values("lake", topic) == [data for data in story.told if f'"Topic":"{topic}"'.encode() in data]


# ---- things that are not there any more ----


def test_a_topic_deleted_while_running_is_made_again(lone, redis, feed, source_name):
    with Story(feed, source_name, lone, redis, {"lake": {"partitions": 1}}) as story:
        story.goes_on("lake")
        lines = len(story.busbar.log_lines())
        lone.delete_topic(f"{source_name}.lake.Job")
        # "a topic is gone: making it again", unless what was on its way to it was given up first.
        story.said("event=sink_backoff", "sink=lake", since=lines)
        gone = story.sink("lake")["index"]  # and what came before it
        story.said("event=kafka_topic_created", f"topic={source_name}.lake.Job", since=lines)
        story.goes_on("lake")
        story.end()
        left = [json.loads(value)["Index"] for value in story.values("lake", "Job")]
        told = [json.loads(data)["Index"] for data in story.told if b'"Topic":"Job"' in data]
        assert left == told[-len(left) :] and left[0] <= next(index for index in told if index > gone)
        for other in TOPICS[1:]:
            assert story.values("lake", other) == [data for data in story.told if f'"Topic":"{other}"'.encode() in data]


@pytest.mark.parametrize("killed", [False, True], ids=["running", "killed"])
def test_the_checkpoint_topic_deleted(lone, redis, feed, source_name, killed):
    """Who runs knows how far it was, and says that the topic is gone."""
    own = f"{source_name}-checkpoints"
    with Story(feed, source_name, lone, redis, {"lake": {"checkpoint_topic": own}}) as story:
        story.goes_on("lake")
        lone.delete_topic(own)
        story.said("level=error event=kafka_checkpoint_lost", f"sink=lake topic={own}", "written again from memory")
        story.goes_on("lake")
        if killed:
            story.busbar.restart(hard=True)
        story.assert_exact()


# ---- others with the same name ----


def test_an_epoch_taken_from_outside_is_taken_back(lone, redis, feed, source_name):
    """Something else used the transactional id: no other busbar says that it owns the pair, so this one goes on."""
    with Story(feed, source_name, lone, redis) as story:
        for _ in range(3):
            thief = confluent_kafka.Producer(
                {"bootstrap.servers": lone.bootstrap, "transactional.id": story.transactional_id(), **QUIET}
            )
            thief.init_transactions(30)
            story.goes_on("lake")
        assert "no other instance took over" in story.said("level=warn event=kafka_epoch_lost")
        story.assert_exact()


# ---- the first of a new partition ----


def test_the_first_of_many_new_topics_is_not_lost(lone, redis, feed, source_name):
    """Two produce requests for each of many new partitions: with more than one under way the first could be lost."""
    lake = {"topic": "%{source}.lake.%{key}", "commit_interval": "1s", "properties": {"batch.num.messages": 1}}
    with Story(feed, source_name, lone, redis, {"lake": lake}) as story:
        for number in range(200):
            story.say(1, key=f"n{number % 100}")
        story.assert_exact()


# ---- the right is there again ----


def test_a_right_granted_again_is_found_within_half_a_minute(denied):
    denied.goes_on("topic", "id", "log", index=denied.feed.index)
    denied.assert_exact()
