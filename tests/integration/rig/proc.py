"""Children by pid: start, wait until ready, stop, kill -9, pause, with a log file each."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from . import watchdog
from .stopwatch import had


class Failed(AssertionError):
    """A server did not do what it should; the text carries the tail of its log."""


def wait_until(condition, timeout: float, what: str, every: float = 0.05):
    """Calls condition until it returns something true, and returns that; timeout: seconds that this process had."""
    deadline = had() + timeout
    while True:
        is_late = had() > deadline  # looked at before the condition, which may take a while
        result = condition()
        if result:
            return result
        if is_late:
            raise Failed(f"not within {timeout:g} s: {what}")
        time.sleep(every)


class Process:
    """One child in a session of its own, its output appended to a log file."""

    def __init__(self, argv, log: pathlib.Path, mark: str, cwd=None, env=None):
        self.argv = [str(word) for word in argv]
        self.log = log
        environment = {**os.environ, **(env or {}), watchdog.VARIABLE: mark}
        watchdog.arm()
        with open(log, "ab") as output:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=cwd,
                env=environment,
            )
        watchdog.watch(self.pid)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Python's way: None while it runs, negative for a signal."""
        return self._popen.poll()

    def signal(self, number: int) -> None:
        """To the child alone, not to its group: that is what an operator does."""
        self._popen.send_signal(number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def wait(self, timeout: float) -> int:
        """Waits for its end, so many seconds of those that this process had; returns the exit status."""
        try:
            wait_until(lambda: not self.running, timeout, "its end", every=0.01)
        except Failed:
            raise Failed(f"{self.argv[0]} still runs after {timeout:g} s\n{self.log_tail()}") from None
        watchdog.forget(self.pid)
        return self.exit_status

    def kill9(self) -> None:
        """SIGKILL to the child alone, and waits for its end."""
        self.signal(signal.SIGKILL)
        self.wait(30)

    def stop(self, timeout: float = 20) -> int:
        """SIGTERM; returns the exit status. One that does not end by itself is a failure."""
        self.resume()
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def end(self) -> None:
        """For the way out of a test: makes sure that the whole group is gone."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.wait(30)  # also one that has ended: its number may mean a stranger before the watchdog looks

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def log_tail(self, lines: int = 30) -> str:
        tail = "\n".join(self.log_text().splitlines()[-lines:])
        return f"--- tail of {self.log}\n{tail}\n---"


class Server:
    """What all servers of the rig share. A subclass says what to run and when it is ready.

    Its data outlives stop(), kill9() and restart(), and goes with close(), which the
    `with` statement calls. BUSBAR_TEST_KEEP in the environment keeps the folder.
    """

    name = "server"
    ready_timeout = 60.0
    stop_timeout = 30.0

    def __init__(self, folder=None):
        self._own_folder = folder is None
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix=f"busbar-{self.name}-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.mark = watchdog.new_mark()
        self.process: Process | None = None

    # A subclass overrides these two, and _env() where it wants more.
    def _argv(self) -> list:
        raise NotImplementedError

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def _env(self) -> dict:
        return {}

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> pathlib.Path:
        return self.folder / f"{self.name}.log"

    def start(self, wait: bool = True):
        """Starts it on the data it has; returns self."""
        assert not self.running, f"{self.name} runs already"
        self.process = Process(self._argv(), self.log, self.mark, env=self._env())
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout: float | None = None) -> None:
        def ready():
            if not self.running:
                raise Failed(f"{self.name} ended with status {self.process.exit_status}\n{self.log_tail()}")
            return self._is_ready()

        try:
            wait_until(ready, timeout or self.ready_timeout, f"{self.name} is ready")
        except Failed as failed:
            raise Failed(f"{failed}\n{self.log_tail()}") from None

    def stop(self) -> int:
        """Asks it to end and waits; returns the exit status."""
        return self.process.stop(self.stop_timeout)

    def kill9(self) -> None:
        self.process.kill9()

    def restart(self, hard: bool = False):
        """Down and up again on the same data and ports."""
        if self.running:
            self.kill9() if hard else self.stop()
        return self.start()

    def pause(self) -> None:
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    def log_tail(self, lines: int = 30) -> str:
        return self.process.log_tail(lines) if self.process else f"{self.name} was never started"

    def close(self) -> None:
        """Ends it and all that it started, and removes its folder."""
        if self.process:
            self.process.end()
        watchdog.sweep(self.mark)
        if self._own_folder and "BUSBAR_TEST_KEEP" not in os.environ:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        try:
            return self if self.running else self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()
