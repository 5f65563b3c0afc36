"""The fan-out tools as processes: `clients` and `writer`, what they say, and what the kernel holds for them."""

import contextlib
import json
import pathlib
import queue
import re
import signal
import subprocess
import threading
from collections.abc import Callable


class Failed(AssertionError):
    """A tool did not say what it should."""


class Tool:
    """One of the tools; what it prints is read as it comes."""

    def __init__(self, argv: list):
        self.argv = [str(word) for word in argv]
        self.process = subprocess.Popen(self.argv, stdout=subprocess.PIPE, text=True)
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    @property
    def pid(self) -> int:
        return self.process.pid

    def next_line(self, timeout: float) -> str:
        try:
            line = self.lines.get(timeout=timeout)
        except queue.Empty:
            raise Failed(f"nothing for {timeout:g} s: {' '.join(self.argv)}") from None
        if line is None:
            raise Failed(f"ended with {self.process.wait()}: {' '.join(self.argv)}")
        return line

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Clients(Tool):
    """So many readers of `url`; words: more of the command line, `stop_after=1` is --stop-after 1, True a flag."""

    def __init__(self, build: pathlib.Path, url: str, count: int, **words):
        argv = [build / "tests" / "clients", "--clients", count]
        for name, value in words.items():
            word = "--" + name.replace("_", "-")
            argv += [word] if value is True else [word, value]
        super().__init__([*argv, url])

    def wait(self, phase: str, timeout: float = 90) -> dict:
        """What it says when the phase comes: attached, begin, end, result."""
        while True:
            said = json.loads(self.next_line(timeout))
            if said["phase"] == phase:
                return said

    def end(self, timeout: float = 90) -> dict:
        """Asks for the result now."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait("result", timeout)

    def window(self, look: Callable[[], float], timeout: float = 120) -> tuple[dict, float]:
        """The result, and by how much what `look` tells grew while the window was open."""
        self.wait("begin", timeout)
        before = look()
        self.wait("end", timeout)
        spent = look() - before
        return self.wait("result", timeout), spent


class Writer(Tool):
    """The bare writer, following the generator on that port."""

    def __init__(self, build: pathlib.Path, generator_port: int, **words):
        argv = [build / "tests" / "writer", "--source", f"127.0.0.1:{generator_port}"]
        for name, value in words.items():
            argv += ["--" + name.replace("_", "-"), value]
        super().__init__(argv)
        self.port = int(self.next_line(20).split()[1])
        self.url = f"http://127.0.0.1:{self.port}"


def tcp_memory() -> int:
    """Bytes that all TCP sockets of this machine (of this network namespace) hold in buffers."""
    found = re.search(r"^TCP:.* mem (\d+)", pathlib.Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    return int(found[1]) * 4096


def send_queues(port: int) -> list[int]:
    """Bytes that wait in the kernel to be sent or acknowledged, of each connection to the server at that port."""
    found = []
    with contextlib.suppress(OSError):
        for row in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[1].endswith(f":{port:04X}") and fields[3] != "0A":
                found.append(int(fields[4].partition(":")[0], 16))
    return found
