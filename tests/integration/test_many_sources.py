"""One busbar with many sources: what they keep in memory together, once each of them has told much."""

import json
import pathlib
import sys

from rig.busbar import Busbar, binary
from rig.proc import wait_until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))

from measure import Generator  # noqa: E402

SOURCES = 40
EVENTS = 5000  # of each, 2 KB: more than a journal keeps in memory for itself (8 MiB)
LIMIT_MIB = 300  # 64 MiB of newest blocks, and some 4 a source; 480 where each source keeps 8 for itself


def test_many_sources_share_what_is_kept_in_memory():
    with Generator(binary().parent, EVENTS, size=2048) as generator:
        sources = [{"name": f"s{k}", "type": "nomad", "servers": [generator.url], "start": "oldest"} for k in range(SOURCES)]
        with Busbar({"name": "many", "sources": sources}) as busbar:
            wait_until(lambda: journaled(busbar) >= SOURCES * EVENTS, 120, "all is journaled", every=0.5)
            assert busbar.rss_anon() / 2**20 < LIMIT_MIB
            assert first_numbers(busbar) == [1, 2, 3]


def journaled(busbar: Busbar) -> float:
    return sum(value for name, value in busbar.metrics().items() if name.startswith("busbar_events_total"))


def first_numbers(busbar: Busbar) -> list[int]:
    """What left memory long ago is read from disk."""
    with busbar.events(from_oldest=True, source="s7") as client:
        events = [json.loads(frame.data) for frame in client.wait_frames(3)[:3]]
    return [event["Payload"][event["Topic"]]["Number"] for event in events]
