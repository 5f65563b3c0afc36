"""The network that fails: each of its faults, seen from both ends."""

import os
import select
import socket
import threading
import time

import pytest

from .proc import wait_until
from .proxy import DOWN, UP, Proxy
from .stopwatch import had


class Ends:
    """A server, the proxy before it, and connections as (client's socket, server's socket)."""

    def __init__(self, **how):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.proxy = Proxy(self._listener.getsockname()[1], **how).start()

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.proxy.port), 5)
        self._listener.settimeout(5)
        server, _ = self._listener.accept()
        for end in (client, server):
            end.settimeout(5)
        return client, server

    def close(self):
        self.proxy.close()
        self._listener.close()


@pytest.fixture
def ends():
    ends = Ends()
    yield ends
    ends.close()


QUIET = 0.3  # seconds in which nothing comes where nothing should


def hears(end: socket.socket, within: float = 10.0) -> bytes | str | None:
    """What comes next: bytes, b"" for FIN, "reset", None for silence."""
    began = had()
    while not select.select([end], [], [], 0.02)[0]:
        if had() - began > within:
            return None
    try:
        return end.recv(1 << 20)
    except ConnectionResetError:
        return "reset"


def hears_all(end: socket.socket, within: float = 10.0) -> tuple[bytes, str]:
    """What comes until silence or the end, and how it ended."""
    received = b""
    while True:
        more = hears(end, within)
        if more is None or more in (b"", "reset"):
            return received, {None: "silent", b"": "closed", "reset": "reset"}[more]
        received += more


def test_passes_and_records_both_directions_and_each_ones_end(ends):
    client, server = ends.connect()
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert (hears(server), hears(server)) == (b"question", b"")
    server.sendall(b"answer")
    assert hears(client) == b"answer"
    server.close()
    assert hears(client) == b""
    (link,) = ends.proxy.links
    assert (bytes(link.request), bytes(link.answer)) == (b"question", b"answer")
    wait_until(lambda: not ends.proxy.open_links, 5, "the link is over")


def test_a_server_that_is_not_there_is_a_connection_that_ends(ends):
    ends._listener.close()
    client = socket.create_connection(("127.0.0.1", ends.proxy.port), 5)
    assert hears(client) in (b"", "reset")


def test_a_peer_that_dies_by_reset_resets_the_other(ends):
    client, server = ends.connect()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    server.close()
    assert hears(client) == "reset"


def test_a_peer_that_dies_by_reset_before_the_proxy_saw_it_connected_resets_the_other(ends, monkeypatch):
    died = threading.Event()
    wait_for = ends.proxy._await

    def wait_late(end, *wanted):
        died.wait(5)
        wait_for(end, *wanted)

    monkeypatch.setattr(ends.proxy, "_await", wait_late)
    client, server = ends.connect()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    server.close()
    died.set()
    assert hears(client) == "reset"


@pytest.mark.parametrize("reset, told", [(False, b""), (True, "reset")])
def test_cuts_all_and_lets_new_ones_in(ends, reset, told):
    client, server = ends.connect()
    ends.proxy.cut(reset)
    assert hears(client) == told and hears(server) == told
    client, server = ends.connect()
    client.sendall(b"again")
    assert hears(server) == b"again"


@pytest.mark.parametrize("reset, told", [(False, "closed"), (True, "reset")])
def test_cuts_in_mid_reply_after_as_many_bytes_as_asked(ends, reset, told):
    client, server = ends.connect()
    ends.proxy.cut_after(7, DOWN, reset)
    server.sendall(b"01234")
    assert hears(client) == b"01234"
    server.sendall(b"56789")
    received, how = hears_all(client)
    # A reset may overtake what is still in the receiver's buffer.
    assert b"56".startswith(received) and how == told
    assert ends.proxy.links[0].answer == b"0123456"
    assert hears(server) in (b"", "reset")


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_half_closes_a_direction_while_the_other_goes_on(ends, direction):
    client, server = ends.connect()
    told, teller = (server, client) if direction == UP else (client, server)
    ends.proxy.half_close(direction)
    assert hears(told) == b""
    told.sendall(b"still")
    assert hears(teller) == b"still"
    teller.sendall(b"unheard")
    assert hears(told) == b""
    ends.proxy.heal()
    assert hears(teller) in (b"", "reset")


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_drops_silently_and_for_good(ends, direction):
    client, server = ends.connect()
    told, teller = (server, client) if direction == UP else (client, server)
    ends.proxy.drop(direction)
    teller.sendall(b"swallowed")
    assert hears(told, QUIET) is None and hears(teller, QUIET) is None
    told.sendall(b"heard")
    assert hears(teller) == b"heard"
    other_client, other_server = ends.connect()
    other_client.sendall(b"later ones pass")
    assert hears(other_server) == b"later ones pass"
    ends.proxy.heal()
    assert hears(told) == "reset" and hears(teller) == "reset"
    assert hears(other_server, QUIET) is None


def test_drops_on_new_connections_too_where_asked_and_spares_those_that_lost_nothing(ends):
    ends.proxy.drop(new=True)
    client, server = ends.connect()
    assert hears(server, QUIET) is None
    ends.proxy.heal()
    client.sendall(b"nothing was lost")
    assert hears(server) == b"nothing was lost"


def test_delays_in_order(ends):
    ends.proxy.delay(1.0, jitter=0.1, direction=DOWN)
    client, server = ends.connect()
    began, since = time.monotonic(), had()
    for number in range(20):
        server.sendall(b"%02d" % number)
        time.sleep(0.005)
    client.sendall(b"up is quick")
    assert hears(server) == b"up is quick"
    told = bytes(ends.proxy.links[0].answer)
    assert not told or time.monotonic() - began > 1.0
    server.close()
    received, how = hears_all(client)
    assert received == b"".join(b"%02d" % number for number in range(20)) and how == "closed"
    assert 1.0 < time.monotonic() - began and had() - since < 10


def test_throttles_to_a_rate(ends):
    ends.proxy.throttle(100_000, DOWN)
    client, server = ends.connect()
    began, since = time.monotonic(), had()
    server.sendall(bytes(60_000))
    server.close()
    received, _ = hears_all(client)
    assert len(received) == 60_000 and 0.4 < time.monotonic() - began and had() - since < 10


@pytest.mark.parametrize("direction", [UP, DOWN, None])
def test_freezes_without_loss_and_without_a_word(ends, direction):
    client, server = ends.connect()
    ends.proxy.freeze(direction)
    client.sendall(b"up")
    server.sendall(b"down")
    assert hears(server) == b"up" if direction == DOWN else hears(server, QUIET) is None
    assert hears(client) == b"down" if direction == UP else hears(client, QUIET) is None
    server.shutdown(socket.SHUT_WR)
    assert hears(client) == b"" if direction == UP else hears(client, QUIET) is None
    ends.proxy.thaw(direction)
    assert hears(server, QUIET) is None if direction == DOWN else hears(server) == b"up"
    assert hears_all(client) == (b"" if direction == UP else b"down", "closed")


def test_a_frozen_peer_is_held_back(ends):
    client, server = ends.connect()
    ends.proxy.freeze(UP)
    client.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += client.send(bytes(65536))
    ends.proxy.thaw()
    server.settimeout(5)
    received = 0
    while received < sent:
        received += len(server.recv(1 << 20))
    assert received == sent


def test_refuses_and_closes_its_door(ends):
    client, _ = ends.connect()
    ends.proxy.refuse()
    assert hears(client) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ends.proxy.port), 5)
    ends.proxy.open_door()
    client, _ = ends.connect()
    ends.proxy.close_door()
    assert hears(client) == b""
    assert hears(socket.create_connection(("127.0.0.1", ends.proxy.port), 5)) in (b"", "reset")
    ends.proxy.heal()
    assert ends.connect()


def test_carries_a_hundred_megabytes_unharmed_and_fast(ends):
    """Both directions at once, through a buffer smaller than a piece."""
    client, server = ends.connect()
    piece = os.urandom(1 << 20)

    def send(end):
        for _ in range(50):
            end.sendall(piece)
        end.shutdown(socket.SHUT_WR)

    began = had()
    threads = [threading.Thread(target=send, args=(end,)) for end in (client, server)]
    got = {client: bytearray(), server: bytearray()}
    threads += [threading.Thread(target=lambda end=end: _read_all(end, got[end])) for end in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(received == piece * 50 for received in got.values())
    assert ends.proxy.links[0].answer == piece * 50
    assert had() - began < 10


def _read_all(end, received):
    end.settimeout(30)
    while more := end.recv(1 << 18):
        received += more


def test_forgets_what_it_does_not_record():
    ends = Ends(record=False, buffer=4096)
    try:
        client, server = ends.connect()
        client.sendall(bytes(100_000))
        client.close()
        assert len(hears_all(server)[0]) == 100_000
        server.close()
        wait_until(lambda: not ends.proxy.links, 5, "it is forgotten")
    finally:
        ends.close()
