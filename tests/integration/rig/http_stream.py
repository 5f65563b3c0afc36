"""A GET whose answer never ends, read as fast as it comes over a bare socket.

Written out rather than taken from a library, so that the oracle and the busbar
have no code in common and the bytes are seen as they were sent.
"""

import socket
import ssl
import threading
import urllib.parse

READ_SIZE = 256 * 1024


class Closed(Exception):
    """The stream ended; the text says how."""


class BodyDecoder:
    """Takes the chunked coding off, piece by piece as it arrives; or passes it through."""

    def __init__(self, chunked: bool):
        self.chunked = chunked
        self.ended = False
        self._raw = bytearray()
        self._left = 0  # of the chunk that is under way, its CRLF included

    def feed(self, received: bytes) -> bytes:
        if not self.chunked:
            return received
        self._raw += received
        body = bytearray()
        while self._step(body):
            pass
        return bytes(body)

    def _step(self, body: bytearray) -> bool:
        """Moves one chunk, or what is there of it; False where more has to arrive."""
        if self._left == 0:
            return self._start_chunk()
        take = min(self._left, len(self._raw))
        body += self._raw[: max(0, min(take, self._left - 2))]
        del self._raw[:take]
        self._left -= take
        return self._left == 0 and take > 0

    def _start_chunk(self) -> bool:
        line_end = self._raw.find(b"\r\n")
        if line_end < 0 or self.ended:
            return False
        size = int(self._raw[:line_end].split(b";")[0], 16)
        del self._raw[: line_end + 2]
        self.ended = size == 0
        self._left = size + 2
        return not self.ended


class HttpStream:
    """Connects and sends the request at once; then `status`, `headers` and read()."""

    def __init__(self, url: str, headers: dict | None = None, timeout: float = 60, tls: ssl.SSLContext | None = None):
        parts = urllib.parse.urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout)
        if tls:
            self._socket = tls.wrap_socket(self._socket, server_hostname=parts.hostname)
        self._received, self._reading = b"", threading.Lock()
        try:
            self._send(parts, headers or {})
            self.status, self.headers = self._read_head()
        except BaseException:
            self.close()
            raise
        self._decoder = BodyDecoder(self.headers.get("transfer-encoding") == "chunked")

    def _send(self, parts, headers: dict) -> None:
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def _read_head(self):
        while b"\r\n\r\n" not in self._received:
            self._received += self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines)
        return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in fields}

    def _receive(self) -> bytes:
        try:
            with self._reading:
                received = self._socket.recv(READ_SIZE)
        except TimeoutError:
            raise Closed("silent for too long") from None
        except OSError as error:
            raise Closed(f"broken: {error}") from None
        if not received:
            raise Closed("closed by the server")
        return received

    def read(self) -> bytes:
        """The next bytes of the body, at least one; raises Closed at its end."""
        while True:
            received, self._received = self._received or self._receive(), b""
            body = self._decoder.feed(received)
            if body:
                return body
            if self._decoder.ended:
                raise Closed("ended by the server")

    def set_timeout(self, seconds: float) -> None:
        """Of each read() from now on."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """May be called from another thread: a read() there then raises Closed."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        with self._reading:  # not while a read() has its descriptor, which may be a stranger's a moment later
            self._socket.close()
