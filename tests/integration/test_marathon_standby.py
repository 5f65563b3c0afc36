"""Two instances of one bridge at one Marathon, which tells each of them another order and nothing twice."""

import collections
import json
import time

import pytest
from rig.busbar import Busbar
from rig.marathon import Marathon
from rig.marathon_load import MarathonLoad
from rig.proc import wait_until

APART = 0.4  # seconds: by so much two streams may tell an event apart


def _sinks(busbar: Busbar) -> dict:
    return {sink["name"]: sink for sink in busbar.status()["sources"][0]["sinks"]}


def _numbers(values) -> list[tuple]:
    bodies = [json.loads(value) for value in values]
    return [(body["number"], body["appId"]) for body in bodies if "number" in body]


def _judge(values, count: int) -> None:
    """All once; and of each app in the order of one stream or the other."""
    told = _numbers(values)
    times = collections.Counter(number for number, _ in told)
    assert not [number for number in range(1, count + 1) if times[number] == 0], "lost"
    assert not [number for number, n in times.items() if n > 1], "twice"
    newest: dict[str, int] = {}
    for number, app in told:
        assert number > newest.get(app, 0) - 60 * APART * 2, f"{number} of {app} after {newest[app]}"
        newest[app] = max(number, newest.get(app, 0))
    assert not [value for value in values if b'"Type":"Gap"' in value], "a Gap though one was always attached"


def _kafka_values(kafka, source: str) -> list[bytes]:
    return [record.value for record in kafka.read_all() if record.topic == f"all-{source}"]


def _redis_values(redis, source: str) -> list[bytes]:
    streams = redis.read_streams()
    return [fields["data"] for _, fields in streams.get(f"{source}:all", [])]


def _is_publishing(busbar, name: str) -> bool:
    return _sinks(busbar)[name]["state"] == "publishing"


def _wait_passed(both, since_ms: float) -> None:
    """Until each sink has all that one of the two was not yet told when it attached: what the one knows alone, and has
    not published, goes with it."""

    def has(name):
        return any(_is_publishing(one, name) and _sinks(one)[name]["index"] > since_ms for one in both)

    wait_until(lambda: has("lake") and has("cache"), 60, "what both were told is published")


@pytest.mark.parametrize("how", ["kill9", "stop"])
def test_each_event_once_however_often_the_owner_goes(how, kafka, redis, source_name):
    with Marathon(shuffle=APART) as marathon:
        source = {"name": source_name, "type": "marathon", "servers": [marathon.address], "start": "now"}
        lake = {"name": "lake", "type": "kafka", "brokers": kafka.bootstrap, "topic": "all-%{source}"}
        cache = {"name": "cache", "type": "redis", "url": redis.url, "stream": "%{source}:all"}
        config = {"name": f"m-{source_name}", "standby": True, "sources": [source], "sinks": [lake, cache]}
        with Busbar(config) as a, Busbar(config) as b:
            marathon.wait_streams(2)
            both = (a, b)
            wait_until(lambda: all(_sinks(one)[name]["owner"] for one in both for name in _sinks(one)), 30, "owners")
            with MarathonLoad(marathon, 60, apps=8) as load:
                for turn in range(3 if how == "kill9" else 2):
                    _wait_passed(both, (time.time() + APART) * 1000)
                    time.sleep(0.8)
                    name = ("lake", "cache")[turn % 2]
                    owner = wait_until(lambda: next((one for one in both if _is_publishing(one, name)), None), 30, "an owner")
                    other = b if owner is a else a
                    getattr(owner, how)()
                    wait_until(lambda: _is_publishing(other, name), 30, "the other takes over")
                    owner.start()
                    marathon.wait_streams(2)
                time.sleep(1)
                load.stop()

                def is_done():
                    found = (_kafka_values(kafka, source_name), _redis_values(redis, source_name))
                    return all(len(_numbers(values)) >= load.count for values in found)

                wait_until(is_done, 30, "all is published")
            orders = [[json.loads(data).get("number") for _, data in stream.told] for stream in marathon.streams]
            assert orders[0] != orders[1], "both were told one order: this proves nothing"
            for one in both:
                one.stop()
        _judge(_kafka_values(kafka, source_name), load.count)
        _judge(_redis_values(redis, source_name), load.count)
