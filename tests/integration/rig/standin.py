"""A stand-in for an orchestrator that misbehaves exactly as a test asks.

Only what no real server can be made to do on demand belongs here; all else is
tested against the real one (nomad.py).
"""

import socket
import threading
import time
import urllib.parse
from typing import NamedTuple

from .ports import free_port
from .proc import wait_until

CLOSE = "close"  # FIN, at once
RESET = "reset"  # RST
HOLD = "hold"  # nothing more, but the connection stays open
ASIDE = "/v1/namespaces"  # asked before each stream: not in `requests` where a test says nothing of it


class Request(NamedTuple):
    method: str
    path: str
    query: dict  # name: [values]
    headers: dict  # names in small letters
    when: float  # time.monotonic()


class Answer:
    """What to send: a status line and headers, then the steps of the script in order.

    A step is bytes to send, a number of seconds to wait, a threading.Event to wait for, or one
    of CLOSE, RESET, HOLD; at the end of the script the connection is closed. chunked: None sends
    bytes as they are, with `Connection: close`, as the newest Nomad does.
    """

    def __init__(self, *steps, status="200 OK", headers: dict | None = None, chunked=True):
        self.steps, self.status, self.chunked = steps, status, chunked
        self.headers = {"Content-Type": "application/json", **(headers or {})}

    def head(self) -> bytes:
        coding = {"Transfer-Encoding": "chunked"} if self.chunked else {"Connection": "close"}
        fields = "".join(f"{name}: {value}\r\n" for name, value in {**self.headers, **coding}.items())
        return f"HTTP/1.1 {self.status}\r\n{fields}\r\n".encode()

    def piece(self, text: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(text), text) if self.chunked else text


def refusal(status: str, text: str = "", headers: dict | None = None) -> Answer:
    """An ordinary whole answer, as an error has it."""
    body = text.encode()
    headers = {"Content-Type": "text/plain", "Content-Length": len(body), **(headers or {})}
    return Answer(body, status=status, headers=headers, chunked=False)


def permission_denied() -> Answer:
    """Nomad 1.5.0, for no token or too small a policy."""
    return refusal("500 Internal Server Error", "Permission denied")


def unknown_token() -> Answer:
    return refusal("403 Forbidden", "Permission denied")


def broker_off() -> Answer:
    return refusal("500 Internal Server Error", "EventBroker not configured")


def not_found() -> Answer:
    return refusal("404 Not Found", "404 page not found")


def redirect(url: str, code: int = 307) -> Answer:
    """301, 302, 307 or 308 to another place."""
    return refusal(f"{code} Moved", f"see {url}", {"Location": url})


def empty_close() -> Answer:
    """The newest Nomad, for every refusal: 200, no body, a close."""
    return Answer(chunked=False)


def not_json() -> Answer:
    """Another kind of server altogether."""
    return Answer(b"<html><body>It works!</body></html>\n", headers={"Content-Type": "text/html"}, chunked=False)


def silence() -> Answer:
    """The first heartbeat and then none, with the connection open."""
    return Answer(b"{}\n", HOLD)


def dropped(*lines: bytes) -> Answer:
    """What a slow reader of Nomad's is told: text that is not JSON, and a close."""
    return stream(*lines, b"event dropped from buffer")


def cut_line(*lines: bytes) -> Answer:
    """Whole lines, then half of one, then a close."""
    half = event_line(99)
    return stream(*lines, half[: len(half) // 2], CLOSE)


def stream(*steps, chunked=True, heartbeat=True) -> Answer:
    """A proper stream of the steps, after the `{}` that each one begins with."""
    return Answer(*([b"{}\n"] if heartbeat else []), *steps, chunked=chunked)


def event_line(index: int, key="web", size=0, topic="Job", kind="JobRegistered", events=1) -> bytes:
    """A line like Nomad's: `Index` last, Topic and Type behind the payload, size bytes of padding."""
    one = (
        f'{{"FilterKeys":null,"Index":{index},"Key":"{key}","Namespace":"default",'
        f'"Payload":{{"Job":{{"ID":"{key}","SubmitTime":{(1 << 60) + index},"Meta":{{"padding":"{"x" * size}"}}}}}},'
        f'"Topic":"{topic}","Type":"{kind}"}}'
    )
    return f'{{"Events":[{",".join([one] * events)}],"Index":{index}}}\n'.encode()


_served = threading.local()  # by the thread that serves a connection: the Event that ends it


def is_over() -> bool:
    """For steps that wait by themselves: whether the stand-in that this thread belongs to is closed."""
    return hasattr(_served, "closing") and _served.closing.is_set()


class Standin:
    """Answers the requests for a path by its list of answers in turn, the last one again and again.

    Without a list for the path it answers `default`. `requests` has all that came.
    """

    def __init__(self, *answers: Answer, path: str = "/v1/event/stream", default: Answer | None = None):
        self.port = free_port()
        self.requests: list[Request] = []
        self._answers = {path: list(answers)} if answers else {}
        self._default = default or not_found()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._closing = threading.Event()
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, path: str, *answers: Answer) -> "Standin":
        """Sets or replaces the answers for a path."""
        with self._lock:
            self._answers[path] = list(answers)
        return self

    def start(self):
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._accepting = threading.Thread(target=self._accept, name="standin", daemon=True)
        self._accepting.start()
        return self

    def close(self) -> None:
        """Each thread closes its own socket: the number of one that another thread closes may be a stranger's a moment
        later, when its own is about to send."""
        self._closing.set()
        shut(self._listener)
        self._accepting.join(10)  # it may be about to accept, on a number that the next listener would have
        self._listener.close()
        with self._lock:
            for client in self._sockets:
                shut(client)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def wait_requests(self, count: int, timeout: float = 20) -> list[Request]:
        wait_until(lambda: len(self.requests) >= count, timeout, f"{count} requests; there are {len(self.requests)}")
        return self.requests[:count]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            request = _read_request(client)
            if request:
                if request.path != ASIDE or ASIDE in self._answers:
                    self.requests.append(request)
                play(client, self._next_answer(request.path), self._closing)
        except OSError:
            pass
        with self._lock:
            self._sockets.discard(client)
            shut(client)
            client.close()

    def _next_answer(self, path: str) -> Answer:
        with self._lock:
            answers = self._answers.get(path, [self._default])
            return answers.pop(0) if len(answers) > 1 else answers[0]


def play(client: socket.socket, answer: Answer, closing: threading.Event) -> None:
    """Answers so; pauses end early when closing is set. The connection is the caller's to close."""
    _served.closing = closing
    client.sendall(answer.head())
    for step in answer.steps:
        if step == CLOSE:
            return
        if step == RESET:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.close()
            return
        _do(client, answer, step, closing)
    if answer.chunked:
        client.sendall(b"0\r\n\r\n")


def _do(client: socket.socket, answer: Answer, step, closing: threading.Event) -> None:
    if isinstance(step, bytes):
        client.sendall(answer.piece(step) if step else b"")
    elif isinstance(step, threading.Event):
        while not step.wait(0.1) and not closing.is_set():
            pass
    elif step == HOLD:
        while client.recv(65536):  # until the other side closes, or the socket is shut here
            pass
    else:
        closing.wait(step)


def _read_request(client: socket.socket) -> Request | None:
    received = b""
    while b"\r\n\r\n" not in received:
        more = client.recv(65536)
        if not more:
            return None
        received += more
    first, *lines = received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    parts = urllib.parse.urlsplit(target)
    fields = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    query = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
    return Request(method, parts.path, query, headers, time.monotonic())


def shut(end: socket.socket) -> None:
    """Ends it for all who use it; it is its owner's to close."""
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
