"""A stand-in for a Nomad that is older than its event stream: lists without pages, no services, blocking queries."""

import contextlib
import http.server
import json
import threading
import time
import urllib.parse

OBJECTS = {"job": "jobs", "node": "nodes", "allocation": "allocations"}
TABLES = ("jobs", "nodes", "allocations", "evaluations", "deployments")


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # with 5 a connection that has to wait may wait for seconds


class OldNomad:
    """put() and remove() change it; `requests` has (path, query) of all that it was asked."""

    def __init__(self, index: int = 1):
        self.raft = index
        self.tables: dict[str, dict[str, dict]] = {table: {} for table in TABLES}
        self.index = {table: 0 for table in TABLES}
        self.requests: list[tuple[str, dict]] = []
        self.paths = [f"/v1/{table}" for table in TABLES]
        self._lag: dict[str, tuple[dict, int]] = {}
        self._deaf: set[str] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._server = _Server(("127.0.0.1", 0), self._handler())

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    # ---- its state ----

    def put(self, table: str, key: str, same_index=False, **members) -> None:
        """same_index: the second half of what was applied last, as a job's evaluation is."""
        with self._changed:
            self._move(table, 0 if same_index else 1)
            self.tables[table][key] = {"ID": key, "Namespace": "default", **members, "ModifyIndex": self.raft}

    def remove(self, table: str, key: str) -> None:
        with self._changed:
            self._move(table, 1)
            del self.tables[table][key]

    def start_over(self, index: int) -> None:
        """Another cluster, at the same address."""
        with self._changed:
            self.raft = index
            self.tables = {table: {} for table in TABLES}
            self.index = {table: 0 for table in TABLES}
            self._changed.notify_all()

    def state(self, table: str) -> tuple[dict, int]:
        return dict(self.tables[table]), self.index[table]

    @contextlib.contextmanager
    def lagging(self, table: str, state: tuple[dict, int]):
        """Its list is answered from that earlier state, as by a follower."""
        self._lag[table] = state
        yield
        del self._lag[table]

    @contextlib.contextmanager
    def deaf(self, table: str):
        """Its long polls don't notice what changes meanwhile."""
        self._deaf.add(table)
        yield
        with self._changed:
            self._deaf.remove(table)
            self._changed.notify_all()

    def _move(self, table: str, by: int) -> None:
        self.raft += by
        self.index[table] = self.raft
        self._changed.notify_all()

    # ---- its answers ----

    def _answer(self, path: str, query: dict) -> tuple[int, int, object]:
        """(status, X-Nomad-Index, what it says)"""
        words = path.split("/")[2:]
        if words == ["status", "leader"]:
            return 200, 0, "127.0.0.1:4647"
        if len(words) == 2 and words[0] in OBJECTS:
            found = self.tables[OBJECTS[words[0]]].get(urllib.parse.unquote(words[1]))
            return (200, self.raft, found) if found else (404, 0, "not found")
        if len(words) == 1 and words[0] in TABLES:
            return self._list(words[0], query)
        return 404, 0, "404 page not found"

    def _list(self, table: str, query: dict) -> tuple[int, int, object]:
        after = int(query.get("index", ["0"])[0])
        wait = int(query["wait"][0].removesuffix("ms")) / 1000 if "wait" in query else 0
        until = time.monotonic() + wait
        with self._changed:
            unchanged = lambda: self.index[table] <= after or table in self._deaf  # noqa: E731
            while after > 0 and unchanged() and not self._stopping and time.monotonic() < until:
                self._changed.wait(max(0, until - time.monotonic()))
            objects, index = self.tables[table], self.index[table]
            if after == 0:
                objects, index = self._lag.get(table, (objects, index))
            return 200, index, [{**one, "Stub": True} for one in objects.values()]

    def _handler(self):
        old = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # noqa: N802
                url = urllib.parse.urlsplit(self.path)
                query = urllib.parse.parse_qs(url.query)
                old.requests.append((url.path, query))
                status, index, said = old._answer(url.path, query)
                body = json.dumps(said, separators=(",", ":")).encode()
                self.send_response(status)
                if index or status == 200:
                    self.send_header("X-Nomad-Index", str(index))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # a long poll that nobody waits for any more
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Handler
