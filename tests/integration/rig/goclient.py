"""HashiCorp's own Go client, unchanged: tests/integration/goclient run as a child, what it tells as Python values."""

import contextlib
import json
import signal
import subprocess
import threading

from .fetched import fetched
from .proc import wait_until


class GoClient:
    """One subscription: `words` are the flags of goclient/main.go. Runs at once; stop(), or wait() for its own end."""

    def __init__(self, address: str, *words: str):
        argv = [fetched("goclient"), "-address", address, *words]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.batches: list[dict] = []  # of each line of the stream
        self.end: dict = {}  # how it was over
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            told = json.loads(line)
            if "End" in told:
                self.end = told["End"]
            else:
                self.batches.append(told["Batch"])

    @property
    def events(self) -> list[dict]:
        return [event for batch in self.batches for event in batch["Events"]]

    @property
    def index(self) -> int:
        """Of the last line."""
        return self.batches[-1]["Index"] if self.batches else 0

    def wait_index(self, index: int) -> None:
        """Until a line of that index, or of a later one, is there."""
        wait_until(lambda: self.index >= index, 20, f"index {index} at the client; it has {self.index}")

    def wait(self) -> "GoClient":
        """Until it ends by itself; whoever sets no limit waits for an hour."""
        self._thread.join()
        assert self._process.wait(10) == 0 and self.end
        return self

    def stop(self) -> "GoClient":
        """Has it cancel the subscription."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._process.stdout.close()


def ask(address: str, *words: str) -> GoClient:
    """All that comes until the stream is quiet."""
    return ask_each((address, *words))[0]


def ask_each(*requests: tuple) -> list[GoClient]:
    """The same for several at once; a request is an address and words."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(GoClient(address, "-quiet", "1500ms", *words)) for address, *words in requests]
        return [client.wait() for client in clients]
