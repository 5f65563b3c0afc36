"""Ends what the tests started once the test process is gone, however it went.

PR_SET_PDEATHSIG would not do: it fires when the *thread* that forked ends, needs
code between fork and exec in a process full of threads, and misses grandchildren
such as Nomad's executors, which survive their agent by design. So one small process
holds the reading end of a pipe; when the other end closes it kills every group it
was told of, and everything that carries the session's mark in its environment.
"""

import os
import pathlib
import signal
import subprocess
import sys
import uuid

VARIABLE = "BUSBAR_TEST_RIG"
SESSION = uuid.uuid4().hex

_guard: subprocess.Popen | None = None


def new_mark() -> str:
    """A value of VARIABLE for one server; sweep() finds all that inherited it."""
    return f"{SESSION}.{uuid.uuid4().hex[:8]}"


def arm() -> None:
    """To be called before anything is started: from now on it ends what carries the session's mark, watched or not."""
    global _guard
    if _guard is None:
        _guard = subprocess.Popen(
            [sys.executable, __file__, SESSION], stdin=subprocess.PIPE, start_new_session=True, bufsize=0
        )


def watch(group: int) -> None:
    """Has the group killed when this process ends."""
    _tell(f"watch {group}")


def forget(group: int) -> None:
    """Says that the group has ended: its number may mean another one soon."""
    _tell(f"forget {group}")


def sweep(mark: str) -> int:
    """Kills every process whose environment has VARIABLE start with mark; counts them."""
    wanted = f"{VARIABLE}={mark}".encode()
    killed = 0
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _carries(entry, wanted):
            killed += _kill(os.kill, int(entry.name))
    return killed


def _carries(entry: pathlib.Path, wanted: bytes) -> bool:
    try:
        environment = (entry / "environ").read_bytes()
    except OSError:
        return False
    return any(variable.startswith(wanted) for variable in environment.split(b"\0"))


def _kill(how, number: int) -> bool:
    try:
        how(number, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _tell(line: str) -> None:
    arm()
    _guard.stdin.write(f"{line}\n".encode())


def _main(session: str) -> None:
    groups = set()
    for line in sys.stdin:
        verb, _, group = line.partition(" ")
        (groups.add if verb == "watch" else groups.discard)(int(group))
    for group in groups:
        _kill(os.killpg, group)
    # Twice: one may have forked while we looked.
    while sweep(session):
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _main(sys.argv[1])
