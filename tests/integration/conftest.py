"""The servers that many tests share: one of each for the whole session, and what tells a test's streams apart."""

import itertools

import pytest
from rig.feed import Feed
from rig.kafka import Kafka
from rig.nomad import Nomad
from rig.redis_server import Redis
from rig.standin import Answer, Standin, refusal

_names = itertools.count(1)
# A leader whose state is further than all that a feed tells, for a busbar that asks whether an index started over.
_LISTS = refusal("200 OK", "[]", {"Content-Type": "application/json", "X-Nomad-Index": 1 << 40})


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


@pytest.fixture
def feed(request):
    """A stand-in that tells what the test says, to everybody from the beginning; a module's FEED_INDEX comes before its first."""
    feed, answer = Feed(getattr(request.module, "FEED_INDEX", 100)), Answer()
    answer.steps = feed
    with Standin(answer, default=_LISTS) as server:
        feed.address = server.address
        yield feed
