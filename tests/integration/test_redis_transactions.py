"""Bursts into a Redis, which go there by transactions, while others do things to it in their midst."""

import contextlib
import itertools
import json
import random
import threading
import time

import pytest
import redis as client
from rig.busbar import Busbar
from rig.ports import free_port
from rig.proc import wait_until
from rig.redis_server import Redis

LINES, EVENTS = 200, 25  # of a burst; in a line
TOPICS = ("Job", "Node", "Allocation")


@pytest.fixture
def server():
    with Redis({"appendfsync": "no"}) as server:
        yield server


def _config(feed, url: str, **more) -> dict:
    source = {"name": "prod", "type": "nomad", "servers": [feed.address], "start": "oldest"}
    sink = {"name": "cache", "type": "redis", "url": url, "max_entries": 0, **more}
    return {"name": "t", "sources": [source], "sinks": [sink]}


def _say(feed, lines: int = LINES) -> None:
    """Topics in turns, so that each batch has entries for several streams."""
    for i in range(lines):
        feed.say(1, topic=TOPICS[i % len(TOPICS)], events=EVENTS)


def _found(server: Redis, source: str) -> dict[str, list[tuple[int, int]]]:
    """Of each stream index and occurrence of its events, by their ids; what others wrote has none."""
    found = {}
    for topic in TOPICS:
        entries = server.read_stream(f"{source}:{topic}")
        ids = [fields["id"].decode().split("/") for _, fields in entries if "id" in fields]
        found[topic] = [(int(words[1]), int(words[-1])) for words in ids]
    return found


def _all_there(server: Redis, feed, events: int = EVENTS) -> bool:
    """So many of the last index too: a batch may end in its midst."""
    checkpoint = json.loads(server.client().get("busbar:{prod}:t.cache:checkpoint") or "{}")
    return checkpoint.get("index") == feed.index and len(checkpoint["hashes"]) == events


def _wait_exact(server: Redis, busbar: Busbar, feed, first: int, source: str = "prod") -> None:
    """Each event once, in order."""
    wait_until(lambda: _all_there(server, feed), 60, f"all is published\n{busbar.log_tail()}")
    found = _found(server, source)
    assert all(events == sorted(set(events)) for events in found.values())
    assert sorted(sum(found.values(), [])) == list(itertools.product(range(first, feed.index + 1), range(EVENTS)))


def _calls(server: Redis, command: str) -> int:
    return server.client().info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)


@contextlib.contextmanager
def _meanwhile(do):
    """Calls `do` again and again in a thread of its own."""
    done = threading.Event()

    def run():
        while not done.is_set():
            with contextlib.suppress(client.RedisError):
                do()
            time.sleep(random.uniform(0, 0.003))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_burst_goes_by_transactions(feed, server):
    first = feed.index + 1
    _say(feed)
    with Busbar(_config(feed, server.url)) as busbar:
        _wait_exact(server, busbar, feed, first)
        # Two for each transaction. What is left of a line where a batch ends may be little enough for the script.
        assert _calls(server, "exec") > LINES * EVENTS // 256 and _calls(server, "evalsha") < _calls(server, "exec") / 2
        entry_id, fields = server.read_stream("prod:Job")[-1]
        assert entry_id == f"{json.loads(fields['data'])['Index']}-{EVENTS - 1}"
        assert list(fields) == ["id", "source", "topic", "type", "key", "namespace", "time", "data"]
        single = _calls(server, "evalsha")
        for _ in range(3):  # one event alone goes by script; what comes then does not
            feed.say(1, events=1, topic="Node")
            wait_until(lambda: _all_there(server, feed, 1), 20, "it is published")
            before = _calls(server, "exec")
            _say(feed)
            wait_until(lambda: _all_there(server, feed), 60, "all is published")
            assert _calls(server, "exec") > before + LINES * EVENTS // 256
        assert single < _calls(server, "evalsha") < _calls(server, "exec") / 2
        assert not busbar.log_lines("sink_backoff")


def test_a_cluster_takes_transactions_too(feed):
    first = feed.index + 1
    with Redis({"cluster-enabled": "yes", "cluster-port": free_port(), "appendfsync": "no"}) as node:
        node.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: b"cluster_state:ok" in _cluster_info(node), 30, "the cluster is up")
        with Busbar(_config(feed, node.url, cluster=True, stream="{%{source}}:%{topic}")) as busbar:
            _say(feed)
            _wait_exact(node, busbar, feed, first, source="{prod}")
            assert _calls(node, "exec") > LINES * EVENTS // 256


def _cluster_info(node: Redis) -> bytes:
    answer = node.client().execute_command("CLUSTER", "INFO")
    return answer if isinstance(answer, bytes) else json.dumps(answer).replace('": "', ":").encode()


def _add(admin) -> None:
    admin.xadd("prod:Job", {"theirs": 1})


def _add_and_delete(admin) -> None:
    admin.xdel("prod:Job", admin.xadd("prod:Job", {"theirs": 1}))


def _raise_last_id(admin) -> None:
    """Which is told to no WATCH."""
    last = admin.xinfo_stream("prod:Node")["last-generated-id"].decode().split("-")
    admin.execute_command("XSETID", "prod:Node", f"{int(last[0]) + 3}-0")


def _make_groups(admin) -> None:
    admin.xgroup_create("prod:Job", str(time.time_ns()), id="0")


@pytest.mark.parametrize("do", [_add, _add_and_delete, _raise_last_id, _make_groups])
def test_what_others_do_to_a_stream_costs_no_event(feed, server, do):
    first, admin = feed.index + 1, server.client()
    _say(feed, 10)
    with Busbar(_config(feed, server.url)) as busbar:
        _wait_exact(server, busbar, feed, first)
        with _meanwhile(lambda: do(admin)):
            for _ in range(4):
                _say(feed)
                time.sleep(0.2)
            _wait_exact(server, busbar, feed, first)
        assert _calls(server, "exec") > 0


def _wait_by_transaction(server: Redis, feed) -> None:
    """Until the next batch will go so: it is the script's where the last one was small."""

    def goes() -> bool:
        scripts = _calls(server, "evalsha")
        _say(feed, len(TOPICS))
        wait_until(lambda: _all_there(server, feed), 20, "it is published")
        return _calls(server, "evalsha") == scripts

    wait_until(goes, 20, "all goes by transactions")


@pytest.mark.parametrize(("key", "told"), [("owner", "took over"), ("checkpoint", "t.cache:checkpoint: ")])
def test_owner_and_checkpoint_are_compared_by_a_transaction_too(feed, server, key, told):
    """All the rest is as it was found: the streams were not touched, and the batch fits."""
    first, admin = feed.index + 1, server.client()
    _say(feed)
    with Busbar(_config(feed, server.url)) as busbar:
        _wait_exact(server, busbar, feed, first)
        _wait_by_transaction(server, feed)
        scripts, lengths = _calls(server, "evalsha"), [admin.xlen(f"prod:{topic}") for topic in TOPICS]
        admin.set(f"busbar:{{prod}}:t.cache:{key}", "99 fedcba9876543210")
        _say(feed)
        busbar.wait_log(told)
        assert [admin.xlen(f"prod:{topic}") for topic in TOPICS] == lengths
        assert _calls(server, "evalsha") == scripts


def _wait_publishing(busbar: Busbar) -> None:
    state = lambda: busbar.status()["sources"][0]["sinks"][0]["state"]  # noqa: E731
    wait_until(lambda: state() == "publishing", 20, f"it has the pair\n{busbar.log_tail()}")


def test_each_claim_in_the_midst_of_a_burst_leaves_each_event_once(feed, server, tmp_path):
    """Two processes that take the pair from one another: a process that was fenced carries nothing out."""
    first = feed.index + 1
    _say(feed)
    with Busbar(_config(feed, server.url)) as busbar:
        for i in range(6):
            _wait_publishing(busbar)  # else it might be the newer one of the two
            with Busbar(_config(feed, server.url), folder=tmp_path / str(i)) as newer:
                _say(feed, 50)
                _wait_publishing(newer)
                _wait_exact(server, newer, feed, first)
                _say(feed)
                busbar.restart()
        _wait_exact(server, busbar, feed, first)


def test_killed_again_and_again_each_event_is_there_once(feed, server):
    first = feed.index + 1
    with Busbar(_config(feed, server.url)) as busbar:
        for _ in range(8):
            _say(feed)
            time.sleep(random.uniform(0.05, 0.25))
            busbar.kill9()
            busbar.start()
        _wait_exact(server, busbar, feed, first)


def test_memory_that_ends_in_a_burst_leaves_no_batch_in_part(feed, server):
    first = feed.index + 1
    _say(feed, 10)
    with Busbar(_config(feed, server.url)) as busbar:
        _wait_exact(server, busbar, feed, first)
        told = lambda: [line for line in busbar.log_lines("sink_backoff") if "raise Redis' maxmemory" in line]  # noqa: E731
        for spare in (100_000, 300_000, 700_000):
            before = len(told())
            server.limit_memory(spare)
            _say(feed)
            wait_until(lambda before=before: len(told()) > before, 20, f"it is told\n{busbar.log_tail()}")
            server.unlimit_memory()
            _wait_exact(server, busbar, feed, first)


RIGHTS = "+eval +evalsha +script|load +get +set +type +xinfo +xadd +xtrim"
MORE = ["+client|reply", "+multi", "+exec", "+watch", "+xsetid"]


@pytest.mark.parametrize("missing", ["-@all", *(f"-{right[1:]}" for right in MORE)])
def test_without_the_rights_for_it_the_script_does_all(feed, server, missing):
    first, admin = feed.index + 1, server.client()
    rights = RIGHTS.split() if missing == "-@all" else [*RIGHTS.split(), *MORE, missing]
    admin.execute_command("ACL", "SETUSER", "bus", "on", ">pw", "~*", *rights)
    with Busbar(_config(feed, f"redis://bus:pw@127.0.0.1:{server.port}")) as busbar:
        for _ in range(2):
            _say(feed)
            _wait_exact(server, busbar, feed, first)
        assert _calls(server, "evalsha") > 2 * LINES * EVENTS // 256
        broke = busbar.log_lines("sink_backoff")
        assert len(broke) <= 1, broke  # a MULTI without EXEC is left by a new connection


def test_rights_that_are_taken_away_in_a_burst_cost_no_event(feed, server):
    """EXEC looks at them again, for each command, and carries out what is left of a transaction."""
    first, admin = feed.index + 1, server.client()
    admin.execute_command("ACL", "SETUSER", "bus", "on", ">pw", "~*", "+@all")
    with Busbar(_config(feed, f"redis://bus:pw@127.0.0.1:{server.port}")) as busbar:
        for i in range(4):
            refused = len(busbar.log_lines("sink_backoff"))
            _say(feed, 3 * LINES)
            time.sleep(0.01 * i)
            admin.execute_command("ACL", "SETUSER", "bus", "-xadd")
            wait_until(lambda: len(busbar.log_lines("sink_backoff")) > refused or _all_there(server, feed), 20, "told")
            admin.execute_command("ACL", "SETUSER", "bus", "+xadd")
            busbar.restart()  # it would wait for half a minute
            wait_until(lambda: _all_there(server, feed), 60, "all is published")
        _wait_exact(server, busbar, feed, first)
