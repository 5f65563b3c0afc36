import os
import signal
import subprocess
import sys
import time

from rig.proc import Failed, wait_until
from rig.stopwatch import had

CHILD = """
import time
from rig.stopwatch import had
began = time.monotonic(), had()
print("ready", flush=True)
input()
print(time.monotonic() - began[0], had() - began[1])
"""


def test_it_counts_as_the_clock_does():
    began, before = time.monotonic(), had()
    for _ in range(500):
        time.sleep(0.02)
        if had() - before > 0.3:
            break
    counted = had() - before
    assert 0.3 < counted <= time.monotonic() - began + 0.06


def test_a_time_that_it_was_stopped_is_none_that_it_had():
    here = os.path.dirname(os.path.dirname(__file__))
    with subprocess.Popen([sys.executable, "-c", CHILD], cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: "T" in _state(child.pid), 10, "it is stopped")
        time.sleep(1.5)
        child.send_signal(signal.SIGCONT)
        passed, counted = map(float, child.communicate("\n")[0].split())
    assert passed >= 1.5 and counted < passed - 1


def test_waiting_ends():
    began = time.monotonic()
    try:
        wait_until(lambda: False, 0.2, "never")
    except Failed:
        assert time.monotonic() - began >= 0.2
    else:
        raise AssertionError("it waited for ever")


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as text:
        return text.read().rpartition(")")[2].split()[0]
