"""Marathon's clients of PyPI and npm, unchanged: tests/integration/marathonclients run as children."""

import json
import os
import pathlib
import subprocess
import sys
import threading
import urllib.parse

from .fetched import fetched
from .proc import wait_until

SCRIPTS = pathlib.Path(__file__).resolve().parents[1] / "marathonclients"


class Follower:
    """A child that writes a line of JSON for each thing it is told. Runs at once, ends with the `with`."""

    def __init__(self, argv: list, env: dict):
        environment = {**os.environ, **env}
        self.told: list = []
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.told.append(json.loads(line))

    def wait_told(self, count: int, timeout: float = 120) -> list:
        wait_until(lambda: len(self.told) >= count, timeout, f"{count} at the client, it has {len(self.told)}")
        return self.told[:count]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._process.stdout.close()


def python_client(url: str, *words: str) -> Follower:
    """`words`: the flags and types of follow.py."""
    return Follower([sys.executable, SCRIPTS / "follow.py", url, *words], {"PYTHONPATH": str(fetched("pyclient"))})


def node_client(url: str, types: list, authorization: str = "") -> Follower:
    parts = urllib.parse.urlsplit(url)
    argv = ["node", SCRIPTS / "follow.js", parts.hostname, str(parts.port), authorization, *types]
    return Follower(argv, {"NODE_PATH": str(fetched("nodeclient") / "node_modules")})
