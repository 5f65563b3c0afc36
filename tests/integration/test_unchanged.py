"""`drop_unchanged`: what tells nothing new of its key is left out at every exit, and nothing else is."""

import contextlib
import json

from rig.busbar import Busbar
from rig.exits import from_redis
from rig.load import Load
from rig.nomad import Nomad
from rig.proc import Failed, wait_until
from rig.tap import Tap


def _is_volatile(name: str, value) -> bool:
    return isinstance(value, int) and (name == "ModifyTime" or name.endswith("Index"))


def _lasting(value):
    if isinstance(value, dict):
        return {name: _lasting(each) for name, each in value.items() if not _is_volatile(name, each)}
    return [_lasting(each) for each in value] if isinstance(value, list) else value


def _changes(events) -> list[tuple]:
    """Of the events that the tap saw those that tell something new."""
    last, left = {}, []
    for event in events:
        told = json.loads(event.data)
        what = (event.type, _lasting(told["Payload"]))
        place = (event.topic, told["Namespace"], event.key)
        if last.get(place) != what:
            left.append((event.index, event.topic, told["Namespace"], event.key, event.type))
        last[place] = what
    return left


def test_only_what_changes_its_key_arrives(redis, source_name):
    with Nomad(client=True) as nomad, Tap(nomad.address) as tap:
        source = {"name": source_name, "type": "nomad", "servers": [nomad.address], "start": "oldest"}
        sink = {"name": "cache", "type": "redis", "url": redis.url}
        config = {"name": "unchanged", "sources": [{**source, "drop_unchanged": True}], "sinks": [sink]}
        with Busbar(config) as busbar, busbar.events(from_oldest=True, source=source_name) as client:
            busbar.wait_attached()
            with Load(nomad, rate=60):
                wait_until(lambda: len(_changes(tap.events)) < len(tap.events) - 5, 60, "events that tell nothing new")
            tap.wait_all(nomad)
            wait_until(lambda: busbar.status()["sources"][0]["last_index"] >= tap.last_index, 20, "all read")
            wait_until(lambda: not busbar.status()["sources"][0]["sinks"][0]["lag_events"], 20, "all in Redis")
            left_out = f'busbar_unchanged_total{{source="{source_name}"}}'
            judged = ()

            def agreed():  # at one moment: its node may tell something at any time
                nonlocal judged
                events = list(tap.events)
                changes = _changes(events)
                arrived = sorted(a.what for a in from_redis(redis.read_streams()) if a.source == source_name)
                counts = busbar.metrics()[left_out], len(client.frames)
                judged = (arrived, *counts), (sorted(changes), len(events) - len(changes), len(changes))
                return judged[0] == judged[1] and len(tap.events) == len(events)

            with contextlib.suppress(Failed):
                wait_until(agreed, 20, "the same")
            assert judged[0] == judged[1]
            assert tap.intact
