"""Real Nomad agents and the tap."""

import pathlib
import time

import pytest

from . import fabricate, watchdog
from .load import Load
from .nomad import Nomad, Refused, close_all, nomad_cluster, wait_leader
from .oracle import compare
from .proc import wait_until
from .proxy import Proxy
from .tap import Tap
from .wire import sent_bytes


def test_tap_sees_all_that_a_real_nomad_tells_through_kill9():
    with Nomad() as nomad, Tap(nomad.address, reconnect=True) as tap, Load(nomad, rate=120) as load:
        tap.wait_events(150)
        nomad.kill9()
        time.sleep(0.5)
        nomad.start()
        tap.wait_events(len(tap.events) + 150)
        load.stop()
        tap.wait_all(nomad)
        assert tap.intact and tap.disconnects and load.numbers == sorted(load.numbers)
        with Tap(nomad.address) as fresh:
            fresh.wait_events(len(tap.events))
            assert fresh.intact
            compare({"nomad": tap.events}, fabricate.exits_of(fresh.events, "nomad")).assert_exact()
        assert any(event.occurrence for event in tap.events)
        assert b"\\u2028" in max(tap.lines, key=len) and len(max(tap.lines, key=len)) > 40_000


def test_nomad_runs_jobs_and_leaves_nothing_behind():
    with Nomad(client=True) as nomad, Tap(nomad.address) as tap:
        nomad.register_job("web", 1, service=True)
        wait_until(lambda: any(event.topic == "Service" for event in tap.events), 30, "the service is there")
        nomad.kill9()
        wait_until(lambda: tap.disconnects, 10, "the tap is cut")
        assert not tap.intact
        nomad.start()
        wait_until(lambda: nomad.api("GET", "/v1/job/web/allocations")[0]["ClientStatus"] == "running", 30, "it runs")
        mark, folder = nomad.mark, nomad.folder
    assert watchdog.sweep(mark) == 0 and not folder.exists()
    assert str(folder) not in pathlib.Path("/proc/mounts").read_text()


def test_nomad_asks_for_tokens():
    with Nomad(acl=True) as nomad:
        with pytest.raises(Refused, match="500 Permission denied"):
            nomad.api("GET", "/v1/event/stream?topic=*&namespace=*", token="")
        with pytest.raises(Refused, match="403 Permission denied"):
            nomad.api("GET", "/v1/event/stream?topic=*", token="0a7a3e7c-0000-0000-0000-000000000000")
        reader = nomad.create_token('namespace "default" { policy = "read" }')
        nomad.register_job("web")
        with Tap(nomad.address, reader, topics=("Job",), namespace="default") as tap:
            tap.wait_events(1)
        nomad.restart()
        assert nomad.api("GET", "/v1/jobs")


def test_nomad_cluster_survives_its_leader():
    members = nomad_cluster(3)
    try:
        leader = wait_leader(members)
        leader.kill9()
        rest = [member for member in members if member is not leader]
        wait_until(lambda: answers(rest[0]), 30, "another one leads")
    finally:
        close_all(members)


def answers(nomad):
    try:
        return nomad.register_job("web")
    except Refused:
        return None


def test_proxy_records_what_the_tap_got_and_cuts():
    with Nomad() as nomad, Proxy(nomad.http_port) as proxy, Tap(proxy.address) as tap:
        nomad.register_job("web", payload_size=100_000)
        tap.wait_quiet()
        sent = sent_bytes(proxy)
        compare({"nomad": tap.events}, fabricate.exits_of(tap.events, "nomad"), sent).assert_exact()
        proxy.freeze()
        nomad.register_job("web")
        before = len(tap.events)
        time.sleep(0.5)
        assert len(tap.events) == before
        proxy.thaw()
        tap.wait_events(before + 1)
        proxy.cut(reset=True)
        wait_until(lambda: tap.disconnects, 10, "the tap is cut")
