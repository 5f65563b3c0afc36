"""What happens to a journal on a real disk: torn and flipped bytes, a crash of the machine, no room, no rights, files
that are gone, another version, another process. Each event is in Redis once, or inside a Gap that is told there."""

import contextlib
import json
import pathlib
import re
import shutil
import subprocess

import pytest
from rig.busbar import Busbar, run_busbar
from rig.disk import Disk, OnDisk
from rig.events import LineReader
from rig.exits import from_redis
from rig.feed import Feed
from rig.oracle import compare
from rig.proc import wait_until
from rig.redis_server import Redis
from rig.standin import Answer, Standin, refusal

# What the leader says of its lists: it is ahead, so what comes again is no rebuilt cluster's.
LISTS = refusal("200 OK", "[]", {"Content-Type": "application/json", "X-Nomad-Index": 1 << 40})
FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"


class Source(Feed):
    """A feed that knows what it told, and that may forget it."""

    def __init__(self, index: int = 100):
        super().__init__(index)
        self.events, self._reader = [], LineReader()

    def say(self, count: int = 1, **more) -> None:
        for data in super().say(count, **more):
            self.events += self._reader.read(b'{"Events":[' + data + b"]}")

    def say_capture(self, lines: list[bytes]) -> None:
        """Lines of a real agent, to the byte."""
        for line in lines:
            found = self._reader.read(line)
            self.events += found
            with self._news:
                self._lines.append(line)
                self.index = max([self.index, *(event.index for event in found)])
                self._news.notify_all()

    def keep(self, count: int) -> None:
        """All but the newest lines are no longer told; only while nobody listens."""
        with self._news:
            del self._lines[1 : max(1, len(self._lines) - count)]


@pytest.fixture
def source():
    told, answer = Source(), Answer()
    answer.steps = told
    with Standin(answer, default=LISTS) as server:
        told.address = server.address
        yield told


@pytest.fixture
def redis():
    with Redis() as server:
        yield server


def _config(source: Source, redis: Redis, name: str = "prod", **journal) -> dict:
    sources = [{"name": name, "type": "nomad", "servers": [source.address], "start": "oldest"}]
    sinks = [{"name": "cache", "type": "redis", "url": redis.url}]
    return {"name": "t", "journal": journal, "sources": sources, "sinks": sinks}


def _wait_passed(busbar: Busbar, source: Source, timeout: float = 30) -> None:
    def passed() -> bool:
        (status,) = busbar.status()["sources"]
        (sink,) = status["sinks"]
        return sink["index"] >= source.index and not sink["lag_events"]

    wait_until(passed, timeout, f"index {source.index} is in Redis\n{busbar.log_tail()}")


def _wait_journaled(busbar: Busbar, source: Source) -> None:
    def journaled() -> bool:
        return busbar.status()["sources"][0]["last_index"] >= source.index

    wait_until(journaled, 30, f"index {source.index} is in the journal\n{busbar.log_tail()}")


def _wait_error(busbar: Busbar) -> str:
    """It ends by itself, with one line that says why."""
    assert busbar.process.wait(20) == 1, busbar.log_tail()
    (error,) = busbar.log_lines("start_failed")
    assert "level=error" in error
    return error


def _verdict(source: Source, redis: Redis, name: str = "prod"):
    return compare({name: source.events}, from_redis(redis.read_streams()), excuse_gaps=True)


def _assert_once(source: Source, redis: Redis, name: str = "prod") -> None:
    _verdict(source, redis, name).assert_exact()


def _assert_told(source: Source, redis: Redis, most: int) -> list[dict]:
    """What is missing lies inside Gaps, which miss something, and not more than so much; their payloads."""
    verdict = _verdict(source, redis)
    assert not verdict.findings, verdict.details()
    assert 0 < len(verdict.excused) <= most, verdict.details()
    return [json.loads(gap.data)["Payload"] for gap in verdict.gaps]


# ---- the files ----


def _folder(busbar: Busbar, name: str = "prod") -> pathlib.Path:
    return busbar.folder / "journal" / name


def _files(busbar: Busbar) -> dict[str, bytes]:
    """All that the journal has but its lock."""
    files = [path for path in _folder(busbar).iterdir() if path.is_file() and path.name != "lock"]
    return {path.name: path.read_bytes() for path in files}


def _segments(busbar: Busbar) -> list[pathlib.Path]:
    return sorted(_folder(busbar).glob("*.seg"))


def _size(busbar: Busbar) -> int:
    """Of all segments, which it may give up at this very moment."""
    sizes = []
    for path in _segments(busbar):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sum(sizes)


def _delete(folder: pathlib.Path) -> None:
    """rm -r at one stroke: else it may be made anew in the midst, and be deleted once more."""
    aside = folder.with_name(f"{folder.name}.aside")
    folder.rename(aside)
    shutil.rmtree(aside)


def _flip(path: pathlib.Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def _cut(path: pathlib.Path, size: int) -> None:
    with open(path, "r+b") as file:
        file.truncate(size)


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _change_meta(busbar: Busbar, **values) -> None:
    """Replaces values in `meta`, which stays sound."""
    path = _folder(busbar) / "meta"
    text = path.read_text().partition("crc=")[0]
    for key, value in values.items():
        text = re.sub(rf"(?m)^{key}=.*$", f"{key}={value}", text)
    path.write_text(f"{text}crc={_crc32c(text.encode()):08x}\n")


def _crash(busbar: Busbar, keep_bytes: float) -> None:
    """A crash of the machine: another boot id, and of the last segment only that share was on the disk."""
    busbar.kill9()
    last = _segments(busbar)[-1]
    _cut(last, int(last.stat().st_size * keep_bytes))
    _change_meta(busbar, boot="00000000-0000-0000-0000-000000000000")


# ---- torn and flipped bytes ----


@pytest.mark.parametrize("where", ["in a record", "in a header", "in several places"])
def test_flipped_bytes_are_a_gap_that_names_the_stretch(source, redis, where):
    with Busbar(_config(source, redis)) as busbar:
        source.say(50)
        _wait_passed(busbar, source)
        redis.stop()
        for _ in range(20):  # a block or more each
            source.say(10, size=3000)
            _wait_journaled(busbar, source)
        busbar.stop()
        (segment,) = _segments(busbar)
        data = segment.read_bytes()
        blocks = [match.start() for match in re.finditer(b"\xfeBB2", data)]
        assert len(blocks) > 10
        offsets = {
            "in a record": [data.index(b'"Index":250')],
            "in a header": [blocks[-6] + 30],
            "in several places": [blocks[-9] + 3, blocks[-6] + 700, blocks[-3] + 16],
        }[where]
        for offset in offsets:
            _flip(segment, offset)
        source.keep(3)
        redis.start()
        busbar.start()
        source.say(20)
        _wait_passed(busbar, source)
        gaps = _assert_told(source, redis, 20 * len(offsets))
        assert len(gaps) == len(offsets) and all("unreadable" in gap["Reason"] for gap in gaps)
        told = busbar.log_lines("journal_bad_block")[0]
        assert "level=warn" in told and segment.name in told and "check the disk" in told
        told = {re.search(r" from=\d+ to=\d+ ", line)[0] for line in busbar.log_lines("sink_gap")}  # again at each try
        assert len(told) == len(offsets)


@pytest.mark.parametrize("bytes_torn", [1, 64, 5000])
def test_a_torn_tail_is_cut_and_asked_for_again(source, redis, bytes_torn):
    with Busbar(_config(source, redis)) as busbar:
        source.say(50)
        _wait_passed(busbar, source)
        source.say(20, size=500)
        _wait_passed(busbar, source)
        busbar.kill9()
        last = _segments(busbar)[-1]
        _cut(last, last.stat().st_size - bytes_torn)
        busbar.start()
        source.say(20)
        _wait_passed(busbar, source)
        _assert_once(source, redis)
        assert "offset=" in busbar.log_lines("journal_cut")[0]


def test_damage_that_no_sink_needs_is_told_only_in_the_log(source, redis):
    """All that is unreadable was published before."""
    with Busbar(_config(source, redis)) as busbar:
        for _ in range(5):
            source.say(20, size=500)
            _wait_passed(busbar, source)
        busbar.stop()
        (segment,) = _segments(busbar)
        _flip(segment, segment.read_bytes().index(b'"Index":130'))
        source.keep(3)
        busbar.start()
        source.say(20)
        _wait_passed(busbar, source)
        _assert_once(source, redis)
        busbar.wait_log("event=journal_bad_block")


# ---- the machine goes down, and the sinks have more than the journal ----


@pytest.mark.parametrize("keep_bytes", [0.0, 0.4, 0.999])
def test_after_a_crash_of_the_machine_nothing_is_there_twice(source, redis, keep_bytes):
    with Busbar(_config(source, redis)) as busbar:
        for _ in range(6):
            source.say(30, size=500)
            _wait_passed(busbar, source)
        _crash(busbar, keep_bytes)
        busbar.start()
        source.say(20)
        _wait_passed(busbar, source)
        _assert_once(source, redis)
        told = busbar.log_lines("journal_new_id")[0]
        assert 'why="the machine went down"' in told and "sinks go on by identity" in told
        busbar.restart(hard=True)
        source.say(20)
        _wait_passed(busbar, source)
        _assert_once(source, redis)


def test_after_a_crash_what_the_source_forgot_meanwhile_is_a_gap(source, redis):
    with Busbar(_config(source, redis)) as busbar:
        for _ in range(6):
            source.say(30, size=500)
            _wait_passed(busbar, source)
        last = source.index
        _crash(busbar, 0.4)
        source.say(50)
        source.keep(10)
        busbar.start()
        source.say(20)
        _wait_passed(busbar, source)
        gaps = _assert_told(source, redis, 40)
        assert any(gap["From"] <= last + 1 and gap["To"] >= last + 40 for gap in gaps), gaps


def test_after_a_crash_the_source_may_know_just_enough(source, redis):
    """It begins inside what the sinks have and the journal lost: no proof for the journal, but nothing is missing."""
    with Busbar(_config(source, redis)) as busbar:
        for _ in range(6):
            source.say(30, size=500)
            _wait_passed(busbar, source)
        _crash(busbar, 0.4)
        source.keep(20)
        busbar.start()
        source.say(20)
        _wait_passed(busbar, source)
        verdict = _verdict(source, redis)
        assert not verdict.findings and not verdict.excused, verdict.details()


def test_after_a_crash_the_sink_may_be_away_until_the_journal_has_grown_past_it(source, redis):
    """By then its seq means something in the new journal too: only the journal's id tells."""
    with Busbar(_config(source, redis)) as busbar:
        for _ in range(6):
            source.say(30, size=500)
            _wait_passed(busbar, source)
        _crash(busbar, 0.2)
        redis.stop()
        source.keep(100)  # so that what comes again gets other numbers
        busbar.start()
        source.say(400)
        _wait_journaled(busbar, source)
        redis.start()
        _wait_passed(busbar, source)
        verdict = _verdict(source, redis)
        assert not verdict.findings and not verdict.excused, verdict.details()


# ---- no room ----


@pytest.fixture
def disk(tmp_path):
    made = Disk(tmp_path / "disk", "6m")
    if made.why:
        pytest.skip(f"NO FILE SYSTEM OF ITS OWN: mounting is not allowed here ({made.why})")
    yield made
    made.close()


def _wait_full(busbar: Busbar) -> None:
    line = busbar.wait_log("event=journal_full")
    assert "level=error" in line and "source=prod" in line and "make room on the disk" in line


def test_a_full_disk_is_waited_for_and_told(source, redis, disk):
    with OnDisk(_config(source, redis, path=str(disk.folder), max_size="32MiB"), disk) as busbar:
        source.say(50)
        _wait_passed(busbar, source)
        redis.stop()
        source.say(900, size=10000)
        _wait_full(busbar)
        assert "No space left on device" in busbar.log_lines("journal_full")[0]
        assert busbar.get("/healthz")[0] == 200
        disk.remount("size=32m")
        busbar.wait_log("event=journal_has_room")
        _wait_journaled(busbar, source)
        redis.start()
        _wait_passed(busbar, source)
        _assert_once(source, redis)
        assert len(busbar.log_lines("journal_full")) == 1


def test_a_full_disk_frees_itself_when_the_sink_is_back(source, redis, disk):
    """Nobody has to act: what every sink has passed is given up."""
    with OnDisk(_config(source, redis, path=str(disk.folder), max_size="16MiB"), disk) as busbar:
        source.say(50)
        _wait_passed(busbar, source)
        redis.stop()
        source.say(900, size=10000)
        _wait_full(busbar)
        redis.start()
        _wait_passed(busbar, source)
        _assert_once(source, redis)
        busbar.wait_log("event=journal_has_room")


def test_a_disk_that_is_full_at_start_is_a_clear_error(source, redis, disk):
    with OnDisk(_config(source, redis, path=str(disk.folder)), disk) as busbar:
        source.say(50)
        _wait_passed(busbar, source)
        busbar.kill9()
        disk.fill()
        busbar.start(wait=False)
        error = _wait_error(busbar)
        assert f"{disk.folder}/" in error and "No space left on device" in error
        disk.empty()
        busbar.start()
        source.say(20)
        _wait_passed(busbar, source)
        _assert_once(source, redis)


def test_a_file_size_limit_is_like_a_full_disk(source, redis):
    """ulimit -f, also where no file system can be made."""
    with Busbar(_config(source, redis)) as busbar:
        source.say(50)
        _wait_passed(busbar, source)
        subprocess.run(["prlimit", "--pid", str(busbar.pid), "--fsize=300000:unlimited"], check=True)
        source.say(300, size=5000)
        _wait_full(busbar)
        subprocess.run(["prlimit", "--pid", str(busbar.pid), "--fsize=unlimited:unlimited"], check=True)
        busbar.wait_log("event=journal_has_room")
        _wait_passed(busbar, source)
        _assert_once(source, redis)
        busbar.restart(hard=True)
        source.say(20)
        _wait_passed(busbar, source)
        _assert_once(source, redis)


def test_past_max_size_the_oldest_goes_and_the_sink_is_told(source, redis):
    with Busbar(_config(source, redis, max_size="1MiB")) as busbar:
        source.say(50)
        _wait_passed(busbar, source)
        last = source.index
        redis.stop()
        source.say(1000, size=12000)  # more than what memory and journal hold
        _wait_journaled(busbar, source)  # nothing waits for Redis
        wait_until(lambda: _size(busbar) <= 1 << 20, 20, "the oldest is given up")
        redis.start()
        _wait_passed(busbar, source)
        (gap,) = _assert_told(source, redis, 950)
        assert gap["From"] == last and "no longer held" in gap["Reason"]
        busbar.wait_log(f"from={last} to={gap['To']}")


# ---- no rights ----


def test_a_read_only_file_system_is_a_clear_error(source, redis, disk):
    with OnDisk(_config(source, redis, path=str(disk.folder)), disk) as busbar:
        source.say(50)
        _wait_passed(busbar, source)
        busbar.stop()
        disk.remount("ro")
        busbar.start(wait=False)
        error = _wait_error(busbar)
        assert f"{disk.folder}/" in error and "Read-only file system" in error
        disk.remount("rw")
        busbar.start()
        source.say(20)
        _wait_passed(busbar, source)
        _assert_once(source, redis)


def test_a_folder_that_cannot_be_written_is_a_clear_error(source, redis, tmp_path):
    """Where nothing can be mounted. /proc takes no file from anybody."""
    told = _run_once(source, redis, tmp_path, "/proc/busbar")
    assert told.returncode == 1 and "level=error" in told.stderr and "/proc/busbar" in told.stderr


def _run_once(source: Source, redis: Redis, tmp_path: pathlib.Path, journal) -> subprocess.CompletedProcess:
    path = tmp_path / "once.yaml"
    config = {**_config(source, redis, path=str(journal)), "http": {"listen": "127.0.0.1:0"}}
    path.write_text(json.dumps(config))
    return run_busbar("run", "-c", path)


# ---- deleted while it runs ----


def test_deleted_under_way_it_is_made_anew_and_nothing_is_lost(source, redis):
    with Busbar(_config(source, redis)) as busbar:
        source.say(50)
        _wait_passed(busbar, source)
        _delete(_folder(busbar).parent)
        source.say(20)
        line = busbar.wait_log("event=journal_files_deleted")
        assert "level=warn" in line and str(_folder(busbar)) in line and "journal.max_size" in line
        source.say(20)
        _wait_passed(busbar, source)
        busbar.restart(hard=True)
        source.say(20)
        _wait_passed(busbar, source)
        _assert_once(source, redis)
        assert len(busbar.log_lines("journal_files_deleted")) == 1


def test_deleted_under_way_a_sink_that_lagged_is_told(source, redis):
    with Busbar(_config(source, redis)) as busbar:
        source.say(50)
        _wait_passed(busbar, source)
        redis.stop()
        source.say(200)
        _wait_journaled(busbar, source)
        _delete(_folder(busbar))
        busbar.wait_log("event=journal_files_deleted")
        source.say(20)
        _wait_journaled(busbar, source)
        busbar.kill9()  # and with it what memory had
        source.keep(10)
        redis.start()
        busbar.start()
        source.say(20)
        _wait_passed(busbar, source)
        (gap,) = _assert_told(source, redis, 220)
        assert gap["From"] == 150 and "no longer held" in gap["Reason"]


def test_deleted_and_taken_by_another_process_it_ends_and_says_who(source, redis, tmp_path):
    """A standby, as an owner whose pair is taken by force may end over that first."""
    config = {**_config(source, redis, path=str(tmp_path / "journal")), "standby": True}
    with Busbar(config) as first:
        source.say(50)
        _wait_passed(first, source)
        first.pause()  # else it may have the place again before the other comes
        _delete(tmp_path / "journal")
        with Busbar(config) as second:
            first.resume()
            assert first.process.wait(20) == 1, first.log_tail()
            failed = first.log_lines("source_failed")
            assert failed and f"in use by another process (pid {second.pid})" in failed[0]
            source.say(20)
            _wait_passed(second, source)
            _assert_once(source, redis)


def test_two_processes_on_one_path(source, redis):
    with Busbar(_config(source, redis)) as first:
        source.say(50)
        _wait_passed(first, source)
        second = run_busbar("run", "-c", first.config_path)
        assert second.returncode == 1
        assert f"in use by another process (pid {first.pid})" in second.stderr
        source.say(50)
        _wait_passed(first, source)
        _assert_once(source, redis)


def test_what_stands_in_its_place_is_a_clear_error(source, redis):
    with Busbar(_config(source, redis)) as busbar:
        source.say(20)
        _wait_passed(busbar, source)
        busbar.pause()  # else it may have made it anew by then
        _delete(_folder(busbar))
        _folder(busbar).write_text("not a folder")
        busbar.resume()
        assert busbar.process.wait(20) == 1
        failed = busbar.log_lines("source_failed")[0]
        assert "level=error" in failed and str(_folder(busbar)) in failed and "Not a directory" in failed


# ---- another version ----


def test_a_journal_of_format_1_is_read_and_gone_on_with(source, redis):
    source.index = 0
    source.say_capture((FIXTURES / "nomad/capture.ndjson").read_bytes().splitlines(keepends=True)[:12])
    with Busbar(_config(source, redis, name="old")) as busbar:
        busbar.stop()
        shutil.rmtree(busbar.folder / "journal")
        shutil.copytree(FIXTURES / "journal-format-1", _folder(busbar, "old"))
        for key in redis.client().keys():
            redis.client().delete(key)
        source.keep(4)
        busbar.start()
        source.say(20)
        _wait_passed(busbar, source)
        _assert_once(source, redis, "old")
        assert "next_seq=20" in busbar.log_lines("journal_format_raised")[0]
        busbar.restart(hard=True)
        source.say(20)
        _wait_passed(busbar, source)
        _assert_once(source, redis, "old")
        assert len(busbar.log_lines("journal_format_raised")) == 1


@pytest.mark.parametrize("what", ["meta", "segment"])
def test_a_newer_format_is_refused_and_nothing_is_touched(source, redis, what):
    with Busbar(_config(source, redis)) as busbar:
        source.say(20)
        _wait_passed(busbar, source)
        busbar.stop()
        (segment,) = _segments(busbar)
        if what == "meta":
            _change_meta(busbar, format=9)
        else:
            header = bytearray(segment.read_bytes())
            header[12:16] = (9).to_bytes(4, "little")
            header[8:12] = _crc32c(header[12:64]).to_bytes(4, "little")
            segment.write_bytes(header)
        before = _files(busbar)
        busbar.start(wait=False)
        error = _wait_error(busbar)
        assert "written by a newer busbar (format 9, this one reads up to 2)" in error
        assert "run that version" in error
        assert before == _files(busbar)
