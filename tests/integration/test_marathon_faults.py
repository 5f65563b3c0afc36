"""A Marathon with faults of all kinds: nothing twice, nothing out of order, nothing missing without a Gap."""

import os
import random
import threading
import time

import pytest
from rig.busbar import Busbar
from rig.kafka import Kafka
from rig.marathon import Marathon, capture
from rig.marathon_exits import from_kafka, from_redis, from_sse
from rig.marathon_oracle import compare_attachments
from rig.proc import wait_until
from rig.redis_server import Redis
from rig.stopwatch import had

EVENTS = capture("real-1.11.sse")[:2000]
SEED = int(os.environ.get("BUSBAR_TEST_SEED", "7"))


def _config(m, *sinks):
    sources = [{"name": "dcos", "type": "marathon", "servers": m.addresses}]
    return {"name": "faults", "sources": sources, "sinks": list(sinks)}


def _wait_told(busbar, m):
    """A last event has arrived, on the only stream that there is: behind it comes nothing, not even who detached."""
    with busbar.events(type="last_event") as client:

        def is_told():
            is_alone = len(m.believed) == 1
            data = m.emit("last_event", {"id": "the last"})
            until = had() + 2  # it may have been told to a client that is dead
            while had() < until and data not in [frame.data for frame in client.frames]:
                time.sleep(0.05)
            return is_alone and data in [frame.data for frame in client.frames]

        wait_until(is_told, 60, "the last event is told")


def _wait_all(busbar, m):
    """The last event is out everywhere."""
    _wait_told(busbar, m)

    def is_out():
        (source,) = busbar.status()["sources"]
        calm = source["state"] == "attached" and source["resync"]["state"] == "idle"
        return calm and all(sink["seq"] >= source["journal"]["next_seq"] - 1 for sink in source["sinks"])

    wait_until(is_out, 90, f"every sink caught up\n{busbar.log_tail()}")


def _break_something(m, busbar, chance):
    what = chance.randrange(6)
    if what == 0:
        busbar.restart(hard=True)
    elif what == 1:
        m.elect(chance.randrange(3))
    elif what == 2:
        for stream in m.streams:
            stream.cut(reset=True)
    elif what == 3:
        for stream in m.streams:
            stream.cut(mid_frame=True)
    elif what == 4:
        node = m.leader
        m.kill(node)
        m.elect((node + 1) % 3)
        m.start(node)
    else:
        m.elect(None)
        m.elect(2, ready=False)
        asked = len(m.requests)
        wait_until(lambda: len(m.requests) > asked, 30, "it asks the one that is not ready")
        m.ready()


@pytest.mark.parametrize("generation", ["new", "old"])
def test_kills_cuts_and_leader_changes_in_the_middle_of_the_traffic(generation):
    chance = random.Random(SEED)
    with Marathon(nodes=3, generation=generation, heartbeat=0.5) as m, Redis() as redis, Kafka() as kafka:
        lake = {"name": "lake", "type": "kafka", "brokers": kafka.bootstrap}
        cache = {"name": "cache", "type": "redis", "url": redis.url}
        with Busbar(_config(m, lake, cache)) as busbar:
            busbar.wait_attached(60)
            traffic = threading.Thread(target=m.play, args=(EVENTS, 300))
            traffic.start()
            while traffic.is_alive() or len(m.history) <= 5:
                traffic.join(0.7)
                m.wait_streams(1, 60)
                told = lambda: any(len(one.told) > 50 for one in m.streams)  # noqa: E731
                wait_until(lambda: told() or not traffic.is_alive(), 60, "a stream that tells something")
                _break_something(m, busbar, chance)
            _wait_all(busbar, m)
            journal = busbar.status()["sources"][0]["journal"]
            with busbar.events(from_oldest=True) as client:
                frames = client.wait_frames(journal["next_seq"] - journal["first_seq"])
            exits = [from_kafka(kafka.read_all()), from_redis(redis.read_streams()), from_sse(frames)]
        told = m.attachments()
        assert len(told) > 5
        for arrivals in exits:
            verdict = compare_attachments(told, arrivals, "dcos")
            assert not verdict.findings, verdict.details()
            # Nobody listens for as long as the machine lets it take to attach anew, or reads what is on its way.
            assert verdict.events > len(EVENTS) / 10 and len(verdict.excused) < verdict.events / 2
