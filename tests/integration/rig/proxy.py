"""A TCP proxy before a server: records what passes, and is the network that fails."""

import socket
import threading

from .ports import free_port

READ_SIZE = 256 * 1024


class Link:
    """One connection through the proxy. `answer` has all that the server sent on it."""

    def __init__(self, client: socket.socket, server: socket.socket):
        self.client, self.server = client, server
        self.request, self.answer = bytearray(), bytearray()

    def close(self) -> None:
        for end in (self.client, self.server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def reset(self) -> None:
        """Ends it by RST instead of FIN, as a crashed machine's router does."""
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()


class Proxy:
    """Listens on `port` of 127.0.0.1 and passes everything on to server_port.

    cut(): ends all connections; new ones are accepted. close_door() / open_door():
    no one is let in. freeze() / thaw(): nothing passes, but nothing is closed either, as on a
    cut cable. record=False forgets the bytes, for long runs.
    """

    def __init__(self, server_port: int, record: bool = True):
        self.server_port, self.record = server_port, record
        self.port = free_port()
        self.links: list[Link] = []
        self._open = True
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def close(self) -> None:
        self._open = False
        self.thaw()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def cut(self, reset: bool = False) -> None:
        for link in list(self.links):
            link.reset() if reset else link.close()

    def close_door(self) -> None:
        self._open = False
        self.cut()

    def open_door(self) -> None:
        self._open = True

    def freeze(self) -> None:
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            if not self._open:
                raise ConnectionRefusedError
            server = socket.create_connection(("127.0.0.1", self.server_port), 10)
            server.settimeout(None)
        except OSError:
            client.close()
            return
        link = Link(client, server)
        self.links.append(link)
        for source, target, kept in ((client, server, link.request), (server, client, link.answer)):
            threading.Thread(target=self._pump, args=(link, source, target, kept), daemon=True).start()

    def _pump(self, link: Link, source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        try:
            while received := source.recv(READ_SIZE):
                self._flowing.wait()
                if self.record:
                    kept += received
                target.sendall(received)
        except OSError:
            pass
        link.close()
