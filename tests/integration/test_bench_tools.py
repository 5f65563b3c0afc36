"""The benchmark's own arithmetic and its tables and charts, of figures that are given: no servers."""

import argparse
import importlib.machinery
import importlib.util
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import pytest

BENCH = pathlib.Path(__file__).resolve().parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import chart  # noqa: E402
import cpu_parts  # noqa: E402
import measure  # noqa: E402
import report as reports  # noqa: E402
import table  # noqa: E402
import targets  # noqa: E402
from measure import Figure, Result, Row  # noqa: E402
from peers import Job, Running  # noqa: E402
from rig.busbar import binary  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"


def row(peer: str, *costs: float, into: str = "kafka", failed: str = "", size: int = 2048, a_line: int = 1) -> Row:
    """Rounds of 100,000 events in 2 s each, at so many µs an event."""
    cores = {"kafka": 0.8, "redis": 0.1, "generator": 0.2, "machine": 1.9}
    results = [Result(100_000, 2.0, cost / 10, 30.0 + cost, cores) for cost in costs]
    return Row(peer, into, size, a_line, results, failed)


def rects(svg: str) -> list[float]:
    """The widths of a chart's bars, its background left out."""
    root = xml.etree.ElementTree.fromstring(svg)
    return [float(found.get("width")) for found in root.iter(f"{SVG}rect")][1:]


# ---- measuring ----


def test_a_figure_is_the_median_and_what_it_lies_between():
    assert measure.figure([9, 7, 8]) == Figure(8, 7, 9)
    assert measure.figure([4.0]) == Figure(4, 4, 4)


def test_cost_and_rate_are_per_event():
    one = Result(events=50_000, wall=2.0, cpu=0.4, rss_mib=20)
    assert one.cpu_us == pytest.approx(8.0) and one.events_s == 25_000


def test_rounds_go_in_turns_and_a_peer_that_fails_is_not_tried_again():
    rows, calls = [row("a"), row("b"), row("c")], []

    def run(one: Row, number: int) -> Result:
        calls.append(f"{one.peer}{number}")
        if one.peer == "b":
            raise measure.Failed("no such broker\n")
        return Result(10, 1.0, 0.1, 1.0)

    measure.rounds(rows, run, 3)
    assert calls == ["a0", "b0", "c0", "a1", "c1", "a2", "c2"]
    assert [len(one.results) for one in rows] == [3, 0, 3] and rows[1].failed == "no such broker"


def test_what_was_found_before_an_interruption_is_kept():
    rows = [row("a"), row("b")]

    def run(one: Row, number: int) -> Result:
        if number == 1:
            raise KeyboardInterrupt
        return Result(10, 1.0, 0.1, 1.0)

    with pytest.raises(KeyboardInterrupt):
        measure.rounds(rows, run, 3)
    assert [len(one.results) for one in rows] == [1, 1]


def test_cpu_of_a_process_has_that_of_its_children():
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\n"
    code += "print('done', flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        used = measure.cpu_seconds([process.pid])
        own = sum(measure.threads(process.pid).values())
        memory = measure.rss_mib(process.pid)
        process.stdin.close()
    assert used >= 0.29 and own < used - 0.2
    assert 1 < memory < 200
    assert measure.cpu_seconds([process.pid]) == 0  # it is gone


class Curl:
    """A bridge into a file: curl reads the stream, and the file tells what came."""

    def __init__(self, *options: str):
        self.options = options

    def start(self, job: Job) -> Running:
        path = job.folder / "lines"
        path.touch()
        running = Running(lambda: path.read_bytes().count(b'"Topic":'), job.folder / "log")
        running.add(["curl", "-sSN", *self.options, "-o", path, f"{job.source}/v1/event/stream?topic=*&index=0"])
        return running


@pytest.fixture
def job(tmp_path):
    return Job("kafka", "", "", "", "run", binary().parent, tmp_path)


def test_a_run_ends_when_the_target_has_every_event(job):
    found = measure.once(Curl(), job, 2000, size=512, a_line=32)
    assert found.events == 2016  # whole lines
    assert (job.folder / "lines").read_bytes().count(b'"Topic":') == 2016
    assert 0 < found.wall < 60 and 0 < found.cpu < 5 and found.rss_mib > 0.1
    assert set(found.cores) == {"generator", "machine"} and 0 < found.cores["generator"] < 2


@pytest.mark.parametrize(
    ("options", "why"),
    [(["--limit-rate", "1M", "--max-time", "4"], "it ended"), (["--proxy", "http://127.0.0.1:1"], "did not connect")],
)
def test_a_bridge_that_ends_early_has_no_figure(job, options, why):
    with pytest.raises(measure.Failed, match=rf"{why}.*curl: \("):
        measure.once(Curl(*options), job, 10**7)


def test_a_bridge_that_takes_too_long_has_no_figure(job):
    with pytest.raises(measure.Failed, match=r"of 10000000 events, not within 0.5 s"):
        measure.once(Curl("--limit-rate", "1M"), job, 10**7, timeout=0.5)


# ---- tables ----


def test_multiples_are_of_rounds_side_by_side():
    """Of each round: 2, 2 and 2, though the medians are 10 and 24."""
    assert table.ratios(row("kcat", 16, 24, 40), row("busbar", 8, 12, 20)) == Figure(2, 2, 2)
    assert table.ratios(row("kcat", 16), row("busbar")) is None


def test_a_row_tells_all_of_a_peer():
    lines = table.peers_table([row("busbar", 8, 9, 10), row("curl | kcat", 16, 19, 20)]).splitlines()
    assert len(lines) == 4
    ours = "| busbar | 50,000 | 9.00 (8.00–10.0) | 1.00 | 39 (38–40) | 0.45 | Kafka 0.80, source 0.20, all 1.90 |"
    assert lines[2] == ours
    assert lines[3].startswith("| curl \\| kcat | 50,000 | 19.0 (16.0–20.0) | 2.00 (2.00–2.11) | 49 (46–50) | 0.95 |")


def test_a_peer_without_a_figure_says_why():
    glue = row("Python glue", failed="pip: no network")
    text = table.peers_table([row("busbar", 8), glue, row("late", 9, failed="it ended")])
    assert "| Python glue | **no figure**: pip: no network | – |" in text
    assert "| late (then failed: it ended) |" in text
    assert "no figure: pip: no network" in table.summary([row("busbar", 8), glue])


def test_every_way_and_form_has_a_table():
    rows = [row("busbar", 8), row("busbar", 5, into="redis"), row("busbar", 9, size=512, a_line=32)]
    text = table.full(rows)
    places = [text.index(words) for words in ("### Into Kafka", "2 KB, 1 a line", "0.5 KB, 32 a line", "### Into Redis")]
    assert places == sorted(places)
    assert text.count("| peer |") == 3


def test_the_summary_has_a_row_a_peer_and_a_column_a_way():
    rows = [row("busbar", 8), row("busbar", 4, into="redis"), row("glue", 80), row("busbar", 1, size=512)]
    lines = table.summary(rows).splitlines()
    assert lines[0] == "| CPU of the bridge, µs an event of 2 KB | into Kafka | into Redis | RSS, MiB |"
    assert lines[2] == "| busbar | 8.00, 50,000/s | 4.00, 50,000/s | 38 |"
    assert lines[3:] == ["| glue | 80.0, 10.0 ×, 50,000/s | – | 110 |"]


# ---- targets ----


def test_a_target_is_met_missed_or_not_measured():
    aims = [
        table.Target("a", "a", 1.25),
        table.Target("b", "b", 1.25, guard=2),
        table.Target("c", "c", 0.9, at_least=True),
        table.Target("d", "d", 0.9, at_least=True, guard=1.5),
        table.Target("e", "e", 5),
    ]
    figures = {key: Figure(value, value, value) for key, value in {"a": 1.25, "b": 1.3, "c": 0.9, "d": 0.5}.items()}
    found = table.verdicts(aims, figures)
    assert [one.word for one in found] == ["met", "**missed**", "met", "**missed**", "not measured"]
    assert [one.is_broken for one in found] == [False, False, False, True, False]
    assert "| b | ≤ 1.25 × | 1.30 | **missed** |" in table.verdict_table(found)


def test_the_targets_are_of_2_kb_one_a_line():
    rows = [row("busbar", 9, 10), row("C floor", 8, 8), row("busbar", 90, size=512), row("Python glue", failed="no")]
    rows += [row("C floor", 70, 70, size=512), row("C floor", 60, 60, a_line=32)]
    found = targets.of_rows(rows)
    assert found["kafka/C floor"] == pytest.approx((1.1875, 1.125, 1.25))
    assert found["kafka/cpu"].median == pytest.approx(9.5)
    assert "kafka/Python glue" not in found and "redis/cpu" not in found
    assert found["rss"].median == 120  # the highest of all of busbar's, not the median


def test_equal_work_is_judged_beside_the_issues_own_ratio():
    """Busbar with headers beside the floor with them, and without beside the floor without; each with its limit."""
    full, bare = "C floor, busbar's headers and fields", table.OURS_BARE
    rows = [row("busbar", 15), row("C floor", 5), row(full, 12), row(bare, 10)]
    rows += [row("busbar", 8, into="redis"), row("C floor", 2, into="redis"), row(full, 4, into="redis")]
    found = targets.of_rows(rows)
    wanted = {"kafka/C floor": 3, f"kafka/{full}": 1.25, "kafka/bare/C floor": 2, "redis/C floor": 4, f"redis/{full}": 2}
    assert {key: found[key].median for key in wanted} == pytest.approx(wanted)
    verdicts = [one for one in table.verdicts(targets.PEERS, found) if one.target.key in wanted]
    assert [(one.target.limit, one.word) for one in verdicts] == [
        (1.25, "**missed**"), (1.25, "met"), (1.25, "**missed**"), (1.5, "**missed**"), (1.5, "**missed**"),
    ]
    assert found["kafka/cpu"].median == 15 and found["kafka/bare/cpu"].median == 10


@pytest.fixture(scope="module")
def program():
    """tests/bench/run itself."""
    loader = importlib.machinery.SourceFileLoader("bench_run", str(BENCH / "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("strict", "measured", "kept", "missed"),
    [
        (True, [120.0, 7.0], 7.0, []),
        (True, [150.0, 120.0], 120.0, ["redis/p99"]),
        (True, [120.0, 150.0], 120.0, ["redis/p99"]),
        (True, [30.0], 30.0, []),  # missed, but not by far
        (False, [120.0], 120.0, ["redis/p99"]),
    ],
)
def test_what_is_missed_by_far_is_measured_once_more_where_it_is_to_pass(program, tmp_path, monkeypatch, strict, measured, kept, missed):
    monkeypatch.setattr(program, "Alone", lambda *_: None)  # it says which busbar is under test
    args = argparse.Namespace(strict=strict, build=tmp_path, out=tmp_path)
    run, left = program.Run(args, reports.Report(), None, tmp_path), list(measured)
    run._one("latency", lambda: {"redis/p99": Figure(*[left.pop(0)] * 3), "sse/p99": Figure(1, 1, 1)})
    assert run.report.figures["redis/p99"].median == kept and not left
    assert [one.target.key for one in run.report.verdicts() if one.is_broken] == missed


# ---- reports ----


def told() -> reports.Report:
    rows = [row("busbar", 8, 9, 10), row("C floor", 7, 7, 7), row("busbar", 5, into="redis")]
    extra = reports.Table("The mirror", ["clients", "ms"], [["100", "2"]], "A note.")
    return reports.Report(
        date="2026-11-22 12:00 UTC",
        machine="a CPU, 2 cores",
        versions={"kafka": "4.4.0"},
        minutes=20,
        rows=rows,
        figures={
            "idle": Figure(0.2, 0.2, 0.2),
            "mirror": Figure(0.97, 0.9, 1),
            "redis/backlog/events": Figure(1e6, 1e6, 1e6),
            "redis/backlog/live": Figure(60_010, 58_000, 62_000),
            "redis/backlog/rate": Figure(59_000, 59_000, 59_000),
            "redis/backlog/share": Figure(0.95, 0.95, 0.95),
            "redis/backlog/rss": Figure(25, 25, 25),
        },
        tables=[extra],
        failures={"latency": "no reader"},
        more_targets=[table.Target("mirror", "deliveries, of the writer's", 0.95, at_least=True)],
    )


def test_a_report_comes_back_from_its_file_and_says_the_same(tmp_path):
    reports.write(told(), tmp_path)
    again = reports.load(tmp_path / "last.json")
    assert again == told()
    assert (tmp_path / "table.md").read_text() == reports.markdown(again)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"last.json", "table.md", "peers.svg", "kafka.svg", "redis.svg"}


def test_a_report_says_when_where_with_what_and_what_failed():
    text = reports.markdown(told())
    when = "2026-11-22 12:00 UTC, 20 minutes, 3 rounds"
    for words in (when, "a CPU, 2 cores", "kafka 4.4.0", "- latency: no reader", "### The mirror"):
        assert words in text, words
    assert "| deliveries, of the writer's | ≥ 0.95 × | 0.97 (0.90–1.00) | met |" in text
    assert "| Redis | 1,000,000 | 60,000 (58,000–62,000) | 59,000 | 0.95 | 25 |" in text
    assert "Interrupted" not in text
    half = told()
    half.interrupted = True
    assert "**Interrupted: not all of it was measured.**" in reports.markdown(half)


def test_a_readme_says_when_where_and_that_it_is_not_the_same_work():
    text = reports.told_in_project(told())
    for words in ("2026-11-22, a CPU, 2 cores", "| C floor | 7.00, 0.78 ×", "What is promised by `busbar`: each event once"):
        assert words in text, words
    assert "By `C floor`: nothing." in text
    here = reports.told_here(told())
    assert "**C floor** promises: none. Other than busbar: no journal" in here and "| deliveries, of the writer's |" in here


def test_publishing_changes_only_what_is_between_the_markers(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{table.BEGIN}\nold\nolder\n{table.END}\nafter\n")
    table.put_between(path, "new \\1\n")
    assert path.read_text() == f"before\n{table.BEGIN}\nnew \\1\n{table.END}\nafter\n"
    path.write_text("no markers\n")
    with pytest.raises(ValueError, match="expected"):
        table.put_between(path, "new")
    assert path.read_text() == "no markers\n"


def test_both_readmes_have_their_markers():
    for path in (BENCH / "README.md", BENCH.parent.parent / "README.md"):
        table.between(path.read_text(), "")


# ---- charts ----


def test_bars_are_as_long_as_their_figures():
    groups = {"into Kafka": {"busbar": 10.0, "kcat": (20.0, 18.0, 24.0)}, "into Redis": {"busbar": 5.0}}
    svg = chart.bars_svg("CPU", "µs", groups)
    widths = rects(svg)
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.3) and widths[2] == pytest.approx(widths[0] / 2, abs=0.3)
    texts = chart.values_of(svg)
    assert texts[0] == "CPU" and {"into Kafka", "into Redis", "busbar", "kcat", "10.0", "20.0", "5"} <= set(texts)


def test_bars_of_a_logarithmic_axis_grow_by_equal_steps():
    widths = rects(chart.bars_svg("CPU", "µs", {"": {"a": 1.0, "b": 10.0, "c": 100.0, "d": 1000.0}}, log=True))
    assert widths[3] - widths[2] == pytest.approx(widths[2] - widths[1], abs=0.3)


def test_a_bar_without_a_figure_says_why_and_text_is_escaped():
    svg = chart.bars_svg("a < b & c", "µs", {"": {"busbar": 1.0, "<glue>": "no figure: 1 < 2"}})
    assert len(rects(svg)) == 1
    root = xml.etree.ElementTree.fromstring(svg)
    texts = [found.text for found in root.iter(f"{SVG}text")]
    assert "a < b & c" in texts and "<glue>" in texts and "no figure: 1 < 2" in texts


def test_lines_go_through_their_points_in_order_of_x():
    svg = chart.lines_svg("grow", "sources", "µs", {"Kafka": [(50, 10), (1, 10), (10, 20)], "none": []}, log_x=True)
    root = xml.etree.ElementTree.fromstring(svg)
    (path,) = [found.get("d") for found in root.iter(f"{SVG}path") if found.get("class") == "line"]
    points = [tuple(map(float, point.split())) for point in path[1:].split("L")]
    assert [x for x, _ in points] == sorted(x for x, _ in points) and len(points) == 3
    assert points[0][1] == points[2][1] > points[1][1]  # SVG's y goes down
    assert {"sources", "µs", "Kafka", "none"} <= set(chart.values_of(svg))


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [0.001, 1e9], [1.0], []])
@pytest.mark.parametrize("log", [False, True])
def test_an_axis_has_room_for_anything(values, log):
    axis = chart.Axis(values, 100, 500, log)
    assert all(100 <= axis.at(value) <= 500 for value in values if value > 0 or not log)
    assert 2 <= len(axis.ticks) <= 14 and axis.ticks == sorted(set(axis.ticks))


def test_a_chart_follows_light_and_dark_and_is_small(tmp_path):
    chart.bar_chart("CPU", "µs", {"": {f"peer {k}": float(k + 1) for k in range(8)}}, tmp_path / "a.svg")
    chart.line_chart("x", "x", "y", {"a": [(k, k * k) for k in range(20)]}, tmp_path / "b.svg")
    for name in ("a.svg", "b.svg"):
        text = (tmp_path / name).read_text()
        xml.etree.ElementTree.fromstring(text)
        assert "prefers-color-scheme:dark" in text and len(text) < 8000


# ---- the profile ----

SCRIPT = """\
100 
	ffffffff81e48d80 simple_copy_to_iter ([kernel.kallsyms])
	          10a974 __libc_recv (/usr/lib/libc.so.6)
	          10a974 nomad_stream_run (/opt/busbar)

100 
	           39602 skip_value (/opt/busbar)

100 
	           39602 pwritev64 (/usr/lib/libc.so.6)

100 
	           39602 __memmove_avx (/usr/lib/libc.so.6)

200 
	           39602 redis_batch_add (/opt/busbar)

200 
	           39602 __libc_pread (/usr/lib/libc.so.6)

200 
	           39602 journal_ring_find (/opt/busbar)

200 
	           39602 journal_ring_find (/opt/busbar)

300 
	           8dca4 [unknown] (/usr/lib/librdkafka.so.1)

400 
	ffffffff81e48d80 ext4_sync ([kernel.kallsyms])
	          10a974 fdatasync (/usr/lib/libc.so.6)

"""


def test_a_profile_is_summed_by_part():
    at = {"skip_value": "connectors/json_scan.c", "redis_batch_add": "connectors/redis/redis_batch.c"}
    at["journal_ring_find"] = "bridge/journal_ring.c"  # in the sink's thread it is the sink's
    samples = cpu_parts.parse(SCRIPT)
    assert len(samples) == 10 and cpu_parts.roles(samples, at) == {100: "scan", 200: "sink", 300: "librdkafka"}
    found = cpu_parts.shares(samples, at)
    assert found == {
        "the sink": 0.4,
        "journal": 0.2,
        "receive": 0.1,
        "scan": 0.1,
        "copies on the way in": 0.1,
        "librdkafka": 0.1,
    }
