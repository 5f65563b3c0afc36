#!/usr/bin/python3
"""deploy/quickstart as a user runs it: twice in a row, from another folder, every printed command as it stands, ctrl-C.

With --real also against a real Nomad, Kafka and Redis (tests/servers/fetch must have run).
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import uuid

QUICKSTART = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "quickstart"
READY_WITHIN_S = 900  # it builds; half a minute on a machine of its own


def processes_with(mark: str) -> list[str]:
    """The command lines of all processes that carry the mark in their environment."""
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def until_ready(process: subprocess.Popen) -> str:
    """What it prints up to its last line."""
    told, start = "", time.monotonic()
    while "Ctrl-C" not in told:
        line = process.stdout.readline()
        assert line, f"it ended: {told}"
        assert time.monotonic() - start < READY_WITHIN_S, f"not ready in time: {told}"
        told += line
    print(f"ready after {time.monotonic() - start:.1f} s")
    return told


def output_of(command: str, seconds: float) -> str:
    """What the command prints within the time; it may run on, as curl -N does."""
    shell = f"timeout {seconds} {command}"
    return subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False).stdout


def watch_every_exit(told: str) -> None:
    """The printed commands, word by word."""
    curl = re.search(r"^  (curl -N http://127\.0\.0\.1:\d+/events)$", told, re.MULTILINE)[1]
    redis = re.search(r"^  (redis-cli .*)$", told, re.MULTILINE)[1]
    kcat = re.search(r"^  (kcat .* -b .*)$", told, re.MULTILINE)[1]
    left = {curl: '"Topic"', redis: '"Payload"', kcat: '"Payload"'}
    for seconds in (4, 6, 10, 20, 40):  # of a busy machine the first may be too few
        left = {command: text for command, text in left.items() if text not in output_of(command, seconds)}
        if not left:
            return
    raise AssertionError(f"nothing seen by {list(left)}\n{told}")


def end_of(process: subprocess.Popen, mark: str) -> None:
    """Waits for it; where it hangs, tells what is left and what that has logged."""
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        left = processes_with(mark)
        folders = {pathlib.Path(word).parent for line in left for word in line.split() if word.endswith("busbar.yaml")}
        logs = [(folder / "busbar.log").read_text(errors="replace")[-3000:] for folder in folders]
        raise AssertionError("\n".join(["not ended after 60 s; left:", *left, *logs])) from None


def run_once(settings: dict | None = None) -> None:
    mark = f"BUSBAR_QUICKSTART_TEST={uuid.uuid4()}"
    environment = {k: v for k, v in os.environ.items() if k not in ("NOMAD_ADDR", "KAFKA_BROKERS", "REDIS_URL")}
    environment |= dict([mark.split("=", 1)]) | (settings or {})
    process = subprocess.Popen(
        [QUICKSTART], cwd="/", env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        watch_every_exit(until_ready(process))
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does
        end_of(process, mark)
        assert process.returncode == 0, process.returncode
    finally:
        process.kill()
        process.wait()
    until = time.monotonic() + 20
    while left := processes_with(mark):
        assert time.monotonic() < until, f"left running: {left}"
        time.sleep(0.1)


def run_against_real_servers() -> None:
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    from rig.kafka import Kafka
    from rig.load import Load
    from rig.nomad import Nomad
    from rig.redis_server import Redis

    with Nomad() as nomad, Kafka() as kafka, Redis() as redis, Load(nomad, rate=20):
        run_once({"NOMAD_ADDR": nomad.address, "KAFKA_BROKERS": kafka.bootstrap, "REDIS_URL": redis.url})


def main() -> int:
    # Started in the background it inherits "ignored", which no shell can trap, and ctrl-C would be nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_once()
    run_once()
    if "--real" in sys.argv[1:]:
        run_against_real_servers()
    print("quickstart: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
