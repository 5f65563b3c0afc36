"""kill -9 at random moments: every event once, in order, at every exit that promises it."""

import random
import time

from rig.busbar import Busbar
from rig.exits import from_kafka, from_redis
from rig.load import Load
from rig.nomad import Nomad
from rig.oracle import compare
from rig.proxy import Proxy
from rig.proc import wait_until
from rig.tap import Tap
from rig.wire import sent_bytes

ROUNDS = 20


def _config(sources: dict, kafka, redis) -> dict:
    return {
        "name": "once",
        "sources": [{"name": name, "type": "nomad", "servers": [wire.address]} for name, wire in sources.items()],
        "sinks": [
            {"name": "lake", "type": "kafka", "brokers": kafka.bootstrap},
            {"name": "cache", "type": "redis", "url": redis.url},
        ],
    }


def _caught_up(busbar, ends: dict) -> bool:
    """What each source told last is in every sink."""
    for source in busbar.status()["sources"]:
        for sink in source["sinks"]:
            if sink["index"] < ends[source["name"]] or sink["lag_events"]:
                return False
    return True


def test_every_event_once_through_twenty_kills(kafka, redis):
    """Two real Nomads into one Kafka and one Redis; the busbar is killed at a random moment, twenty times."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    print(f"seed {seed}")
    with Nomad() as east, Nomad() as west, Proxy(east.http_port) as wire_e, Proxy(west.http_port) as wire_w:
        with Tap(east.address) as tap_e, Tap(west.address) as tap_w:
            taps = {"east": tap_e, "west": tap_w}
            with Busbar(_config({"east": wire_e, "west": wire_w}, kafka, redis)) as busbar:
                with Load(east, rate=120, seed=1), Load(west, rate=120, seed=2):
                    for _ in range(ROUNDS):
                        time.sleep(rng.uniform(0.05, 2.5))
                        busbar.restart(hard=True)
                    time.sleep(1)
                for tap in taps.values():
                    tap.wait_quiet(2)
                # A Nomad may have something more to say at any time, when nobody waits for it any more.
                ends = {name: tap.last_index for name, tap in taps.items()}
                told = {name: [event for event in tap.events if event.index <= ends[name]] for name, tap in taps.items()}
                wait_until(lambda: _caught_up(busbar, ends), 120, "every sink caught up")
                assert all(source["gaps"] == 0 for source in busbar.status()["sources"])
            assert tap_e.intact and tap_w.intact
        sent = sent_bytes(wire_e, wire_w)
    for arrivals in (from_kafka(kafka.read_all()), from_redis(redis.read_streams())):
        mine = [a for a in arrivals if a.source in told and a.index <= ends[a.source]]
        verdict = compare(told, mine, sent).assert_exact()
        print(verdict.summary())
        assert len(mine) > 1000
