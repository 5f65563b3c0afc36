"""One master of a stand-in Marathon: its listener, and what it answers as leader and as standby."""

import base64
import email.utils
import html
import json
import socket
import ssl
import threading
import time
import urllib.parse
from typing import NamedTuple

from .marathon_stream import Stream
from .ports import free_port
from .standin import play

JETTY = "Jetty(9.4.8.v20171121)"
UNCACHED = [("Cache-Control", "no-cache, no-store, must-revalidate"), ("Pragma", "no-cache"), ("Expires", "0")]
REASONS = {
    200: "OK", 302: "Found", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
    502: "Bad Gateway",
}  # fmt: skip


class Request(NamedTuple):
    method: str
    path: str
    query: dict  # name: [values]
    headers: list  # (name in small letters, value), as they came
    body: bytes
    node: int
    when: float  # time.monotonic()
    target: str  # path and query as they came
    remote: str  # the client's address without its port

    def values(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found == name]


class Reply(NamedTuple):
    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: list = []


def as_json(body, status: int = 200) -> Reply:
    return Reply(status, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def error(status: int, message: str) -> Reply:
    """As Jetty's sendError() has it."""
    text = html.escape(message)
    body = (
        '<html>\n<head>\n<meta http-equiv="Content-Type" content="text/html;charset=utf-8"/>\n'
        f"<title>Error {status} {text}</title>\n</head>\n<body><h2>HTTP ERROR {status}</h2>\n"
        f"<p>Reason:\n<pre>    {text}</pre></p>\n</body>\n</html>\n"
    )
    return Reply(status, body.encode(), "text/html;charset=iso-8859-1", UNCACHED_ERROR)


UNCACHED_ERROR = [("Cache-Control", "must-revalidate,no-cache,no-store")]


class Node:
    """start() and stop() as often as wanted, at the same port."""

    def __init__(self, number: int, cluster):
        self.number, self._cluster = number, cluster
        self.port = free_port()
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._clients: set[socket.socket] = set()

    @property
    def address(self) -> str:
        return f"{'https' if self._cluster.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._listener is not None

    def start(self) -> None:
        assert not self.is_running, f"node {self.number} runs already"
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        if self._cluster.backlog:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._cluster.backlog)
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), name="marathon-node", daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """The listener and all connections that are no streams are gone at once."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        _shut(listener, keep=True)
        self._accepting.join(10)  # it may be about to accept, on a number that the next listener would have
        listener.close()
        for client in list(self._clients):
            _shut(client, keep=True)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="marathon-client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        is_kept = False
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._cluster.tls:
                client = self._cluster.tls.wrap_socket(client, server_side=True)
            self._clients.add(client)
            while request := self._read_request(client):
                self._cluster.requests.append(request)
                is_kept, goes_on = self._respond(client, request)
                if is_kept or not goes_on:
                    break
        except (OSError, ValueError):
            pass
        self._clients.discard(client)
        if not is_kept:
            _shut(client)

    def _respond(self, client: socket.socket, request: Request) -> tuple[bool, bool]:
        """Whether a stream has taken the socket over, whether another request may come."""
        cluster = self._cluster
        if not self.is_running:
            return False, False
        if scripted := cluster.answers.get(request.path):
            play(client, scripted, cluster.closing)
            return False, False
        if request.path == "/ping":
            return False, self._send(client, request, Reply(200, b"pong", "text/plain;charset=iso-8859-1"))
        leader = cluster.told_leader
        if not cluster.is_allowed(request):
            headers = [("WWW-Authenticate", 'basic realm="Mesosphere"')]
            return False, self._send(client, request, error(401, "Unauthorized")._replace(headers=headers))
        if leader is None:
            return False, self._send(client, request, error(502, "Could not determine the current leader"))
        if leader != self.number:
            return self._as_standby(client, request, leader)
        if request.path == "/v2/events":
            return self._stream(client, request)
        return False, self._send(client, request, cluster.state_answer(request))

    def _stream(self, client: socket.socket, request: Request) -> tuple[bool, bool]:
        if request.method not in ("GET", "HEAD") or "text/event-stream" not in request.values("accept"):
            text = f"HTTP method {request.method} is not supported by this URL"
            return False, self._send(client, request, error(405, text))
        head = [*UNCACHED, ("Content-Type", "text/event-stream;charset=utf-8"), ("Connection", "close")]
        client.sendall(self._head(200, head))
        if request.method == "HEAD" or not self._cluster.is_ready:
            return False, False
        self._clients.discard(client)
        return self._cluster.attach(Stream(client, request, self.number, self._cluster)), False

    def _as_standby(self, client: socket.socket, request: Request, leader: int) -> tuple[bool, bool]:
        there = self._cluster.nodes[leader]
        if request.path == "/v2/events" and not self._cluster.is_old:
            reply = Reply(302, b"", "", [("Location", there.address + request.target)])
            return False, self._send(client, request, reply)
        try:
            upstream = socket.create_connection(("127.0.0.1", there.port), 5)
        except OSError:
            return False, self._send(client, request, error(502, "Connection to leader refused."))
        upstream.settimeout(None)
        if self._cluster.tls:
            upstream = self._cluster.tls_client.wrap_socket(upstream)
        self._proxy(client, request, upstream)
        return False, False

    def _proxy(self, client: socket.socket, request: Request, upstream: socket.socket) -> None:
        """Once through; then the connection ends."""
        fields = [(name, value) for name, value in request.headers if name not in ("host", "connection")]
        fields += [("host", f"127.0.0.1:{upstream.getpeername()[1]}"), ("connection", "close")]
        fields += [("x-marathon-via", f"1.1 127.0.0.1:{self.port}"), ("x-forwarded-for", client.getpeername()[0])]
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        via = f"\r\nX-Marathon-Via: 1.1 127.0.0.1:{self.port}\r\n\r\n".encode()
        self._clients.add(upstream)
        try:
            upstream.sendall(f"{request.method} {request.target} HTTP/1.1\r\n{head}\r\n".encode() + request.body)
            is_head = True
            while received := upstream.recv(65536):
                client.sendall(received.replace(b"\r\n\r\n", via, 1) if is_head else received)
                is_head = False
        except OSError:
            pass
        self._clients.discard(upstream)
        _shut(upstream)

    def _send(self, client: socket.socket, request: Request, reply: Reply) -> bool:
        """Whether the connection may go on."""
        headers = list(reply.headers)
        if reply.status == 200:
            headers = [*UNCACHED, *headers]
        if reply.kind:
            headers.append(("Content-Type", reply.kind))
        headers.append(("Content-Length", len(reply.body)))
        goes_on = "close" not in [value.lower() for value in request.values("connection")]
        if not goes_on:
            headers.append(("Connection", "close"))
        body = b"" if request.method == "HEAD" else reply.body
        client.sendall(self._head(reply.status, headers) + body)
        return goes_on

    def _head(self, status: int, headers: list) -> bytes:
        leads = self._cluster.told_leader == self.number
        fields = [("Date", email.utils.formatdate(usegmt=True))]
        fields += [("X-Marathon-Leader", self.address)] if leads else []
        fields += [("X-Frame-Options", "DENY"), ("X-XSS-Protection", "1; mode=block"), *headers, ("Server", JETTY)]
        text = "".join(f"{name}: {value}\r\n" for name, value in fields)
        return f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\n{text}\r\n".encode()

    def _read_request(self, client: socket.socket) -> Request | None:
        received = b""
        while b"\r\n\r\n" not in received:
            more = client.recv(65536)
            if not more:
                return None
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        length = int(dict(headers).get("content-length", 0))
        if length > len(body) and dict(headers).get("expect"):
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(body) < length:
            more = client.recv(65536)
            if not more:
                return None
            body += more
        path, _, query = target.partition("?")
        fields = urllib.parse.parse_qs(query, keep_blank_values=True)
        now = time.monotonic()
        remote = client.getpeername()[0]
        return Request(method, urllib.parse.unquote(path), fields, headers, body, self.number, now, target, remote)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def tls_of(tls) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of (certificate, key): for the server, and for a standby that asks it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*tls[:2])
    if len(tls) > 2:  # a CA: clients have to show a certificate of it
        server.load_verify_locations(tls[2])
        server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return server, client


def _shut(connection: socket.socket, keep: bool = False) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    if not keep:
        connection.close()
