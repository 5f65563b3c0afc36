"""A Nomad that expands `namespace=*` once, at subscription, as those from 1.9.6 on do; the rig's own Nomad does not.

It stands before a real one, whose namespaces, events and long polls are told as they are; only what is of a namespace
that was not there when a subscription began is left out of it.
"""

import http.client
import http.server
import json
import threading
import time
import urllib.parse

from .events import members
from .http_stream import Closed, HttpStream
from .nomad import Nomad

CHANGES_SEEN = ("X-Nomad-Index", "Content-Type")


class Expanding:
    """`hold_lists`: while it is set, no answer to a long poll goes out. `hidden`: namespaces that this server has not
    heard of yet, as one that lags; nothing else of it does. `listed`: of those that its lists tell already, how many
    subscriptions will not know them yet, as where two servers answer. `subscriptions`: the query of each."""

    def __init__(self, nomad: Nomad):
        self.nomad = nomad
        self.subscriptions: list[dict] = []
        self.hold_lists = threading.Event()
        self.hidden: set[str] = set()
        self.listed: dict[str, int] = {}
        handler = type("Handler", (_Handler,), {"server_of": self})
        self._server = _Server(("127.0.0.1", 0), handler)

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def expand(self) -> set[str]:
        """The namespaces that a subscription covers that begins now."""
        names = {entry["Name"] for entry in self.nomad.api("GET", "/v1/namespaces")}
        unknown = {name for name, left in self.listed.items() if name in names and left > 0}
        for name in unknown:
            self.listed[name] -= 1
        return names - self.hidden - unknown


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # with 5 a connection that has to wait may wait for seconds


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: Expanding

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.close_connection = True
        try:
            if self.path.startswith("/v1/event/stream"):
                self._stream()
            elif self.path.startswith("/v1/namespaces") and self.server_of.hidden:
                self._list_without_hidden()
            else:
                self._pass_on()
        except (OSError, Closed, http.client.HTTPException):
            pass

    def _pass_on(self) -> None:
        nomad = self.server_of.nomad
        upstream = http.client.HTTPConnection("127.0.0.1", nomad.http_port, timeout=120)
        upstream.request("GET", self.path, headers={"X-Nomad-Token": self.headers.get("X-Nomad-Token", "")})
        answer = upstream.getresponse()
        body = answer.read()
        while "wait=" in self.path and self.server_of.hold_lists.is_set():
            time.sleep(0.02)
        self.send_response(answer.status)
        for name in CHANGES_SEEN:
            self.send_header(name, answer.getheader(name, ""))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _list_without_hidden(self) -> None:
        front = self.server_of
        while "wait=" in self.path and front.hidden:
            time.sleep(0.02)
        listed = [entry for entry in front.nomad.api("GET", "/v1/namespaces") if entry["Name"] not in front.hidden]
        body = json.dumps(listed).encode()
        self.send_response(200)
        self.send_header("X-Nomad-Index", str(max(entry["ModifyIndex"] for entry in listed)))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        covered = self.server_of.expand() | {""}
        self.server_of.subscriptions.append(query)
        upstream = HttpStream(self.server_of.nomad.address + self.path, timeout=120)
        self.send_response(upstream.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        pending = b""
        while True:
            pending += upstream.read()
            *lines, pending = pending.split(b"\n")
            self.wfile.write(b"".join(filter(None, (_covered(line, covered) for line in lines))))


def _covered(line: bytes, names: set[str]) -> bytes:
    """What of a line is of these namespaces, its bytes as they were."""
    text = line.decode("utf-8", "surrogateescape")
    parts = {key: (value, elements) for key, value, elements in members(text)}
    if "Events" not in parts:
        return line + b"\n"
    kept = [text[start:end] for event, start, end in parts["Events"][1] if event["Namespace"] in names]
    if not kept:
        return b""
    index = json.dumps(parts["Index"][0])
    return f'{{"Events":[{",".join(kept)}],"Index":{index}}}\n'.encode("utf-8", "surrogateescape")
