"""A judge that finds nothing must be one that would have found it."""

import json

import pytest

from . import fabricate
from .events import LineReader
from .exits import from_kafka, from_redis, from_sse
from .oracle import compare


@pytest.fixture(name="told", scope="module")
def _told():
    return fabricate.told_events()


def test_finds_nothing_wrong_with_a_faultless_exit(told):
    verdict = compare({"prod": told}, fabricate.exits_of(told)).assert_exact()
    assert verdict.summary() == "400 events, 0 lost, 0 twice, 0 out of order"


def test_allows_another_order_within_one_index(told):
    at = next(n for n in range(len(told)) if told[n].index == told[n + 1].index and told[n].key != told[n + 1].key)
    swapped = told[:at] + [told[at + 1], told[at]] + told[at + 2 :]
    compare({"prod": told}, fabricate.exits_of(swapped)).assert_exact()


def test_allows_the_payloads_of_one_tuple_to_change_places(told):
    at = next(n for n in range(len(told)) if told[n].occurrence == 1)
    before = next(n for n in range(at, -1, -1) if told[n].what == told[at].what and told[n].occurrence == 0)
    swapped = list(told)
    swapped[at] = told[at]._replace(data=told[before].data)
    swapped[before] = told[before]._replace(data=told[at].data)
    compare({"prod": told}, fabricate.exits_of(swapped)).assert_exact()


def test_allows_another_order_of_members_but_not_on_the_same_wire(told):
    body = json.loads(told[0].data)
    shuffled = json.dumps(dict(reversed(body.items()))).encode()
    arrivals = fabricate.exits_of([told[0]._replace(data=shuffled), *told[1:]])
    compare({"prod": told}, arrivals).assert_exact()
    sent = {}
    for event in told:
        sent.setdefault(event.what, set()).add(event.data)
    assert set(compare({"prod": told}, arrivals, sent).findings) == {"altered"}


def test_allows_what_another_server_told(told):
    other = told[0]._replace(data=told[0].data.replace(b'"Key"', b'"Wait":1,"Key"', 1))
    arrivals = fabricate.exits_of([other, *told[1:]])
    assert set(compare({"prod": told}, arrivals).findings) == {"altered"}
    compare({"prod": told}, arrivals, versions=[other]).assert_exact()


def drop(events):
    return events[:100] + events[101:]


def double(events):
    return events + events[-1:]


def reorder(events):
    at = next(n for n in range(100, len(events)) if events[n].index < events[n + 1].index)
    return events[:at] + [events[at + 1], events[at]] + events[at + 2 :]


def alter(events):
    return [events[0]._replace(data=events[0].data.replace(b'"Payload":{', b'"Payload":{"x":1,')), *events[1:]]


def round_integers(events):
    return [event._replace(data=json.dumps(json.loads(event.data, parse_int=float)).encode()) for event in events]


def invent(events):
    data = events[-1].data.replace(b'"Key":"', b'"Key":"x', 1)
    return events + [events[-1]._replace(key="x" + events[-1].key, data=data)]


def misname(events):
    return [events[0]._replace(occurrence=7), *events[1:]]


@pytest.mark.parametrize(
    "harm, finding",
    [
        (drop, "lost"),
        (double, "twice"),
        (reorder, "source_order"),
        (alter, "altered"),
        (round_integers, "altered"),
        (invent, "unexpected"),
        (misname, "mislabelled"),
    ],
)
def test_detects(told, harm, finding):
    verdict = compare({"prod": told}, fabricate.exits_of(harm(told)))
    assert finding in verdict.findings and not verdict.exact
    with pytest.raises(AssertionError, match=finding):
        verdict.assert_exact()


def test_detects_a_key_out_of_order_or_in_two_partitions(told):
    records = [fabricate.kafka_record(number, event) for number, event in enumerate(told)]
    spread = from_kafka([record._replace(partition=number % 3) for number, record in enumerate(records)])
    assert "key_order" in compare({"prod": told}, spread).findings
    assert "key_order" in compare({"prod": told}, fabricate.exits_of(told[::-1])).findings


def test_tells_gaps_apart_from_events(told):
    gap = b'{"Topic":"Busbar","Type":"Gap","Key":"prod","Namespace":"","Index":9,"Payload":{}}'
    reader = LineReader().read(b'{"Events":[' + gap + b"]}")
    verdict = compare({"prod": told}, fabricate.exits_of(told) + fabricate.exits_of(reader))
    assert not verdict.findings and len(verdict.gaps) == 1 and not verdict.exact


def test_judges_redis_and_sse_alike(told):
    entries = [(f"{event.index}-{number}", fabricate.redis_entry(event)) for number, event in enumerate(told)]
    compare({"prod": told}, from_redis({"prod:all": entries})).assert_exact()
    frames = [fabricate.sse_frame(event) for event in told]
    compare({"prod": told}, from_sse(frames)).assert_exact()
    assert "lost" in compare({"prod": told}, from_redis({"prod:all": entries[1:]})).findings
    assert "twice" in compare({"prod": told}, from_sse(frames + frames[-1:])).findings


def own(told, number, **changed):
    """What a resync says of the key of an event, behind it."""
    body = json.loads(told.data) | changed
    data = json.dumps(body, ensure_ascii=False).encode()
    (event,) = LineReader().read(b'{"Events":[' + data + b"]}")
    record = fabricate.kafka_record(1000 + number, event)
    record.headers["ce_id"] = b"prod/0123456789abcdef/%d" % number
    return record


def test_sets_a_resync_apart(told):
    records = [fabricate.kafka_record(number, event) for number, event in enumerate(told)]
    last = max(told, key=lambda event: event.index)
    said = [own(last, 1, Topic="Busbar", Type="ResyncStarted")]
    said += [own(last, 2, Type="Snapshot"), own(last, 3, Type="Vanished")]
    verdict = compare({"prod": told}, from_kafka(records + said)).assert_exact()
    assert [arrival.type for arrival in verdict.own] == ["ResyncStarted", "Snapshot", "Vanished"]


def test_detects_a_resync_that_overwrites_what_is_newer(told):
    records = [fabricate.kafka_record(number, event) for number, event in enumerate(told)]
    records.append(own(told[-1], 1, Type="Snapshot", Index=told[-1].index - 1))
    verdict = compare({"prod": told}, from_kafka(records))
    assert set(verdict.findings) == {"stale"}


def test_an_index_that_started_over_is_in_order_where_the_identity_says_so(told):
    records = [fabricate.kafka_record(number, event) for number, event in enumerate(told + told[:50])]
    for record in records[len(told) :]:
        source, index, rest = record.headers["ce_id"].split(b"/", 2)
        record.headers["ce_id"] = b"%s/%s~1/%s" % (source, index, rest)
    verdict = compare({"prod": told + told[:50]}, from_kafka(records))
    assert not (verdict.source_order or verdict.key_order or verdict.lost or verdict.twice)
    for record in records:
        record.headers["ce_id"] = record.headers["ce_id"].replace(b"~1", b"")
    assert compare({"prod": told + told[:50]}, from_kafka(records)).source_order


def test_excuses_what_lies_inside_a_told_gap_and_nothing_else(told):
    gap = b'{"Topic":"Busbar","Type":"Gap","Key":"prod","Namespace":"","Index":9,"Payload":{"From":%d,"To":%d}}'
    lost = told[100]
    for first, last, excused in ((lost.index, lost.index, True), (lost.index + 1, lost.index + 9, False)):
        reader = LineReader().read(b'{"Events":[' + gap % (first, last) + b"]}")
        arrivals = fabricate.exits_of(told[:100] + told[101:] + reader)
        assert compare({"prod": told}, arrivals).lost
        verdict = compare({"prod": told}, arrivals, excuse_gaps=True)
        assert (len(verdict.lost), len(verdict.excused)) == ((0, 1) if excused else (1, 0))
