"""A real PostgreSQL (Debian's), with databases to throw away."""

import itertools
import os
import pathlib
import pwd
import shutil
import signal
import subprocess

import psycopg2

from .ports import free_port
from .proc import Failed, Process, Server, wait_until

# Nobody pulls the plug in a test: what a kill -9 leaves in the kernel's cache is enough.
SETTINGS = {"fsync": "off", "shared_buffers": "32MB", "max_connections": 20, "unix_socket_directories": ""}


def _program(name: str) -> str:
    """Of the newest version that is installed."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    where = str(found[-1]) if found else shutil.which(name)
    if not where:
        raise Failed(f"no {name} here: tests/install-deps brings it")
    return where


class Postgres(Server):
    """On a port of 127.0.0.1; everybody there is let in, as the superuser `postgres`."""

    name = "postgres"

    def __init__(self):
        super().__init__()
        self.port = free_port()
        self._names = itertools.count(1)
        self._user = []  # it refuses to be root
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._user = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]

    def start(self, wait: bool = True):
        if not (self.folder / "data").exists():
            how = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
            argv = [*self._user, _program("initdb"), "--pgdata", self.folder / "data", *how]
            if Process(argv, self.log, self.mark).wait(60) != 0:
                raise Failed(f"initdb failed\n{self.log.read_text()[-3000:]}")
        return super().start(wait)

    def _argv(self):
        settings = [f"--{name}={value}" for name, value in {**SETTINGS, "port": self.port}.items()]
        return [*self._user, _program("postgres"), "-D", self.folder / "data", *settings]

    def _is_ready(self) -> bool:
        try:
            self.connect("postgres").close()
            return True
        except psycopg2.OperationalError:
            return False

    def stop(self) -> int:
        """Its fast shutdown: SIGTERM would wait for all clients to go."""
        self.process.signal(signal.SIGINT)
        return self.process.wait(self.stop_timeout)

    def kill9(self) -> None:
        """And waits for its children, which end when they notice: until then it can't be started again."""
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        super().kill9()
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children), 20, "its children are gone")

    def address(self, database: str) -> str:
        """As libpq takes it."""
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"

    def connect(self, database: str):
        """In UTC, each statement a transaction of its own."""
        connection = psycopg2.connect(self.address(database), options="-c timezone=UTC")
        connection.autocommit = True
        return connection

    def new_database(self, *scripts) -> str:
        """Its name; what the scripts (paths) say has been done in it, by psql."""
        name = f"test{next(self._names)}"
        connection = self.connect("postgres")
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        connection.close()
        for script in scripts:
            self.run_script(name, script)
        return name

    def run_script(self, database: str, script) -> None:
        argv = [_program("psql"), "--no-psqlrc", "--quiet", "--dbname", self.address(database), "--file", str(script)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0 or done.stderr:
            raise Failed(f"psql ended with {done.returncode}: {done.stderr}")
