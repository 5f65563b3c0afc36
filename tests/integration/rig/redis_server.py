"""A real redis-server that keeps every write, and a reader of all its streams."""

import redis

from .ports import free_port
from .proc import Server


class Redis(Server):
    """options: redis-server options by name, over the rig's own. `url` is for a busbar's configuration.

    appendfsync is `always`: after a kill -9 it has all that it ever acknowledged.
    """

    name = "redis"
    ready_timeout = 20.0

    def __init__(self, options: dict | None = None, folder=None):
        super().__init__(folder)
        self.port = free_port()
        self.options = options or {}

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _argv(self):
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "daemonize": "no",
            **self.options,
        }
        words = ["redis-server"]
        for name, value in options.items():
            words += [f"--{name}", value]
        return words

    def _is_ready(self) -> bool:
        try:
            return self.client().ping()
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def client(self) -> redis.Redis:
        """A client that returns bytes."""
        return redis.Redis(port=self.port, password=self.options.get("requirepass"), socket_timeout=20)

    def streams(self) -> list[str]:
        return sorted(key.decode() for key in self.client().scan_iter(_type="stream"))

    def read_stream(self, name: str, page: int = 1000) -> list[tuple[str, dict]]:
        """All entries in order, read page by page: [(id, {field: bytes})]."""
        client, entries, start = self.client(), [], "-"
        while True:
            found = client.xrange(name, min=start, count=page)
            entries += [(key.decode(), {f.decode(): v for f, v in fields.items()}) for key, fields in found]
            if len(found) < page:
                return entries
            start = f"({entries[-1][0]}"

    def read_streams(self, leave_out=lambda name: False) -> dict[str, list]:
        """Every stream by name."""
        return {name: self.read_stream(name) for name in self.streams() if not leave_out(name)}
