"""Who follows an orchestrator's own stream through the mirror and takes nothing of it: cut at `client_lag`, with a reason,
and told where to go on where the protocol has such a place.

Nomad is the real one; Marathon's events are those that a real one told.
"""

import contextlib
import json
import re
import socket
import time

from rig.asked import ask
from rig.busbar import Busbar
from rig.heard import EVENT_STREAM, Heard, following
from rig.marathon import Marathon, capture
from rig.nomad import Nomad
from rig.proc import wait_until

LAG_MS = 4000  # so that who reads beside it isn't cut where the machine is busy
PATIENCE = 60  # s, for what takes some five
# The least that there is between the mirror and one who takes nothing, so that it shows at once.
LIMITS = {"client_lag": f"{LAG_MS}ms", "client_buffer": "4KiB"}
LINES, FRAMES = "/v1/event/stream", "/v2/events"


class Deaf:
    """A client that has asked and takes nothing, until it is told to take what is there for it."""

    def __init__(self, busbar: Busbar, path: str, headers=()):
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(("127.0.0.1", busbar.http_port))
        lines = [f"GET {path} HTTP/1.1", "Host: t", *(f"{name}: {value}" for name, value in dict(headers).items())]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def take(self) -> bytes:
        """The body, to the end of the connection."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := self._socket.recv(1 << 16):
                received += piece
        return received.partition(b"\r\n\r\n")[2]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()


def _cuts(busbar: Busbar) -> dict[str, float]:
    """By reason; "" has the sum."""
    told = re.compile(r"busbar_clients_cut(?:_([a-z]+))?_total")
    return {found[1] or "": value for name, value in busbar.metrics().items() if (found := told.fullmatch(name))}


def _happen_until_cut(busbar: Busbar, happen) -> str:
    """happen(number) is called until somebody is cut; the line that the log has of it."""
    until = time.monotonic() + PATIENCE
    for number in range(1 << 30):
        happen(number)
        if _cuts(busbar)[""]:
            break
        assert time.monotonic() < until, f"nobody is cut: {_cuts(busbar)}"
        time.sleep(0.05)
    assert {reason for reason, count in _cuts(busbar).items() if count == 1} == {"", "lag"}
    assert {count for count in _cuts(busbar).values()} == {0, 1}
    (line,) = wait_until(lambda: busbar.log_lines("client_cut"), 20, "the log tells of it")
    assert " reason=lag " in line
    assert int(re.search(r" behind_ms=(\d+)", line)[1]) > LAG_MS
    return line


def _clients(busbar: Busbar, count: int) -> None:
    wait_until(lambda: busbar.metrics()["busbar_clients"] == count, 20, f"{count} clients")


def _lines(body: bytes) -> list[bytes]:
    """Whole ones with events."""
    return [line for line in body.split(b"\n")[:-1] if line != b"{}"]


def _position(told: str) -> str:
    return re.search(r' position="(.*?)"', told)[1]


def _index(line: bytes) -> int:
    return json.loads(line)["Index"]


def test_a_nomads_client_that_takes_nothing_is_cut_and_goes_on_from_where_it_is_told():
    with Nomad() as nomad:
        source = {"name": "prod", "type": "nomad", "servers": [nomad.address], "start": "oldest"}
        with Busbar({"name": "t", "sources": [source], "http": LIMITS}) as busbar:
            busbar.wait_attached()
            with Heard(busbar.url, LINES + "?index=1", {}) as other, Deaf(busbar, LINES + "?index=1") as deaf:
                _clients(busbar, 2)
                told = _happen_until_cut(busbar, lambda n: nomad.register_job(f"job{n % 7}", number=n, payload_size=4000))
                _clients(busbar, 1)
                got = deaf.take()
                nomad.register_job("after")
                other.wait_text(b'"Key":"after"')
                for quiet in (1, 3, 5):  # patiently: what "after" brings with it may come in between
                    back = ask(busbar.url + LINES + "?" + _position(told), quiet=quiet)
                    said = _lines(other.body)
                    if said[-1:] == back.lines[-1:]:
                        break
                assert not other.ended
    mine, begun = _lines(got), got.rpartition(b"\n")[2]
    assert 0 < len(mine) < len(said)
    assert mine == said[: len(mine)]
    assert said[len(mine)].startswith(begun)  # no words there, which would stand in the middle of a line
    # The last line that came whole is told again, and all that follow, nothing twice.
    position = _index(mine[-1])
    assert f" path={LINES} " in told and _position(told) == f"index={position}"
    assert [line for line in mine if _index(line) < position] + back.lines == said
    assert b'"Key":"after"' in back.body


def test_a_marathons_client_that_takes_nothing_is_cut_and_only_that():
    frames = [(kind, data) for kind, data in capture("real-1.11.sse") if "event_stream" not in kind]
    with Marathon() as marathon, following(marathon, **LIMITS) as busbar:
        with Heard(busbar.url) as other, Deaf(busbar, FRAMES, EVENT_STREAM) as deaf, Heard(busbar.url, "/events") as all_:
            _clients(busbar, 3)
            told = _happen_until_cut(busbar, lambda n: marathon.play(frames[n * 16 : n * 16 + 16]))
            _clients(busbar, 2)
            got = deaf.take()
            played = [data for _, data, *_ in marathon.sent if b"event_stream" not in data]
            other.wait_text(played[-1] + b"\r\n\r\n")
            all_.wait_text(played[-1])
            assert not other.ended and not all_.ended
            said, beside = other.told, all_.body
    whole = got.rpartition(b"\r\n\r\n")[0]
    mine = re.findall(rb"data: (.*)\r\n", whole + b"\r\n")
    mine = [data for data in mine if b'"event_stream_' not in data]
    # A bare close, in mid-frame perhaps, as at Marathon; there is no place to come back to.
    assert f" path={FRAMES} " in told and _position(told) == ""
    assert 0 < len(mine) < len(played) and mine == played[: len(mine)]
    assert re.findall(rb"data: (.*)\r\n", said) == played
    # What it missed is in /events.
    assert [data for data in re.findall(rb"^data: (.*)$", beside, re.MULTILINE) if data in played] == played
