"""A client of a mirror that means to miss nothing: it comes back with its Last-Event-ID, always."""

import threading

from rig.http_stream import Closed
from rig.proc import wait_until
from rig.sse import Frame, SseClient


class Follower:
    """`kept` has what such a client ends up with, from the oldest event on; `surprises` what it was not to be told.

    On the same journal it is resumed exactly. On another one (the mirror's was lost, or the machine went down)
    it gets the index of its last event again from the start, or is told a Gap and gets the oldest there is: what it has
    from there on gives way. Where all that it got of a journal is what the busbar said itself, its id proves nothing
    about the source's events, and the beginning may be told again.
    """

    def __init__(self, address: str):
        self._url = f"{address}/events"
        self.kept: list[Frame] = []
        self.all: list[Frame] = []  # what it was told, kept or not
        self.surprises: list[str] = []
        self.connections = 0
        self._fresh = True  # the connection has brought no event yet
        self._asked: str | None = None  # the id it was opened with
        self._gap_told = False  # since the last event
        self._stopping = False
        self._client: SseClient | None = None
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self):
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping = True
        if self._client and self._client.stream:
            self._client.stop()
        self._thread.join(20)

    def last_index(self, source: str) -> int:
        """Of the source's own events."""
        mine = (frame for frame in reversed(self.kept) if frame.id.startswith(f"{source}:") and not is_own(frame))
        return next(map(index_of, mine), 0)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._follow_once()
            except (OSError, Closed):
                pass
            threading.Event().wait(0.2)

    def _follow_once(self) -> None:
        last = self.kept[-1].id if self.kept else None
        client = self._client = SseClient(self._url if last else f"{self._url}?last_event_id=", last)
        self._asked = last
        client.start()
        self.connections += 1
        self._fresh = True
        taken = 0
        try:
            while client.ended is None and not self._stopping and client.status == 200:
                taken = self._take(client, taken)
                threading.Event().wait(0.05)
        finally:
            client.stop()
        self._take(client, taken)

    def _take(self, client: SseClient, taken: int) -> int:
        news = client.frames[taken:]
        for frame in news:
            self._keep(frame)
        return taken + len(news)

    def _keep(self, frame: Frame) -> None:
        if self._fresh and not is_own(frame):
            self._fresh = False
            self._make_room(frame)
        self._gap_told = frame.event == "Gap" or (self._gap_told and is_own(frame))
        self.kept.append(frame)
        self.all.append(frame)

    def _make_room(self, first: Frame) -> None:
        """For the first event of a connection."""
        before = [frame for frame in self.kept if not is_own(frame)]
        if not before or journal_of(first.id) == journal_of(before[-1].id):
            return
        resumed = self._asked is not None and journal_of(self._asked) == journal_of(first.id)
        if index_of(first) < index_of(before[-1]) and not self._gap_told and not resumed:
            self.surprises.append(f"{first.id} after {before[-1].id}, and no Gap told")
        self.kept = [frame for frame in self.kept if is_own(frame) or position_of(frame) < position_of(first)]

    def wait_for(self, source: str, index: int, timeout: float) -> None:
        wait_until(
            lambda: self.last_index(source) >= index,
            timeout,
            f"the mirror's client has index {index}; it has {self.last_index(source)}",
        )


def position_of(frame: Frame) -> tuple[int, int]:
    """Of an id SOURCE:INDEX[~EPOCH].ORDINAL@ARRIVAL.JOURNAL."""
    index, _, ordinal = frame.id.partition(":")[2].partition("@")[0].partition(".")
    return int(index.partition("~")[0]), int(ordinal)


def index_of(frame: Frame) -> int:
    return position_of(frame)[0]


OWN = ("Gap", "Malformed", "ResyncStarted", "ResyncFinished", "Snapshot", "Vanished")


def is_own(frame: Frame) -> bool:
    """What the busbar says itself: its place in the order is not judged."""
    return frame.event in OWN


def journal_of(frame_id: str) -> str:
    return frame_id.rpartition(".")[2]
