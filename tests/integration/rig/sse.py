"""A Server-Sent Events client by the letter of the HTML standard, on bytes."""

import threading
import time
from typing import NamedTuple

from .http_stream import Closed, HttpStream
from .proc import wait_until
from .stopwatch import had


class Frame(NamedTuple):
    """One dispatched event; `id` is the last one told so far, as the standard has it."""

    id: str
    event: str
    data: bytes


class SseParser:
    """feed() takes bytes as they come and returns the frames that they complete."""

    def __init__(self):
        self.last_id = ""
        self.comments = 0
        self.bare_ids = 0  # frames that only moved last_id
        self.retry: int | None = None
        self._text = b""
        self._event, self._data = "", []
        self._id_told = False

    def feed(self, received: bytes) -> list[Frame]:
        self._text += received
        frames = []
        while (line := self._next_line()) is not None:
            frame = self._dispatch() if not line else self._field(line)
            if frame:
                frames.append(frame)
        return frames

    def _next_line(self) -> bytes | None:
        """Lines end by LF, CRLF or CR; a CR at the very end may be half of a CRLF."""
        ends = [at for at in (self._text.find(b"\n"), self._text.find(b"\r")) if at >= 0]
        if not ends or (self._text[min(ends)] == 13 and min(ends) + 1 == len(self._text)):
            return None
        end = min(ends)
        width = 2 if self._text[end : end + 2] == b"\r\n" else 1
        line, self._text = self._text[:end], self._text[end + width :]
        return line

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"":
            self.comments += 1
        elif name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode()
        elif name == b"id" and b"\0" not in value:
            self.last_id, self._id_told = value.decode(), True
        elif name == b"retry" and value.isdigit():
            self.retry = int(value)

    def _dispatch(self) -> Frame | None:
        frame = Frame(self.last_id, self._event or "message", b"\n".join(self._data)) if self._data else None
        self.bare_ids += self._id_told and frame is None
        self._event, self._data, self._id_told = "", [], False
        return frame


class SseClient:
    """Reads an event stream in a thread until stop(), or until the server ends it (`ended`).

    hold() makes it a reader that has stopped reading, go_on() lets it read again.
    """

    def __init__(self, url: str, last_event_id: str | None = None, headers: dict | None = None):
        self._url = url
        self._headers = {"Accept": "text/event-stream", **(headers or {})}
        if last_event_id is not None:
            self._headers["Last-Event-ID"] = last_event_id
        self.parser = SseParser()
        self.frames: list[Frame] = []
        self.arrivals: list[float] = []  # time.monotonic() of each frame
        self.ended: str | None = None
        self._running = threading.Event()
        self._running.set()
        self._thread = threading.Thread(target=self._run, name="sse", daemon=True)
        self.stream: HttpStream | None = None

    def start(self):
        """Returns once the answer's head is there; other than 200 is the caller's to judge."""
        self.stream = HttpStream(self._url, self._headers, timeout=120)
        self._thread.start()
        return self

    @property
    def status(self) -> int:
        return self.stream.status

    @property
    def last_id(self) -> str:
        return self.parser.last_id

    def hold(self) -> None:
        self._running.clear()

    def go_on(self) -> None:
        self._running.set()

    def wait_frames(self, count: int, timeout: float = 30) -> list[Frame]:
        wait_until(lambda: len(self.frames) >= count, timeout, f"{count} frames; there are {len(self.frames)}")
        return self.frames[:count]

    def wait_quiet(self, quiet: float = 1.0, timeout: float = 60) -> None:
        began, count = had(), len(self.frames)

        def is_quiet():
            nonlocal began, count
            if len(self.frames) != count:
                began, count = had(), len(self.frames)
            return had() - began > quiet

        wait_until(is_quiet, timeout, f"no frame for {quiet} s")

    def stop(self) -> None:
        self.go_on()
        self.stream.close()
        self._thread.join(20)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _run(self) -> None:
        try:
            while True:
                self._running.wait()
                found = self.parser.feed(self.stream.read())
                self.arrivals += [time.monotonic()] * len(found)
                self.frames += found  # whoever waits for a frame finds its arrival
        except (Closed, OSError) as ended:
            self.ended = str(ended)
