"""A real Redis and the reader of its streams."""

from .redis_server import Redis


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
        assert server.stop() == 0
