"""A stand-in for a large Nomad region: its lists, page by page, its objects in full, and its event stream.

Objects are those of a real 1.5.0 (fixtures/nomad/state.json) under other ids. What it answers differs from a real
one's in nothing that a reader could tell, as far as it goes: pages begin where 1.5.0's begin, too.
"""

import http.server
import json
import pathlib
import queue
import socket
import threading
import time
import urllib.parse

from .ports import free_port

_STATE = json.loads((pathlib.Path(__file__).parents[2] / "fixtures/nomad/state.json").read_text())
INDEX = 200_000  # of every table


def _uuid(kind: int, number: int) -> str:
    """Spread over all first digits, as random ones are."""
    spread = (number * 2_654_435_761) % (1 << 32)
    return f"{spread:08x}-{kind:04x}-4000-8000-{number:012x}"


class _Template:
    """An object as text, in which ids are replaced."""

    def __init__(self, what: str, **members):
        sample = {**_STATE[what], **members}
        text = json.dumps(sample, ensure_ascii=False, separators=(",", ":"))
        self._text = text.replace('"@index@"', "@index@")  # a number

    def render(self, **names) -> str:
        text = self._text
        for name, value in names.items():
            text = text.replace(f"@{name}@", str(value))
        return text


_IDS = {"CreateIndex": "@index@", "ModifyIndex": "@index@"}


class Region:
    """So many jobs of so many allocations each, `per_node` of them on a node; an evaluation and a deployment a job.

    say() tells one event more on the stream; `requests` counts them by the first word of their path behind /v1/,
    `kinds` has these words for each connection that was asked for more than a stream, namespaces or its leader.
    """

    def __init__(self, jobs: int, allocs_per_job: int = 5, per_node: int = 100):
        self.jobs, self.allocs = jobs, jobs * allocs_per_job
        self._per_job, self._per_node = allocs_per_job, per_node
        self.nodes = max(1, self.allocs // per_node)
        self.port = free_port()
        self.requests: dict[str, int] = {}
        self.kinds: list[set[str]] = []
        self._events = INDEX
        self._streams: list[queue.Queue] = []
        self._lock = threading.Lock()
        job, node, alloc = {"ID": "@job@", "Name": "@job@"}, {"ID": "@node@", "Name": "@node@"}, {"ID": "@id@"}
        alloc |= {"JobID": "@job@", "NodeID": "@node@"}
        self._templates = {
            "jobs": _Template("jobs", **job, **_IDS),
            "job": _Template("job", **job, **_IDS),
            "nodes": _Template("nodes", **node, **_IDS),
            "node": _Template("node", **node, **_IDS),
            "allocations": _Template("allocations", **alloc, **_IDS),
            "allocation": _Template("allocation", **alloc, **_IDS),
            "evaluation": _Template("evaluation", ID="@id@", JobID="@job@", DeploymentID="@deployment@", **_IDS),
            "deployment": _Template("deployment", ID="@id@", JobID="@job@", **_IDS),
        }
        self._server: http.server.ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def objects(self) -> int:
        return 3 * self.jobs + self.allocs + self.nodes

    def start(self):
        region = self

        class Handler(_Handler):
            it = region

        self._server = _Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, name="region", daemon=True).start()
        return self

    def close(self) -> None:
        with self._lock:
            for stream in self._streams:
                stream.put(None)
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    # ---- objects ----

    def _render(self, what: str, **names) -> str:
        return self._templates[what].render(**names)

    @staticmethod
    def job_id(number: int) -> str:
        return f"job-{number:06}"

    def node_id(self, number: int) -> str:
        return _uuid(1, number)

    def alloc_id(self, number: int) -> str:
        return _uuid(2, number)

    def _job(self, number: int, what="job") -> str:
        return self._render(what, job=self.job_id(number), index=10_000 + number)

    def _node(self, number: int, what="node") -> str:
        return self._render(what, node=self.node_id(number), index=10_000 + number)

    def _alloc(self, number: int, what="allocation") -> str:
        job, node = self.job_id(number // self._per_job), self.node_id(number % self.nodes)
        return self._render(what, id=self.alloc_id(number), job=job, node=node, index=20_000 + number)

    def _evaluation(self, number: int) -> str:
        names = {"id": _uuid(3, number), "job": self.job_id(number), "deployment": _uuid(4, number)}
        return self._render("evaluation", **names, index=10_000 + number)

    def _deployment(self, number: int) -> str:
        return self._render("deployment", id=_uuid(4, number), job=self.job_id(number), index=10_000 + number)

    # ---- answers ----

    def answer(self, path: str, query: dict) -> tuple[int, str, dict]:
        """(status, body, headers)"""
        words = path.removeprefix("/v1/").split("/")
        with self._lock:
            self.requests[words[0]] = self.requests.get(words[0], 0) + 1
        lists = {
            "jobs": (self.jobs, lambda n: self._job(n, "jobs"), lambda n: f"default.{self.job_id(n)}"),
            "nodes": (self.nodes, lambda n: self._node(n, "nodes"), self.node_id),
            "allocations": (self.allocs, lambda n: self._alloc(n, "allocations"), self._alloc_token),
            "evaluations": (self.jobs, self._evaluation, lambda n: f"{10_000 + n}.{_uuid(3, n)}"),
            "deployments": (self.jobs, self._deployment, lambda n: f"{10_000 + n}.{_uuid(4, n)}"),
        }
        if len(words) == 1 and words[0] in lists:
            return self._page(*lists[words[0]], query)
        if path == "/v1/namespaces":
            return 200, '[{"Name":"default","CreateIndex":1,"ModifyIndex":1}]', {}
        if path == "/v1/services":
            return 200, "[]", {}
        return self._one(words)

    def _one(self, words: list[str]) -> tuple[int, str, dict]:
        match words:
            case ["job", job]:
                return 200, self._job(int(job.removeprefix("job-"))), {}
            case ["node", node, "allocations"]:
                number = int(node[-12:], 16)
                return 200, f"[{','.join(self._alloc(n) for n in range(number, self.allocs, self.nodes))}]", {}
            case ["node", node] if len(node) == 36:
                return 200, self._node(int(node[-12:], 16)), {}
            case ["allocation", alloc]:
                return 200, self._alloc(int(alloc[-12:], 16)), {}
        return 404, "", {}

    def _alloc_token(self, number: int) -> str:
        return f"{20_000 + number}.{self.alloc_id(number)}"

    @staticmethod
    def _page(count, render, token, query) -> tuple[int, str, dict]:
        """As nomad/state/paginator has it: from the first whose token is, as text, not less."""
        per_page, seek = int(query.get("per_page", count)), query.get("next_token", "")
        first = next((n for n in range(count) if token(n) >= seek), count)
        last = min(first + per_page, count)
        more = {"X-Nomad-NextToken": token(last)} if last < count else {}
        return 200, f"[{','.join(render(n) for n in range(first, last))}]", more

    # ---- the stream ----

    def say(self) -> None:
        """One job is registered: its Meta has the time of the monotonic clock."""
        with self._lock:
            self._events += 1
            index = self._events
            line = (
                f'{{"Events":[{{"FilterKeys":null,"Index":{index},"Key":"said-{index}","Namespace":"default","Payload":'
                f'{{"Job":{{"ID":"said-{index}","Meta":{{"at":"{time.monotonic()}"}}}}}},"Topic":"Job",'
                f'"Type":"JobRegistered"}}],"Index":{index}}}\n'
            )
            for stream in self._streams:
                stream.put(line)

    def listen(self) -> queue.Queue:
        with self._lock:
            self._streams.append(queue.Queue())
            return self._streams[-1]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64  # with 5 a connection that has to wait may wait for seconds


class _Handler(http.server.BaseHTTPRequestHandler):
    it: Region
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 20
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.words: set[str] = set()

    def log_message(self, *_):
        """Says nothing."""

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        query = {name: values[0] for name, values in urllib.parse.parse_qs(parts.query).items()}
        try:
            if parts.path == "/v1/event/stream":
                self._stream()
            elif "wait" in query:
                self._hold()
            else:
                self._note(parts.path.removeprefix("/v1/").split("/")[0])
                self._answer(*self.it.answer(urllib.parse.unquote(parts.path), query))
        except (OSError, socket.error):
            self.close_connection = True

    def _note(self, word: str) -> None:
        if word in ("namespaces", "status"):
            return
        if not self.words:
            with self.it._lock:
                self.it.kinds.append(self.words)
        self.words.add(word)

    def _answer(self, status: int, text: str, headers: dict) -> None:
        body = text.encode()
        self.send_response(status)
        more = {"Content-Type": "application/json", "X-Nomad-Index": INDEX, "Content-Length": len(body), **headers}
        for name, value in more.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _hold(self) -> None:
        """A long poll of something that never changes."""
        self.close_connection = True
        news = self.it.listen()
        while news.get() is not None:
            pass

    def _stream(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        news, line = self.it.listen(), "{}\n"
        while line is not None:
            self.wfile.write(line.encode())
            self.wfile.flush()
            line = news.get()
