"""What may stand before a server: a reverse proxy that asks for credentials, a unix socket, an HTTP proxy.

Heads of requests are kept, so that a test sees what arrived. After the first head of a connection bytes are passed on
as they are.
"""

import base64
import pathlib
import socket
import threading

from .ports import free_port
from .standin import shut


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Relay:
    """Passes everything to server_port. path: listens on a unix socket there instead of a port.

    credentials: what `credentials_header` of the first request must hold, else it is refused by `refusal`. `heads` has
    the first head of each connection, as (request line, {name in small letters: value}).
    """

    credentials_header = "authorization"
    refusal = "401 Unauthorized"

    def __init__(self, server_port: int = 0, path: pathlib.Path | None = None, credentials: str | None = None):
        self.server_port, self.path, self.credentials = server_port, path, credentials
        self.port = 0 if path else free_port()
        self.heads: list[tuple[str, dict]] = []
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"unix://{self.path}" if self.path else f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        if self.path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self.path))
            self._listener.listen(64)
        else:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        for end in (self._listener, *list(self._sockets)):
            shut(end)  # its thread closes it

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                self._listener.close()
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._sockets.add(client)
        try:
            head, rest = _read_head(client)
            line, fields = _parse(head)
            self.heads.append((line, fields))
            if self.credentials and fields.get(self.credentials_header) != self.credentials:
                client.sendall(f"HTTP/1.1 {self.refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            else:
                self._pass_on(client, line, head, rest)
        except (OSError, ValueError):
            pass
        self._sockets.discard(client)
        shut(client)
        client.close()

    def _pass_on(self, client: socket.socket, line: str, head: bytes, rest: bytes) -> None:
        self._join(client, ("127.0.0.1", self.server_port), head + rest)

    def _join(self, client: socket.socket, where: tuple, first: bytes, answer: bytes = b"") -> None:
        with socket.create_connection(where, 10) as server:
            server.settimeout(None)
            self._sockets.add(server)
            client.sendall(answer)
            server.sendall(first)
            up = threading.Thread(target=_pump, args=(client, server), daemon=True)
            up.start()
            _pump(server, client)
            up.join(10)
            self._sockets.discard(server)


class HttpProxy(Relay):
    """CONNECT, and requests by whole URLs; to wherever they say."""

    credentials_header = "proxy-authorization"
    refusal = "407 Proxy Authentication Required"

    def _pass_on(self, client: socket.socket, line: str, head: bytes, rest: bytes) -> None:
        method, target, version = line.split(" ")
        if method == "CONNECT":
            host, port = target.rsplit(":", 1)
            self._join(client, (host, int(port)), rest, b"HTTP/1.1 200 Connection established\r\n\r\n")
            return
        host, _, path = target.removeprefix("http://").partition("/")
        first = f"{method} /{path} {version}".encode() + head[head.index(b"\r\n") :]
        self._join(client, (host.rsplit(":", 1)[0], int(host.rsplit(":", 1)[1])), first + rest)


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        more = client.recv(65536)
        if not more:
            raise ValueError("no whole head")
        received += more
    head, end, rest = received.partition(b"\r\n\r\n")
    return head + end, rest


def _parse(head: bytes) -> tuple[str, dict]:
    line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    fields = (text.partition(":") for text in lines)
    return line, {name.lower(): value.strip() for name, _, value in fields}


def _pump(source: socket.socket, to: socket.socket) -> None:
    try:
        while received := source.recv(65536):
            to.sendall(received)
    except OSError:
        pass
    shut(to)
