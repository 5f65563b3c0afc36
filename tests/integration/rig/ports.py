"""Free TCP ports on 127.0.0.1 for servers that must be told theirs beforehand."""

import os
import random
import socket

# Below the kernel's ephemeral range (32768 on Linux by default): a port from in
# there may be taken by some outgoing connection before the server binds it, or
# while a killed server is down and about to come back.
LOWEST, HIGHEST = 12000, 32000
# Each of pytest-xdist's workers has a range of its own, for the same reason.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_SHARE = (HIGHEST - LOWEST) // _WORKERS

_given: set[int] = set()


def is_free(port: int) -> bool:
    """Whether a server could listen on the port right now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free and was not handed out before by this process."""
    while True:
        port = LOWEST + _SHARE * _WORKER + random.randrange(_SHARE)
        if port not in _given and is_free(port):
            _given.add(port)
            return port


def free_ports(count: int) -> list[int]:
    """Several different ones."""
    return [free_port() for _ in range(count)]
