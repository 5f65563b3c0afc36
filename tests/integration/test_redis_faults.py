"""A Redis that breaks in every way a Redis can: only its own sink waits, the log says what to do, and in the end each
event is there once, in order."""

import contextlib
import itertools
import random
import re
import threading
import time

import pytest
import redis as client
from rig.busbar import Busbar
from rig.feed import Feed
from rig.proc import wait_until
from rig.proxy import DOWN, UP, Proxy
from rig.redis_server import Redis

RIGHTS = ["eval", "evalsha", "script|load", "get", "set", "type", "xinfo", "xadd", "xtrim"]


class Case:
    """A busbar with two sinks, `cache` at the Redis in trouble (through a proxy) and `spare` at another; `told` is all
    that its source said."""

    def __init__(self, feed: Feed, name: str, spare: Redis, timeout: str):
        self.feed, self.name, self.spare, self.timeout, self.told = feed, name, spare, timeout, []
        self.redis = Redis({"busy-reply-threshold": 100, "repl-diskless-sync-delay": 0})
        self.wire = Proxy(0)
        self.busbar: Busbar | None = None

    def __enter__(self):
        self._ends = contextlib.ExitStack()
        with contextlib.ExitStack() as ends:
            ends.enter_context(self.redis)
            self.wire.server_port = self.redis.port
            ends.enter_context(self.wire)
            self.busbar = ends.enter_context(Busbar(self._config()))
            self._ends = ends.pop_all()
        self.say()
        self.wait_exact()
        return self

    def __exit__(self, *_):
        self._ends.close()

    def _config(self) -> dict:
        source = {"name": self.name, "type": "nomad", "servers": [self.feed.address], "start": "oldest"}
        cache = {"name": "cache", "type": "redis", "url": f"redis://127.0.0.1:{self.wire.port}/0", "timeout": self.timeout}
        spare = {"name": "spare", "type": "redis", "url": self.spare.url}
        return {"name": "t", "sources": [source], "sinks": [cache, spare]}

    @property
    def stream(self) -> str:
        return f"{self.name}:Job"

    def say(self, count: int = 20, size: int = 300) -> None:
        self.told += self.feed.say(count, size=size)

    def published(self, server: Redis | None = None) -> list[bytes]:
        with contextlib.suppress(client.ConnectionError, client.TimeoutError, client.ResponseError):
            return [fields["data"] for _, fields in (server or self.redis).read_stream(self.stream)]
        return []

    def wait_exact(self, server: Redis | None = None, timeout: float = 20) -> None:
        """All that was told is there, once and in order; nothing more comes."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.told[-1] in self.published(server), timeout, "the last event")
        found = self.published(server)
        counts = f"{len(found)} of {len(self.told)}, {len(set(found))} different"
        assert found == self.told, f"{counts}\n{self.busbar.log_tail()}"

    def sink(self, name: str) -> dict:
        (source,) = self.busbar.status()["sources"]
        return next(sink for sink in source["sinks"] if sink["name"] == name)

    def assert_only_cache_waits(self, *told: str) -> None:
        """The other sink goes on meanwhile; log and status say what it is about this one: any of these."""
        self.say()
        self.wait_exact(self.spare)
        says = lambda text: any(one in text or one.replace('\\"', '"') in text for one in told)  # noqa: E731
        lines = lambda: [line for line in self.busbar.log_lines("sink_backoff") if "sink=cache" in line and says(line)]  # noqa: E731
        wait_until(lines, 20, f"{told} in the log\n{self.busbar.log_tail()}")
        wait_until(lambda: self.sink("spare")["state"] == "publishing", 10, "the other one publishes")
        wait_until(lambda: says(self.sink("cache")["last_error"] or ""), 20, f"{told} in /status")

    def assert_told_once(self) -> None:
        """It says what is wrong when that is news, not at each try."""
        lines = [line for line in self.busbar.log_lines() if re.search(r"event=sink_(backoff|publishing) .*sink=cache", line)]
        said = [line.rpartition(" ts=")[0] for line in lines]
        assert all(one != other for one, other in itertools.pairwise(said)), "\n".join(lines)


@pytest.fixture
def case(feed, source_name, redis, request):
    """Its parameter: the sink's timeout."""
    with Case(feed, source_name, redis, getattr(request, "param", "400ms")) as made:
        yield made


# ---- troubles that pass: each is a context, its value what an operator reads meanwhile ----


@contextlib.contextmanager
def _killed(case: Case):
    case.redis.kill9()  # who notices what first, the wire or the sink, is a matter of moments
    yield "is Redis up, is url: right?", "closed the connection", "the connection to Redis broke"
    case.redis.start()


@contextlib.contextmanager
def _refusing(case: Case):
    case.wire.refuse()
    yield "Connection refused: is Redis up, is url: right?"
    case.wire.open_door()


@contextlib.contextmanager
def _paused(case: Case):
    case.redis.pause()
    yield "no answer within 400 ms"
    case.redis.resume()


@contextlib.contextmanager
def _frozen(case: Case):
    case.wire.freeze()
    yield "no answer within 400 ms"
    case.wire.thaw()


@contextlib.contextmanager
def _answers_lost(case: Case):
    """What is sent is carried out, and its answers never come."""
    case.wire.drop(DOWN, new=True)
    yield "no answer within 400 ms"
    case.wire.heal()


@contextlib.contextmanager
def _held(case: Case):
    case.redis.hold_clients(4000)  # which nothing can end before
    yield "no answer within 400 ms"


@contextlib.contextmanager
def _full(case: Case):
    case.redis.limit_memory(-(1 << 20))
    yield "OOM command not allowed when used memory > 'maxmemory': raise Redis' maxmemory or lower max_entries"
    case.redis.unlimit_memory()


@contextlib.contextmanager
def _demoted(case: Case):
    case.redis.demote()
    yield "READONLY You can't write against a read only replica: this Redis is a replica: url must lead to the primary"
    case.redis.promote()


@contextlib.contextmanager
def _busy(case: Case):
    def run_on():
        with contextlib.suppress(client.RedisError):
            case.redis.client().eval("while true do end", 0)

    thread = threading.Thread(target=run_on)
    thread.start()
    yield "another client's script keeps Redis busy"
    case.redis.client().execute_command("SCRIPT", "KILL")
    thread.join(10)


@contextlib.contextmanager
def _without_replicas(case: Case):
    case.redis.client().config_set("min-replicas-to-write", 1)
    yield "NOREPLICAS Not enough good replicas to write"
    case.redis.client().config_set("min-replicas-to-write", 0)


@contextlib.contextmanager
def _unable_to_save(case: Case):
    (case.redis.folder / "dump.rdb").mkdir()
    admin = case.redis.client()
    admin.config_set("save", "3600 1000000")
    admin.bgsave()
    wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", 10, "the save failed")
    yield "Redis cannot save to its disk and refuses writes"
    (case.redis.folder / "dump.rdb").rmdir()
    admin.bgsave()


@contextlib.contextmanager
def _crowded(case: Case):
    admin = case.redis.client()
    admin.config_set("maxclients", 1)
    case.wire.cut()
    yield "raise Redis' maxclients"
    admin.config_set("maxclients", 10000)


@contextlib.contextmanager
def _loading(case: Case):
    with case.redis.client().pipeline(transaction=False) as pipe:
        for number in range(60_000):  # it would load for 18 s
            pipe.set(f"filler{number}", "")
        pipe.execute()
    case.redis.kill9()
    case.redis.start_loading(300)
    yield "LOADING Redis is loading the dataset in memory"
    case.redis.client().config_set("key-load-delay", 0)
    case.redis.wait_ready()


TROUBLES = [
    _killed,
    _refusing,
    _paused,
    _frozen,
    _answers_lost,
    _held,
    _full,
    _demoted,
    _busy,
    _without_replicas,
    _unable_to_save,
    _crowded,
    _loading,
]


SILENT = (_paused, _frozen, _answers_lost, _held)
NAMES = [trouble.__name__[1:] for trouble in TROUBLES]


# Who is to hear what Redis answers must not give up a slow one before.
@pytest.mark.parametrize(("case", "trouble"), [("400ms" if t in SILENT else "20s", t) for t in TROUBLES], ids=NAMES, indirect=["case"])
def test_a_trouble_that_passes_stops_this_sink_only_while_it_lasts(case, trouble):
    with trouble(case) as told:
        case.assert_only_cache_waits(*(told if isinstance(told, tuple) else (told,)))
    case.say()
    case.wait_exact()
    wait_until(lambda: case.sink("cache")["state"] == "publishing", 20, "publishing again")  # answers may be lost yet
    case.assert_told_once()


def test_an_idle_sink_notices_that_its_redis_is_gone(case):
    """With nothing to publish, too: it goes on holding the pair."""
    with _refusing(case) as told:
        assert "sink=cache" in case.busbar.wait_log(told)
    wait_until(lambda: case.sink("cache")["state"] == "publishing", 20, "publishing again")


# ---- connections that end at the worst moment ----


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_a_connection_cut_in_the_middle_again_and_again(case, direction):
    """Of a command, or of its answer: then nobody knows whether it was carried out."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(25):
        links = len(case.wire.links)
        case.wire.cut_after(rng.randrange(1, 2000 if direction == UP else 12), direction, reset=rng.random() < 0.5)
        case.say(rng.randrange(5, 10))
        wait_until(lambda: len(case.wire.links) > links, 10, "a new connection")
        case.say(1)
        case.wait_exact()


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_a_connection_that_is_closed_on_one_side(case, direction):
    for _ in range(5):
        case.say(3)
        case.wire.half_close(direction)
        case.say(3)
        time.sleep(0.05)
    case.wait_exact()


def test_clients_killed_and_scripts_flushed_again_and_again(case):
    for turn in range(20):
        case.redis.flush_scripts() if turn % 2 else case.redis.drop_clients()
        case.say(5)
        time.sleep(0.05)
    case.wait_exact()


# ---- a Redis that lost what it had acknowledged ----


def test_restarted_with_none_of_its_data_it_gets_all_again(case):
    case.redis.lose_data()
    case.say()
    case.wait_exact()


def test_restarted_with_some_of_its_data_it_gets_what_is_missing(case):
    """Entries and checkpoint went back together."""
    copy = case.redis.copy_data()
    case.say(50)
    case.wait_exact()
    case.wire.refuse()  # else it is mended before anybody has looked
    case.redis.put_back(copy)
    assert len(case.published()) == len(case.told) - 50
    case.wire.open_door()
    case.wait_exact()
    case.say()
    case.wait_exact()


def test_a_replica_that_lagged_becomes_the_primary(case):
    """It lacks what the old primary had acknowledged; until it is promoted both refuse writes. The connection to the
    old one, now a replica too, would stay."""
    with Proxy(case.redis.port) as link, Redis() as replica:
        replica.follow(link)
        wait_until(lambda: case.published(replica) == case.told, 10, "the replica has all")
        link.freeze()
        case.say(50)
        case.wait_exact()
        case.wire.server_port = replica.port
        case.redis.demote()
        case.assert_only_cache_waits("url must lead to the primary")
        assert len(case.published(replica)) == len(case.told) - 70
        replica.promote()
        case.say()
        case.wait_exact(replica)


@pytest.mark.parametrize("case", ["1m"], indirect=True)  # it must not come back by itself
def test_a_connection_that_is_led_to_an_older_redis_in_silence(case):
    """FLUSHALL and an older state put back, on a connection that stays: the compare alone finds it."""
    admin, own = case.redis.client(), f"busbar:{{{case.name}}}:t.cache"
    keys = [case.stream, f"{own}:owner", f"{own}:checkpoint"]
    kept = {key: admin.dump(key) for key in keys}
    case.say(50)
    case.wait_exact()
    with admin.pipeline(transaction=True) as pipe:
        pipe.flushall()
        for key, dump in kept.items():
            pipe.restore(key, 0, dump)
        pipe.execute()
    case.say()
    case.wait_exact()
    assert "another than the last that was seen" in case.busbar.wait_log("the checkpoint in Redis")


# ---- what an operator has to mend ----


def test_another_kind_of_key_at_the_streams_name(case):
    """It is not touched; once the operator has put it out of the way, the stream goes on."""
    admin = case.redis.client()
    admin.rename(case.stream, "aside")
    admin.set(case.stream, "not a stream")
    remedy = "delete or rename it, or change stream"
    case.assert_only_cache_waits(f'stream key \\"{case.stream}\\" holds a string: {remedy}')
    admin.delete(case.stream)
    admin.rename("aside", case.stream)
    case.busbar.restart()
    case.say()
    case.wait_exact()


def test_a_password_that_is_changed(case):
    case.redis.client().config_set("requirepass", "another")
    case.redis.options["requirepass"] = "another"
    case.wire.cut()
    case.assert_only_cache_waits("NOAUTH Authentication required: set password, or user and password in url")
    case.redis.client().config_set("requirepass", "")
    case.redis.options.pop("requirepass")
    case.busbar.restart()
    case.say()
    case.wait_exact()


def test_each_right_that_is_missing_is_told_and_granting_it_is_enough(feed, source_name, redis):
    """One sink for each right that its user loses; within half a minute of the grant all go on by themselves."""
    users = {f"no-{right.replace('|', '-')}": [f"-{right}"] for right in RIGHTS}
    users["no-stream"] = ["resetkeys", "~busbar:*"]
    source = {"name": source_name, "type": "nomad", "servers": [feed.address], "start": "oldest"}
    spare = {"name": "spare", "type": "redis", "url": redis.url}
    with Redis() as server:
        admin, url = server.client(), f"redis://%s:pw@127.0.0.1:{server.port}"
        sinks = [{"name": user, "type": "redis", "url": url % user, "stream": f"{user}:%{{topic}}"} for user in users]

        def has_everywhere(count: int) -> bool:
            return all(admin.xlen(f"{user}:Job") == count for user in users)

        def grant() -> None:
            for user in users:
                admin.execute_command("ACL", "SETUSER", user, "on", ">pw", "~*", *(f"+{right}" for right in RIGHTS))

        grant()
        with Busbar({"name": "t", "sources": [source], "sinks": [*sinks, spare]}) as busbar:
            told = feed.say(5)
            wait_until(lambda: has_everywhere(5), 20, f"those rights are enough\n{busbar.log_tail()}")
            for user, change in users.items():
                admin.execute_command("ACL", "SETUSER", user, *change)
            server.drop_clients()
            told += feed.say(20)
            wait_until(lambda: redis.client().xlen(f"{source_name}:Job") == 25, 20, "the spare goes on")
            for user in users:
                line = busbar.wait_log(f'sink={user} err="Redis answers: ')
                assert "let this user +eval +evalsha +script|load" in line
            assert has_everywhere(5)
            grant()
            wait_until(lambda: has_everywhere(25), 40, f"they go on\n{busbar.log_tail()}")
            for user in users:
                assert [fields["data"] for _, fields in server.read_stream(f"{user}:Job")] == told
