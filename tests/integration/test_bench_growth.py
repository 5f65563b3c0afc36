"""tests/bench/growth*: what its verdicts say of figures that are known, and that the generator gives what it was told."""

import collections
import contextlib
import json
import math
import pathlib
import random
import signal
import sys
import threading
import time
import urllib.request

import pytest
from rig.busbar import binary
from rig.ports import free_port

BENCH = pathlib.Path(__file__).resolve().parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import growth  # noqa: E402
import growth_fit  # noqa: E402
import growth_fleet  # noqa: E402
import growth_follow  # noqa: E402
import growth_journal  # noqa: E402
import growth_rig  # noqa: E402
import measure  # noqa: E402
from growth_sweeps import Curve, Sweep  # noqa: E402

TENS = (10, 100, 1000, 10_000, 100_000)


def noisy(function, spread: float = 0.1, xs=TENS):
    """Each point up to `spread` off, the same in each run."""
    dice = random.Random(7)
    return [(x, function(x) * (1 + dice.uniform(-spread, spread))) for x in xs]


# ---- verdicts ----


@pytest.mark.parametrize(
    ("function", "verdict"),
    [
        (lambda x: 8.0, "flat"),
        (lambda x: 5 + 400 / x, "falls"),
        (lambda x: 0.3 * x, "linear"),
        (lambda x: 200 + 0.3 * x, "linear"),
        (lambda x: math.sqrt(x), "below linear"),
        (lambda x: x**1.5, "worse than linear"),
        (lambda x: 100 + x**2, "worse than linear"),
        (lambda x: x * math.log2(x) ** 2, "worse than linear"),
    ],
)
def test_verdict_is_what_the_figures_were_made_of(function, verdict):
    assert growth_fit.fit(noisy(function)).verdict == verdict


def test_exponent_is_found_in_spite_of_one_bad_point():
    points = noisy(lambda x: 3 * x**1.5, 0.02)
    points[2] = (points[2][0], points[2][1] * 6)
    assert growth_fit.exponent(points) == pytest.approx(1.5, abs=0.25)


def test_line_tells_the_fixed_part_and_the_price_of_each():
    found = growth_fit.fit([(x, 20 + 0.5 * x) for x in (1, 2, 5, 10, 20, 50)])
    assert (found.fixed, found.each, found.off) == (pytest.approx(20), pytest.approx(0.5), pytest.approx(0, abs=1e-9))


def test_fixed_part_is_never_below_nothing():
    assert growth_fit.fit([(10, 1), (20, 30), (40, 100)]).fixed == 0


def test_a_late_knee_is_seen_though_the_beginning_is_flat():
    points = [(1, 10), (2, 10), (5, 10), (10, 10), (100, 1000), (1000, 100_000)]
    assert growth_fit.fit(points).verdict == "worse than linear"


def test_points_that_are_too_near_each_other_tell_no_exponent():
    assert growth_fit.exponent([(100, 1), (120, 5)]) == 0


def test_worse_is_worse():
    assert growth_fit.is_worse("worse than linear", "linear")
    assert growth_fit.is_worse("below linear", "flat")
    assert not growth_fit.is_worse("falls", "flat")
    assert not growth_fit.is_worse("below linear", "linear")


# ---- pages, and when a short run fails ----


def a_sweep(expected="linear", function=lambda x: 2.0 * x) -> Sweep:
    return Sweep("keys", "Different keys", "keys", "all else", [Curve("cpu", "µs/event", "it", expected, noisy(function, 0))])


def test_page_shows_points_verdict_and_machine(tmp_path):
    growth.write(a_sweep(), tmp_path)
    text = (tmp_path / "growth-keys.md").read_text()
    assert "| 10 | 20 |" in text and "| 100,000 | 200,000 |" in text
    assert "linear (x^1.00" in text and "cores" in text and "**more**" not in text
    assert "growth-keys-cpu.svg" in text
    assert "<svg" in (tmp_path / "growth-keys-cpu.svg").read_text()


def test_the_journals_page_says_what_a_start_reads_and_what_that_costs():
    curves = {f"{what} {how}": Curve("", "", "", "flat") for what in ("read", "cpu") for how in ("clean", "killed")}
    for events, mib in ((1000, 4), (60_000, 96), (2_000_000, 52)):
        for how in ("clean", "killed"):
            curves[f"read {how}"].add(events, mib)
            curves[f"cpu {how}"].add(events, 10 + 0.2 * mib)
    assert "10 ms, and 0.2 ms for each MiB read (±0 %)" in growth_journal.what_is_read(curves)


def test_page_says_what_grows_more_than_expected(tmp_path):
    growth.write(a_sweep("flat"), tmp_path)
    assert "**more**: not explained" in (tmp_path / "growth-keys.md").read_text()


def test_short_run_fails_for_what_is_quadratic_and_passes_what_is_noise():
    assert growth.too_much(a_sweep("linear", lambda x: x**2).curves[0])
    assert not growth.too_much(a_sweep("linear", lambda x: 5 + x**1.1).curves[0])
    assert growth.too_much(a_sweep("flat", lambda x: x**0.9).curves[0])
    assert not growth.too_much(a_sweep("flat", lambda x: x**0.3).curves[0])


def test_short_run_fails_for_what_is_wrong_twice_and_not_for_what_is_wrong_once(monkeypatch):
    bad, good = a_sweep("flat", lambda x: x), a_sweep("flat", lambda x: 8.0)
    for runs, failed in (([bad, bad], ["keys, it, µs/event"]), ([bad, good], []), ([good], [])):
        left = list(runs)
        monkeypatch.setitem(growth.SWEEPS, "keys", lambda rig, short, left=left: left.pop(0))
        assert growth.short(None, "keys") == failed and not left


def test_fleet_says_what_was_measured():
    assert growth_fleet.wrong((BENCH / "FLEET.md").read_text(), BENCH / "results") == []


def test_a_figure_of_the_fleet_that_moved_or_went_is_found(tmp_path):
    growth.write(a_sweep(), tmp_path)  # 2 µs a key
    quotes = [growth_fleet.Quote("{200} µs", "keys", "µs/event", "it", "100"), growth_fleet.Quote("{2} a key", "keys", "µs/event", "it", "each")]
    assert growth_fleet.wrong("some 200 µs, and\n2 a key", tmp_path, quotes) == []
    assert growth_fleet.wrong("some 200 µs", tmp_path, quotes) == ["the page no longer says: {2} a key"]
    for other, said in (({"says": "{90} µs"}, "now 200"), ({"x": "7"}, "not in"), ({"curve": "that"}, "not in"), ({"sweep": "none"}, "not in")):
        found = growth_fleet.wrong("200 µs 90 µs", tmp_path, [quotes[0]._replace(**other)])
        assert len(found) == 1 and said in found[0]


def test_latency_that_could_not_be_read_is_left_out():
    curve = Curve("latency", "ms", "it", "flat", [(1, 2.0), (10, float("nan")), (100, 2.1)])
    assert curve.fit.verdict == "flat"
    assert growth.rows("x", [curve])[3] == "| 10 | – |"


# ---- runs ----


def test_the_clock_of_a_run_starts_when_all_sources_are_attached():
    """A sink that tells its checkpoint late holds the sources back, with the busbar at rest all the while."""
    with growth_rig.Rig(binary().parent) as rig:
        rig.redis.pause()
        late = threading.Timer(3, rig.redis.resume)
        late.start()
        try:
            found = rig.run(growth_rig.Plan(3000, sources=3, rate=300, seconds=1.5))
        finally:
            late.cancel()
            rig.redis.resume()
    assert found.events > 0  # the rest may be under way yet, where the machine stood still


# ---- followers ----


def test_follower_counts_after_its_warm_up_and_skips_a_number_that_is_cut():
    delays = growth_follow.Delays(1000)
    sent = int((time.time() - 0.005) * 1e6)
    delays.note(b'{"SentUs":%d,' % sent)
    assert delays.summary()["count"] == 0
    delays.warm = 0
    delays.note(b'{"SentUs":%d,"Number":1}{"SentUs":%d' % (sent, sent // 1000))
    assert delays.summary()["count"] == 1
    assert 4 < delays.summary()["p50"] <= time.time() * 1e3 - sent / 1e3 + 1  # ms


# ---- the generator ----


def generator(lines: int, **more) -> measure.Generator:
    return measure.Generator(binary().parent, lines, **more)


def lines_of(source: measure.Generator, path: str = "/v1/event/stream?index=0") -> list[bytes]:
    """Up to the first heartbeat behind events."""
    found = []
    with urllib.request.urlopen(source.url + path, timeout=20) as answer:
        for line in answer:
            if line != b"{}\n":
                found.append(line)
            elif found:
                break
    return found


def events_of(lines: list[bytes]) -> list[dict]:
    return [event for line in lines for event in json.loads(line)["Events"]]


@pytest.mark.parametrize("size", [230, 500, 2048, 16384, 65536, 300_000])
def test_event_has_exactly_the_size_that_was_asked_for(size):
    with generator(40, size=size) as source:
        lines = lines_of(source)
    assert len(lines) == 40
    for line in lines:
        assert line.rindex(b'],"Index":') - len('{"Events":[') == size


def test_keys_are_all_different_and_each_of_one_topic():
    with generator(1000, events=20, keys=10_000, size=230) as source:
        events = events_of(lines_of(source))
    keys = collections.Counter(event["Key"] for event in events)
    assert len(keys) == 10_000 and set(keys.values()) == {2}
    assert len({(event["Topic"], event["Key"]) for event in events}) == 10_000
    assert len({event["Topic"] for event in events}) == 5


def test_a_million_keys_are_a_million():
    with generator(25_000, events=40, keys=1_000_000, size=200) as source:
        keys = {line[at + 7 : at + 25] for line in lines_of(source) for at in places(line, b'"Key":"')}
    assert len(keys) == 1_000_000


def places(line: bytes, word: bytes):
    at = line.find(word)
    while at >= 0:
        yield at
        at = line.find(word, at + 1)


def test_lines_hold_so_many_events_and_go_on_at_the_index_asked_for():
    with generator(30, events=7) as source:
        whole = lines_of(source)
        rest = lines_of(source, "/v1/event/stream?topic=*&index=21")
    assert [json.loads(line)["Index"] for line in whole] == list(range(1, 31))
    assert {len(json.loads(line)["Events"]) for line in whole} == {7}
    assert [event["Payload"][event["Topic"]]["Number"] for event in events_of(whole)] == list(range(1, 211))
    assert [without_time(event) for event in events_of(rest)] == [without_time(event) for event in events_of(whole)[140:]]


def without_time(event: dict) -> dict:
    event["Payload"][event["Topic"]].pop("SentUs")
    return event


def test_many_connections_are_served_at_once_each_with_its_own_time():
    with generator(2000, rate=2000) as source:
        found: list[list[bytes]] = []
        threads = [threading.Thread(target=lambda: found.append(lines_of(source))) for _ in range(20)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [len(lines) for lines in found] == [2000] * 20
    assert time.monotonic() - start >= 0.99
    assert len({json.loads(lines[0])["Events"][0]["Payload"].popitem()[1]["SentUs"] for lines in found}) > 1


def test_it_pauses_until_it_is_told_to_go_on():
    with generator(5000, more=("--pause-after", "100")) as source:
        found: list[list[bytes]] = []
        reader = threading.Thread(target=lambda: found.append(lines_of(source)))
        reader.start()
        time.sleep(0.3)
        assert not found
        source.process.send_signal(signal.SIGUSR1)
        reader.join(60)
    assert [len(lines) for lines in found] == [5000]


def test_it_comes_back_at_the_port_that_was_asked_for():
    port = free_port()  # one that the kernel gives nobody meanwhile
    for _ in range(2):
        with generator(1, more=("--port", str(port))) as source:
            assert source.port == port and len(lines_of(source)) == 1


def test_besides_the_stream_it_tells_one_namespace_and_nothing_else():
    with generator(1000) as source:
        with urllib.request.urlopen(source.url + "/v1/namespaces?stale", timeout=20) as answer:
            assert [one["Name"] for one in json.loads(answer.read())] == ["default"]
            assert answer.headers["X-Nomad-Index"] == "1"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(source.url + "/v1/jobs", timeout=5)
        with pytest.raises(TimeoutError), contextlib.closing(urllib.request.urlopen(source.url + "/v1/namespaces?index=1", timeout=0.5)):
            pass


def test_it_refuses_words_that_it_does_not_know():
    with pytest.raises(measure.Failed):
        generator(1, more=("--event-a-line", "3"))
