"""A real redis-server that keeps every write, a reader of all its streams, and what can happen to a Redis."""

import pathlib
import shutil

import redis

from .ports import free_port
from .proc import Server, wait_until


class Redis(Server):
    """options: redis-server options by name, over the rig's own. `url` is for a busbar's configuration.

    appendfsync is `always`: after a kill -9 it has all that it ever acknowledged.
    """

    name = "redis"
    ready_timeout = 60.0

    def __init__(self, options: dict | None = None, folder=None):
        super().__init__(folder)
        self.port = free_port()
        self.options = options or {}
        self._copies = 0
        self._extra: dict = {}  # options of the next start alone

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
            "enable-debug-command": "local",
            **self.options,
            **self._extra,
        }
        self._extra = {}
        words = ["redis-server"]
        for name, value in options.items():
            words += [f"--{name}", value]
        return words

    def _is_ready(self) -> bool:
        try:
            return self.client().ping()
        except (redis.ConnectionError, redis.BusyLoadingError, redis.TimeoutError):
            return False

    def client(self) -> redis.Redis:
        """A client that returns bytes."""
        return redis.Redis(port=self.port, password=self.options.get("requirepass"), socket_timeout=20)

    def streams(self) -> list[str]:
        return sorted(key.decode() for key in self.client().scan_iter(_type="stream"))

    def read_stream(self, name: str, page: int = 1000, after: str | None = None) -> list[tuple[str, dict]]:
        """All entries in order, those behind the id `after`, read page by page: [(id, {field: bytes})]."""
        client, entries, start = self.client(), [], f"({after}" if after else "-"
        while True:
            found = client.xrange(name, min=start, count=page)
            entries += [(key.decode(), {f.decode(): v for f, v in fields.items()}) for key, fields in found]
            if len(found) < page:
                return entries
            start = f"({entries[-1][0]}"

    def read_streams(self, leave_out=lambda name: False) -> dict[str, list]:
        """Every stream by name."""
        return {name: self.read_stream(name) for name in self.streams() if not leave_out(name)}

    # ---- its data: a failover that lost acknowledged writes ----

    @property
    def _data(self) -> pathlib.Path:
        return self.folder / "appendonlydir"

    def copy_data(self) -> pathlib.Path:
        """A copy of what it has by now, for put_back(); it may go on meanwhile."""
        self._copies += 1
        copy = self.folder / f"copy{self._copies}"
        client = self.client()
        # No rewrite of the files while they are copied; what is appended meanwhile is cut off at a whole command.
        client.config_set("auto-aof-rewrite-percentage", 0)
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 60, "no rewrite is under way")
        shutil.copytree(self._data, copy)
        client.config_set("auto-aof-rewrite-percentage", 100)
        return copy

    def put_back(self, copy: pathlib.Path) -> None:
        """kill -9, and up again with that older copy of its data."""
        self._replace_data(copy)

    def lose_data(self) -> None:
        """kill -9, and up again with nothing."""
        self._replace_data(None)

    def _replace_data(self, copy: pathlib.Path | None) -> None:
        if self.running:
            self.kill9()
        shutil.rmtree(self._data, ignore_errors=True)
        if copy:
            shutil.copytree(copy, self._data)
        self.start()

    # ---- its moods ----

    def start_loading(self, microseconds_a_command: int = 200) -> None:
        """Starts it so slowly that it answers LOADING for a while: so long for each command in its log, of which there
        must be thousands, since it answers after every 1,024 only. Returns at once."""
        self._extra = {"key-load-delay": microseconds_a_command}
        self.start(wait=False)

    def limit_memory(self, spare_bytes: int = 0) -> None:
        """Writes that need memory are answered OOM, once so much more is used."""
        client = self.client()
        client.config_set("maxmemory", max(1, client.info("memory")["used_memory"] + spare_bytes))

    def unlimit_memory(self) -> None:
        self.client().config_set("maxmemory", 0)

    def demote(self) -> None:
        """READONLY: it becomes the replica of a master that is not there, and keeps its data."""
        self.client().execute_command("REPLICAOF", "127.0.0.1", 1)

    def promote(self) -> None:
        self.client().execute_command("REPLICAOF", "NO", "ONE")

    def follow(self, master: "Redis") -> None:
        """Becomes a replica of the other and takes its data in place of its own; returns when it has them."""
        self.client().execute_command("REPLICAOF", "127.0.0.1", master.port)
        link = lambda: self.client().info("replication").get("master_link_status")  # noqa: E731
        wait_until(lambda: link() == "up", 30, "the replica follows")

    def drop_clients(self) -> None:
        """CLIENT KILL of every ordinary client."""
        self.client().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def flush_scripts(self) -> None:
        self.client().script_flush()

    def hold_clients(self, milliseconds: int, writes_only: bool = False) -> None:
        """CLIENT PAUSE: it goes on, but answers nobody."""
        self.client().execute_command("CLIENT", "PAUSE", milliseconds, "WRITE" if writes_only else "ALL")
