"""Two instances of one bridge at one Redis: one publishes, the other waits for its lease to end; each event is there once."""

import contextlib
import itertools
import json
import random
import shutil
import time

import pytest
from rig.busbar import Busbar
from rig.feed import Feed
from rig.proc import wait_until
from rig.redis_server import Redis
from rig.standin import Answer, Standin, event_line, refusal
from rig.stopwatch import had

LEADER = refusal("200 OK", "[]", {"Content-Type": "application/json", "X-Nomad-Index": 1 << 40})


class _Teller(Feed):
    """One server's stream, line by line."""

    def tell(self, index: int, events: list[bytes]) -> None:
        with self._news:
            self._lines.append(b'{"Events":[%b],"Index":%d}\n' % (b",".join(events), index))
            self._news.notify_all()


class Twins:
    """Two servers that tell the same events, those of one index in an order of their own; `told`: by index, a set."""

    def __init__(self):
        self.tellers, self._rng = (_Teller(), _Teller()), random.Random(7)
        self.index, self.told = 100, {}

    def __enter__(self):
        self._ends = contextlib.ExitStack()
        self.addresses = []
        for teller in self.tellers:
            answer = Answer()
            answer.steps = teller
            self.addresses.append(self._ends.enter_context(Standin(answer, default=LEADER)).address)
        return self

    def __exit__(self, *_):
        self._ends.close()

    def make(self, count: int) -> list[bytes]:
        """As many events of a new index, not told yet."""
        self.index += 1
        lines = [event_line(self.index, key=f"key-{number}") for number in range(count)]
        events = [line[len(b'{"Events":[') : line.rindex(b'],"Index":')] for line in lines]
        self.told[self.index] = set(events)
        return events

    def say(self, count: int = 1, events: int = 3) -> None:
        for _ in range(count):
            made = self.make(events)
            for teller in self.tellers:
                teller.tell(self.index, self._rng.sample(made, len(made)))


class Scene:
    """Two busbars of one name, `a` and `b`, each with a server, a journal and a port of its own, and one Redis."""

    def __init__(self, twins: Twins, name: str, redis: Redis, standby: bool = True):
        self.twins, self.name, self.redis = twins, name, redis
        self.a, self.b = (Busbar(self.config(address, standby)) for address in twins.addresses)

    def config(self, address: str, standby: bool, *sinks: dict) -> dict:
        source = {"name": self.name, "type": "nomad", "servers": [address], "start": "oldest"}
        cache = {"name": "cache", "type": "redis", "url": self.redis.url, "timeout": "1s"}
        return {"name": "t", "standby": standby, "sources": [source], "sinks": [cache, *sinks]}

    def __enter__(self):
        """`a` publishes, `b` waits."""
        self.twins.say()
        self.a.start()
        wait_until(lambda: self.sink(self.a)["state"] == "publishing", 20, f"a publishes\n{self.a.log_tail()}")
        self.b.start()
        wait_until(lambda: self.sink(self.b)["state"] == "standby", 20, f"b waits\n{self.b.log_tail()}")
        self.wait_all()
        return self

    def __exit__(self, *_):
        self.a.close()
        self.b.close()

    @staticmethod
    def sink(busbar: Busbar, name: str = "cache") -> dict:
        (source,) = busbar.status()["sources"]
        return next(sink for sink in source["sinks"] if sink["name"] == name)

    def owner(self, busbar: Busbar, name: str = "cache") -> str:
        return self.sink(busbar, name)["owner"]

    def published(self) -> list[bytes]:
        return [fields["data"] for _, fields in self.redis.read_stream(f"{self.name}:Job")]

    def wait_all(self, timeout: float = 20) -> None:
        """All that was told is there, once, the indexes in order."""
        wanted = sum(map(len, self.twins.told.values()))
        with contextlib.suppress(AssertionError):
            wait_until(lambda: len(self.published()) >= wanted, timeout, "all of them")
        found = self.published()
        logs = f"\n{self.a.log_tail()}\n{self.b.log_tail()}"
        by_index = itertools.groupby(found, lambda data: json.loads(data)["Index"])
        groups = [(index, list(events)) for index, events in by_index]
        assert len(found) == wanted, f"{len(found)} of {wanted}, {len(set(found))} different{logs}"
        assert {index: set(events) for index, events in groups} == self.twins.told, logs
        assert [index for index, _ in groups] == sorted(self.twins.told), f"not in order{logs}"

    def seconds_to_publish(self, what, limit: float) -> float:
        """How long after `what` was done something new is published."""
        before = len(self.published())
        start = had()
        what()
        self.twins.say()
        logs = f"{self.a.log_tail()}\n{self.b.log_tail()}"
        wait_until(lambda: len(self.published()) > before, limit, f"published again\n{logs}")
        return had() - start


@pytest.fixture
def twins():
    with Twins() as made:
        yield made


@pytest.fixture
def scene(twins, source_name, redis):
    with Scene(twins, source_name, redis) as made:
        yield made


def test_killed_the_standby_takes_over_within_ten_seconds(scene):
    first, second = scene.a.status()["instance"], scene.b.status()["instance"]
    assert first != second and scene.owner(scene.a) == scene.owner(scene.b) == first
    took = scene.seconds_to_publish(scene.a.kill9, 10)
    print(f"kill -9: taken over after {took:.1f} s")
    scene.wait_all()
    assert scene.owner(scene.b) == second
    wait_until(lambda: scene.sink(scene.b)["state"] == "publishing", 10, "it says so")
    scene.a.start()
    wait_until(lambda: scene.owner(scene.a) == second, 20, "the one that comes back waits")
    scene.twins.say(5)
    scene.wait_all()
    assert scene.owner(scene.b) == second


@pytest.mark.parametrize("pause", [6, 0.3], ids=["idle", "busy"])
def test_an_owner_that_lives_keeps_its_lease(scene, pause):
    """Whether it has anything to publish or not."""
    end, stood_still = time.monotonic() + 6, 0.0
    while time.monotonic() < end:
        looked, had_then = time.monotonic(), had()
        time.sleep(pause)
        scene.twins.say()
        stood_still = max(stood_still, time.monotonic() - looked - (had() - had_then))
    scene.wait_all()
    if stood_still > 2:  # seconds: the lease may have run out, and either may have been the first to wake
        return
    assert scene.owner(scene.b) == scene.a.status()["instance"]
    assert not scene.b.log_lines("sink_resumes")


def test_stopped_the_standby_takes_over_within_two_seconds(scene):
    """Back and forth, so that each reads on where the other was. A busy machine may take longer, but not each time."""
    took = []
    for gone, stays in [(scene.a, scene.b), (scene.b, scene.a)] * 2:
        took.append(scene.seconds_to_publish(gone.stop, 10))
        scene.wait_all()
        gone.start()
        wait_until(lambda: scene.sink(gone)["state"] == "standby", 20, "it waits again")
        assert scene.owner(gone) == stays.status()["instance"]
    print(f"stop: taken over after {took} s")
    assert min(took) < 2


def test_killed_and_started_again_an_instance_goes_on_at_once(scene):
    """Its own lease, which runs on, does not stop it; the standby stays one, unless the lease runs out meanwhile."""
    took = []
    for _ in range(3):
        began = time.monotonic()
        took.append(scene.seconds_to_publish(lambda: scene.a.restart(hard=True), 10))
        passed = time.monotonic() - began
        scene.wait_all()
        if scene.b.log_lines("sink_resumes"):
            assert passed > 1, "the lease ran on"
            break
        assert scene.owner(scene.a) == scene.a.status()["instance"]
    print(f"restart: published after {took} s")
    assert min(took) < 2


def test_a_zombie_publishes_nothing(scene):
    """Stopped for longer than its lease, with events on their way to it; then it goes on, and finds a successor."""
    scene.twins.say(20)
    scene.a.pause()
    scene.twins.say(20)
    wait_until(lambda: scene.sink(scene.b)["state"] == "publishing", 20, f"b took over\n{scene.b.log_tail()}")
    scene.wait_all()
    scene.a.resume()
    scene.twins.say(20)
    wait_until(lambda: scene.sink(scene.a)["state"] == "standby", 20, f"a waits\n{scene.a.log_tail()}")
    scene.wait_all()
    assert scene.b.status()["instance"] in scene.a.wait_log("took over")
    assert scene.sink(scene.a)["published"] <= sum(map(len, scene.twins.told.values())) - 60
    scene.b.stop()
    scene.twins.say(5)
    scene.wait_all()


def test_a_successor_that_has_not_published_yet_is_respected(scene):
    """The checkpoint is still ours, the owner key is not: the fence alone."""
    keys = [f"busbar:{{{scene.name}}}:t.cache:{what}" for what in ("owner", "lease")]
    scene.b.stop()
    before = len(scene.published())
    admin = scene.redis.client()
    with admin.pipeline(transaction=True) as pipe:
        pipe.set(keys[0], "99 somebody")
        pipe.set(keys[1], "0123456789abcdef", px=60_000)
        pipe.execute()
    scene.twins.say()
    wait_until(lambda: scene.owner(scene.a) == "0123456789abcdef", 20, f"a sees its successor\n{scene.a.log_tail()}")
    admin.pexpire(keys[1], 4000)
    found = before
    while admin.get(keys[1]) == b"0123456789abcdef":
        assert found == before, "published under another's lease"
        found = len(scene.published())
    scene.wait_all()
    assert admin.get(keys[0]).startswith(b"100 ")


@pytest.mark.parametrize("swapped", [False, True])
def test_both_orders_of_one_index_and_a_takeover_in_its_middle(scene, swapped):
    """The two servers cut the index into lines differently: what one has published the other may not have heard yet."""
    one, two, three, four, five, six = scene.twins.make(6)
    halves = [([one, two, three], [four, five, six]), ([six, two, four], [one, five, three])]
    if swapped:
        halves.reverse()
    index = scene.twins.index
    before = len(scene.published())
    for teller, (first, _) in zip(scene.twins.tellers, halves):
        teller.tell(index, first)
    wait_until(lambda: len(scene.published()) == before + 3, 20, "a's half")
    scene.a.stop()
    wait_until(lambda: len(scene.published()) == before + 5, 20, f"what b has more\n{scene.b.log_tail()}")
    for teller, (_, second) in zip(scene.twins.tellers, halves):
        teller.tell(index, second)
    scene.wait_all()
    scene.twins.say(3)
    scene.wait_all()


def test_a_large_index_taken_over_between_two_batches(scene):
    """1,000 events of one index are four script calls; the successor has them in another order."""
    for round_number in range(3):
        scene.twins.say(1, events=1000)
        gone = (scene.a, scene.b)[round_number % 2]
        gone.stop()
        scene.wait_all()
        gone.start()
        wait_until(lambda: scene.sink(gone)["state"] == "standby", 20, "it waits again")


def test_the_mirror_of_a_standby_serves_all(scene):
    with scene.b.events(from_oldest=True) as client:
        scene.twins.say(50)
        wanted = set().union(*scene.twins.told.values())
        wait_until(lambda: len(client.frames) >= len(wanted), 20, "every event")
        assert {frame.data for frame in client.frames} == wanted
    assert scene.sink(scene.b)["published"] == 0


def test_a_redis_that_is_gone_for_a_while_leaves_one_owner(twins, source_name):
    """And what belongs to another sink stays as it was."""
    with Redis() as redis, Redis() as other, contextlib.ExitStack() as ends:
        scene = Scene(twins, source_name, redis)
        spare = {"name": "spare", "type": "redis", "url": other.url}
        for busbar, address in zip((scene.a, scene.b), twins.addresses):
            busbar.configure(scene.config(address, True, spare))
        ends.enter_context(scene)
        first = scene.a.status()["instance"]
        redis.kill9()
        for busbar in (scene.a, scene.b):
            wait_until(lambda: scene.sink(busbar)["state"] == "backoff", 20, "it is told")
        twins.say(20)
        wait_until(lambda: other.client().xlen(f"{source_name}:Job") == 63, 20, "the other sink goes on")
        assert scene.owner(scene.a, "spare") == scene.owner(scene.b, "spare") == first
        redis.start()
        scene.wait_all()
        states = wait_until(lambda: _one_each(scene), 30, "one publishes, one waits")
        print(states)
        assert scene.owner(scene.a, "spare") == scene.owner(scene.b, "spare") == first
        assert scene.owner(scene.a) == scene.owner(scene.b) != ""
        twins.say(5)
        scene.wait_all()


def _one_each(scene: Scene) -> list[str] | None:
    states = [scene.sink(busbar)["state"] for busbar in (scene.a, scene.b)]
    return states if sorted(states) == ["publishing", "standby"] else None


def test_a_folder_that_was_copied_is_told_and_nothing_comes_twice(scene, tmp_path):
    """Two processes with one id: the newer one has the pair, the older one waits and says why."""
    scene.a.pause()  # else a file may go while it is copied
    shutil.copytree(scene.a.folder / "journal", tmp_path / "journal")
    scene.a.resume()
    config = scene.config(scene.twins.addresses[0], True)
    with Busbar({**config, "journal": {"path": str(tmp_path / "journal")}}) as twin:
        assert twin.status()["instance"] == scene.a.status()["instance"]
        wait_until(lambda: scene.sink(twin)["state"] == "publishing", 20, twin.log_tail())
        scene.twins.say(20)
        scene.a.wait_log("was the journal's folder copied?")
        before = len(scene.a.log_lines("sink_resumes"))
        scene.wait_all()
        time.sleep(3)
        assert len(scene.a.log_lines("sink_resumes")) == before, "they do not take it from each other in turn"
    scene.twins.say(5)
    scene.wait_all()


def test_without_standby_the_newest_takes_the_lease_by_force(twins, source_name, redis):
    scene = Scene(twins, source_name, redis, standby=False)
    try:
        twins.say(5)
        scene.a.start()
        scene.wait_all()
        took = scene.seconds_to_publish(scene.b.start, 20)
        print(f"by force: after {took:.1f} s")
        assert scene.a.process.wait(20) == 3, scene.a.log_tail()
        assert "took over" in scene.a.log_lines("sink_ended")[0]
        twins.say(5)
        scene.wait_all()
    finally:
        scene.__exit__()
