"""A generator and what follows it: the mirror, by TLS perhaps (its own, or a HAProxy's), or the bare writer."""

import contextlib
import os
import pathlib
import tempfile

from many import Writer
from measure import Generator, has_connection
from rig.busbar import Busbar
from rig.certs import Authority
from rig.ports import free_port
from rig.proc import Server, wait_until
from rig.secure import SecureBusbar

SIZE = 1024
FOREVER = 10**9  # lines: more than are ever sent
BUFFER = 64 * 1024  # of the kernel, a client: the mirror's own default, for both
SOURCE = "bench"


HAPROXY = """\
global
    maxconn 9000
    nbthread 1
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen mirror
    bind 127.0.0.1:{port} ssl crt {pem} backlog 4096
    server mirror 127.0.0.1:{behind}
"""


class Haproxy(Server):
    """Ends TLS before the port `behind`, and does nothing else."""

    name = "haproxy"

    def __init__(self, behind: int, certificate: tuple[str, str]):
        super().__init__()
        self.port = free_port()
        pem = self.folder / "server.pem"
        pem.write_text("".join(pathlib.Path(part).read_text() for part in certificate))
        (self.folder / "haproxy.cfg").write_text(HAPROXY.format(port=self.port, pem=pem, behind=behind))

    def _argv(self):
        return ["/usr/sbin/haproxy", "-db", "-f", self.folder / "haproxy.cfg"]

    def _is_ready(self) -> bool:
        return has_listener(self.port)


def has_listener(port: int) -> bool:
    rows = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A" for row in rows)


class Stage:
    """Events of `size` at `rate`, served at `url`. start() begins with live events, fill() and go_live() with a journal
    of so many.

    bare: the writer serves. http: more settings of the mirror. secure: by https, `ca` says who signed; proxied: a
    HAProxy does that. lines: so many live events, not without end. held: the generator says nothing until
    `generator.release()`."""

    def __init__(self, build: pathlib.Path, rate: float, bare: bool = False, http: dict | None = None, **more):
        os.environ["BUSBAR_BIN"] = str(build / "busbar")
        self.build, self.rate, self.bare, self.http = build, rate, bare, http or {}
        self.size, self.lines = more.get("size", SIZE), more.get("lines", FOREVER)
        self.secure, self.proxied = more.get("secure", False), more.get("proxied", False)
        self.held = more.get("held", False)
        self.ends = contextlib.ExitStack()
        self.port = free_port()
        self.generator: Generator | None = None
        self.server: Writer | Busbar | None = None
        self.front: Haproxy | None = None
        self.ca: pathlib.Path | None = None

    def _generate(self, lines: int, rate: float) -> None:
        if self.generator:
            self.generator.__exit__()
        self.generator = Generator(self.build, lines, rate, self.size, more=["--port", str(self.port)])

    def _serve(self) -> None:
        if self.bare:
            self.server = self.ends.enter_context(Writer(self.build, self.port, send_buffer=BUFFER))
            return
        source = {"name": SOURCE, "type": "nomad", "servers": [self.generator.url], "start": "oldest"}
        http = {"max_clients": 12_000, "client_buffer": f"{BUFFER // 1024}KiB", **self.http}
        certificate = self._certificate() if self.secure or self.proxied else ("", "")
        if self.secure:
            http |= dict(zip(("tls_certificate", "tls_key"), certificate))
        config = {"name": "fanout", "http": http, "sources": [source]}
        self.server = self.ends.enter_context(SecureBusbar(config, self.ca) if self.secure else Busbar(config))
        wait_until(lambda: has_connection(self.port), 30, "the mirror follows the generator")
        if self.proxied:
            self.front = self.ends.enter_context(Haproxy(self.server.http_port, certificate))

    def _certificate(self) -> tuple[str, str]:
        authority = Authority(pathlib.Path(self.ends.enter_context(tempfile.TemporaryDirectory(prefix="busbar-tls-"))))
        self.ca = authority.ca
        return authority.sign("server", "IP:127.0.0.1")

    @property
    def pid(self) -> int:
        return self.server.pid

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.front.port}" if self.front else self.server.url

    def fill(self, events: int) -> None:
        """So many events at once, into the mirror's journal; then live ones at the rate."""
        self._generate(events, 0)
        self._serve()
        name = f'busbar_events_total{{source="{SOURCE}"}}'
        wait_until(lambda: self.server.metrics().get(name, 0) >= events, 120, "the journal is filled", every=0.3)

    def go_live(self) -> None:
        """After fill(): the generator goes on where it was, at the rate."""
        self._generate(self.lines, self.rate)

    def __enter__(self):
        return self

    def start(self):
        try:
            self._generate(self.lines, self.rate)
            if self.held:
                self.generator.hold()
            self._serve()
        except BaseException:  # there is no `with` yet
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.ends.close()
        if self.generator:
            self.generator.__exit__()
