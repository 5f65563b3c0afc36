"""One client's event stream of a stand-in Marathon, written as the servlet of the real one writes it."""

import collections
import heapq
import json
import random
import select
import socket
import ssl
import struct
import threading
import time
from typing import NamedTuple

from .stopwatch import had

RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST
PIECE = 65536  # bytes of what has piled up, written at once
STUCK = 0.05  # seconds in one send(): the reader is slow, not this process
PATIENCE = 0.5  # seconds for a reader that does not take what has to go out before the end


class Event(NamedTuple):
    """As it goes to the streams; `light` is `data` without plan.original and plan.target."""

    type: str
    data: bytes
    light: bytes
    number: int  # in the order of all


def frame(kind: str, data: bytes) -> bytes:
    """CRLF, no id, no retry; a `data:` for each line, as Jetty's EventSourceServlet has it."""
    lines = b"".join(b"data: %b\r\n" % line for line in data.replace(b"\r\n", b"\n").split(b"\n"))
    return b"event: %b\r\n%b\r\n" % (kind.encode(), lines)


def lighten(data: bytes) -> bytes:
    """Without plan.original and plan.target, all else in the order it was in."""
    if b'"original"' not in data and b'"target"' not in data:
        return data
    try:
        body = json.loads(data)
    except ValueError:
        return data
    if not isinstance(body, dict) or not isinstance(body.get("plan"), dict):
        return data
    body["plan"] = {name: value for name, value in body["plan"].items() if name not in ("original", "target")}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


class Stream:
    """A client of GET /v2/events.

    remote: its address without port, as Marathon tells it; peer: (address, port); query, headers: of its
    request; node: the number of the node that serves it; told: the events (type, data) that went into its
    socket whole, in that order, which the client need not have read; dropped: how many were left out for a
    slow reader (old generation); overrun: cut for being slow (new).
    """

    def __init__(self, client: socket.socket, request, node: int, cluster):
        self.client, self.node = client, node
        self.peer = client.getpeername()[:2]
        self.remote, self.query, self.headers = self.peer[0], request.query, request.headers
        self.told: list[tuple[str, bytes]] = []
        self.numbers: list[int] = []  # of the same events
        self.dropped, self.overrun = 0, False
        self._cluster = cluster
        self._types = set(request.query.get("event_type", []))
        self._light = (request.query.get("plan-format") or [cluster.plans])[-1] == "light"
        self._queue: collections.deque = collections.deque()
        self._delayed: list[tuple] = []  # a heap of (when, number, event), where events are shuffled
        self._random = random.Random(self.peer[1])
        self._pushed = 0
        self._news = threading.Condition()
        self._ending: str | None = None  # "end": after all that waits; "close", "reset": now
        self._mid_frame = False
        self._frozen = False
        self._broken = False  # nothing can be written any more
        self._sending_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="marathon-stream", daemon=True)

    # What a test may do

    def cut(self, reset: bool = False, mid_frame: bool = False) -> None:
        """Ends it at once, by FIN or RST; mid_frame: after a part of an event that nobody will ever see
        whole. What was waiting to be written is lost."""
        with self._news:
            self._ending, self._mid_frame = ("reset" if reset else "close"), mid_frame
            self._queue.clear()
            self._delayed.clear()
            self._news.notify()
        self.join()

    def freeze(self) -> None:
        """Not a byte more, and it stays open: a peer that is lost. What is told meanwhile is lost to it."""
        with self._news:
            self._frozen = True
            self._queue.clear()
            self._delayed.clear()

    @property
    def waiting(self) -> int:
        """Events that are not written yet."""
        return len(self._queue) + len(self._delayed)

    @property
    def is_gone(self) -> bool:
        """Whether the client has closed it, though Marathon may not have noticed."""
        return bool(self._broken or self._ending) or self._is_ready(select.POLLIN)  # a client never sends anything more

    def _is_ready(self, what: int) -> bool:
        """To be read or written; also one that is closed."""
        poll = select.poll()  # unlike select(), for any number of a descriptor
        try:
            poll.register(self.client, what)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            return True

    # For the cluster

    def start(self) -> None:
        self._thread.start()

    def push(self, event: Event) -> bool:
        """Called for every event in the order of all of them, whether it is wanted or not: the limit
        counts them before the filter. False: this client will never see it."""
        with self._news:
            if self._ending or self._broken or self._frozen:
                return False
            if self.waiting >= self._cluster.slow_limit and self._is_slow():
                self._overrun()
                return False
            if self._cluster.shuffle and self._pushed:
                delay = self._random.random() * self._cluster.shuffle
                heapq.heappush(self._delayed, (time.monotonic() + delay, self._pushed, event))
            else:
                self._queue.append(event)
            self._pushed += 1
            self._news.notify()
            return True

    def end(self) -> None:
        """The leader steps down: what was told before goes out, then a clean close."""
        with self._news:
            self._ending = self._ending or "end"
            self._news.notify()

    def wake(self) -> None:
        with self._news:
            self._news.notify()

    def join(self) -> None:
        """Waits for its end; a writer that its reader blocks is woken roughly. One that had no time yet is not: what it
        has to write, and how it is to end, would be lost."""
        given_up = had() + 20
        while self._thread.is_alive() and had() < given_up:
            self._thread.join(STUCK)
            if self._is_stuck(PATIENCE):
                self._stop_writing()

    def _is_stuck(self, seconds: float) -> bool:
        """Whether it waits for its reader, and has for so long."""
        since = self._sending_since
        return since is not None and had() - since >= seconds and not self._is_ready(select.POLLOUT)

    def _is_slow(self) -> bool:
        """Whether its reader has not made room, rather than this process given the writer no time."""
        given_up = had() + 10
        while self.waiting >= self._cluster.slow_limit:
            if self._broken or self._ending or self._cluster.is_silent:
                break
            if had() > given_up or self._is_stuck(STUCK):
                break
            self._news.wait(STUCK / 4)
        return self.waiting >= self._cluster.slow_limit

    def _overrun(self) -> None:
        if self._cluster.is_old:
            self.dropped += 1
            return
        self._ending, self.overrun = "close", True
        self._stop_writing()  # it is in send(), in the middle of some frame
        self._news.notify()

    def _stop_writing(self) -> None:
        try:
            self.client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _run(self) -> None:
        heartbeat = self._cluster.heartbeat
        due = time.monotonic() + heartbeat
        while True:
            events, ending = self._next(due)
            if ending:
                break
            self._write(events)
            if time.monotonic() >= due:
                due += heartbeat
                if not self._cluster.is_silent and not self._frozen:
                    self._beat()
                    if self.is_gone and not self._ending:
                        break
        with self._news:
            self._ending = self._ending or "close"
        self._close()
        self._cluster.detach(self)

    def _next(self, due: float) -> tuple[list[Event], bool]:
        """What to write now; whether this is the end. Returns nothing when a heartbeat is due."""
        with self._news:
            while True:
                self._ripen()
                if self._ending and (self._ending != "end" or not self._queue or self._broken):
                    return [], True
                if self._queue and (self._ending or not self._cluster.is_silent):
                    return self._take(), False
                wake = min([due, *(when for when, _, _ in self._delayed[:1])])
                left = wake - time.monotonic()
                if left > 0:
                    self._news.wait(left)
                elif wake == due:
                    return [], False

    def _ripen(self) -> None:
        now = time.monotonic()
        while self._delayed and (self._ending or self._delayed[0][0] <= now):
            self._queue.append(heapq.heappop(self._delayed)[2])

    def _take(self) -> list[Event]:
        events, size = [], 0
        while self._queue and size < PIECE:
            event = self._queue.popleft()
            if not self._types or event.type in self._types:
                events.append(event)
                size += len(event.data)
        return events

    def _write(self, events: list[Event]) -> None:
        frames = [(event.type, event.light if self._light else event.data) for event in events]
        texts = [frame(*one) for one in frames]
        whole = 0 if self._broken else self._send(b"".join(texts))
        for event, one, text in zip(events, frames, texts):
            whole -= len(text)
            if whole < 0:
                return
            self.numbers.append(event.number)
            self.told.append(one)  # whoever waits for it finds its number

    def _send(self, text: bytes) -> int:
        """How many bytes of it went out."""
        sent = 0
        try:
            while sent < len(text):
                self._sending_since = had()
                sent += self.client.send(text[sent:])
        except OSError:
            self._broken = True
        self._sending_since = None
        return sent

    def _beat(self) -> None:
        """The two bytes of a heartbeat are flushed separately: two packets."""
        if not self._broken and self._send(b"\r"):
            time.sleep(0.002)
            self._send(b"\n")

    def _close(self) -> None:
        try:
            if self._mid_frame:
                text = frame("status_update_event", b'{"slaveId":"agent-1","taskId":"cut.off","appId":"/cut/off"}')
                self._send(text[: len(text) * 2 // 3])
            if self._ending == "reset":
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            else:
                self._say_goodbye()
                self.client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.client.close()

    def _say_goodbye(self) -> None:
        if isinstance(self.client, ssl.SSLSocket) and not self._broken:
            self.client.settimeout(0.2)  # for the other's close_notify, which need not come
            self.client.unwrap()
