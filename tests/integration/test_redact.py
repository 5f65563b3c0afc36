"""What `redact` names leaves by no exit that has it, everything else leaves as it came."""

import base64
import json
import re
import shutil
import time

from rig.busbar import Busbar, run_busbar
from rig.exits import from_kafka, from_redis, from_sse
from rig.jobs import job
from rig.proc import wait_until
from rig.redis_server import Redis
from rig.standin import HOLD, Standin, event_line, stream
from rig.tap import Tap

PATHS = ["$..Env", "$.Payload.Job.Meta['secret']", "$..Templates[*].EmbeddedTmpl"]
SECRETS = [b"hunter2-env", b"hunter2-meta", b"hunter2-template"]


def _secretive(job_id: str) -> dict:
    """A job with secrets in all three places, beside a group without any."""
    description = job(job_id, meta={"secret": "hunter2-meta", "open": "to all"})
    task = description["TaskGroups"][0]["Tasks"][0]
    task["Env"] = {"TOKEN": "hunter2-env <&> {\"a\":1}", "B": "\\"}
    task["Templates"] = [{"EmbeddedTmpl": 'password = "hunter2-template"\n', "DestPath": "local/x"}, {"EmbeddedTmpl": "plain", "DestPath": "local/y"}]
    description["TaskGroups"].append({**job("x")["TaskGroups"][0], "Name": "other"})
    return description


_STRING = rb'"(?:[^"\\]|\\.)*"'


def _redacted(data: bytes) -> bytes:
    """The same by other means: only what Nomad really writes there."""
    pairs = rb"\{(?:" + _STRING + rb":" + _STRING + rb",?)*\}"
    data = re.sub(rb'"Env":(?:null|' + pairs + rb")", b'"Env":"[redacted]"', data)
    return re.sub(rb'"(secret|EmbeddedTmpl)":' + _STRING, rb'"\1":"[redacted]"', data)


def _settle(busbar: Busbar, index: int) -> None:
    def settled():
        return all(sink["index"] >= index and not sink["lag_events"] for sink in busbar.status()["sources"][0]["sinks"])

    wait_until(settled, 60, f"every sink at {index}\n{busbar.log_tail()}")


def _of(streams: dict, prefix: str) -> dict:
    return {name: entries for name, entries in streams.items() if name.startswith(prefix)}


def test_secrets_of_a_real_job_leave_by_no_exit_that_redacts(nomad, kafka, redis, source_name):
    config = {
        "name": "redact",
        "http": {"redact": PATHS},
        "sources": [{"name": source_name, "type": "nomad", "servers": [nomad.address]}],
        "sinks": [
            {"name": "lake", "type": "kafka", "brokers": kafka.bootstrap, "redact": PATHS},
            {"name": "cache", "type": "redis", "url": redis.url, "redact": PATHS},
            {"name": "vault", "type": "redis", "url": redis.url, "stream": "vault-%{source}:%{topic}"},
        ],
    }
    nomad.register(_secretive(f"{source_name}-before"))
    with Busbar(config) as busbar, busbar.events(source=source_name) as live:
        busbar.wait_attached()
        wait_until(lambda: any(f.event == "ResyncFinished" for f in live.frames), 30, "the first snapshot")
        for number in range(3):
            nomad.register(_secretive(f"{source_name}-{number}"))
        with Tap(nomad.address) as tap:
            tap.wait_all(nomad)
        kept = lambda: from_redis(_of(redis.read_streams(), f"vault-{source_name}:"))  # noqa: E731
        wait_until(lambda: sum(not one.is_own for one in kept()) >= len(tap.events), 30, "the vault has all")
        _settle(busbar, tap.last_index)
        journal = busbar.status()["sources"][0]["journal"]
        with busbar.events(from_oldest=True, source=source_name) as late:
            late.wait_frames(journal["next_seq"] - journal["first_seq"])
        wait_until(lambda: live.frames[-1] == late.frames[-1], 20, "it has come live too")
        with Tap(busbar.url) as as_nomad:
            as_nomad.wait_events(len({one.data for one in from_sse(late.frames) if not one.is_own}))
        metrics = busbar.metrics()
    streams = redis.read_streams()
    whole = {a.identity: a.data for a in from_redis(_of(streams, f"vault-{source_name}:"))}
    exits = {
        "cache": {a.identity: a.data for a in from_redis(_of(streams, f"{source_name}:"))},
        "lake": {a.identity: a.data for a in from_kafka(kafka.read_all()) if a.source == source_name},
    }
    mine = [data for data in whole.values() if f'"ID":"{source_name}-'.encode() in data and b'"Topic":"Job"' in data]
    assert {json.loads(data)["Type"] for data in mine} >= {"JobRegistered", "Snapshot"}
    assert all(secret in data for secret in SECRETS for data in mine) and len(mine) >= 4
    for found in exits.values():
        assert found == {identity: _redacted(data) for identity, data in whole.items()}
        assert not [data for data in found.values() for secret in SECRETS if secret in data]
    # What was formatted once for all and what is read from the journal.
    seen = [frame.data for frame in late.frames]
    assert sorted(seen) == sorted(_redacted(data) for data in whole.values())
    assert live.frames == late.frames[-len(live.frames) :]
    told = {a.data for a in from_redis(_of(streams, f"vault-{source_name}:")) if not a.is_own}
    assert {event.data for event in as_nomad.events} == {_redacted(data) for data in told}
    changed = len([data for data in whole.values() if data != _redacted(data)])
    for sink in ("lake", "cache"):
        assert metrics[f'busbar_redacted_total{{source="{source_name}",sink="{sink}"}}'] == changed >= len(mine)
    assert metrics[f'busbar_redacted_total{{source="{source_name}",sink="vault"}}'] == 0


def test_bytes_that_could_not_be_read_do_not_leave_either(redis, source_name):
    bad = b'{"Events":[{"Index":8,"Payload":{"Env":"hunter2-env"\xff}]}'
    source = {"name": source_name, "type": "nomad", "servers": [], "start": "oldest"}
    sinks = [
        {"name": "cache", "type": "redis", "url": redis.url, "redact": ["$..Env"]},
        {"name": "vault", "type": "redis", "url": redis.url, "stream": "vault-%{source}:%{topic}"},
    ]
    with Standin(default=stream(event_line(7), bad + b"\n", event_line(9), HOLD)) as server:
        source["servers"] = [server.address]
        with Busbar({"name": "redact", "http": {"redact": "$..Env"}, "sources": [source], "sinks": sinks}) as busbar:
            _settle(busbar, 9)
            with busbar.events(from_oldest=True, type="Malformed") as client:
                client.wait_frames(1)
    streams = redis.read_streams()
    ((_, entry),) = streams[f"{source_name}:Busbar"]
    ((_, whole),) = streams[f"vault-{source_name}:Busbar"]
    told = json.loads(whole["data"])["Payload"]
    assert base64.b64decode(told["Base64"]) == bad
    for data in (entry["data"], client.frames[0].data):
        assert json.loads(data)["Payload"] == {**told, "Base64": "[redacted]"}


def test_an_event_that_is_too_large_only_by_its_secret_is_taken(kafka, source_name):
    lake = {"name": "lake", "type": "kafka", "brokers": kafka.bootstrap, "topic_config": {"max.message.bytes": "20000"}}
    lake |= {"properties": {"compression.type": "none"}, "redact": ["$..Meta.padding"]}
    large = event_line(103, size=60000).replace(b'"padding":', b'"padding":"secret","open":')
    lines = stream(event_line(101), event_line(102, size=60000), large, event_line(104), HOLD)
    with Standin(default=lines) as server:
        source = {"name": source_name, "type": "nomad", "servers": [server.address], "start": "oldest"}
        with Busbar({"name": "redact", "sources": [source], "sinks": [lake]}) as busbar:
            _settle(busbar, 104)
    told = {e["Index"]: e for e in (json.loads(r.value) for r in kafka.read_all() if r.topic.startswith(f"{source_name}."))}
    assert {index: event["Type"] == "Rejected" for index, event in told.items()} == {101: False, 102: False, 103: True, 104: False}
    assert told[102]["Payload"]["Job"]["Meta"] == {"padding": "[redacted]"}
    left = large[len(b'{"Events":[') : large.rindex(b'],"Index":')].replace(b'"secret"', b'"[redacted]"')
    assert told[103]["Payload"]["Size"] == len(left)


def test_a_new_journal_finds_what_was_published_redacted(feed, source_name):
    """Compared is the identity, which does not depend on the bytes that left."""
    source = {"name": source_name, "type": "nomad", "servers": [feed.address], "start": "oldest"}
    with Redis() as redis:
        sink = {"name": "cache", "type": "redis", "url": redis.url, "redact": ["$.Payload"]}
        with Busbar({"name": "redact", "sources": [source], "sinks": [sink]}) as busbar:
            feed.say(10)
            _settle(busbar, 110)
            busbar.stop()
            shutil.rmtree(busbar.folder / "journal")
            busbar.start()
            busbar.wait_attached()
            feed.say()
            redis.kill9()
            feed.say()
            time.sleep(0.5)
            redis.start()
            _settle(busbar, 112)
        told = [json.loads(fields["data"]) for _, fields in redis.read_streams()[f"{source_name}:Job"]]
    assert [e["Index"] for e in told] == list(range(101, 113))
    assert {e["Payload"] for e in told} == {"[redacted]"}


def test_check_tells_the_line_of_a_path_that_cannot_be_read(tmp_path):
    path = tmp_path / "bad.yaml"
    many = "\n".join(f"      - $.n{i}" for i in range(65))
    path.write_text(
        f"""http:
  redact:
    - $..Env
    - $.a[
sources:
  - {{name: prod, type: nomad, servers: ["http://127.0.0.1:4646"]}}
sinks:
  - name: cache
    type: redis
    url: redis://127.0.0.1
    redact: Env
  - name: other
    type: redis
    url: redis://127.0.0.1
    redact:
{many}
"""
    )
    result = run_busbar("check", "-c", path)
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert [line.split(":")[1] for line in lines] == ["4", "11", "16"], result.stderr
    assert '"$.a["' in lines[0] and "expected" in lines[0]
    assert '"Env"' in lines[1] and "begins with $" in lines[1]
    assert "more than 64 steps" in lines[2]
