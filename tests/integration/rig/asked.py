"""One request to an event stream, and all that was answered until it was quiet."""

import functools
import json
import socket
import urllib.parse
from dataclasses import dataclass, field

from .events import Event, LineReader, canonical
from .http_stream import BodyDecoder
from .stopwatch import had


@dataclass
class Asked:
    """What came: `body` without its transfer coding."""

    status: int
    headers: dict[str, str]
    body: bytes
    ended: bool
    delays: list[float] = field(default_factory=list)  # since the request, of each piece that came

    @property
    def text(self) -> bytes:
        """What stands before the first line of a stream; of a refusal, all."""
        return self.body.partition(b"{}\n")[0]

    @functools.cached_property
    def lines(self) -> list[bytes]:
        """Whole lines with events."""
        body = self.body[len(self.text) :]
        return [line for line in body.split(b"\n")[:-1] if line != b"{}"]

    @functools.cached_property
    def events(self) -> list[tuple]:
        """Each line: its index, and its events as values, in their order."""
        told = []
        for line in self.lines:
            reader = LineReader()
            told.append((json.loads(line)["Index"], [canonical(event.data) for event in reader.read(line)]))
        return told

    @property
    def told(self) -> list[Event]:
        return [event for line in self.lines for event in LineReader().read(line)]

    @property
    def event_bytes(self) -> list[bytes]:
        return [event.data for event in self.told]


def ask(url: str, method="GET", headers: dict | None = None, quiet=0.3, atmost=10.0, over=None) -> Asked:
    """Sends it over a socket of its own, and reads until nothing more came for `quiet` seconds, which count from when
    `over` (a threading.Event) is set."""
    parts = urllib.parse.urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    with socket.create_connection((parts.hostname, parts.port), 10) as connection:
        began = had()
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        received, ended, delays = _read(connection, began, quiet, atmost, over)
    head, _, body = received.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    named = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
    decoder = BodyDecoder(named.get("transfer-encoding") == "chunked")
    return Asked(int(first.split()[1]), named, decoder.feed(body), ended, delays)


def _read(connection, began: float, quiet: float, atmost: float, over):
    received, delays, latest = b"", [], began
    connection.settimeout(0.02)
    while had() - began < atmost:
        try:
            piece = connection.recv(1 << 20)
        except TimeoutError:
            if over and not over.is_set():
                latest = had()
            if had() - latest > (quiet if received else 10):
                break
            continue
        if not piece:
            return received, True, delays
        received += piece
        latest = had()
        delays.append(latest - began)
    return received, False, delays
