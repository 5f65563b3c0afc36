"""Where the real servers are: what tests/servers/fetch prints."""

import functools
import pathlib
import subprocess

FETCH = pathlib.Path(__file__).resolve().parents[2] / "servers" / "fetch"


@functools.cache
def fetched(server: str) -> pathlib.Path:
    """The path of a server, made first where it is not there yet (minutes, once)."""
    done = subprocess.run([FETCH, server], stdout=subprocess.PIPE, text=True, check=True)
    return pathlib.Path(done.stdout.strip())
