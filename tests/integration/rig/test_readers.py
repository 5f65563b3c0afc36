"""The rig's readers, on bytes as they come from the wire and as nobody sends them."""

import pathlib

import pytest

from . import standin
from .events import LineReader, canonical
from .http_stream import BodyDecoder
from .sse import SseParser

CAPTURE = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "nomad" / "capture.ndjson"


def test_slices_each_event_verbatim():
    events = ['{"Index":7,"Topic":"Job","Namespace":"","Key":"a/ü","Type":"T","Payload":"}],{\\u0041"}', None]
    events[1] = events[0].replace(":", " :\t").replace("7", "9007199254740993")
    line = f' {{ "Events" : [ {events[0]} , {events[1]} ] , "Index":7 }}'.encode()
    found = LineReader().read(line)
    assert [event.data.decode() for event in found] == events
    assert found[1].index == 9007199254740993
    assert found[0].identity("prod") == "prod/7/Job//a/ü/T/0"


def test_counts_occurrences_within_one_index():
    reader = LineReader()
    line = standin.event_line(5, events=2)
    first, second = reader.read(line)
    (third,) = reader.read(standin.event_line(5))
    (fourth,) = reader.read(standin.event_line(6))
    assert [event.occurrence for event in (first, second, third, fourth)] == [0, 1, 2, 0]


@pytest.mark.parametrize("line", [b"", b"{", b'{"Events":[', b"event dropped", b'{"Events":[{}]', b"[]", b'{"a" 1}'])
def test_refuses_a_broken_line(line):
    with pytest.raises(ValueError):
        LineReader().read(line)


def test_canonical_ignores_the_order_of_members_only():
    one, other = b'{"a":{"x":1,"y":[1,2]},"b":null}', b'{"b":null,"a":{"y":[1,2],"x":1}}'
    assert canonical(one) == canonical(other)
    for changed in (one.replace(b"2", b"3"), one.replace(b"[1,2]", b"[2,1]"), one.replace(b"null", b"false")):
        assert canonical(one) != canonical(changed)
    assert canonical(b"9007199254740993") != canonical(b"9007199254740992")
    assert canonical(b"1") != canonical(b"true")


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_takes_chunks_off_however_they_arrive(step):
    wire = b"3\r\nabc\r\nA;x=y\r\n0123456\r\n9\r\n0\r\n\r\n"
    decoder, body = BodyDecoder(chunked=True), b""
    for at in range(0, len(wire), step):
        body += decoder.feed(wire[at : at + step])
    assert body == b"abc0123456\r\n9" and decoder.ended


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_parses_sse_by_the_standard(step):
    text = b": hello\n\nid: 1\nevent: A\ndata: x\ndata:  y\n\nid:2\r\n\r\ndata\rdata:z\r\rretry: 10\nfoo\ndata: cut"
    parser, frames = SseParser(), []
    for at in range(0, len(text), step):
        frames += parser.feed(text[at : at + step])
    assert frames == [("1", "A", b"x\n y"), ("2", "message", b"\nz")]
    assert (parser.comments, parser.bare_ids, parser.retry, parser.last_id) == (1, 1, 10, "2")


def test_reads_the_capture_in_order():
    reader, events, heartbeats = LineReader(), [], 0
    for line in CAPTURE.read_bytes().splitlines():
        found = reader.read(line)
        heartbeats += not found
        events += found
    assert heartbeats >= 2 and len(events) > 500
    assert [event.index for event in events] == sorted(event.index for event in events)
    assert any(event.occurrence for event in events)
