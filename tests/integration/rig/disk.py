"""A small file system, which a test fills and makes read-only, and a busbar that has it."""

import pathlib
import subprocess

from . import watchdog
from .busbar import Busbar
from .proc import Process, wait_until


class Disk:
    """tmpfs in a mount namespace of its own. `why` says why there is none: mounting is not allowed everywhere.

    size: as mount has it, "6m". `folder` must be a new one, in a folder that goes with the test.
    """

    def __init__(self, folder: pathlib.Path, size: str):
        self.folder = folder
        folder.mkdir()
        self.why, self._process = "", None
        for flags in (["-m"], ["-U", "-r", "-m"]):
            script = f'mount -t tmpfs -o size={size} busbar-test "$0" && echo ready && exec sleep 600'
            argv = ["unshare", *flags, "--propagation", "private", "sh", "-c", script, folder]
            process = Process(argv, folder.parent / "disk.log", watchdog.new_mark())
            wait_until(lambda: not process.running or "ready" in process.log_text(), 10, "a file system")
            if process.running:
                self._process = process
                user = ["-U", "--preserve-credentials"] if "-U" in flags else []
                self.enter = ["nsenter", "-t", str(process.pid), "-m", *user]
                return
        self.why = process.log_text().strip().splitlines()[-1]

    def remount(self, options: str) -> None:
        # Named in full, else mount adds options that it finds, which a user namespace may not set.
        argv = ["mount", "-t", "tmpfs", "-o", f"remount,{options}", "busbar-test", self.folder]
        subprocess.run([*self.enter, *argv], check=True)

    def fill(self) -> None:
        """To the last byte."""
        argv = ["dd", "if=/dev/zero", f"of={self.folder}/filler", "bs=4k"]
        subprocess.run([*self.enter, *argv], stderr=subprocess.DEVNULL, check=False)

    def empty(self) -> None:
        subprocess.run([*self.enter, "rm", self.folder / "filler"], check=True)

    def close(self) -> None:
        if self._process:
            self._process.end()


class OnDisk(Busbar):
    """It sees the disk; the test does not."""

    def __init__(self, config: dict, disk: Disk):
        self._enter = disk.enter
        super().__init__(config)

    def _argv(self):
        return [*self._enter, *super()._argv()]
