"""The Redis sink against real servers that lose, refuse, are full, are somebody else's."""

import json

import pytest
import redis as client
from rig.busbar import Busbar
from rig.feed import Feed
from rig.ports import free_port
from rig.proc import wait_until
from rig.redis_server import Redis
from rig.standin import event_line

FIELDS = ["id", "source", "topic", "type", "key", "namespace", "time", "data"]
MAX = 2**64 - 1
FEED_INDEX = 10


def _say(feed: Feed, count: int = 1, **more) -> int:
    """As many events; the last one's index."""
    feed.say(count, **more)
    return feed.index


@pytest.fixture
def own_redis():
    with Redis() as server:
        yield server


def _config(feed: Feed, redis: Redis, **more) -> dict:
    source = {"name": "prod", "type": "nomad", "servers": [feed.address], "start": "oldest"}
    return {"name": "t", "sources": [source], "sinks": [{"name": "cache", "type": "redis", "url": redis.url, **more}]}


def _indexes(redis: Redis, stream: str = "prod:Job") -> list[int]:
    return [json.loads(fields["data"])["Index"] for _, fields in redis.read_stream(stream)]


def _wait_for(redis: Redis, busbar: Busbar, index: int, stream: str = "prod:Job", timeout: float = 20) -> None:
    what = f"index {index} in {stream}\n{busbar.log_tail()}"
    wait_until(lambda: redis.client().exists(stream) and index in _indexes(redis, stream), timeout, what)


def test_an_entry_is_the_event(feed, own_redis):
    with Busbar(_config(feed, own_redis)) as busbar:
        last = _say(feed, key="wéb'1\\\"")
        _wait_for(own_redis, busbar, last)
    ((entry_id, fields),) = own_redis.read_stream("prod:Job")
    assert entry_id == f"{last}-0" and list(fields) == FIELDS
    assert fields["data"] == event_line(last, key="wéb'1\\\"")[len(b'{"Events":[') : -len(b'],"Index":11}\n')]
    assert fields["key"].decode() == "wéb'1\""
    assert fields["id"].decode() == f"prod/{last}/Job/default/wéb'1\"/JobRegistered/0"


def test_what_redis_lost_is_published_again_from_the_journal(feed, own_redis):
    with Busbar(_config(feed, own_redis)) as busbar:
        _wait_for(own_redis, busbar, _say(feed, 300))
        own_redis.client().flushall()
        last = _say(feed, 10)
        _wait_for(own_redis, busbar, last)
        assert _indexes(own_redis) == list(range(11, last + 1))
        busbar.wait_log("Redis lost data")


def test_a_redis_that_went_back_gets_what_it_lost(feed, own_redis):
    """As after a failover to a replica that lagged: same owner, an older checkpoint, the last entries gone."""
    admin, checkpoint = own_redis.client(), "busbar:{prod}:t.cache:checkpoint"
    with Busbar(_config(feed, own_redis)) as busbar:
        _wait_for(own_redis, busbar, _say(feed, 5))
        earlier = admin.get(checkpoint)
        kept = len(own_redis.read_stream("prod:Job"))
        _wait_for(own_redis, busbar, _say(feed, 5))
        lost = [entry_id for entry_id, _ in own_redis.read_stream("prod:Job")[kept:]]
        admin.pipeline(transaction=True).set(checkpoint, earlier).xdel("prod:Job", *lost).execute()
        last = _say(feed, 5)
        _wait_for(own_redis, busbar, last)
        assert _indexes(own_redis) == list(range(11, last + 1))
        busbar.wait_log("the checkpoint in Redis is another")


def test_a_flushed_script_is_loaded_again_at_once(feed, own_redis):
    with Busbar(_config(feed, own_redis)) as busbar:
        _wait_for(own_redis, busbar, _say(feed, 5))
        own_redis.client().script_flush()
        last = _say(feed, 5)
        _wait_for(own_redis, busbar, last)
        assert _indexes(own_redis) == list(range(11, last + 1))
        assert not busbar.log_lines("sink_backoff")


@pytest.mark.parametrize(
    ("last_id", "wanted"),
    [
        ("10-7", "11-0"),
        ("11-0", "11-1"),
        ("11-9", "11-10"),
        ("999999999999999-5", "999999999999999-6"),
        (f"9007199254740993-{MAX}", "9007199254740994-0"),
        (f"9999999999999999999-{MAX}", "10000000000000000000-0"),
        ("5-9007199254740993", "11-0"),
        ("12-9007199254740993", "12-9007199254740994"),
        (f"{MAX - 1}-{MAX}", f"{MAX}-0"),
    ],
)
@pytest.mark.parametrize("deleted", [False, True])
def test_ids_go_on_behind_what_a_stream_had(feed, own_redis, last_id, wanted, deleted):
    """Its last id counts even where that entry was deleted."""
    own_redis.client().xadd("prod:Job", {"data": '{"Index": 1}'}, id=last_id)
    if deleted:
        own_redis.client().xdel("prod:Job", last_id)
    with Busbar(_config(feed, own_redis)) as busbar:
        _wait_for(own_redis, busbar, _say(feed))
    assert own_redis.read_stream("prod:Job")[-1][0] == wanted


def _put_hash(redis: Redis) -> None:
    redis.client().hset("prod:Job", "a", 1)


def _put_last_id(redis: Redis) -> None:
    redis.client().xadd("prod:Job", {"a": 1}, id=f"{MAX}-{MAX}")


@pytest.mark.parametrize(("put", "told"), [(_put_hash, "holds a hash"), (_put_last_id, "none can follow")])
def test_a_stream_that_cannot_be_written_is_named_and_nothing_else_is_written(feed, own_redis, put, told):
    put(own_redis)
    with Busbar(_config(feed, own_redis)) as busbar:
        _say(feed, 3, topic="Node")
        last = _say(feed, 3)
        assert "prod:Job" in busbar.wait_log(told)
        own_redis.client().delete("prod:Job")
        busbar.restart()
        _wait_for(own_redis, busbar, last)
    assert _indexes(own_redis) == [14, 15, 16] and _indexes(own_redis, "prod:Node") == [11, 12, 13]


def test_a_full_redis_is_waited_for_and_never_half_written(feed, own_redis):
    """maxmemory is met at many places of a batch; each batch is there whole or not at all."""
    admin, last = own_redis.client(), 0
    with Busbar(_config(feed, own_redis, max_entries=0)) as busbar:
        _wait_for(own_redis, busbar, _say(feed, 5))
        for room in range(0, 200000, 20000):
            admin.config_set("maxmemory", admin.info("memory")["used_memory"] + room)
            last = _say(feed, 100, size=1000)
        busbar.wait_log("raise Redis' maxmemory")
        admin.config_set("maxmemory", 0)
        _wait_for(own_redis, busbar, last)
        assert _indexes(own_redis) == list(range(11, last + 1))


def test_a_replica_is_left_until_it_is_primary_again(feed, own_redis):
    with Redis() as other, Busbar(_config(feed, own_redis)) as busbar:
        _wait_for(own_redis, busbar, _say(feed, 5))
        own_redis.client().replicaof("127.0.0.1", other.port)
        _say(feed, 5)
        busbar.wait_log("must lead to the primary")
        own_redis.client().replicaof("no", "one")
        last = _say(feed, 5)
        _wait_for(own_redis, busbar, last)
        assert _indexes(own_redis) == list(range(11, last + 1))


def test_rights_that_are_missing_are_named_before_anything_is_written(feed, own_redis):
    admin = own_redis.client()
    rights = "+eval +evalsha +script|load +get +set +type +xinfo +xadd +xtrim"
    admin.execute_command("ACL", "SETUSER", "bus", "on", ">pw", "~busbar:*", "~prod:*", *rights.split())
    url = f"redis://bus:pw@127.0.0.1:{own_redis.port}"
    with Busbar(_config(feed, own_redis, url=url)) as busbar:
        last = _say(feed, 5)
        _wait_for(own_redis, busbar, last)
        told = lambda: [line for line in busbar.log_lines("sink_backoff") if "+xadd +xtrim" in line]  # noqa: E731
        for right in ("set", "xtrim", "xadd"):
            before = len(told())
            admin.execute_command("ACL", "SETUSER", "bus", *rights.split(), f"-{right}")
            last = _say(feed, 5)
            wait_until(lambda before=before: len(told()) > before, 20, f"it is told\n{busbar.log_tail()}")
            assert _indexes(own_redis) == list(range(11, last - 4))
            admin.execute_command("ACL", "SETUSER", "bus", *rights.split())
            busbar.restart()
            _wait_for(own_redis, busbar, last)
        assert _indexes(own_redis) == list(range(11, last + 1))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://127.0.0.1:{port}", "NOAUTH"),
        ("redis://:wrong@127.0.0.1:{port}", "WRONGPASS"),
        ("redis://:pass@127.0.0.1:{port}/99", "database number"),
        ("redis://127.0.0.1:1", "connect 127.0.0.1:1: Connection refused"),
        ("unix:///no/such.sock", "connect /no/such.sock"),
    ],
)
def test_a_redis_that_cannot_be_used_is_told(feed, url, told):
    with Redis({"requirepass": "pass"}) as server:
        config = _config(feed, server, url=url.format(port=server.port))
        with Busbar(config) as busbar:
            line = busbar.wait_log(told)
            assert "sink=cache" in line and "wrong" not in line


def test_an_argument_redis_will_not_take_is_rejected_and_the_rest_goes_on(feed, own_redis):
    own_redis.client().config_set("proto-max-bulk-len", 1 << 20)
    with Busbar(_config(feed, own_redis)) as busbar:
        _say(feed, 3)
        refused = _say(feed, 1, size=2 << 20)
        last = _say(feed, 3)
        _wait_for(own_redis, busbar, last)
    assert _indexes(own_redis) == [n for n in range(11, last + 1) if n != refused]
    ((_, fields),) = own_redis.read_stream("prod:Busbar")
    assert fields["type"] == b"Rejected" and b"proto-max-bulk-len" in fields["data"]


def test_streams_are_kept_to_about_max_entries(feed, own_redis):
    with Busbar(_config(feed, own_redis, max_entries=100)) as busbar:
        last = _say(feed, 2000)
        _wait_for(own_redis, busbar, last)
    kept = _indexes(own_redis)
    assert 100 <= len(kept) <= 300 and kept == list(range(last - len(kept) + 1, last + 1))


def test_a_cluster_is_followed_to_the_node_that_has_the_keys(feed):
    with _cluster_node() as a, _cluster_node() as b:
        a.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        b.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        a.client().execute_command("CLUSTER", "MEET", "127.0.0.1", b.port, b.options["cluster-port"])
        for node in (a, b):
            wait_until(lambda: b"cluster_state:ok" in _cluster_info(node), 30, "the cluster is up")
        tagged = {"cluster": True, "stream": "{%{source}}:%{topic}"}
        for seed in (a, b):
            last = _say(feed, 5)
            with Busbar(_config(feed, seed, **tagged)) as busbar:
                wait_until(lambda: last in _cluster_indexes(a, b), 20, busbar.log_tail())
        assert _cluster_indexes(a, b) == list(range(11, last + 1))
        _say(feed)
        with Busbar(_config(feed, a)) as busbar:
            busbar.wait_log("set cluster: true")


def _cluster_node() -> Redis:
    """The port of the nodes among themselves would else be 10,000 up: one of those that the kernel gives to anybody."""
    return Redis({"cluster-enabled": "yes", "cluster-port": free_port()})


def _cluster_info(node: Redis) -> bytes:
    answer = node.client().execute_command("CLUSTER", "INFO")
    return answer if isinstance(answer, bytes) else json.dumps(answer).replace('": "', ":").encode()


def _cluster_indexes(*nodes: Redis) -> list[int]:
    for node in nodes:
        try:
            return _indexes(node, "{prod}:Job")
        except client.ResponseError:  # MOVED: the other one has it
            continue
    return []
