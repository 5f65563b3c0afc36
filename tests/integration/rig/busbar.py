"""The busbar under test: $BUSBAR_BIN with a configuration of the test's."""

import http.client
import json
import os
import pathlib
import re
import subprocess
import urllib.parse

from .ports import free_port
from .proc import Failed, Server, wait_until
from .sse import SseClient


def binary() -> pathlib.Path:
    """The program under test; tests/run says which by BUSBAR_BIN."""
    path = pathlib.Path(os.environ.get("BUSBAR_BIN", ""))
    if not (path.is_absolute() and path.is_file()):
        raise Failed("BUSBAR_BIN must be the absolute path of the busbar under test")
    return path


def run_busbar(*words, timeout: float = 60, env: dict | None = None) -> subprocess.CompletedProcess:
    """Runs it to its end, as for `check` and `version`; stdout, stderr and returncode."""
    environment = {**os.environ, **(env or {})}
    argv = [binary(), *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, env=environment, check=False)


class Busbar(Server):
    """config: a dict as DESIGN's YAML has it, or the text of a whole file.

    A dict gets a journal in the own folder and an HTTP port of its own unless it names
    them. Its YAML is written as JSON, which YAML contains.
    """

    name = "busbar"
    ready_timeout = 60.0
    stop_timeout = 30.0

    def __init__(self, config: dict | str, folder=None, env: dict | None = None):
        super().__init__(folder)
        self.env = env or {}
        self.http_port = 0
        self.config_path = self.folder / "busbar.yaml"
        self.configure(config)

    def configure(self, config: dict | str) -> None:
        """Replaces the configuration; it takes effect at the next start."""
        if isinstance(config, dict):
            config = json.dumps(self._completed(config), indent=2, ensure_ascii=False)
        self.config_path.write_text(f"{config}\n")

    def _completed(self, config: dict) -> dict:
        self.http_port = self.http_port or free_port()
        given = {"journal": {}, "http": {}, **config}
        given["journal"] = {"path": str(self.folder / "journal"), **given["journal"]}
        given["http"] = {"listen": f"127.0.0.1:{self.http_port}", **given["http"]}
        self.http_port = int(given["http"]["listen"].rpartition(":")[2])
        return given

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def _argv(self):
        return [binary(), "run", "-c", self.config_path]

    def _env(self):
        return self.env

    def _is_ready(self) -> bool:
        """Alive: /healthz answers. Without an HTTP port, that it runs must do."""
        if not self.http_port:
            return True
        try:
            return self.get("/healthz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=20)

    def get(self, path: str, headers: dict | None = None) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def status(self) -> dict:
        return json.loads(self.get("/status")[1])

    def is_attached(self) -> bool:
        """/readyz: every source attached, every sink reachable."""
        return self.get("/readyz")[0] == 200

    def wait_attached(self, timeout: float = 30) -> None:
        wait_until(self.is_attached, timeout, f"/readyz answers 200\n{self.log_tail()}")

    def metrics(self) -> dict[str, float]:
        """Prometheus text as {'name{label="value"}': number}."""
        text = self.get("/metrics")[1].decode()
        found = re.findall(r"^([a-z_:][^ ]*(?:\{[^}]*\})?) (\S+)", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def events(self, last_event_id: str | None = None, **query) -> SseClient:
        """A client of /events, not started. A list as a value repeats the parameter; `from_oldest=True`
        asks for all that the journal has."""
        if query.pop("from_oldest", False):
            query["last_event_id"] = ""
        path = "/events" + ("?" + urllib.parse.urlencode(query, doseq=True) if query else "")
        return SseClient(self.url + path, last_event_id)

    def log_lines(self, event: str | None = None) -> list[str]:
        """The lines of its log, as far as they are whole; with `event`, those of that stable id."""
        wanted = re.compile(rf"\bevent={re.escape(event)}\b") if event else re.compile("")
        whole = self.log.read_text(errors="replace").rpartition("\n")[0]
        return [line for line in whole.splitlines() if wanted.search(line)]

    def wait_log(self, text: str, timeout: float = 20) -> str:
        """The first line of the log that has the text."""

        def found():
            return next((line for line in self.log_lines() if text in line), None)

        return wait_until(found, timeout, f"{text!r} in the log\n{self.log_tail()}")

    def rss_anon(self) -> int:
        """Bytes, as Linux tells."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024
