"""A stand-in for Marathon: no real one can be had from a registry.

It plays what FACTS say of the real ones, in both generations, and replays real captures byte for
byte. Everything that the real one does by itself (leader changes, slow readers, restarts) is a command here.
"""

import pathlib
import threading
import time
from typing import NamedTuple

from .marathon_callbacks import Callbacks
from .marathon_node import Node, Request, basic, tls_of
from .marathon_shapes import encode, stamp
from .marathon_state import State
from .marathon_stream import Event, Stream, lighten
from .proc import wait_until
from .standin import Answer
from .stopwatch import had

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "marathon"


class Sent(NamedTuple):
    type: str
    data: bytes
    when: float  # time.monotonic()
    to: tuple  # the streams that it was written to, or will be


def capture(name: str) -> list[tuple[str, bytes]]:
    """The frames of a fixture, (type, data) as bytes, in their order."""
    frames = []
    for block in (FIXTURES / name).read_bytes().split(b"\r\n\r\n"):
        lines = block.lstrip(b"\r\n").split(b"\r\n")
        if lines[0].startswith(b"event: ") and len(lines) == 2:
            frames.append((lines[0][7:].decode(), lines[1].removeprefix(b"data: ")))
    return frames


class Marathon(State, Callbacks):
    """A whole Marathon, in threads of this process. Node 0 leads at first.

    nodes: how many masters, each at a port of its own. generation: "new" (1.7 on) or "old" (to
    1.4). heartbeat: seconds. user, password: basic auth; token: DC/OS's. tls: paths of certificate
    and key (rig.certs), and of a CA where clients must show a certificate. plans: "light" or "heavy".
    slow_limit: how many events may wait for one reader; backlog: bytes of a connection's send buffer
    (None: the kernel's), so that a slow reader shows early. shuffle: seconds by which events are delayed per
    stream, at random: two streams see different orders, as on the real one (m.streams[i].told says which).
    """

    def __init__(
        self, nodes=1, generation="new", heartbeat=10.0, user=None, password=None, token=None, tls=None,
        plans="light", slow_limit=1024, backlog=None, shuffle=0.0,
    ):  # fmt: skip
        assert generation in ("new", "old") and plans in ("light", "heavy")
        self.is_old = generation == "old"
        self.heartbeat, self.plans, self.shuffle = heartbeat, plans, shuffle
        self.slow_limit, self.backlog = slow_limit, backlog
        self._allowed = [value for value in (user and basic(user, password or ""), token and f"token={token}") if value]
        self.tls, self.tls_client = tls_of(tls) if tls else (None, None)
        self.requests: list[Request] = []
        self.sent: list[Sent] = []
        self.answers: dict[str, Answer] = {}
        self.is_silent, self.is_ready = False, True
        self.leader: int | None = 0
        self.told_leader: int | None = 0  # as the standbys believe
        self.clock = time.time  # where timestamps come from: any function that tells seconds
        self.history: list[Stream] = []  # every stream that was ever attached, in that order
        self._streams: list[Stream] = []
        self._lock = threading.RLock()
        self.closing = threading.Event()
        self.nodes = [Node(number, self) for number in range(nodes)]
        State.__init__(self)
        Callbacks.__init__(self)

    def __enter__(self):
        for node in self.nodes:
            node.start()
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        self.closing.set()
        for number in range(len(self.nodes)):
            self._stop_node(number)
        self._close_callbacks()

    @property
    def address(self) -> str:
        """Of the present leader; of node 0 where there is none."""
        return self.nodes[self.leader or 0].address

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes]

    @property
    def streams(self) -> list[Stream]:
        """Those whose client is still there, oldest first."""
        return [stream for stream in list(self._streams) if not stream.is_gone]

    @property
    def believed(self) -> list[Stream]:
        """Those that Marathon takes for attached, though their client may be gone: it will tell that they detached."""
        return list(self._streams)

    def attachments(self, streams: list[Stream] | None = None) -> list[list[tuple[str, bytes]]]:
        """What one client was told in each of its attachments, for marathon_oracle.compare_attachments().

        streams: those of that client, in order; all that ever were. What Marathon told a connection
        that it did not yet know to be dead, when the client had attached anew already, is left out.
        """
        streams = self.history if streams is None else streams
        ends = [min(later.numbers, default=None) for later in streams[1:]] + [None]
        return [
            [one for number, one in zip(stream.numbers, list(stream.told)) if end is None or number < end]
            for stream, end in zip(streams, ends)
        ]

    def wait_streams(self, count: int, timeout: float = 30) -> list[Stream]:
        """Waits until as many are attached; returns them."""

        def attached():
            with self._lock:  # what attaching tells has been told
                found = self.streams
            return [found] if len(found) == count else None

        return wait_until(attached, timeout, f"{count} streams of Marathon")[0]

    def wait_requests(self, count: int, path: str | None = None, timeout: float = 30) -> list[Request]:
        def found():
            return [request for request in list(self.requests) if path in (None, request.path)]

        wait_until(lambda: len(found()) >= count, timeout, f"{count} requests for {path or 'anything'}")
        return found()

    # Events

    def emit(self, kind: str, body, node: int | None = None) -> bytes:
        """To every stream of the leader's, or of that node's. A dict gets eventType and timestamp
        where it has none, in the order in which the real one has them. Returns the bytes."""
        with self._lock:
            data = body if isinstance(body, bytes) else encode(kind, body, stamp(self.clock()))
            self._tell(kind, data, self.leader if node is None else node)
            return data

    def play(self, frames, rate: float = 0, patience: float = 5.0) -> None:
        """Tells frames of capture() byte for byte; rate: events a second, 0: as fast as readers take them.

        At rate 0 it waits for a reader that falls behind, until that has taken nothing for `patience`
        seconds; with a rate it waits for nobody, as Marathon would not.
        """
        began = time.monotonic()
        for number, (kind, data) in enumerate(frames):
            self.emit(kind, data)
            if rate:
                time.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))
            elif number % 64 == 63:
                self._wait_readers(patience)

    def _wait_readers(self, patience: float) -> None:
        for stream in list(self._streams):
            written, since = len(stream.told), had()
            while stream.waiting > self.slow_limit // 4 and not stream.is_gone and had() - since < patience:
                time.sleep(0.001)
                if len(stream.told) != written:
                    written, since = len(stream.told), had()

    def _tell(self, kind: str, data: bytes, node: int | None) -> None:
        """With the lock held."""
        if node is None:
            return
        event = Event(kind, data, lighten(data), len(self.sent))
        to = [stream for stream in self._streams if stream.node == node and stream.push(event)]
        self.sent.append(Sent(kind, data, time.monotonic(), tuple(to)))
        self._call_back(kind, data)

    # Leaders and nodes

    def elect(self, node: int | None, ready: bool = True) -> None:
        """Another leader, or None: nobody leads, 502. The streams of the old one end by a clean close."""
        with self._lock:
            self.is_ready = ready
            former, self.leader, self.told_leader = self.leader, node, node
            ending = [stream for stream in self._streams if stream.node == former != node]
            self._forget(ending)
        self._end(ending)

    def ready(self) -> None:
        """The elected one may be used from now on."""
        self.is_ready = True

    def kill(self, node: int, stale: float = 0) -> None:
        """Its listener and all its connections are gone. Where it led nobody leads; the standbys
        go on believing in it for `stale` seconds (9 were measured)."""
        with self._lock:
            if self.leader == node:
                self.leader = None
                if stale:
                    threading.Timer(stale, self._learn, [node]).start()
                else:
                    self.told_leader = None
        self._stop_node(node)

    def start(self, node: int) -> None:
        """Its listener is back; it leads only where it is elected again, or where nothing was elected in a
        cluster of one."""
        with self._lock:
            if len(self.nodes) == 1:
                self.leader = self.told_leader = node
        self.nodes[node].start()

    def silence(self, on: bool = True) -> None:
        """Heartbeats and events stop, connections stay; what is told meanwhile follows afterwards."""
        self.is_silent = on
        for stream in list(self._streams):
            stream.wake()

    def answer(self, path: str, answer: Answer | None) -> None:
        """For each request for the path from now on, by whichever node; None: as ever."""
        if answer is None:
            self.answers.pop(path, None)
        else:
            self.answers[path] = answer

    def abdicate_later(self) -> None:
        """DELETE /v2/leader: answered first; then the next node that runs leads, or the same one again."""
        others = [node.number for node in self.nodes if node.is_running and node.number != self.leader]
        threading.Timer(0.05, self._abdicate, [others[0] if others else self.leader]).start()

    def _abdicate(self, successor: int) -> None:
        self.elect(None)
        self.elect(successor)

    def _learn(self, dead: int) -> None:
        with self._lock:
            if self.told_leader == dead and self.leader is None:
                self.told_leader = None

    def _stop_node(self, number: int) -> None:
        self.nodes[number].stop()
        with self._lock:
            ending = [stream for stream in self._streams if stream.node == number]
            self._forget(ending)
        for stream in ending:
            stream.cut()

    def _forget(self, ending: list[Stream]) -> None:
        for stream in ending:
            self._streams.remove(stream)

    def _end(self, ending: list[Stream]) -> None:
        for stream in ending:
            stream.end()
        for stream in ending:
            stream.join()

    # For nodes and streams

    def is_allowed(self, request: Request) -> bool:
        return not self._allowed or any(value in self._allowed for value in request.values("authorization"))

    def attach(self, stream: Stream) -> bool:
        """Whether it has been taken; its own event_stream_attached goes to all."""
        with self._lock:
            if self.leader != stream.node or not self.nodes[stream.node].is_running:
                return False
            self._streams.append(stream)
            self.history.append(stream)
            self.emit("event_stream_attached", {"remoteAddress": stream.remote})
            stream.start()
            return True

    def detach(self, stream: Stream) -> None:
        with self._lock:
            if stream in self._streams:
                self._streams.remove(stream)
                self.emit("event_stream_detached", {"remoteAddress": stream.remote})
