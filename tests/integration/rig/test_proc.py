"""Children of the tests: none is left behind, and a failure shows its log."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from .proc import Failed, wait_until
from .redis_server import Redis


def test_nothing_outlives_a_test_process_that_is_killed(tmp_path):
    """Not a child, not a grandchild in a session of its own, even after kill -9."""
    script = """
import sys, time
from rig.proc import Process
from rig.watchdog import new_mark
command = "setsid sleep 1234 & echo $! > pids; echo $$ >> pids; wait"
Process(["sh", "-c", command], __import__("pathlib").Path("log"), new_mark())
time.sleep(1000)
"""
    root = pathlib.Path(__file__).resolve().parents[1]
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)})
    pids = tmp_path / "pids"
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, 10, "both run")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    children = [int(pid) for pid in pids.read_text().split()]
    wait_until(lambda: not any(is_alive(pid) for pid in children), 10, "both are gone")


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_server_that_ends_at_once_is_told_with_its_log(monkeypatch):
    with pytest.raises(Failed, match="(?s)ended with status.*(Bad directive|Can't open|FATAL)"):
        Redis(options={"no-such-option": "1"}).__enter__()
