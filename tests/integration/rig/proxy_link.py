"""One connection through a Proxy: two pipes, moved by the proxy's one thread and never waited for."""

import collections
import random
import socket
import time

UP, DOWN = "up", "down"  # from the client to the server, and back
READ_SIZE = 256 * 1024
HELD_MAX = 256 * 1024  # a pipe that holds so much reads no more
NEVER = float("inf")
TICK = 0.02  # how finely a throttled pipe is metered


class Weather:
    """What happens to the bytes of one direction, on all links of a proxy."""

    def __init__(self):
        self.clear()

    def clear(self) -> None:
        self.frozen = False
        self.drops = False  # of links yet to come; Pipe.drops has it of those that are there
        self.delay = 0.0
        self.jitter = 0.0
        self.rate: float | None = None  # bytes a second on each link


class Pipe:
    """One direction of a link: what was read from `source` and may not go to `target` yet."""

    def __init__(self, source: socket.socket, target: socket.socket, kept: bytearray | None, weather: Weather):
        self.source, self.target, self.kept, self.weather = source, target, kept, weather
        self.drops = weather.drops
        self.lost = 0  # bytes swallowed
        self.left: int | None = None  # bytes until the link is cut
        self.ended = False  # the source said FIN
        self.closed = False  # the target was told so
        self.blocked = False  # the target's socket is full
        self._waiting: collections.deque = collections.deque()  # (due, memoryview)
        self._held = 0
        self._due = 0.0  # of the last one taken
        self._credit, self._metered = 0.0, time.monotonic()

    @property
    def wants_input(self) -> bool:
        return not self.ended and not self.weather.frozen and self._held < HELD_MAX

    @property
    def wants_output(self) -> bool:
        return self.blocked and not self.weather.frozen

    @property
    def harmed(self) -> bool:
        """Bytes are missing on it: nothing good can pass here any more."""
        return self.lost > 0 or (self.closed and not self.ended)

    def next_due(self) -> float:
        """When it has something to do by itself; NEVER while it waits for a socket or for better weather."""
        if not self._waiting or self.blocked or self.weather.frozen:
            return NEVER
        return max(self._waiting[0][0], self._metered + TICK if self.weather.rate else 0.0)

    def read(self) -> None:
        """Takes what the source has; OSError where the source is broken."""
        try:
            received = self.source.recv(READ_SIZE)
        except BlockingIOError:
            return
        if not received:
            self.ended = True
        elif self.drops or self.closed:
            self.lost += len(received)
        else:
            wait = self.weather.delay + random.random() * self.weather.jitter
            self._due = max(self._due, time.monotonic() + wait) if wait else self._due
            self._waiting.append((self._due, memoryview(received)))
            self._held += len(received)

    def write(self) -> None:
        """Passes on what is due, and the FIN after it; OSError where the target is broken."""
        self.blocked = False
        while self._waiting and self._waiting[0][0] <= time.monotonic() and not self.weather.frozen:
            if not self._write_first():
                return
        if self.ended and not self._waiting and not self.closed and not self.drops and not self.weather.frozen:
            self.shut()

    def _write_first(self) -> bool:
        """Whether all of the first piece went."""
        due, piece = self._waiting[0]
        most = min(len(piece), self._allowance(), len(piece) if self.left is None else self.left)
        if most == 0:
            return False
        try:
            sent = self.target.send(piece[:most])
        except BlockingIOError:
            self.blocked = True
            return False
        self._note(piece[:sent])
        if sent < len(piece):
            self._waiting[0] = (due, piece[sent:])
            return False
        self._waiting.popleft()
        return self.left != 0

    def _note(self, sent: memoryview) -> None:
        self._held -= len(sent)
        self._credit -= len(sent)
        if self.left is not None:
            self.left -= len(sent)
        if self.kept is not None:
            self.kept += sent

    def _allowance(self) -> int:
        """How many bytes the throttle lets through now: what a tenth of a second's rest has saved at most."""
        if not self.weather.rate:
            return READ_SIZE
        now = time.monotonic()
        saved = self._credit + (now - self._metered) * self.weather.rate
        self._credit, self._metered = min(max(saved, 0.0), max(1.0, self.weather.rate / 10)), now
        return int(self._credit)

    def shut(self) -> None:
        """FIN to the target; whatever the source sends from now on is swallowed."""
        self.closed = True
        self.swallow()
        try:
            self.target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has gone by itself

    def swallow(self) -> None:
        """What waits is lost."""
        self.lost += self._held
        self._waiting.clear()
        self._held = 0


class Link:
    """One connection. `request` and `answer` have all that was passed on to the server and to the client."""

    def __init__(self, client: socket.socket, server: socket.socket, weather: dict[str, Weather], record: bool):
        self.client, self.server = client, server
        self.request, self.answer = bytearray(), bytearray()
        self.connected = False
        self.open = True
        self.reset_after = False  # whether a cut in mid-stream is to be a RST
        up = Pipe(client, server, self.request if record else None, weather[UP])
        down = Pipe(server, client, self.answer if record else None, weather[DOWN])
        self.pipes = {UP: up, DOWN: down}

    def close(self, reset: bool = False) -> None:
        """Ends it: by FIN, or by RST as a crashed machine's router does."""
        self.open = False
        for end in (self.client, self.server):
            try:
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                else:
                    end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def next_due(self) -> float:
        return min(pipe.next_due() for pipe in self.pipes.values()) if self.connected else NEVER

    @property
    def over(self) -> bool:
        """Both sides have said that they are done."""
        return all(pipe.closed or (pipe.ended and pipe.drops) for pipe in self.pipes.values())

    @property
    def cut_due(self) -> bool:
        return any(pipe.left == 0 for pipe in self.pipes.values())

    @property
    def harmed(self) -> bool:
        return any(pipe.harmed for pipe in self.pipes.values())
