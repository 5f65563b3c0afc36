"""The mirror over TLS: the same pages and streams, to those who trust it; nothing in the clear."""

import contextlib
import http.client
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from rig.busbar import Busbar, run_busbar
from rig.certs import Authority
from rig.ports import free_port
from rig.proc import Failed, wait_until
from rig.secure import SecureBusbar
from rig.standin import HOLD, Standin, event_line, stream


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def _config(server: str, cert: str, key: str) -> dict:
    source = {"name": "prod", "type": "nomad", "servers": [server], "start": "oldest"}
    return {"name": "tls", "http": {"tls_certificate": cert, "tls_key": key}, "sources": [source]}


def _read_until(answer, text: bytes) -> bytes:
    got = b""
    while text not in got:
        part = answer.read1(65536)
        assert part, f"ended before {text!r}: {got[-500:]!r}"
        got += part
    return got


def test_events_come_by_tls_whole_and_again_after_an_id(authority):
    cert, key = authority.sign("mirror", "IP:127.0.0.1")
    lines = [event_line(index) for index in range(1, 301)]
    with Standin(default=stream(*lines, HOLD)) as server, SecureBusbar(_config(server.address, cert, key), authority.ca) as busbar:
        all_of_it = _read_until(busbar.ask("/events?last_event_id="), b"id: prod:300.")
        ids = re.findall(rb"^id: (prod:(\d+)\.\S+)$", all_of_it, re.M)
        assert [int(index) for _, index in ids] == list(range(1, len(ids) + 1))
        rest = _read_until(busbar.ask(f"/events?last_event_id={ids[199][0].decode()}"), b"id: prod:300.")
        assert [int(i) for i in re.findall(rb"^id: prod:(\d+)\.", rest, re.M)] == list(range(201, 301))
        told = _read_until(busbar.ask("/v1/event/stream?index=1"), b'"Index":300}')
        assert told.count(b'"Events":[') == 300
        with pytest.raises((OSError, http.client.HTTPException)):
            plain = http.client.HTTPConnection("127.0.0.1", busbar.http_port, timeout=5)
            plain.request("GET", "/healthz")
            plain.getresponse()
        with pytest.raises(ssl.SSLError):
            http.client.HTTPSConnection("127.0.0.1", busbar.http_port, timeout=20).request("GET", "/healthz")
        wait_until(lambda: busbar.ask("/healthz").status == 200, 10, "it serves on")


def test_what_is_wrong_with_the_files_is_said(authority, tmp_path):
    cert, key = authority.sign("mirror", "IP:127.0.0.1")
    other = authority.sign("other", "IP:127.0.0.1")[1]
    base = {"name": "tls", "journal": {"path": str(tmp_path / "j")}, "sources": [{"name": "prod", "type": "nomad", "servers": ["http://127.0.0.1:1"]}]}
    for given, said in (
        ({"tls_certificate": str(tmp_path / "none.pem"), "tls_key": key}, "none.pem: No such file"),
        ({"tls_certificate": str(tmp_path / "openssl.cnf"), "tls_key": key}, "openssl.cnf: not a PEM file"),
        ({"tls_certificate": cert, "tls_key": other}, "can't be used together"),
    ):
        busbar = Busbar({**base, "http": {"listen": f"127.0.0.1:{free_port()}", **given}})
        with pytest.raises(Failed, match=re.escape(said)):
            busbar.start()
        checked = run_busbar("check", "-c", busbar.config_path)
        assert checked.returncode == 2 and said in checked.stderr
    config = tmp_path / "half.yaml"
    config.write_text(f'http: {{tls_certificate: "{cert}"}}\nsources: [{{name: prod, type: nomad, servers: ["http://127.0.0.1:1"]}}]\n')
    checked = run_busbar("check", "-c", config)
    assert checked.returncode == 2 and "tls_certificate alone" in checked.stderr


def _indexes(told: bytes) -> list[int]:
    return [int(index) for index in re.findall(rb"^id: prod:(\d+)\.", told, re.M)]


def _shown(port: int) -> str:
    """The common name of the certificate that a new connection sees."""
    argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}"]
    told = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False).stdout
    return "".join(re.findall(r"subject=CN = (\S+)", told.decode())[:1])


def _replace(files: tuple[str, str], by: tuple[str, str]) -> None:
    """As those who renew certificates do: one after the other, each at once."""
    for path, other in zip(files, by):
        shutil.copy(other, f"{path}.new")
    for path in files:
        pathlib.Path(f"{path}.new").replace(path)


def test_a_renewed_certificate_is_shown_to_who_connects_and_a_broken_one_is_not(authority, tmp_path):
    first, second, other = (authority.sign(name, "IP:127.0.0.1") for name in ("first", "second", "other"))
    files = tuple(str(shutil.copy(path, tmp_path / name)) for path, name in zip(first, ("shown.pem", "shown.key")))
    lines = [event_line(index) for index in range(1, 4)]
    later = [event_line(index) for index in range(4, 7)]
    go_on = threading.Event()
    with Standin(default=stream(*lines, go_on, *later, HOLD)) as server, SecureBusbar(_config(server.address, *files), authority.ca) as busbar:
        running = busbar.ask("/events?last_event_id=")
        heard = _read_until(running, b"id: prod:3.")
        assert _shown(busbar.http_port) == "first"

        _replace(files, second)
        wait_until(lambda: _shown(busbar.http_port) == "second", 15, "the second is shown")
        curl = ["curl", "-sS", "--cacert", authority.ca, f"{busbar.url}/healthz", "-o", "/dev/null", "-w", "%{http_code}"]
        assert subprocess.run(curl, capture_output=True, check=True).stdout == b"200"
        assert re.search(r" valid_until=20\d\d-", busbar.wait_log("event=tls_renewed"))

        for broken, said in (
            (lambda: pathlib.Path(files[0]).write_text("none\n"), "shown.pem: not a PEM file"),
            (lambda: _replace(files, (second[0], other[1])), "can't be used together"),
        ):
            before = len(busbar.log_lines("tls_not_renewed"))
            broken()
            told = lambda: [line for line in busbar.log_lines("tls_not_renewed")[before:] if said in line]  # noqa: E731
            assert wait_until(told, 20, said)[0].startswith("level=warn ")
            assert _shown(busbar.http_port) == "second"
        said_so_far = len(busbar.log_lines("tls_not_renewed"))
        time.sleep(3)  # it looks each second
        assert len(busbar.log_lines("tls_not_renewed")) == said_so_far
        _replace(files, first)
        wait_until(lambda: _shown(busbar.http_port) == "first", 15, "the first is shown again")

        go_on.set()
        heard += _read_until(running, b"id: prod:6.")
        assert _indexes(heard) == [1, 2, 3, 4, 5, 6]


def _read_late(busbar: SecureBusbar, until: bytes) -> bytes:
    """All that there is, by one who begins to read when the server has long been stuck."""
    with socket.socket() as plain:
        plain.settimeout(30)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", busbar.http_port))
        with busbar.trust.wrap_socket(plain, server_hostname="127.0.0.1") as late:
            late.sendall(REQUEST)
            time.sleep(1.5)
            told = b""
            while until not in told:
                part = late.recv(700)
                assert part, told[-300:]
                told += part
            return told


def _pump(source: socket.socket, target: socket.socket, most: int, pause: float) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(most):
            target.sendall(part)
            time.sleep(pause)


@contextlib.contextmanager
def _narrow(port: int):
    """A port from which it is a narrow way to that one: some 2 KB of buffer, 500 bytes at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        server.connect(("127.0.0.1", port))

        def serve() -> None:
            with listener.accept()[0] as client:
                threading.Thread(target=_pump, args=(client, server, 4096, 0), daemon=True).start()
                _pump(server, client, 500, 0.001)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


def _read_small(busbar: SecureBusbar, until: bytes) -> bytes:
    """The same, by one who wants no record to hold more than 512 bytes (RFC 6066, section 4)."""
    with _narrow(busbar.http_port) as port:
        argv = ["openssl", "s_client", "-quiet", "-maxfraglen", "512", "-connect", f"127.0.0.1:{port}"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
            (limit := threading.Timer(60, client.kill)).start()
            client.stdin.write(REQUEST)
            client.stdin.flush()
            told = b""
            while until not in told:
                part = client.stdout.read1(65536)
                assert part, told[-300:]
                told += part
            limit.cancel()
            client.kill()
            return told


REQUEST = b"GET /events?last_event_id= HTTP/1.1\r\nHost: x\r\n\r\n"


def test_who_reads_late_and_who_wants_small_records_get_every_byte(authority):
    cert, key = authority.sign("mirror", "IP:127.0.0.1")
    lines = [event_line(index, size=900) for index in range(1, 301)]
    with Standin(default=stream(*lines, HOLD)) as server:
        config = _config(server.address, cert, key)
        config["http"]["client_buffer"] = "4KiB"
        with SecureBusbar(config, authority.ca) as busbar:
            whole = _read_until(busbar.ask("/events?last_event_id="), b"id: prod:300.")
            assert len(whole) > 300 * 900
            for read in (_read_late, _read_small):
                assert _indexes(read(busbar, b"id: prod:300.")) == list(range(1, 301))
