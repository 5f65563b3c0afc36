"""A receiver of webhooks in Slack's shape, which fails as a test asks."""

import http.server
import json
import threading
from typing import NamedTuple

from .ports import free_port


class Post(NamedTuple):
    key: str  # its Idempotency-Key
    body: dict


class Webhook:
    """taken: the posts that it took, in order; refused: how many it did not.

    failures: what to answer to the next requests instead, as (status, headers). Cleared `open`: a post is taken, and
    then not answered until `open` is set.
    """

    def __init__(self):
        self.taken: list[Post] = []
        self.refused = 0
        self.failures: list[tuple[int, dict]] = []
        self.open = threading.Event()
        self.open.set()
        self.url = f"http://127.0.0.1:{free_port()}/services/secret"

    @property
    def keys(self) -> list[str]:
        return [post.key for post in self.taken]

    def __enter__(self):
        webhook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                webhook._take(self)

            def log_message(self, *_):
                pass

        port = int(self.url.split(":")[2].split("/")[0])
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.open.set()
        self._server.shutdown()
        self._server.server_close()

    def _take(self, request) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        status, headers = self.failures.pop(0) if self.failures else (200, {})
        if status == 200:
            self.taken.append(Post(request.headers["Idempotency-Key"], body))
            self.open.wait()
        else:
            self.refused += 1
        try:
            request.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                request.send_header(name, value)
            request.end_headers()
        except OSError:  # it was killed meanwhile
            pass
