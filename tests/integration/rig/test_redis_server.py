"""A real Redis, the reader of its streams, and what the rig does to it."""

import pytest
import redis

from .proc import wait_until
from .redis_server import Redis


@pytest.fixture(name="server", scope="module")
def _server():
    with Redis() as server:
        yield server


def add(server, count, stream="prod:Job"):
    client = server.client()
    for _ in range(count):
        client.xadd(stream, {"n": 1})


def test_redis_keeps_every_entry_through_kill9():
    with Redis() as server:
        client = server.client()
        for number in range(2500):
            client.xadd("prod:Job", {"data": b"\0\xff\n", "n": number}, id=f"{number + 1}-0")
        client.set("other", 1)
        server.kill9()
        server.start()
        streams = server.read_streams()
        assert list(streams) == ["prod:Job"] and len(streams["prod:Job"]) == 2500
        assert streams["prod:Job"][7] == ("8-0", {"data": b"\0\xff\n", "n": b"7"})
        assert server.read_stream("prod:Job", after="2498-0") == streams["prod:Job"][2498:]
        assert server.stop() == 0


def test_redis_comes_back_with_an_older_copy_or_with_nothing():
    with Redis() as server:
        add(server, 10)
        copy = server.copy_data()
        add(server, 5)
        assert len(server.read_stream("prod:Job")) == 15
        for _ in range(2):
            server.put_back(copy)
            assert len(server.read_stream("prod:Job")) == 10
            add(server, 1)
        server.kill9()
        server.start()
        assert len(server.read_stream("prod:Job")) == 11
        server.lose_data()
        assert server.streams() == []


def test_redis_refuses_writes_for_each_of_its_reasons(server):
    server.limit_memory()
    with pytest.raises(redis.ResponseError, match="OOM"):
        add(server, 10_000)  # what its clients took may be free again by now
    server.unlimit_memory()
    add(server, 1)
    server.demote()
    with pytest.raises(redis.ReadOnlyError):
        add(server, 1)
    assert server.read_stream("prod:Job")
    server.promote()
    add(server, 1)


def test_redis_forgets_scripts_and_clients(server):
    client = server.client()
    digest = client.script_load("return 7")
    server.flush_scripts()
    assert client.script_exists(digest) == [False]
    other = server.client().connection_pool.get_connection("PING")
    other.connect()
    server.drop_clients()
    with pytest.raises(redis.ConnectionError):
        other.send_command("PING", check_health=False)
        other.read_response()
    server.hold_clients(300)
    assert server.client().ping()


def test_redis_loads_for_a_while(server):
    server.client().eval("for i = 1, 8000 do redis.call('XADD', 'loaded', i .. '-1', 'n', i) end", 0)
    server.kill9()
    server.start_loading(2_000)

    def refused():
        try:
            server.client().xlen("loaded")
        except redis.BusyLoadingError:
            return True
        except redis.ConnectionError:
            pass
        return False

    wait_until(refused, 10, "it says LOADING")
    server.client().config_set("key-load-delay", 0)
    server.wait_ready()
    assert server.client().xlen("loaded") == 8000


def test_redis_follows_another_and_takes_over(server):
    add(server, 10, "followed")
    with Redis() as replica:
        replica.follow(server)
        wait_until(lambda: len(replica.read_stream("followed")) == 10, 10, "the replica has it")
        with pytest.raises(redis.ReadOnlyError):
            add(replica, 1, "followed")
        replica.promote()
        add(replica, 1, "followed")
        assert len(replica.read_stream("followed")) == 11 and len(server.read_stream("followed")) == 10
