"""Debian's Chromium without a screen, and the pages that it shows: tests/integration/marathonclients/page.html."""

import http.server
import json
import pathlib
import threading
import urllib.parse

from .ports import free_port
from .proc import Server, wait_until

PAGE = pathlib.Path(__file__).resolve().parents[1] / "marathonclients" / "page.html"


class Pages:
    """A web server, an origin of its own, with one page; `told` is what the page told it."""

    def __init__(self):
        self.told: list = []
        self.origin = f"http://127.0.0.1:{free_port()}"

    def url(self, sources: list, types: list, **more) -> str:
        """Of the page that follows these event streams; frame=URL: with another page in it."""
        return f"{self.origin}/?{urllib.parse.urlencode({'source': sources, 'type': types, **more}, doseq=True)}"

    def of(self, which: int) -> list:
        """What came of that source: (type, data, last event id)."""
        return [tuple(rest) for source, *rest in list(self.told) if source == which]

    def wait_told(self, which: int, enough, timeout: float = 120):
        """Until enough(what came of that source)."""
        wait_until(lambda: enough(self.of(which)), timeout, f"enough at the page, it has {self.of(which)[-3:]}")
        return self.of(which)

    def __enter__(self):
        pages = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self._answer(PAGE.read_bytes() if self.path.startswith("/?") else b"")

            def do_POST(self):
                pages.told += json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(b"")

            def _answer(self, body: bytes):
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        port = int(self.origin.rpartition(":")[2])
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class Chromium(Server):
    """Shows a page until it is closed. It reaches this machine only."""

    name = "chromium"

    def __init__(self, url: str):
        super().__init__()
        self.url = url

    def _argv(self):
        flags = (
            "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions"
            " --disable-background-networking --disable-component-update --disable-sync --disable-default-apps"
            " --disable-background-timer-throttling --disable-renderer-backgrounding --mute-audio"
        )
        mapped = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        return ["chromium", *flags.split(), mapped, f"--user-data-dir={self.folder}/profile", self.url]

    def _env(self):
        return {"HOME": str(self.folder), "XDG_CONFIG_HOME": f"{self.folder}/config", "XDG_CACHE_HOME": f"{self.folder}/cache"}

    def _is_ready(self):
        return True  # the page tells
