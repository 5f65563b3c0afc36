"""The servers, the networks between them, and one or two busbars, all at the mercy of the faults."""

import contextlib
import re
import time

from rig.busbar import Busbar
from rig.kafka import Kafka
from rig.load import Load
from rig.nomad import Nomad, nomad_cluster, wait_leader
from rig.proc import Failed, wait_until
from rig.proxy import Proxy
from rig.redis_server import Redis
from rig.tap import Tap

from .follower import Follower

SOURCE = "prod"
# Continuity can be proven whatever happens: the buffer and the raft log hold a whole act.
NOMAD = {"event_buffer_size": 200_000, "server": {"raft_snapshot_threshold": 10_000_000}}
COMPLAINT = re.compile(
    r"^==\d+==|: runtime error: |WARNING: ThreadSanitizer|ERROR: [A-Z]\w+Sanitizer|Assertion .* failed"
)


class Shape:
    """How many of each there are; the names of the targets."""

    def __init__(
        self, instances: int = 2, nomads: int = 1, brokers: int = 1, kafka: bool = True, marathon: bool = False
    ):
        self.instances = ["a", "b", "c"][:instances]
        self.nomads = [f"nomad{number + 1}" for number in range(0 if marathon else nomads)]
        self.marathons = ["marathon"] if marathon else []
        self.brokers = [f"kafka{number + 1}" for number in range(brokers if kafka else 0)]
        self.servers = self.nomads + self.marathons
        self.upstream_wires = [f"{instance}>{server}" for instance in self.instances for server in self.servers]
        self.redis_wires = [f"{instance}>redis" for instance in self.instances]
        self.mirror_wires = [f"client>{instance}" for instance in self.instances]
        self.kafka_wires = [f"all>{broker}" for broker in self.brokers]

    @property
    def wires(self) -> list[str]:
        return self.upstream_wires + self.redis_wires + self.mirror_wires + self.kafka_wires


class Instance:
    """A busbar with its own journal and its own ways to everything, and the client of its mirror."""

    def __init__(self, stage: "Stage", name: str, patience: float):
        self.name = name
        self.upstream = [Proxy(port) for port in stage.ports]
        self.to_redis = Proxy(stage.redis.port, record=False)
        self.busbar = Busbar(self._config(stage))
        self.busbar.ready_timeout *= patience
        self.busbar.stop_timeout *= patience
        self.to_mirror = Proxy(self.busbar.http_port, record=False)
        self.follower = Follower(self.to_mirror.address)
        self.wanted = False  # it should be running
        self.starts = 0

    def _config(self, stage: "Stage") -> dict:
        servers = [wire.address for wire in self.upstream]
        redis = f"redis://127.0.0.1:{self.to_redis.port}/0"
        sinks = [{"name": "cache", "type": "redis", "url": redis, "timeout": "2s"}]
        if stage.kafka:
            sinks.append({"name": "lake", "type": "kafka", "brokers": stage.kafka.proxied_bootstrap})
        return {
            "name": "torture",
            "standby": len(stage.shape.instances) > 1,
            "sources": [{"name": SOURCE, **stage.source, "servers": servers}],
            "sinks": sinks,
        }

    @property
    def proxies(self) -> list[Proxy]:
        return [*self.upstream, self.to_redis, self.to_mirror]

    @property
    def journal(self):
        return self.busbar.folder / "journal"

    def start(self) -> None:
        self.busbar.start()
        self.wanted = True
        self.starts += 1

    def stop(self) -> None:
        self.wanted = False
        status = self.busbar.stop()
        if status != 0:
            raise Failed(f"{self.name}, asked to stop, ended with status {status}\n{self.busbar.log_tail(60)}")

    def kill9(self) -> None:
        self.wanted = False
        self.busbar.kill9()

    def complaints(self) -> list[str]:
        """What a sanitizer, memcheck or an assertion said in its log."""
        lines = self.busbar.log_lines() if self.busbar.log.exists() else []
        at = [number for number, line in enumerate(lines) if COMPLAINT.search(line)]
        return [f"{self.name} says:\n" + "\n".join(lines[at[0] : at[0] + 60])] if at else []

    def ended(self) -> str | None:
        """How it ended by itself, which it never may."""
        if not self.wanted or self.busbar.running:
            return None
        return f"{self.name} ended by itself with status {self.busbar.process.exit_status}\n{self.busbar.log_tail(60)}"


class Stage:
    """With real Nomads. patience: a factor on all timeouts, for a busbar that runs under a slow tool."""

    source = {"type": "nomad"}
    excuses_gaps = False  # a Gap is what a fault costs, where the source tells nothing again

    def __init__(self, shape: Shape, rate: float, seed: int, patience: float = 1):
        self.shape, self.patience = shape, patience
        self._rate, self._seed = rate, seed
        self._ends = contextlib.ExitStack()
        self.nomads: list[Nomad] = []
        self.instances: dict[str, Instance] = {}
        self.kafka: Kafka | None = None

    def start(self):
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    @property
    def ports(self) -> list[int]:
        return [nomad.http_port for nomad in self.nomads]

    def _start_upstream(self) -> None:
        if len(self.shape.nomads) > 1:
            self.nomads = nomad_cluster(len(self.shape.nomads), **NOMAD)
        else:
            self.nomads = [Nomad(**NOMAD)]
        for nomad in self.nomads:
            self._ends.enter_context(nomad)
        self.tap = self._ends.enter_context(Tap(self.nomads[0].address, reconnect=True))

    def _start_load(self) -> None:
        self.load = self._ends.enter_context(Load(self.nomads[0], rate=self._rate, seed=self._seed))

    def _start(self) -> None:
        self._start_upstream()
        self.redis = self._ends.enter_context(Redis({"appendfsync": "always"}))
        if self.shape.brokers:
            kafka = Kafka(len(self.shape.brokers), session_timeout_ms=4_000, proxied=True)
            self.kafka = self._ends.enter_context(kafka)
        self.instances |= {name: Instance(self, name, self.patience) for name in self.shape.instances}
        for instance in self.instances.values():
            for proxy in instance.proxies:
                self._ends.enter_context(proxy)
            self._ends.enter_context(instance.busbar)
            instance.wanted = True
            instance.follower.start()
            self._ends.callback(instance.follower.stop)
        self._start_load()

    def close(self) -> None:
        self._ends.close()

    def wire(self, name: str) -> Proxy:
        """By its name in Shape."""
        where, _, to = name.partition(">")
        if where == "all":
            return self.kafka.proxies[self.shape.brokers.index(to)]
        if where == "client":
            return self.instances[to].to_mirror
        instance = self.instances[where]
        return instance.to_redis if to == "redis" else instance.upstream[self.shape.servers.index(to)]

    def nomad(self, name: str) -> Nomad:
        return self.nomads[self.shape.nomads.index(name)]

    def broker(self, name: str):
        return self.kafka.brokers[self.shape.brokers.index(name)]

    def ended(self) -> list[str]:
        return [text for instance in self.instances.values() if (text := instance.ended())]

    def heal(self) -> None:
        for name in self.shape.wires:
            self.wire(name).heal()

    def wait_caught_up(self, timeout: float) -> None:
        """Every event that was told is published, and the mirrors' clients have it too."""
        last = self._end_load()
        try:
            wait_until(lambda: self._caught_up(last), timeout * self.patience, "every sink has caught up", every=0.2)
        except Failed as failed:
            raise Failed(f"{failed}; the last index is {last}\n{self._describe()}") from None
        for instance in self.instances.values():
            instance.follower.wait_for(SOURCE, last, 30 * self.patience)
        time.sleep(0.5)  # what comes twice comes now

    def _end_load(self) -> int:
        """The last index."""
        self.load.stop()
        wait_leader(self.nomads, 60 * self.patience)
        self.tap.wait_all(self.nomads[0], 1.5)
        return self.tap.last_index

    def _pairs(self) -> dict[str, list[dict]]:
        """By the sink's name what each instance says of it."""
        found: dict[str, list[dict]] = {}
        for instance in self.instances.values():
            with contextlib.suppress(OSError, ValueError):
                (source,) = instance.busbar.status()["sources"]
                for sink in source["sinks"]:
                    found.setdefault(sink["name"], []).append(sink)
        return found

    def _caught_up(self, last: int) -> bool:
        """Somebody publishes it, and has published all."""
        if ended := self.ended():
            raise Failed("\n".join(ended))
        pairs = self._pairs()
        wanted = {"cache"} | ({"lake"} if self.kafka else set())
        return pairs.keys() == wanted and all(any(_is_done(pair, last) for pair in pair_s) for pair_s in pairs.values())

    def _describe(self) -> str:
        tails = [f"--- {i.name}: {i.busbar.folder}\n{i.busbar.log_tail(40)}" for i in self.instances.values()]
        return "\n".join([f"{name}: {pair}" for name, pairs in self._pairs().items() for pair in pairs] + tails)


def _is_done(pair: dict, last: int) -> bool:
    return pair["state"] == "publishing" and pair["index"] >= last and not pair["lag_events"]
