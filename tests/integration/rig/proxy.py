"""A TCP proxy before a server: records what passes, and is the network that fails.

One thread and one epoll for all connections of a proxy. Whatever a test asks for is done on
that thread, and is done when the call returns.
"""

import collections
import errno
import select
import socket
import threading
import time

from .ports import free_port
from .proc import Failed
from .proxy_link import DOWN, NEVER, UP, Link, Weather

__all__ = ["DOWN", "UP", "Link", "Proxy"]


class Proxy:
    """Listens on `port` of 127.0.0.1 and passes everything on to server_port (new connections: to what it is then).

    `direction` is UP (client to server), DOWN (server to client), or None for both. `links` has every
    connection there ever was, those that are over too, with the bytes that passed; record=False
    forgets them, for long runs. buffer: bytes of the kernel's socket buffers, so that a throttle is felt soon.
    """

    def __init__(self, server_port: int, record: bool = True, buffer: int | None = None):
        self.server_port, self.record, self._buffer = server_port, record, buffer
        self.port = free_port()
        self.links: list[Link] = []
        self._weather = {UP: Weather(), DOWN: Weather()}
        self._open = True
        self._listener: socket.socket | None = None
        self._epoll = select.epoll()
        self._waker, self._wakened = socket.socketpair()
        self._ends: dict[int, Link] = {}  # by file descriptor
        self._masks: dict[int, int] = {}  # what epoll was told
        self._timed: set[Link] = set()  # those with something to do by themselves
        self._calls: collections.deque = collections.deque()
        self._thread: threading.Thread | None = None
        self._running = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open_links(self) -> list[Link]:
        return [link for link in list(self.links) if link.open]

    def start(self):
        self._wakened.setblocking(False)
        self._epoll.register(self._wakened, select.EPOLLIN)
        self._listen()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        if not self._running:
            return
        self._call(self._stop)
        self._thread.join(10)
        for end in (self._waker, self._wakened, self._epoll):
            end.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    # ---- what a network does ----

    def cut(self, reset: bool = False) -> None:
        """Ends all connections, by FIN or by RST; new ones are accepted."""
        self._call(lambda: [self._end(link, reset) for link in self.open_links])

    def cut_after(self, count: int, direction: str = DOWN, reset: bool = False) -> None:
        """Each connection that there is now passes so many bytes more in that direction, and is then cut:
        in the middle of a reply or a frame."""

        def arm():
            for link in self.open_links:
                link.pipes[direction].left, link.reset_after = max(count, 1), reset

        self._call(arm)

    def half_close(self, direction: str = DOWN) -> None:
        """The receiving end of that direction is told FIN; the other direction goes on."""

        def shut():
            for link in self.open_links:
                link.pipes[direction].shut()

        self._call(shut)

    def drop(self, direction: str | None = None, new: bool = False) -> None:
        """What is sent on the present connections (new=True: on later ones too) is swallowed, FIN included, and
        nobody is told: a peer that is lost. heal() resets those that lost something."""

        def swallow():
            for which in self._which(direction):
                self._weather[which].drops |= new
                for link in self.open_links:
                    link.pipes[which].drops = True
                    link.pipes[which].swallow()

        self._call(swallow)

    def delay(self, seconds: float, jitter: float = 0.0, direction: str | None = None) -> None:
        """What comes from now on is passed on so many seconds later, and up to `jitter` more; in order."""
        self._set(direction, delay=seconds, jitter=jitter)

    def throttle(self, bytes_a_second: float | None, direction: str | None = None) -> None:
        """Each connection passes so much; None: as fast as it goes."""
        self._set(direction, rate=bytes_a_second)

    def freeze(self, direction: str | None = None) -> None:
        """Nothing passes, nothing is closed, nothing is lost: a cable that is out for a while. New connections
        are accepted, and hear nothing."""
        self._set(direction, frozen=True)

    def thaw(self, direction: str | None = None) -> None:
        self._set(direction, frozen=False)

    def close_door(self) -> None:
        """Cuts all, and closes new connections as soon as they are there: a proxy without its server."""
        self._call(self._shut_door)

    def refuse(self, reset: bool = False) -> None:
        """Cuts all, and nobody listens: connection refused."""

        def stop_listening():
            self._unlisten()
            for link in self.open_links:
                self._end(link, reset)

        self._call(stop_listening)

    def open_door(self) -> None:
        """After close_door() or refuse()."""
        self._call(self._unlock)

    def heal(self) -> None:
        """All is well again. Connections that lost bytes, or one of whose directions was closed, are reset."""

        def mend():
            for weather in self._weather.values():
                weather.clear()
            for link in self.open_links:
                self._mend(link)
            self._unlock()

        self._call(mend)

    def _mend(self, link: Link) -> None:
        if link.harmed:
            self._end(link, reset=True)
        for pipe in link.pipes.values():
            pipe.left, pipe.drops = None, False

    def _which(self, direction: str | None) -> tuple:
        return (UP, DOWN) if direction is None else (direction,)

    def _set(self, direction: str | None, **what) -> None:
        def change():
            for which in self._which(direction):
                vars(self._weather[which]).update(what)

        self._call(change)

    def _shut_door(self) -> None:
        self._open = False
        for link in self.open_links:
            self._end(link)

    def _unlock(self) -> None:
        self._open = True
        if self._listener is None:
            self._listen()

    # ---- the thread ----

    def _call(self, what) -> None:
        """Has it done on the proxy's thread; then all connections are looked at anew."""
        done, failed = threading.Event(), []

        def run():
            try:
                what()
            except Exception as error:  # the caller's, not the loop's
                failed.append(error)
            done.set()

        if not self._running:
            raise Failed("the proxy is not running")
        self._calls.append(run)
        self._waker.send(b"!")
        if not done.wait(20):
            raise Failed("the proxy's thread has ended or hangs")
        if failed:
            raise failed[0]

    def _run(self) -> None:
        while self._running:
            for end, _ in self._epoll.poll(self._patience()):
                self._serve(end)
            self._pass_what_is_due()

    def _patience(self) -> float | None:
        dues = [link.next_due() for link in self._timed]
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _pass_what_is_due(self) -> None:
        now = time.monotonic()
        for link in [link for link in self._timed if link.next_due() <= now]:
            self._move(link)

    def _serve(self, end: int) -> None:
        if self._listener is not None and end == self._listener.fileno():
            self._accept()
        elif end == self._wakened.fileno():
            self._obey()
        elif link := self._ends.get(end):
            self._serve_link(link, end)

    def _obey(self) -> None:
        try:
            self._wakened.recv(4096)
        except BlockingIOError:
            pass
        while self._calls:
            self._calls.popleft()()
        for link in set(self._ends.values()):
            self._move(link)

    def _serve_link(self, link: Link, end: int) -> None:
        if not link.connected and end == link.server.fileno():
            if error := link.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return self._end(link, reset=error != errno.ECONNREFUSED)  # it may have come, and have died since
            link.connected = True
        pipe = link.pipes[UP if end == link.client.fileno() else DOWN]
        try:
            if pipe.wants_input and link.connected:
                pipe.read()
        except OSError:
            return self._end(link, reset=True)
        return self._move(link)

    def _move(self, link: Link) -> None:
        """Passes on what can be, then says what there is to wait for."""
        try:
            for pipe in link.pipes.values() if link.connected else ():
                pipe.write()
        except OSError:
            return self._end(link, reset=True)
        if link.cut_due or link.over:
            return self._end(link, link.cut_due and link.reset_after)
        (self._timed.discard if link.next_due() == NEVER else self._timed.add)(link)
        up, down = link.pipes[UP], link.pipes[DOWN]
        self._await(link.client, up.wants_input and link.connected, down.wants_output)
        self._await(link.server, down.wants_input and link.connected, up.wants_output or not link.connected)
        return None

    def _await(self, end: socket.socket, input_wanted: bool, output_wanted: bool) -> None:
        """A socket that nothing is wanted of is taken out: epoll tells of a hang-up even unasked."""
        mask = (select.EPOLLIN if input_wanted else 0) | (select.EPOLLOUT if output_wanted else 0)
        number = end.fileno()
        before = self._masks.get(number, 0)
        if mask == before:
            return
        if not before:
            self._epoll.register(number, mask)
        elif mask:
            self._epoll.modify(number, mask)
        else:
            self._epoll.unregister(number)
        self._masks[number] = mask

    def _end(self, link: Link, reset: bool = False) -> None:
        if not link.open:
            return
        self._timed.discard(link)
        for end in (link.client, link.server):
            self._await(end, False, False)
            self._masks.pop(end.fileno(), None)
            self._ends.pop(end.fileno(), None)
        link.close(reset)
        if not self.record:
            self.links.remove(link)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if not self._open:
            client.close()
            return
        server = socket.socket()
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for which in (socket.SO_SNDBUF, socket.SO_RCVBUF) if self._buffer else ():
                end.setsockopt(socket.SOL_SOCKET, which, self._buffer)
        if server.connect_ex(("127.0.0.1", self.server_port)) not in (0, errno.EINPROGRESS):
            client.close()
            server.close()
            return
        link = Link(client, server, self._weather, self.record)
        self.links.append(link)
        self._ends[client.fileno()] = self._ends[server.fileno()] = link
        self._move(link)

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._listener.setblocking(False)
        self._epoll.register(self._listener, select.EPOLLIN)

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._epoll.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _stop(self) -> None:
        self._running = False
        self._unlisten()
        for link in self.open_links:
            self._end(link)
