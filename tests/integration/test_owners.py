"""Two instances, two sinks: what happens to one sink moves nothing at the other."""

import time

import pytest
from rig.busbar import Busbar
from rig.exits import from_kafka, from_redis
from rig.kafka import Kafka
from rig.proc import wait_until
from rig.redis_server import Redis


@pytest.fixture(scope="module")
def own_kafka():
    with Kafka() as kafka:
        yield kafka


@pytest.fixture
def own_redis():
    with Redis() as redis:
        yield redis


def _sinks(busbar) -> dict:
    return {sink["name"]: sink for sink in busbar.status()["sources"][0]["sinks"]}


def _owners(busbar) -> dict:
    return {name: sink["owner"] for name, sink in _sinks(busbar).items()}


def _agreed(*busbars) -> dict:
    """The owners where each sink has one and all say the same; else nothing."""
    first, *others = map(_owners, busbars)
    return first if all(first.values()) and all(other == first for other in others) else {}


@pytest.mark.parametrize("down", ["lake", "cache"])
def test_an_outage_of_one_sink_leaves_the_owner_of_the_other_alone(down, feed, own_kafka, own_redis, source_name):
    """One of the two is killed for longer than a lease or a session lasts, and comes back."""
    source = {"name": source_name, "type": "nomad", "servers": [feed.address], "start": "oldest"}
    lake = {"name": "lake", "type": "kafka", "brokers": own_kafka.bootstrap, "topic": "all-%{source}"}
    cache = {"name": "cache", "type": "redis", "url": own_redis.url}
    config = {"name": f"own-{source_name}", "standby": True, "sources": [source]}
    server, up = {"lake": (own_kafka, "cache"), "cache": (own_redis, "lake")}[down]
    with Busbar({**config, "sinks": [lake, cache]}) as a, Busbar({**config, "sinks": [cache, lake]}) as b:
        before = wait_until(lambda: _agreed(a, b), 60, "every pair has an owner")
        server.kill9()
        told = feed.say(20)
        owner = a if before[up] == a.status()["instance"] else b
        wait_until(lambda: _sinks(owner)[up]["index"] == feed.index, 30, "the other sink goes on")
        time.sleep(8)
        told += feed.say(20)
        wait_until(lambda: _sinks(owner)[up]["index"] == feed.index, 30, "and goes on")
        for busbar in (a, b):
            assert _owners(busbar)[up] == before[up]
            assert len(busbar.log_lines(f"sink_standby source={source_name} sink={up}")) <= 1
        server.start()
        both = lambda: sorted(_sinks(one)[down]["state"] for one in (a, b))  # noqa: E731
        wait_until(lambda: both() == ["publishing", "standby"], 120, "the one that was down has an owner")
        last = lambda: max(_sinks(one)[down]["index"] for one in (a, b))  # noqa: E731
        wait_until(lambda: last() == feed.index, 60, "it has caught up")
        assert _owners(a)[up] == before[up]
    in_kafka = [arrival.data for arrival in from_kafka(own_kafka.read_all([f"all-{source_name}"])) if not arrival.is_own]
    # Redis comes back without its data, and gets all of it again.
    in_redis = [arrival.data for arrival in from_redis(own_redis.read_streams()) if not arrival.is_own]
    assert in_kafka == in_redis == told
