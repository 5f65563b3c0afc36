"""A judge of Marathon's events that finds nothing must be one that would have found it."""

import json

import pytest

from .kafka import Record
from .marathon import capture
from .marathon_exits import from_kafka, from_redis, from_sse, place_of, what_of
from .marathon_oracle import compare, compare_attachments
from .marathon_shapes import stamp
from .sse import Frame

EVENTS = capture("real-1.11.sse")[:700]  # two pairs of equal ones are among the first ten
GAP = b'{"Topic":"Busbar","Type":"Gap","Key":"dcos","Namespace":"","Index":%d,"Payload":{"From":1,"To":2,"Reason":"r"}}'


def record(number, event, partition=0, **changed):
    """As a faultless bridge puts it into Kafka."""
    kind, data = event
    milliseconds, topic, _, key, kind = what_of(kind, data)
    identity = f"dcos/{milliseconds}/{topic}//{key}/{kind}/{number:016x}"
    if topic == "Busbar":
        identity = f"dcos/0123456789abcdef/{number}"
    headers = {
        "ce_specversion": "1.0", "ce_id": identity, "ce_source": "dcos", "ce_type": kind, "ce_subject": key,
        "ce_time": stamp(milliseconds / 1000), "content-type": "application/json", "ce_topic": topic,
        "ce_index": str(milliseconds),
    }  # fmt: skip
    encoded = {name: value.encode() for name, value in (headers | changed).items()}
    return Record("all", partition, number, key.encode(), data, encoded)


def exit_of(events, **changed):
    return from_kafka([record(number, event, **changed) for number, event in enumerate(events)])


def gap(number=7):
    return "Gap", GAP % number


def test_finds_nothing_wrong_with_a_faultless_exit():
    verdict = compare(EVENTS, exit_of(EVENTS)).assert_exact()
    assert verdict.summary() == "700 events, 0 lost, 0 twice, 0 out of order"
    compare([(kind, data, "more") for kind, data in EVENTS], exit_of(EVENTS), "dcos").assert_exact()
    assert len(compare(EVENTS, exit_of(EVENTS), "another").lost) == 700


def test_judges_redis_and_sse_alike():
    entries = []
    for number, event in enumerate(EVENTS):
        one = record(number, event)
        names = {"id": "ce_id", "source": "ce_source", "topic": "ce_topic", "type": "ce_type", "time": "ce_time"}
        fields = {name: one.headers[header] for name, header in names.items()}
        entries.append((f"{number}-0", fields | {"key": one.key, "namespace": b"", "data": one.value}))
    compare(EVENTS, from_redis({"dcos:all": entries})).assert_exact()
    assert "lost" in compare(EVENTS, from_redis({"dcos:all": entries[1:]})).findings
    frames = [Frame(f"dcos:{number}.0@1.abc", *event) for number, event in enumerate(EVENTS)]
    compare(EVENTS, from_sse(frames), "dcos").assert_exact()
    assert "twice" in compare(EVENTS, from_sse(frames + frames[-1:])).findings
    compare(EVENTS, from_sse([frame._replace(id="") for frame in frames], source="dcos"), "dcos").assert_exact()


def drop(events):
    return events[:100] + events[101:]


def drop_one_of_two_equal(events):
    at = next(number for number, event in enumerate(events) if event in events[number + 1 :])
    return events[:at] + events[at + 1 :]


def double(events):
    return events + events[-1:]


def swap(events):
    return events[:100] + [events[101], events[100]] + events[102:]


def alter(events):
    kind, data = events[300]
    return [*events[:300], (kind, data[:-1] + b" }"), *events[301:]]


def encode_anew(events):
    return [(kind, json.dumps(json.loads(data)).encode()) for kind, data in events]


def invent(events):
    return [*events, ("status_update_event", b'{"appId":"/x","timestamp":"2026-11-21T18:37:00.504Z"}')]


HARMS = [(drop, "lost"), (drop_one_of_two_equal, "lost"), (double, "twice"), (swap, "source_order"), (alter, "altered")]
HARMS += [(encode_anew, "altered"), (invent, "unexpected")]


@pytest.mark.parametrize("harm, finding", HARMS)
def test_detects(harm, finding):
    verdict = compare(EVENTS, exit_of(harm(list(EVENTS))))
    assert finding in verdict.findings and not verdict.exact
    with pytest.raises(AssertionError, match=finding):
        verdict.assert_exact()


WRONG = [{"ce_topic": "Task"}, {"ce_subject": "/x"}, {"ce_type": "x"}, {"ce_time": "2026-11-21T18:36:59.083Z"}]


@pytest.mark.parametrize("changed", [*WRONG, {"ce_id": "dcos/1"}, {"ce_index": "1"}])
def test_detects_a_wrong_attribute(changed):
    assert "mislabelled" in compare(EVENTS, exit_of(EVENTS, **changed)).findings


def test_detects_an_identity_that_two_events_share():
    records = [record(0 if number == 1 else number, event) for number, event in enumerate(EVENTS)]
    assert EVENTS[0] == EVENTS[1]
    assert "mislabelled" in compare(EVENTS, from_kafka(records)).findings


def test_detects_a_key_in_two_partitions():
    def spread(partition):
        records = [record(number, event) for number, event in enumerate(EVENTS)]
        return from_kafka([one._replace(partition=partition(number, one)) for number, one in enumerate(records)])

    compare(EVENTS, spread(lambda _, one: len(one.key) % 3)).assert_exact()
    assert set(compare(EVENTS, spread(lambda number, _: number % 3)).findings) == {"key_order"}


def test_tells_what_the_busbar_said_itself_apart():
    snapshot = b'{"appDefinition":{"id":"/a"},"eventType":"Snapshot","timestamp":"2026-11-21T18:37:00.504Z"}'
    said = [gap(), ("Snapshot", snapshot)]
    arrivals = exit_of(EVENTS[:5] + said + EVENTS[5:])
    verdict = compare(EVENTS, arrivals)
    assert not verdict.findings and len(verdict.gaps) == 1 and len(verdict.own) == 2 and not verdict.exact
    assert arrivals[6].what[1:] == ("App", "", "/a", "Snapshot")


def attachments(*sizes):
    """So many events each."""
    at, parts = 0, []
    for size in sizes:
        parts.append(EVENTS[at : at + size])
        at += size
    return parts


def test_the_end_of_an_attachment_may_be_missing_where_a_gap_was_told():
    one, two, three = attachments(200, 100, 100)
    arrivals = exit_of(one[:-5] + [gap(1)] + two + [gap(2)] + three)
    verdict = compare_attachments([one, two, three], arrivals)
    assert not verdict.findings and len(verdict.excused) == 5 and len(verdict.gaps) == 2
    arrivals = exit_of(one + [gap(1)] + [gap(2)] + three)
    verdict = compare_attachments([one, two, three], arrivals)
    assert not verdict.findings and len(verdict.excused) == 100, "nothing of one attachment arrived"
    arrivals = exit_of(one + [gap(1)] + two + [gap(2)] + three[:-1])
    assert not compare_attachments([one, two, three], arrivals, clean_end=False).findings


def without(events, number):
    return events[:number] + events[number + 1 :]


def test_detects_what_no_gap_excuses():
    one, two = attachments(200, 100)
    judged = [
        (without(one, 50) + [gap()] + two, "lost"),  # in the middle
        (one + [gap()] + without(two, 0), "lost"),  # at the beginning
        (one + [gap()] + two[:-1], "lost"),  # at the end, where it still is attached
        (one[:-1] + two, "lost"),  # no gap
        (one + two, "lost"),  # nothing is missing, but who can know?
        ([gap()] + one[:-1] + two, "lost"),  # a gap elsewhere
        (one[:-1] + two[:3] + [gap()] + two[3:], "lost"),
        (one + [gap()] + one[-1:] + two, "twice"),
        (two + [gap()] + one, "source_order"),
        (one + [gap()] + two + EVENTS[400:401], "unexpected"),
    ]
    for events, finding in judged:
        assert finding in compare_attachments([one, two], exit_of(events)).findings, (len(events), finding)


def test_a_gap_may_stand_in_another_partition_than_most():
    one, two = attachments(100, 100)
    records = [record(number, event) for number, event in enumerate(one[:-1] + [gap()] + two)]
    spread = [entry._replace(partition=len(entry.key) % 3) for entry in records]
    assert not compare_attachments([one, two], from_kafka(spread)).findings


@pytest.mark.parametrize(
    "kind, body, place",
    [
        ("pod_updated_event", {"uri": "/v2/pods//p/web"}, ("Pod", "/p/web")),
        ("pod_updated_event", {"uri": "/v2/pods/p/web"}, ("Pod", "/p/web")),
        ("pod_created_event", {"uri": "/v2/pods"}, ("Pod", "")),
        ("deployment_success", {"id": "1"}, ("Deployment", "1")),
        ("deployment_info", {"plan": {"id": "2"}}, ("Deployment", "2")),
        ("scheduler_reregistered_event", {"master": "m"}, ("Scheduler", "")),
        ("event_stream_attached", {"callbackUrl": "u", "clientIp": "i"}, ("Subscription", "u")),
        ("brand_new_event", {"groupId": "/g", "id": 7}, ("Other", "/g")),
        ("unhealthy_task_kill_event", {"appId": "/a", "taskId": "t"}, ("Task", "/a")),
    ],
)
def test_topics_and_keys(kind, body, place):
    assert place_of(kind, body) == place
