"""Callbacks of a stand-in Marathon up to 1.4: one POST an event to each subscriber, and no second try."""

import contextlib
import http.client
import queue
import threading
import time
import urllib.parse
from typing import NamedTuple

from .marathon_node import Reply, Request, as_json, error

NOT_RUNNING = (
    "http event callback system is not running on this Marathon instance. "
    'Please re-start this instance with "--event_subscriber http_callback".'
)


class Posted(NamedTuple):
    """One try; status 0: no answer at all."""

    url: str
    type: str
    data: bytes
    status: int
    took: float  # seconds
    when: float  # time.monotonic(), at its start


class _Subscriber:
    """Posts in the order of the events where it has one connection, and behind what its predecessor had to post; what
    comes while it is backed off is lost."""

    def __init__(self, url: str, cluster, predecessor: "_Subscriber | None" = None):
        self.url, self._cluster = url, cluster
        self._events: queue.Queue = queue.Queue()
        self._failures, self._until = 0, 0.0
        self._lock = threading.Lock()  # one at a time counts a failure, or looks whether it is backed off
        before = predecessor._threads if predecessor else []
        self._threads = [
            threading.Thread(target=self._run, args=(before,), name="marathon-callback", daemon=True)
            for _ in range(cluster.callback_connections)
        ]
        for thread in self._threads:
            thread.start()

    def push(self, kind: str, data: bytes) -> None:
        with self._lock:
            if time.monotonic() < self._until:
                self._cluster.skipped.append((self.url, kind, data))
            else:
                self._events.put((kind, data))

    def end(self) -> None:
        for _ in self._threads:
            self._events.put(None)

    def _run(self, before: list[threading.Thread]) -> None:
        for thread in before:
            thread.join()
        while (event := self._events.get()) is not None:
            if time.monotonic() < self._until:
                self._cluster.skipped.append((self.url, *event))
                continue
            began = time.monotonic()
            status = self._post(event[1])
            took = time.monotonic() - began
            if 200 <= status < 300 and took < self._cluster.callback_limit:
                self._failures, self._until = 0, 0.0
            else:
                with self._lock:
                    self._failures += 1
                    self._until = time.monotonic() + 2**self._failures * self._cluster.callback_backoff
                    self._skip_what_waits()
            self._cluster.posted.append(Posted(self.url, *event, status, took, began))

    def _skip_what_waits(self) -> None:
        """However late it would be its turn: nothing told before goes out behind what was told, and lost, meanwhile."""
        with contextlib.suppress(queue.Empty):
            while (event := self._events.get_nowait()) is not None:
                self._cluster.skipped.append((self.url, *event))
            self._events.put(None)

    def _post(self, data: bytes) -> int:
        parts = urllib.parse.urlsplit(self.url)
        https = parts.scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        more = {"context": self._cluster.callback_tls} if https else {}
        timeout = self._cluster.callback_limit + self._cluster.callback_patience
        connection = kind(parts.hostname, parts.port, timeout=timeout, **more)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Accept": "application/json", "User-Agent": "spray-can/1.3.4"}
        headers["Content-Type"] = "application/json; charset=UTF-8"
        try:
            connection.request("POST", target, data, headers)
            response = connection.getresponse()
            response.read()
            return response.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


class Callbacks:
    """A part of Marathon (marathon.py). The list of subscribers outlives leaders; the queues do not.

    callback_limit: seconds that an answer may take; callback_patience: how many more until its connection is given up,
    so that it has no status; callback_backoff: what 2**failures seconds are multiplied with; callback_connections: how
    many posts to one subscriber may be under way at once (4 at the real one, which mixes their order up; set it before
    anybody subscribes); callbacks_on: False is a Marathon without `--event_subscriber http_callback`; callback_tls: an
    ssl.SSLContext for https callbacks. posted: every try; skipped: (url, type, data) of each event that was lost to the
    backoff.
    """

    def __init__(self):
        self.callback_limit, self.callback_backoff, self.callbacks_on = 10.0, 1.0, True
        self.callback_patience = 2.0
        self.callback_connections = 1
        self.callback_tls = None
        self.posted: list[Posted] = []
        self.skipped: list[tuple] = []
        self._subscribers: dict[str, _Subscriber] = {}
        self._former: dict[str, _Subscriber] = {}

    @property
    def subscribers(self) -> list[str]:
        """The callback URLs, in the order in which they came."""
        return list(self._subscribers)

    def subscribe(self, url: str) -> None:
        """As an operator may do; subscribe_event is told."""
        self._subscribe(url, "127.0.0.1")

    def unsubscribe(self, url: str) -> None:
        self._unsubscribe(url, "127.0.0.1")

    def forget_subscribers(self) -> None:
        """The list is lost, and nothing is told of it: a Marathon set up anew."""
        with self._lock:
            for one in self._subscribers.values():
                one.end()
            self._former |= self._subscribers
            self._subscribers.clear()

    def subscriptions_answer(self, request: Request) -> Reply:
        if not self.is_old:
            return error(404, "Not Found")
        if not self.callbacks_on:
            return as_json({"message": NOT_RUNNING}, 400)
        if request.method in ("GET", "HEAD"):
            return as_json({"callbackUrls": self.subscribers})
        url = (request.query.get("callbackUrl") or [""])[0]
        if request.method == "POST":
            return Reply(200, self._subscribe(url, request.remote))
        if request.method == "DELETE":
            return Reply(200, self._unsubscribe(url, request.remote))
        return error(405, "Method Not Allowed")

    def _subscribe(self, url: str, client: str) -> bytes:
        with self._lock:
            if url not in self._subscribers:
                self._subscribers[url] = _Subscriber(url, self, self._former.get(url))
            return self.emit("subscribe_event", {"clientIp": client, "callbackUrl": url})

    def _unsubscribe(self, url: str, client: str) -> bytes:
        with self._lock:
            data = self.emit("unsubscribe_event", {"clientIp": client, "callbackUrl": url})
            if url in self._subscribers:
                self._former[url] = self._subscribers.pop(url)
                self._former[url].end()
            return data

    def _call_back(self, kind: str, data: bytes) -> None:
        for one in list(self._subscribers.values()) if self.is_old else []:
            one.push(kind, data)

    def _close_callbacks(self) -> None:
        for one in self._subscribers.values():
            one.end()
