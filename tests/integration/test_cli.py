"""The command line as a person meets it: mistakes told with file and line, exit statuses, what `check` leaves alone."""

import json
import os
import socket
import time

import pytest
from rig.busbar import Busbar, binary, run_busbar
from rig.ports import free_port
from rig.proc import wait_until

GOOD = """\
name: t
journal: {path: JOURNAL}
http: {listen: 127.0.0.1:0}
sources:
  - name: prod
    type: nomad
    servers: [http://127.0.0.1:4646]
sinks:
  - {name: lake, type: kafka, brokers: 127.0.0.1:9092}
"""


def _write(folder, text: str):
    path = folder / "busbar.yaml"
    path.write_text(text.replace("JOURNAL", str(folder / "journal")))
    return path


def test_version_and_usage():
    assert run_busbar("version").stdout.startswith("busbar ")
    assert run_busbar("help").returncode == 0
    for words in ((), ("run",), ("check",), ("dance",), ("run", "-c"), ("check", "-x", "f")):
        told = run_busbar(*words)
        assert told.returncode == 2
        assert "usage: busbar run -c FILE" in told.stderr


def test_settings_names_every_key():
    told = run_busbar("settings").stdout
    for key in ("max_size", "servers", "filter_at", "brokers", "commit_interval", "max_entries", "listen", "standby"):
        assert key in told


def test_check_connects_to_nothing_and_creates_nothing(tmp_path):
    path = _write(tmp_path, GOOD)
    told = run_busbar("check", "-c", path)
    assert told.returncode == 0, told.stderr
    assert told.stdout == f"{path}: ok\n"
    assert sorted(os.listdir(tmp_path)) == ["busbar.yaml"]


MISTAKES = {
    "unknown key": (("brokers:", "brokrs:"), 9, ['"brokrs"', "brokers"]),
    "wrong type": (("servers: [http://127.0.0.1:4646]", "servers: {a: b}"), 7, ["mapping", "servers"]),
    "missing field": ((", brokers: 127.0.0.1:9092", ""), 9, ["brokers"]),
    "undefined variable": (("name: t", "name: ${NOT_SET_ANYWHERE}"), 1, ["NOT_SET_ANYWHERE"]),
    "unreadable secret": (("name: prod", "name: prod\n    token: ${file:/no/such/token}"), 6, ["/no/such/token"]),
    "ill-formed name": (("name: prod", "name: Prod!"), 5, ["Prod!", "a-z"]),
    "unknown type": (("type: nomad", "type: nomat"), 6, ["nomat", "nomad"]),
    "bad url": (("http://127.0.0.1:4646", "ftp://x"), 7, ["ftp://x"]),
    "bad port": (("127.0.0.1:0", "127.0.0.1:99999"), 3, ["99999"]),
    "bad size": (("path: JOURNAL", "path: JOURNAL, max_size: 3 apples"), 2, ["3 apples"]),
    "bad sync": (("path: JOURNAL", "path: JOURNAL, sync: often"), 2, ["often", "always, never"]),
    "bad template": (("type: kafka", 'type: kafka, topic: "%{topci}"'), 9, ["%{topci}"]),
    "double name": (
        ("sinks:", "  - {name: prod, type: nomad, servers: [http://127.0.0.1:1]}\nsinks:"),
        8,
        ['"prod"', "line 5"],
    ),
    "unknown source": (("type: kafka", "type: kafka, sources: [nope]"), 9, ['"nope"']),
    "not loopback": (("127.0.0.1:0", "0.0.0.0:8484"), 3, ["0.0.0.0:8484", "allow_anonymous"]),
    "not YAML": (("sinks:", "sinks: ["), 9, []),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_line(name, tmp_path):
    (old, new), line, words = MISTAKES[name]
    assert old in GOOD
    path = _write(tmp_path, GOOD.replace(old, new))
    for command in ("check", "run"):
        told = run_busbar(command, "-c", path)
        assert told.returncode == 2, told
        first = told.stderr.splitlines()[0]
        assert first.startswith(f"{path}:"), first
        if name != "not YAML":
            assert first.startswith(f"{path}:{line}: "), first
        for word in words:
            assert word in first, first
    assert not (tmp_path / "journal").exists()


def test_every_mistake_is_told_in_one_run(tmp_path):
    text = GOOD.replace("brokers:", "brokrs:").replace("name: prod", "name: Prod!").replace("name: t", "nmae: t")
    lines = run_busbar("check", "-c", _write(tmp_path, text)).stderr.splitlines()
    assert [int(line.split(":")[1]) for line in lines] == sorted(int(line.split(":")[1]) for line in lines)
    assert {int(line.split(":")[1]) for line in lines} >= {1, 5, 9}


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_a_file_that_cannot_be_read(what, tmp_path):
    path = tmp_path if what == "folder" else tmp_path / "none.yaml"
    told = run_busbar("check", "-c", path)
    assert told.returncode == 2
    assert told.stderr.startswith(f"{path}:")


def test_a_port_that_is_taken_ends_it_with_a_clear_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = run_busbar("run", "-c", _write(tmp_path, GOOD.replace("127.0.0.1:0", f"127.0.0.1:{port}")))
    assert told.returncode == 1
    errors = [line for line in told.stderr.splitlines() if line.startswith("level=error")]
    assert len(errors) == 1 and str(port) in errors[0] and "in use" in errors[0], told.stderr


def test_a_journal_that_another_process_holds(tmp_path):
    source = {"name": "prod", "type": "nomad", "servers": [f"http://127.0.0.1:{free_port()}"]}
    with Busbar({"journal": {"path": str(tmp_path / "j")}, "sources": [source]}) as first:
        second = run_busbar("run", "-c", first.config_path)
        assert second.returncode == 1
        assert f"in use by another process (pid {first.pid})" in second.stderr


def test_a_journal_that_cannot_be_made(tmp_path):
    path = tmp_path / "busbar.yaml"
    path.write_text(GOOD.replace("JOURNAL", "/proc/none"))
    told = run_busbar("run", "-c", path)
    assert told.returncode == 1
    assert "/proc/none" in told.stderr


def _warnings(busbar: Busbar, sink: str) -> list[str]:
    return [line.rpartition(" ts=")[0] for line in busbar.log_lines("sink_backoff") if f" sink={sink} " in line]


def test_exits_away_at_start_are_told_once_and_found_when_they_come(tmp_path, kafka, redis, nomad, source_name):
    """A broker, a Redis that are not there: one warning each that names the address; the rest goes on."""
    gone_kafka, gone_redis = free_port(), free_port()
    config = {
        "sources": [{"name": source_name, "type": "nomad", "servers": [nomad.address]}],
        "sinks": [
            {"name": "lake", "type": "kafka", "brokers": f"127.0.0.1:{gone_kafka}"},
            {"name": "cache", "type": "redis", "url": f"redis://127.0.0.1:{gone_redis}/0"},
            {"name": "other", "type": "redis", "url": redis.url},
        ],
    }
    with Busbar(config) as busbar:
        wait_until(lambda: all(_warnings(busbar, name) for name in ("lake", "cache")), 30, f"two warnings\n{busbar.log_tail()}")
        assert f":{gone_kafka}" in _warnings(busbar, "lake")[0]
        assert f":{gone_redis}: Connection refused: is Redis up, is url: right?" in _warnings(busbar, "cache")[0]
        wait_until(lambda: busbar.log_lines("sink_publishing"), 20, f"the other publishes\n{busbar.log_tail()}")
        status, why = busbar.get("/readyz")
        assert status == 503 and b"lake" in why and b"cache" in why and b"other" not in why
        time.sleep(3)
        for name in ("lake", "cache", "other"):
            told = _warnings(busbar, name)
            assert len(told) == len(set(told)) and len(told) <= (1 if name == "cache" else 2), busbar.log_tail(60)
        assert not busbar.log_lines("librdkafka"), busbar.log_tail(60)
        assert busbar.stop() == 0


def test_sigterm_ends_it_with_status_0_and_says_so(tmp_path):
    source = {"name": "prod", "type": "nomad", "servers": [f"http://127.0.0.1:{free_port()}"]}
    with Busbar({"sources": [source]}) as busbar:
        assert busbar.stop() == 0
        assert busbar.log_lines("stopped")
    assert binary().is_file()


def test_logs_are_json_where_asked(tmp_path):
    source = {"name": "prod", "type": "nomad", "servers": [f"http://127.0.0.1:{free_port()}"]}
    with Busbar({"log": "json", "sources": [source]}) as busbar:
        busbar.stop()
        for line in busbar.log_lines():
            assert json.loads(line)["level"] in ("debug", "info", "warn", "error")
