"""The oracle's own subscriber: what Nomad really said, whatever the busbar was doing."""

import threading
import time
import urllib.parse

from .events import Event, LineReader
from .http_stream import Closed, HttpStream
from .proc import wait_until
from .stopwatch import had


class Tap:
    """Reads /v1/event/stream from the oldest event on, in a thread, until stop().

    lines: every line as it came, without its line end; events: every event once.
    disconnects: how each connection ended, but for stop(). With reconnect=True it
    attaches again, as for a test that kills Nomad: it reads the whole buffer anew and
    leaves out what it has. `intact` says whether its events are provably all.
    """

    def __init__(self, address: str, token="", topics=("*",), namespace="*", reconnect=False, tls=None):
        query = [("topic", topic) for topic in topics] + [("namespace", namespace), ("index", "0")]
        self._url = f"{address}/v1/event/stream?{urllib.parse.urlencode(query)}"
        self._headers = {"X-Nomad-Token": token} if token else {}
        self._reconnect, self._tls = reconnect, tls
        self.lines: list[bytes] = []
        self.events: list[Event] = []
        self.disconnects: list[str] = []
        self.error: Exception | None = None
        self.last_arrival = had()
        self._known: set[tuple] = set()
        self._proven = True
        self._stream: HttpStream | None = None
        self._attached = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)

    def start(self, timeout: float = 20):
        """Returns once the first line is there."""
        self._thread.start()
        wait_until(lambda: self._attached.is_set() or self.error or self.disconnects, timeout, "the tap is attached")
        self._raise()
        return self

    def stop(self) -> None:
        self._stopping = True
        if self._stream:
            self._stream.close()
        self._thread.join(20)
        self._raise()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    @property
    def intact(self) -> bool:
        return self._proven and not self.error and (self._reconnect or not self.disconnects)

    @property
    def last_index(self) -> int:
        return self.events[-1].index if self.events else 0

    def wait_events(self, count: int, timeout: float = 30) -> None:
        """Until so many events are there."""
        wait_until(lambda: len(self.events) >= count or self.error, timeout, f"the tap has {count} events")
        self._raise()

    def wait_all(self, nomad, quiet: float = 1.0) -> None:
        """Until it has all that happened on the Nomad so far, the evaluations of its jobs among it."""
        index = nomad.wait_evaluated()
        wait_until(lambda: self.last_index >= index or self.error, 30, f"the tap is told of index {index}")
        self.wait_quiet(quiet)  # one index may have several lines

    def wait_quiet(self, quiet: float = 1.0, timeout: float = 60) -> None:
        """Until nothing came for so many seconds: the end of a test's load."""
        self.last_arrival = had()
        wait_until(lambda: had() - self.last_arrival > quiet, timeout, f"the stream is quiet for {quiet} s")
        self._raise()

    def _raise(self) -> None:
        if self.error:
            raise self.error

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._read_one_connection()
            except (Closed, OSError) as ended:
                self._note_end(ended)
            except Exception as error:  # shown by whichever call of the test comes next
                self.error = error
                return
            if not self._reconnect:
                return

    def _note_end(self, ended: Exception) -> None:
        if self._stopping:
            return
        if not isinstance(ended, ConnectionRefusedError):
            self.disconnects.append(str(ended))
        time.sleep(0.1)

    def _read_one_connection(self) -> None:
        self._stream = stream = HttpStream(self._url, self._headers, timeout=100, tls=self._tls)
        if stream.status != 200:
            raise Closed(f"answered {stream.status}")
        reader, pending, first = LineReader(), b"", True
        while not self._stopping:
            pending += stream.read()
            *lines, pending = pending.split(b"\n")
            for line in lines:
                found = reader.read(line)
                first = self._take(line, found, first)
            self._attached.set()

    def _take(self, line: bytes, found: list[Event], first: bool) -> bool:
        """Returns whether the first event of the connection is still to come."""
        self.lines.append(line)
        if not found:
            return first
        if first and self.events and found[0].index > self.last_index:
            self._proven = False  # nothing of what we know is in its buffer
        for event in found:
            if event[:6] not in self._known:
                self._known.add(event[:6])
                self.events.append(event)
        self.last_arrival = had()
        return False
