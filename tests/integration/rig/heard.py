"""A Marathon as the mirror of a busbar is one: a client of its event stream that keeps every byte, as it came."""

import contextlib
import json
import re
import socket
import threading
import urllib.parse

from .busbar import Busbar
from .proc import wait_until

STREAM = "/v2/events"
EVENT_STREAM = {"Accept": "text/event-stream"}
OWN = re.compile(
    rb'event: (event_stream_(?:at|de)tached)\r\ndata: \{"remoteAddress":"([0-9a-f.:]+)","eventType":"\1",'
    rb'"timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"\}\r\n\r\n'
)  # as Marathon writes it, to the byte


@contextlib.contextmanager
def following(marathon, source: dict | None = None, **http):
    """A busbar that is attached to a Marathon, by the name `prod`; `source` and `http` go into its configuration."""
    told = {"name": "prod", "type": "marathon", "servers": [marathon.address], "start": "now", **(source or {})}
    with Busbar({"name": "t", "sources": [told], "http": http}) as busbar:
        busbar.wait_log("event=source_attached")
        shown = {"Authorization": f"Bearer {http['token']}"} if "token" in http else {}
        status = lambda: json.loads(busbar.get("/status", shown)[1])["sources"][0]  # noqa: E731
        wait_until(lambda: status()["journal"]["next_seq"] > 1, 20, "what attached it is journaled")
        yield busbar


class Heard:
    """One request, sent at once; all that is answered is read in a thread until the `with` ends."""

    def __init__(self, address: str, path: str = STREAM, headers=EVENT_STREAM, method: str = "GET"):
        """headers: a dict, or pairs where a name comes twice."""
        parts = urllib.parse.urlsplit(address)
        pairs = list(headers.items() if isinstance(headers, dict) else headers)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {parts.netloc}", *(f"{name}: {value}" for name, value in pairs)]
        self.received, self.ended = b"", False
        self._socket = socket.create_connection((parts.hostname, parts.port), 20)
        self._socket.settimeout(None)
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while piece := self._socket.recv(1 << 20):
                self.received += piece
        except OSError:
            pass
        self.ended = True

    def wait(self, condition, timeout: float = 60):
        """Until condition(self)."""
        wait_until(lambda: condition(self), timeout, f"the client has it; it has {self.received[-300:]}")
        return self

    def wait_head(self):
        return self.wait(lambda heard: b"\r\n\r\n" in heard.received)

    def wait_text(self, text: bytes):
        return self.wait(lambda heard: text in heard.body)

    @property
    def head(self) -> list[str]:
        """The status line, and the header lines."""
        return self.received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")

    @property
    def status(self) -> int:
        return int(self.head[0].split()[1])

    @property
    def headers(self) -> dict[str, str]:
        return dict(line.split(": ", 1) for line in self.head[1:])

    @property
    def body(self) -> bytes:
        return self.received.partition(b"\r\n\r\n")[2]

    @property
    def told(self) -> bytes:
        """Without heartbeats, and without what tells of those who attached and detached meanwhile."""
        return OWN.sub(b"", b"".join(self.frames))

    @property
    def frames(self) -> list[bytes]:
        """Whole ones."""
        whole = self.body.rpartition(b"\r\n\r\n")[0].split(b"\r\n\r\n")
        return [frame.strip(b"\r\n") + b"\r\n\r\n" for frame in whole if frame.strip(b"\r\n")]

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(20)
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
