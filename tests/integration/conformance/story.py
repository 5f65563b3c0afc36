"""Numbered events told to one or several busbars, and what must then be at the exit of the sink that is tested."""

import contextlib
import json
import random
import threading
import time

from rig.busbar import Busbar
from rig.events import LineReader
from rig.exits import Arrival, from_redis
from rig.oracle import Verdict, compare
from rig.proc import Failed, wait_until
from rig.standin import Answer, Standin, event_line, is_over, refusal

# A leader whose state is further than all that is told here, for a busbar that asks whether an index started over.
LISTS = refusal("200 OK", "[]", {"Content-Type": "application/json", "X-Nomad-Index": 1 << 40})
KEYS = ("web", "wéb'1\\\"", "a/b", "k-4", "k 5")
TOPICS = ("Job", "Node", "Allocation")


class Lines:
    """One server's stream, told from its beginning to everybody who asks."""

    def __init__(self):
        self.lines, self._news = [b"{}\n"], threading.Condition()

    def __iter__(self):
        for at in range(1 << 30):
            with self._news:
                while at >= len(self.lines):
                    if is_over():
                        return
                    self._news.wait(0.2)
                line = self.lines[at]
            yield line

    def add(self, line: bytes) -> None:
        with self._news:
            self.lines.append(line)
            self._news.notify_all()

    def forget(self) -> None:
        """Whoever asks from now on is not told what was told so far."""
        with self._news:
            self.lines = [b"{}\n"]


class Story:
    """`say` tells events, `tells` tells them all the while: on two servers, within one index each in its own order.
    `busbar` makes one that reads from the first of them or the second, into the sink and into another one beside it."""

    def __init__(self, sink, other, name: str):
        self.sink, self.other, self.name = sink, other, name
        self.servers, self.index, self.told = (Lines(), Lines()), 100, []
        self.random, self._ends, self._lock = random.Random(name), contextlib.ExitStack(), threading.Lock()

    def __enter__(self):
        self._addresses = []
        for lines in self.servers:
            answer = Answer()
            answer.steps = lines
            self._addresses.append(self._ends.enter_context(Standin(answer, default=LISTS)).address)
        return self

    def __exit__(self, *_):
        self._ends.close()

    # ---- told ----

    def say(self, indexes: int = 1, events: int = 2, size: int = 0) -> None:
        for _ in range(indexes):
            with self._lock:
                self.index += 1
                made = [self._event(number, size) for number in range(events)]
                self.told += made
                for turn, lines in enumerate(self.servers):
                    ordered = made[::-1] if turn else made
                    lines.add(b'{"Events":[%b],"Index":%d}\n' % (b",".join(ordered), self.index))

    def _event(self, number: int, size: int) -> bytes:
        key, topic = KEYS[(self.index + number) % len(KEYS)], TOPICS[number % len(TOPICS)]
        line = event_line(self.index, key=key, topic=topic, kind=f"Told{number}", size=size)
        return line[len(b'{"Events":[') : line.rindex(b'],"Index":')]

    @contextlib.contextmanager
    def tells(self):
        """Some hundred events a second, as long as the `with` lasts."""
        over = threading.Event()

        def run():
            while not over.wait(0.02):
                self.say()

        teller = threading.Thread(target=run, daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()

    # ---- busbars ----

    def busbar(self, server: int = 0, standby: bool = False, journal: dict | None = None, **sink) -> Busbar:
        """`sink`: what the sink that is tested has in its section beyond its own."""
        source = {"name": self.name, "type": "nomad", "servers": [self._addresses[server]], "start": "oldest"}
        tested = {"name": "tested", **self.sink.section(), **sink}
        beside = {"name": "beside", "type": "redis", "url": self.other.url, "stream": "beside-%{source}:%{topic}"}
        config = {"name": f"kit-{self.name}", "standby": standby, "sources": [source], "sinks": [tested, beside]}
        made = Busbar({**config, "journal": journal or {}})
        self._ends.callback(made.close)
        return made.start()

    def status(self, busbar: Busbar, name: str = "tested") -> dict:
        (source,) = busbar.status()["sources"]
        return next(sink for sink in source["sinks"] if sink["name"] == name)

    def wait(self, busbar: Busbar, condition, what: str, timeout: float = 45):
        """Until the condition holds of the tested sink's status."""
        try:
            return wait_until(lambda: condition(self.status(busbar)), timeout, what, every=0.02)
        except Failed as failed:
            raise Failed(f"{failed}\n{self.status(busbar)}\n{busbar.log_tail()}") from None

    def arrived(self, busbar: Busbar, index: int = 0, timeout: float = 45) -> None:
        """All that was told so far, or up to that index, is in the tested sink."""
        index = index or self.index
        self.wait(busbar, lambda sink: sink["index"] >= index, f"index {index} in the tested sink", timeout)

    def goes_on(self, busbar: Busbar, timeout: float = 45) -> None:
        """Something told from now on arrives there."""
        self.arrived(busbar, self.index + 1, timeout)

    def others_go_on(self, busbar: Busbar, index: int = 0) -> None:
        index = index or self.index + 1
        wait_until(lambda: self.status(busbar, "beside")["index"] >= index, 5, f"the sink beside at {index}")

    # ---- what is there ----

    def judge(self, told: list[bytes] | None = None) -> Verdict:
        told = self.told if told is None else told
        events = [event for data in told for event in LineReader().read(b'{"Events":[' + data + b"]}")]
        sent = {event.what: {event.data} for event in events}
        return compare({self.name: events}, self.sink.arrivals(self.name), sent)

    def assert_exact(self) -> None:
        """Each once, in order, its bytes untouched, and no gap; beside it too."""
        self.judge().assert_exact()
        self.assert_others_exact()

    def assert_others_exact(self) -> None:
        streams = self.other.read_streams(lambda stream: not stream.startswith(f"beside-{self.name}:"))
        events = [event for data in self.told for event in LineReader().read(b'{"Events":[' + data + b"]}")]
        compare({self.name: events}, from_redis(streams)).assert_exact()

    def own(self, kind: str) -> list[dict]:
        """What the busbar itself said there."""
        return [json.loads(arrival.data) for arrival in self._said() if arrival.type == kind]

    def _said(self) -> list[Arrival]:
        return [arrival for arrival in self.sink.arrivals(self.name) if arrival.is_own]

    def pause(self, least: float, most: float) -> None:
        time.sleep(self.random.uniform(least, most))
