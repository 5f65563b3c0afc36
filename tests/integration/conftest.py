"""The servers that many tests share: one of each for the whole session, and what tells a test's streams apart."""

import itertools

import pytest
from rig.kafka import Kafka
from rig.nomad import Nomad
from rig.redis_server import Redis

_names = itertools.count(1)


@pytest.fixture(scope="session")
def kafka():
    with Kafka() as server:
        yield server


@pytest.fixture(scope="session")
def redis():
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def nomad():
    with Nomad() as server:
        yield server


@pytest.fixture
def source_name():
    """A name that no other test's topics and streams carry."""
    return f"s{next(_names)}"


def of_source(arrivals, *names):
    """The arrivals that belong to these sources, where servers are shared."""
    return [a for a in arrivals if a.source in names]
