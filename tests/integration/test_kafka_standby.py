"""Instances of one bridge that share out their sources by Kafka's group protocol: who publishes what, how fast another
one takes over, and that each event is there once whatever happens."""

import contextlib
import itertools
import json
import threading
import time

import confluent_kafka
import pytest
from rig.acls import GROUP, READ, Acls
from rig.busbar import Busbar
from rig.events import LineReader
from rig.exits import from_kafka
from rig.feed import Feed
from rig.kafka import QUIET, Kafka
from rig.oracle import compare
from rig.proc import Failed, wait_until
from rig.standin import Answer, Standin, event_line, refusal
from rig.stopwatch import had

# Without an ACL everybody may do everything; a test adds the one it is about.
SETTINGS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
KEYS = ("api", "web", "db")
LISTS = refusal("200 OK", "[]", {"Content-Type": "application/json", "X-Nomad-Index": 1 << 40})


@pytest.fixture(scope="module")
def broker():
    with Kafka(settings=SETTINGS) as kafka:
        yield kafka


class Server(Feed):
    """One of a cluster's servers: tells the events of an index in an order of its own."""

    def __init__(self, turned: bool):
        super().__init__()
        self.turned = turned

    def tell(self, index: int, events: list[bytes]) -> None:
        told = events[::-1] if self.turned else events
        with self._news:
            self.index = index
            self._lines.append(b'{"Events":[' + b",".join(told) + b'],"Index":%d}\n' % index)
            self._news.notify_all()


class Cluster:
    """Two servers that tell the same all the time; within each index the second one the other way round."""

    def __init__(self):
        self.servers, self.told, self.index = [Server(False), Server(True)], [], 100
        self._over, self._stack = threading.Event(), contextlib.ExitStack()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.addresses = []

    def __enter__(self):
        for server in self.servers:
            answer = Answer()
            answer.steps = server
            self.addresses.append(self._stack.enter_context(Standin(answer, default=LISTS)).address)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.end()
        self._stack.close()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            self.index += 1
            lines = [event_line(self.index, key=key) for key in KEYS]
            events = [line[len(b'{"Events":[') : line.rindex(b'],"Index":')] for line in lines]
            self.told += events
            for server in self.servers:
                server.tell(self.index, events)

    def end(self) -> None:
        self._over.set()
        self._thread.join()


class Bridge:
    """Instances of one name; those with an odd number listen to the second server."""

    def __init__(self, kafka: Kafka, cluster: Cluster, name: str, sources: int = 1):
        self.kafka, self.cluster, self.name = kafka, cluster, name
        self.sources = [f"{name}-{number}" for number in range(sources)]
        self.instances: list[Busbar] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def wait(self, condition, timeout: float, what: str, every: float = 0.05):
        """wait_until; where it fails, the logs as they are then."""
        try:
            return wait_until(condition, timeout, what, every)
        except Failed as failed:
            logs = "\n".join(busbar.log_tail() for busbar in self.instances)
            raise Failed(f"{failed}\n{logs}") from None

    def add(self, sources: list[str] | None = None, attached: bool = False) -> Busbar:
        """A further instance, started; attached: it has what the others have in a journal of its own."""
        server = self.cluster.addresses[len(self.instances) % 2]
        listed = [{"name": name, "type": "nomad", "servers": [server], "start": "oldest"} for name in sources or self.sources]
        lake = {"name": "lake", "type": "kafka", "brokers": self.kafka.bootstrap, "partitions": 1}
        busbar = Busbar({"name": self.name, "standby": True, "sources": listed, "sinks": [lake]})
        self.instances.append(self._stack.enter_context(busbar))
        if attached:
            self.wait(lambda: busbar.log_lines("source_attached"), 30, "attached")
        return busbar

    def add_owner(self) -> Busbar:
        """The first one: it has everything, until others come."""
        busbar = self.add()
        self.wait_settled()
        return busbar

    def pairs(self, busbar: Busbar) -> dict[str, dict]:
        return {source["name"]: source["sinks"][0] for source in busbar.status()["sources"]}

    def owned(self, busbar: Busbar) -> set[str]:
        """What it publishes, up to what is told now."""
        if not busbar.running:
            return set()
        return {name for name, pair in self.pairs(busbar).items() if pair["state"] == "publishing"}

    def shared(self, *sizes: int) -> list[set[str]]:
        """What each instance publishes, where each source is published by one of them; else nothing. Each is asked once,
        as what one has let go another may have a moment later. sizes: only where so many are published by each."""
        owned = [self.owned(busbar) for busbar in self.instances]
        settled = sorted(name for names in owned for name in names) == sorted(self.sources)
        return owned if settled and (not sizes or tuple(map(len, owned)) == sizes) else []

    def wait_settled(self, *sizes: int) -> list[set[str]]:
        """What each instance then publishes."""
        return self.wait(lambda: self.shared(*sizes), 60, f"each source is published by one instance {sizes or ''}")

    def seconds_until_published_by(self, busbar: Busbar, act, sources: list[str] | None = None) -> float:
        """How long after act() began what was told since then is published by this instance."""
        began = had()
        act()
        index = self.cluster.index + 1

        def published():
            try:
                pairs = self.pairs(busbar)
            except OSError:
                return False
            return all(pairs[name]["state"] == "publishing" and pairs[name]["index"] >= index for name in sources or self.sources)

        self.wait(published, 25, "published by this instance", every=0.02)
        return had() - began

    def instance_id(self, busbar: Busbar) -> str:
        return busbar.status()["instance"]

    def owners(self, source: str) -> set[str]:
        """Who owns it: what each running instance says."""
        return {self.pairs(busbar)[source]["owner"] for busbar in self.instances if busbar.running}

    def wait_agreed(self) -> None:
        """All say the same. A standby looks a moment after the group has changed, when the new owner may not have said so
        yet, and then only every 15 s."""
        self.wait(lambda: all(len(self.owners(source)) == 1 for source in self.sources), 40, "all say the same owners")

    def opened(self, busbar: Busbar) -> set[str]:
        """What it has ever owned."""
        lines = busbar.log_lines("kafka_open")
        return {name for name in self.sources if any(f" source={name} " in line for line in lines)}

    def let_go(self, busbar: Busbar, sources: set[str]) -> list[str]:
        """Where it says that it has become a standby of one of these after it had published it."""
        found = []
        for source in sources:
            lines = [line for line in busbar.log_lines() if f" source={source} " in line]
            since = itertools.dropwhile(lambda line: "event=sink_publishing" not in line, lines)
            found += [line for line in since if "event=sink_standby" in line]
        return found

    def writers(self, source: str) -> list[str]:
        """Who committed to the checkpoint topic for this source, in order, repeats left out."""
        found = []
        for record in self.kafka.read_all(["busbar.checkpoints"]):
            if record.key.decode().startswith(f"{self.name}.{source}.lake"):
                owner = record.headers["busbar_owner"].decode()
                if found[-1:] != [owner]:
                    found.append(owner)
        return found

    def raise_epoch(self, source: str) -> None:
        """In its checkpoint, as if the index had started over; nobody runs."""
        key = f"{self.name}.{source}.lake".encode()
        last = [record for record in self.kafka.read_all(["busbar.checkpoints"]) if record.key == key][-1]
        producer = confluent_kafka.Producer({"bootstrap.servers": self.kafka.bootstrap, **QUIET})
        producer.produce("busbar.checkpoints", json.dumps({**json.loads(last.value), "epoch": 1}), key)
        assert producer.flush(20) == 0

    def assert_exact(self) -> None:
        """No more is told; all of it is there, once and in order, of every source."""
        self.cluster.end()
        done = lambda: all(  # noqa: E731
            any(self.pairs(b)[s]["index"] >= self.cluster.index for b in self.instances if s in self.owned(b)) for s in self.sources
        )
        self.wait(done, 60, "all is published")
        events = [event for data in self.cluster.told for event in LineReader().read(b'{"Events":[' + data + b"]}")]
        sent = {event.what: {event.data} for event in events}
        arrivals = from_kafka(self.kafka.read_all(lambda name: name.startswith(f"{self.name}-")))
        for source in self.sources:
            compare({source: events}, [a for a in arrivals if a.source == source], sent).assert_exact()


@pytest.fixture
def cluster():
    with Cluster() as told:
        yield told


# ---- one source, two instances ----


def test_a_standby_takes_over_and_the_owner_is_known_again(broker, cluster, source_name):
    """Killed: within 10 s; stopped, and back after a kill: at once, as if nothing had been (on a busy machine still
    before the session's 6 s are over). The order within an index differs on the two, and each takes over from the other."""
    with Bridge(broker, cluster, source_name) as bridge:
        one, two = bridge.add_owner(), bridge.add(attached=True)
        first = bridge.instance_id(one)
        told = lambda busbar: {name: bridge.pairs(busbar)[bridge.sources[0]][name] for name in ("state", "owner")}  # noqa: E731
        bridge.wait(lambda: told(two) == {"state": "standby", "owner": first}, 30, "the standby knows who has it")
        assert bridge.seconds_until_published_by(two, one.kill9) < 10
        second = bridge.instance_id(two)
        assert second != first
        bridge.wait(lambda: told(two) == {"state": "publishing", "owner": second}, 30, "it says so")
        one.start()
        bridge.wait(lambda: told(one)["owner"] == second, 40, "the first one knows who has it")
        assert bridge.seconds_until_published_by(two, lambda: two.restart(hard=True)) < 5
        assert bridge.instance_id(two) == second
        assert bridge.seconds_until_published_by(one, lambda: two.stop() and pytest.fail("not 0")) < 5
        bridge.assert_exact()
        assert bridge.writers(bridge.sources[0]) == [first, second, first]


def test_a_fresh_standby_attaches_knowing_the_checkpoint(broker, cluster, source_name):
    """Its journal is empty and it owns nothing: it looks at the checkpoint all the same, and does not wait for it in
    vain (10 s) before it attaches. So what it takes over with has the epoch that the checkpoint had."""
    with Bridge(broker, cluster, source_name) as bridge:
        first = bridge.add_owner()
        bridge.seconds_until_published_by(first, lambda: None)
        first.stop()
        bridge.raise_epoch(bridge.sources[0])
        owner, standby = bridge.add_owner(), bridge.add()
        began = had()
        standby.wait_log("event=source_attached")
        assert had() - began < 8, standby.log_tail()
        (source,) = standby.status()["sources"]
        assert source["epoch"] == 1
        bridge.wait(lambda: standby.status()["sources"][0]["sinks"][0]["state"] == "standby", 30, "a standby")
        assert bridge.seconds_until_published_by(standby, owner.stop) < 5
        bridge.assert_exact()


def test_a_zombie_publishes_nothing(broker, cluster, source_name):
    """Asleep for longer than its session, in the middle of all it does: it wakes up as a standby."""
    with Bridge(broker, cluster, source_name) as bridge:
        one, two = bridge.add_owner(), bridge.add(attached=True)
        first, second = bridge.instance_id(one), bridge.instance_id(two)
        opened = len(one.log_lines("kafka_open"))
        assert bridge.seconds_until_published_by(two, one.pause) < 10
        one.resume()
        bridge.wait(lambda: bridge.pairs(one)[bridge.sources[0]]["state"] == "standby", 30, "a standby")
        assert bridge.pairs(one)[bridge.sources[0]]["owner"] in (second, "")
        time.sleep(1)
        bridge.assert_exact()
        assert bridge.writers(bridge.sources[0]) == [first, second]
        assert len(one.log_lines("kafka_open")) == opened


def test_a_pause_shorter_than_the_session_moves_nothing(broker, cluster, source_name):
    with Bridge(broker, cluster, source_name) as bridge:
        one, two = bridge.add_owner(), bridge.add()
        one.pause()
        time.sleep(2)  # and twice as much again where the machine stands still
        one.resume()
        bridge.seconds_until_published_by(one, lambda: None)
        bridge.assert_exact()
        assert len(bridge.writers(bridge.sources[0])) == 1
        assert not two.log_lines("kafka_open")


# ---- many sources ----


def test_sources_are_shared_out(broker, cluster, source_name):
    """Four over two: two each. One killed: the other has all. A third one comes: nothing moves that need not."""
    with Bridge(broker, cluster, source_name, sources=4) as bridge:
        one, two = bridge.add_owner(), bridge.add()
        lost, kept = bridge.wait_settled(2, 2)
        bridge.wait_agreed()
        assert bridge.seconds_until_published_by(two, one.kill9, sorted(lost)) < 10
        assert bridge.let_go(two, kept) == []
        assert bridge.opened(two) == lost | kept
        three = bridge.add()
        _, still, given = bridge.wait_settled(0, 2, 2)
        assert bridge.let_go(two, still) == []
        assert bridge.opened(three) == given
        bridge.assert_exact()


def test_an_idle_owner_lets_go(broker, cluster, source_name):
    """What has nothing to publish is not told by the broker that it is fenced: it has to ask."""
    with Bridge(broker, cluster, source_name, sources=2) as bridge:
        bridge.add_owner()
        cluster.end()
        bridge.add()
        bridge.wait_settled(1, 1)
        bridge.assert_exact()


def test_instances_with_other_lists_of_sources_agree(broker, cluster, source_name):
    """While a new configuration is rolled out: each knows its own sources, and nobody fights for those both know."""
    with Bridge(broker, cluster, source_name, sources=3) as bridge:
        old, new = bridge.add(bridge.sources[::2]), bridge.add(bridge.sources)
        shared = lambda: all(bridge.shared() or [False]) and bridge.sources[1] in bridge.owned(new)  # noqa: E731
        bridge.wait(shared, 60, "both have some")
        assert len(bridge.opened(old)) + len(bridge.opened(new)) <= 4
        opened = lambda: len(old.log_lines("kafka_open") + new.log_lines("kafka_open"))  # noqa: E731
        bridge.wait(lambda: is_still(opened, 10), 60, "nobody takes what the other has just taken")
        bridge.assert_exact()


def is_still(count, seconds: float) -> bool:
    """The count is the same so much later; who fights for something takes a turn every 5 s."""
    before = count()
    time.sleep(seconds)
    return count() == before


# ---- Kafka itself ----


def test_kafka_killed_and_restarted(broker, cluster, source_name):
    """Away for longer than the sessions of both: whoever goes on, each event is there once."""
    with Bridge(broker, cluster, source_name, sources=2) as bridge:
        bridge.add_owner()
        bridge.add()
        bridge.wait_settled()
        broker.kill9()
        time.sleep(7)
        broker.start()
        index = cluster.index
        last = lambda source: max(bridge.pairs(busbar)[source]["index"] for busbar in bridge.instances)  # noqa: E731
        bridge.wait(lambda: bridge.shared() and min(map(last, bridge.sources)) > index, 120, "published again")
        bridge.assert_exact()


def test_a_group_that_may_not_be_read_is_said(broker, cluster, source_name):
    """Nothing is published meanwhile: who should is not known."""
    acls = Acls(broker.brokers[0].port)
    acls.deny(GROUP, f"{source_name}.lake", READ)
    with Bridge(broker, cluster, source_name) as bridge:
        busbar = bridge.add()
        assert "event=sink_backoff" in busbar.wait_log("grant this user READ on this consumer group", 40)
        assert not busbar.log_lines("kafka_open")
        acls.grant(GROUP, f"{source_name}.lake")
        busbar.restart()
        bridge.wait_settled()
        bridge.assert_exact()
