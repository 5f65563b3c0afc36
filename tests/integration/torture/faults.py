"""What goes wrong, by name: each fault breaks one thing for a while and leaves it whole again.

A fault is a function of (stage, target, length, rng): it takes about `length` seconds, and what it leaves
to chance it asks of rng, so that the same seed makes the same fault. tests/README.md lists them all.
"""

import random
import signal
import time
from typing import Callable, NamedTuple

from rig.proxy import DOWN, UP

from . import harm
from .stage import Stage


class Kind(NamedTuple):
    name: str
    scope: str  # what it may hit: a list of Shape
    weight: float
    shortest: float
    longest: float
    cost: float  # seconds that it takes besides
    also: tuple  # targets that no other fault may touch meanwhile
    run: Callable


KINDS: list[Kind] = []


def fault(scope: str, weight: float, shortest: float = 0.0, longest: float = 0.0, cost: float = 0.0, also: tuple = ()):
    def add(run):
        name = run.__name__.replace("_", " ")
        KINDS.append(Kind(name, scope, weight, shortest, longest, cost, also, run))
        return run

    return add


# ---- a busbar ----


@fault("instances", 12, 0, 2, cost=0.5)
def busbar_killed(stage: Stage, target: str, length: float, rng: random.Random):
    stage.instances[target].kill9()
    time.sleep(length)
    stage.instances[target].start()


@fault("instances", 5, 0, 2, cost=1)
def busbar_stopped(stage, target, length, rng):
    stage.instances[target].stop()
    time.sleep(length)
    stage.instances[target].start()


@fault("instances", 5, 0.1, 4)
def busbar_paused(stage, target, length, rng):
    _pause(stage.instances[target].busbar, length)


@fault("instances", 1.2, 11, 14)
def busbar_paused_for_long(stage, target, length, rng):
    """A zombie: longer than a lease and a transaction last."""
    _pause(stage.instances[target].busbar, length)


def _pause(server, length: float) -> None:
    server.pause()
    try:
        time.sleep(length)
    finally:
        server.resume()


@fault("instances", 3, 0, 1, cost=0.5)
def journal_torn(stage, target, length, rng):
    return _harmed(stage, target, length, lambda journal: harm.tear(journal, rng))


@fault("instances", 3, 0, 1, cost=0.5, also=("redis",))
def power_lost(stage, target, length, rng):
    return _harmed(stage, target, length, lambda journal: harm.lose_power(journal, rng))


@fault("instances", 2, 0, 1, cost=0.5, also=("redis",))
def journal_deleted(stage, target, length, rng):
    return _harmed(stage, target, length, lambda journal: harm.delete(journal, rng))


def _harmed(stage, target, length, do):
    instance = stage.instances[target]
    instance.kill9()
    said = do(instance.journal)
    time.sleep(length)
    instance.start()
    return said


# ---- the networks ----


@fault("wires", 9)
def cut(stage, target, length, rng):
    stage.wire(target).cut()


@fault("wires", 7)
def reset(stage, target, length, rng):
    stage.wire(target).cut(reset=True)


@fault("wires", 12, 0.2, 1.5)
def cut_in_the_middle(stage, target, length, rng):
    """After a random number of bytes of a reply or of a request."""
    direction, count = rng.choice((UP, DOWN)), int(10 ** rng.uniform(0, 5))
    stage.wire(target).cut_after(count, direction, reset=rng.random() < 0.5)
    time.sleep(length)
    return f"{direction} after {count} bytes"


@fault("wires", 5, 0.1, 2)
def half_closed(stage, target, length, rng):
    direction = rng.choice((UP, DOWN))
    stage.wire(target).half_close(direction)
    time.sleep(length)
    stage.wire(target).heal()
    return direction


@fault("wires", 6, 0.2, 4)
def frozen(stage, target, length, rng):
    return _during(stage, target, length, rng, lambda wire, direction: wire.freeze(direction))


@fault("wires", 0.7, 11, 13)
def frozen_for_long(stage, target, length, rng):
    """Longer than a lease, a transaction and a request last."""
    return _during(stage, target, length, rng, lambda wire, direction: wire.freeze(direction))


@fault("wires", 5, 0.5, 4)
def dropped(stage, target, length, rng):
    new = rng.random() < 0.5
    return _during(stage, target, length, rng, lambda wire, direction: wire.drop(direction, new=new))


@fault("wires", 4, 0.5, 4)
def delayed(stage, target, length, rng):
    seconds = rng.uniform(0.005, 0.4)
    return _during(stage, target, length, rng, lambda wire, direction: wire.delay(seconds, seconds / 2, direction))


@fault("wires", 4, 0.5, 4)
def throttled(stage, target, length, rng):
    rate = 10 ** rng.uniform(3.3, 5.5)
    return _during(stage, target, length, rng, lambda wire, direction: wire.throttle(rate, direction))


@fault("wires", 4, 0.1, 3)
def refused(stage, target, length, rng):
    return _during(stage, target, length, rng, lambda wire, direction: wire.refuse(reset=rng.random() < 0.5))


@fault("wires", 3, 0.1, 3)
def door_closed(stage, target, length, rng):
    return _during(stage, target, length, rng, lambda wire, direction: wire.close_door())


def _during(stage, target, length, rng, do):
    wire, direction = stage.wire(target), rng.choice((UP, DOWN, None))
    do(wire, direction)
    try:
        time.sleep(length)
    finally:
        wire.heal()
    return direction or "both"


# ---- Redis ----


@fault("redis", 8, 0, 2, cost=0.5)
def redis_killed(stage, target, length, rng):
    stage.redis.kill9()
    time.sleep(length)
    stage.redis.start()


@fault("redis", 3, 0, 1, cost=0.5)
def redis_stopped(stage, target, length, rng):
    stage.redis.stop()
    time.sleep(length)
    stage.redis.start()


@fault("redis", 4, 0.2, 4)
def redis_paused(stage, target, length, rng):
    _pause(stage.redis, length)


@fault("redis", 4, 0.3, 3, cost=1)
def redis_lost_acknowledged_writes(stage, target, length, rng):
    """A failover: an older copy of its data is what there is."""
    copy = stage.redis.copy_data()
    time.sleep(length)
    stage.redis.put_back(copy)


@fault("redis", 2, 0, 0.5, cost=2)
def redis_loading(stage, target, length, rng):
    stage.redis.kill9()
    stage.redis.start_loading(rng.randrange(50, 150))
    stage.redis.wait_ready()


@fault("redis", 4, 0.2, 3)
def redis_out_of_memory(stage, target, length, rng):
    stage.redis.limit_memory(rng.randrange(0, 200_000))
    try:
        time.sleep(length)
    finally:
        stage.redis.unlimit_memory()


@fault("redis", 3, 0.2, 3)
def redis_read_only(stage, target, length, rng):
    stage.redis.demote()
    try:
        time.sleep(length)
    finally:
        stage.redis.promote()


@fault("redis", 3)
def redis_scripts_flushed(stage, target, length, rng):
    stage.redis.flush_scripts()


@fault("redis", 4)
def redis_clients_killed(stage, target, length, rng):
    stage.redis.drop_clients()


@fault("redis", 3, 0.1, 4)
def redis_answers_nobody(stage, target, length, rng):
    stage.redis.hold_clients(int(length * 1000), writes_only=rng.random() < 0.5)
    time.sleep(length)


# ---- Kafka ----


@fault("brokers", 4, 0, 1, cost=6)
def kafka_killed(stage, target, length, rng):
    broker = stage.broker(target)
    broker.kill9()
    time.sleep(length)
    broker.start()


@fault("brokers", 2, 0, 1, cost=8)
def kafka_stopped(stage, target, length, rng):
    broker = stage.broker(target)
    broker.stop()
    time.sleep(length)
    broker.start()


@fault("brokers", 6, 0.2, 4)
def kafka_paused(stage, target, length, rng):
    _pause(stage.broker(target), length)


@fault("brokers", 0.7, 11, 13)
def kafka_paused_for_long(stage, target, length, rng):
    """Longer than a transaction may take."""
    _pause(stage.broker(target), length)


# ---- Nomad ----


@fault("nomads", 4, 0, 1, cost=3)
def nomad_killed(stage, target, length, rng):
    nomad = stage.nomad(target)
    nomad.kill9()
    time.sleep(length)
    nomad.start()


@fault("nomads", 2, 0, 1, cost=3)
def nomad_stopped(stage, target, length, rng):
    nomad = stage.nomad(target)
    nomad.process.signal(signal.SIGTERM)
    nomad.process.wait(30)
    time.sleep(length)
    nomad.start()


@fault("nomads", 4, 0.2, 4)
def nomad_paused(stage, target, length, rng):
    _pause(stage.nomad(target), length)


# ---- Marathon ----


@fault("marathons", 4, 0, 2)
def marathon_killed(stage, target, length, rng):
    """A leader that dies, and its only successor is itself."""
    stage.marathon.kill(0)
    time.sleep(length)
    stage.marathon.start(0)


@fault("marathons", 4, 0, 2)
def marathon_leader_lost(stage, target, length, rng):
    """No leader for a while, then one that is not ready yet."""
    stage.marathon.elect(None)
    time.sleep(length / 2)
    stage.marathon.elect(0, ready=False)
    time.sleep(length / 2)
    stage.marathon.ready()


@fault("marathons", 3, 0.2, 6)
def marathon_silent(stage, target, length, rng):
    """Neither events nor heartbeats; then all at once, unless the client has left."""
    stage.marathon.silence(True)
    try:
        time.sleep(length)
    finally:
        stage.marathon.silence(False)


@fault("marathons", 5)
def marathon_stream_cut(stage, target, length, rng):
    """In the middle of an event."""
    streams = stage.marathon.streams
    if streams:
        rng.choice(streams).cut(reset=rng.random() < 0.5, mid_frame=True)
