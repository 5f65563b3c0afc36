"""deploy/examples/warehouse: a Marathon's and a Nomad's events, through Kafka, in PostgreSQL; what it answers then."""

import calendar
import collections
import contextlib
import datetime
import json
import os
import random
import time

import confluent_kafka
import pytest
from rig.busbar import Busbar, run_busbar
from rig.jobs import job
from rig.kafka import QUIET
from rig.marathon import FIXTURES, Marathon, capture
from rig.nomad import Nomad
from rig.postgres import Postgres
from rig.proc import Failed, wait_until
from rig.warehouse import DAY, EXAMPLE, Consumer, Database

SECOND = datetime.timedelta(seconds=1)
NO_TIME = datetime.timedelta()
# What stands in the example's busbar.yaml, for a topic of each test's own.
SINK = {"name": "warehouse", "type": "kafka", "key": "%{key}", "partitions": 1}
NO_LOCK = "warehouse.Warehouse.wait_for_turn = lambda *_: True"
SLOW = "import time; read = warehouse.Warehouse.read; warehouse.Warehouse.read = lambda self: time.sleep(0.05) or read(self)"


@pytest.fixture(scope="module")
def postgres():
    with Postgres() as server:
        yield server


@pytest.fixture
def warehouse(postgres):
    return Database(postgres)


@pytest.fixture
def topic(kafka, source_name):
    kafka.create_topic(source_name, 3)
    return source_name


def test_its_configuration_is_right():
    done = run_busbar("check", "-c", EXAMPLE / "busbar.yaml")
    assert done.returncode == 0, done.stderr


def _busbar(kafka, topic: str, **servers) -> Busbar:
    sources = [{"name": kind, "type": kind, "servers": [address]} for kind, address in servers.items()]
    return Busbar({"name": topic, "sources": sources, "sinks": [{**SINK, "brokers": kafka.bootstrap, "topic": topic}]})


def _wait(condition, consumer: Consumer, what: str, timeout: float = 60):
    return wait_until(condition, timeout, f"{what}\n{consumer.log_tail() if consumer.process else ''}")


def _assert_all_once(kafka, topic: str, warehouse: Database) -> list:
    """The events are those that Kafka holds, each once, whole, and in its order; the last may be on their way."""
    records = kafka.read_all([topic])
    wait_until(lambda: warehouse.count("events") >= len(records), 60, f"{len(records)} events")
    wanted = [(one.partition, one.offset, one.headers["ce_id"].decode(), json.loads(one.value)) for one in records]
    rows = warehouse.ask("SELECT part, kafka_offset, id, body FROM events ORDER BY seq")
    assert collections.Counter(row.id for row in rows) == collections.Counter(one[2] for one in wanted)
    by_partition = sorted(rows, key=lambda row: row.part)  # stable: the order of arrival within each
    assert [tuple(row) for row in by_partition] == wanted
    return records


def _tables(warehouse: Database) -> dict:
    columns = "source, app, instance, at, state"
    return {
        "deployments": warehouse.ask("SELECT * FROM deployments ORDER BY source, id"),
        "task_runs": warehouse.ask("SELECT * FROM task_runs ORDER BY source, id"),
        "health_changes": warehouse.ask(f"SELECT {columns} FROM health_changes ORDER BY {columns}"),
        "missing": warehouse.ask("SELECT * FROM missing ORDER BY began, ended"),
    }


# ---- a scripted day of a Marathon


class Clock:
    """What a stand-in Marathon believes the time to be."""

    def __init__(self, m: Marathon):
        m.clock = lambda: self.now
        self(DAY, "07:00:00")

    def __call__(self, day: str, when: str) -> None:
        self.now = calendar.timegm(time.strptime(f"{day} {when}", "%Y-%m-%d %H:%M:%S"))


def _play_day(m: Marathon, at) -> None:
    """Failures on two hosts, n1 and n2, in turn; at(when) sets the clock."""
    at("08:00:00"), m.put_app("/shop", 2, health=True, hosts=["n1", "n2"], until="Running")
    at("08:00:04"), m.finish("/shop")
    at("09:00:00"), m.fail_task("/shop", 0)
    at("09:00:10"), m.set_health("/shop", 0, True)
    at("10:00:00"), m.fail_task("/shop", 1, "TASK_LOST")
    at("10:00:30"), m.set_health("/shop", 1, True)
    at("11:10:00"), m.set_health("/shop", 0, False)
    at("11:11:30"), m.set_health("/shop", 0, True)
    at("11:59:00"), m.set_health("/shop", 0, False)
    at("12:01:00"), m.set_health("/shop", 0, False, kill=True)  # started anew on n1, and healthy at once
    at("13:00:00"), m.put_app("/job", 1, hosts=["n2"])
    at("13:05:00"), m.fail_task("/job", 0, "TASK_FINISHED")
    at("13:10:00"), m.fail_task("/job", 0, "TASK_ERROR")
    at("14:00:00"), m.put_app("/shop", env={"VERSION": "2"}, until="Running")  # on n2 and n1, beside the old ones
    at("14:02:00"), m.scale("/shop", 5)  # refused: locked
    at("14:05:00"), m.fail("/shop", "no healthy instance in time")
    at("15:00:00"), m.kill_task("/job", 0)
    at("16:00:00"), m.put_pod("/pod", 1)
    at("17:00:00"), m.put_app("/gone", 1, hosts=["n1"])
    at("17:10:00"), m.put_app("/gone", env={"VERSION": "2"}, until="Running")
    at("17:20:00"), m.fail("/gone")  # cancelled
    at("18:00:00"), m.delete_app("/gone")


def _assert_day(warehouse: Database) -> None:
    day = datetime.date.fromisoformat(DAY)
    columns = "deployments, successful, failed, cancelled, unknown, under_way, median_time, success_percent, gaps"
    (row,) = warehouse.ask(f"SELECT {columns} FROM deployments_per_day WHERE day = %s", day)
    assert tuple(row)[:7] == (8, 5, 2, 1, 0, 0, NO_TIME) and float(row.success_percent) == 62.5 and row.gaps == 0

    columns = "app, restarts, runs_ended, finished, failed, unhealthy, lost, killed, unknown, median_run, gaps"
    rows = warehouse.ask(f"SELECT {columns} FROM restarts_per_app WHERE day = %s ORDER BY app", day)
    assert [tuple(row) for row in rows] == [
        ("/gone", 0, 2, 0, 0, 0, 0, 2, 0, 55 * 60 * SECOND, 0),
        ("/job", 2, 3, 1, 1, 0, 0, 1, 0, 5 * 60 * SECOND, 0),
        ("/shop", 3, 3, 0, 1, 1, 1, 0, 0, 7200 * SECOND, 0),
    ]

    columns = "app, runs, median, slowest, gaps"
    rows = warehouse.ask(f"SELECT {columns} FROM time_to_healthy WHERE day = %s ORDER BY app", day)
    assert [tuple(row) for row in rows] == [
        ("/early", 1, 7 * SECOND, 7 * SECOND, 0),
        ("/shop", 5, 4 * SECOND, 30 * SECOND, 0),  # 4, 4, 10, 30, 0
    ]

    columns = "host, runs_ended, failures, apps, failure_percent::float, gaps"
    rows = warehouse.ask(f"SELECT {columns} FROM failures_per_host WHERE day = %s ORDER BY host", day)
    assert [tuple(row) for row in rows] == [("n1", 4, 2, 2, 50.0, 0), ("n2", 4, 2, 2, 50.0, 0)]

    columns = "extract(hour FROM hour)::int, checks_failed, turned_healthy, turned_unhealthy, unhealthy_time, gaps"
    query = f"SELECT {columns} FROM health_by_hour WHERE app = '/shop' AND hour::date = %s ORDER BY hour"
    rows = warehouse.ask(query, day)
    assert [tuple(row) for row in rows] == [
        (8, 0, 2, 0, NO_TIME, 0),
        (9, 0, 1, 0, NO_TIME, 0),
        (10, 0, 1, 0, NO_TIME, 0),
        (11, 2, 1, 2, 150 * SECOND, 0),
        (12, 1, 1, 0, 60 * SECOND, 0),
    ]


def test_a_scripted_day_of_marathon_and_what_a_gap_hides(kafka, topic, warehouse):
    with contextlib.ExitStack() as stack:
        m = stack.enter_context(Marathon())
        clock = Clock(m)
        clock(DAY, "06:00:00"), m.put_app("/early", 1, health=True, hosts=["n4"], until="Running")
        clock(DAY, "06:00:07"), m.finish("/early")  # before anybody listens
        busbar = stack.enter_context(_busbar(kafka, topic, marathon=m.address))
        consumer = stack.enter_context(Consumer(kafka, warehouse, topic))
        resyncs = "events WHERE type = 'ResyncFinished'"
        _wait(lambda: warehouse.count(resyncs) == 1, consumer, "the state is told")
        _play_day(m, lambda when: clock(DAY, when))
        clock("2026-03-03", "08:00:00"), m.put_app("/sleepy", 1, hosts=["n3"])
        clock("2026-03-03", "09:00:00"), m.put_app("/shop", env={"VERSION": "3"}, until="Running")
        ours = len([sent for sent in m.sent if sent.to])
        told = "events WHERE topic <> 'Busbar' AND type <> 'Snapshot'"
        _wait(lambda: warehouse.count(told) == ours, consumer, f"{ours} events")
        _assert_day(warehouse)
        assert warehouse.count("missing") == 0

        m.kill(0)
        clock("2026-03-03", "10:00:00"), m.fail("/shop"), m.fail_task("/job", 0), m.delete_app("/sleepy")
        m.start(0)
        m.wait_streams(1)
        _wait(lambda: warehouse.count(resyncs) == 2, consumer, "the state is told anew")
        in_kafka = len(kafka.read_all([topic]))  # what lies in other partitions may come behind the end of the resync
        _wait(lambda: warehouse.count("events") >= in_kafka, consumer, "all of it is read")
        (gap,) = warehouse.ask("SELECT * FROM missing")
        assert (gap.source, gap.kind) == ("marathon", "Gap")  # from what was heard last, or a little before that
        assert NO_TIME <= datetime.datetime.fromisoformat("2026-03-03 09:00:00+00:00") - gap.began <= 3 * SECOND
        rows = warehouse.ask("SELECT day::text, deployments, unknown, gaps > 0 FROM deployments_per_day ORDER BY day")
        assert [tuple(row) for row in rows] == [(DAY, 8, 0, False), ("2026-03-03", 2, 1, True)]
        rows = warehouse.ask("SELECT app, count(*) FROM task_runs WHERE outcome = 'unknown' GROUP BY 1 ORDER BY 1")
        assert [tuple(row) for row in rows] == [("/job", 1), ("/sleepy", 1)]
        going = {task["id"] for app in m.apps.values() for task in app["tasks"]}
        assert set(warehouse.ask("SELECT id FROM task_runs WHERE outcome IS NULL AND app <> '/pod'")) == going
        _assert_day(warehouse)
        busbar.stop()
        _assert_all_once(kafka, topic, warehouse)
        before = _tables(warehouse)
        warehouse.ask("SELECT rebuild()")
        assert _tables(warehouse) == before


# ---- a Nomad


def _restarting(job_id: str, code: int, restarts: int, reschedules: int) -> dict:
    made = job(job_id, 1, command=f"sleep 0.3; exit {code}")
    second = 1_000_000_000
    (group,) = made["TaskGroups"]
    group["RestartPolicy"] = {"Attempts": restarts, "Interval": 60 * second, "Delay": second // 10, "Mode": "fail"}
    policy = {"Attempts": reschedules, "Interval": 600 * second, "Delay": 5 * second, "DelayFunction": "constant"}
    group["ReschedulePolicy"] = {**policy, "Unlimited": False}
    group["Update"]["MaxParallel"] = 0  # no deployment: of one that fails early nothing would be scheduled anew
    return made


def _stamp(text: str) -> float:
    return datetime.datetime.fromisoformat(f"{text[:19]}+00:00").timestamp() + float(f"0{text[19:-1]}")


def test_what_it_says_of_a_nomad_is_what_nomad_says(kafka, topic, warehouse):
    with contextlib.ExitStack() as stack:
        m = stack.enter_context(Marathon())
        nomad = stack.enter_context(Nomad(client=True))
        with _busbar(kafka, topic, nomad=nomad.address, marathon=m.address) as busbar:
            busbar.wait_attached()
            consumer = stack.enter_context(Consumer(kafka, warehouse, topic))
            m.put_app("/web", 1)
            nomad.register_job("never", 1, constraint="no-such-node")
            deployment = _wait(lambda: nomad.api("GET", "/v1/job/never/deployment"), consumer, "a deployment")
            nomad.api("PUT", f"/v1/deployment/fail/{deployment['ID']}", {})
            nomad.register(_restarting("crashes", 3, 2, 1))
            nomad.register_job("web", 2)
            nomad.register_job("once", 1, kind="batch", command="exit 0")
            _wait(lambda: len(_allocs(nomad, "crashes", "failed")) == 2, consumer, "it was rescheduled")
            _wait(lambda: len(_allocs(nomad, "web", "running")) == 2, consumer, "two run")
            _wait(lambda: _deployments(nomad, "successful")["web"] == 1, consumer, "web is deployed")
            nomad.deregister("web")
            _wait(lambda: len(_allocs(nomad, "web", "complete")) == 2, consumer, "both were stopped")
            try:
                _wait(lambda: _answers(warehouse) == _truth(nomad), consumer, "both say the same", 60)
            except Failed:
                assert _answers(warehouse) == _truth(nomad)  # shows the difference
                raise
            goes_on = "task_runs WHERE source = 'nomad' AND outcome IS NULL"
            _wait(lambda: warehouse.count(goes_on) == 0, consumer, "the end of those that were stopped")
            deployed = "deployments WHERE source = 'marathon' AND outcome = 'successful'"
            _wait(lambda: warehouse.count(deployed) == 1, consumer, "the Marathon's deployment")
            busbar.stop()
            records = _assert_all_once(kafka, topic, warehouse)
            assert len(records) > 50 and warehouse.count("missing") == 0
            rows = warehouse.ask("SELECT source, successful FROM deployments_per_day ORDER BY source")
            assert [tuple(row) for row in rows] == [("marathon", 1), ("nomad", 1)]
            outcomes = warehouse.ask("SELECT outcome, exit_code FROM task_runs WHERE app = 'crashes'")
            assert [tuple(row) for row in outcomes] == [("failed", 3)] * 6
            assert warehouse.ask("SELECT outcome FROM task_runs WHERE app = 'once'") == ["finished"]
            assert warehouse.ask("SELECT outcome FROM task_runs WHERE app = 'web'") == ["killed"] * 2
            (row,) = warehouse.ask("SELECT * FROM restarts_per_app WHERE app = 'crashes'")
            assert (row.restarts, row.runs_ended, row.namespace) == (5, 6, "default")  # 2 in place, twice; 1 elsewhere
            before = _tables(warehouse)
            warehouse.ask("SELECT rebuild()")
            assert _tables(warehouse) == before


def _allocs(nomad, job_id: str, status: str = "") -> list:
    return [one for one in nomad.api("GET", f"/v1/job/{job_id}/allocations?all=true") if status in one["ClientStatus"]]


def _deployments(nomad, status: str = "", by: str = "JobID") -> collections.Counter:
    return collections.Counter(one[by] for one in nomad.api("GET", "/v1/deployments") if status in one["Status"])


def _answers(warehouse: Database) -> list:
    """Of the four queries."""
    names = ", ".join(f"sum({name})::int AS {name}" for name in ("deployments", "successful", "failed", "under_way"))
    restarts = "SELECT app, sum(restarts)::int FROM restarts_per_app WHERE restarts > 0 GROUP BY 1 ORDER BY 1"
    slowest = "round(extract(epoch FROM max(slowest)), 2)::float"
    queries = [
        f"SELECT {names} FROM deployments_per_day WHERE source = 'nomad'",
        restarts,
        "SELECT host, sum(failures)::int FROM failures_per_host GROUP BY 1",
        f"SELECT app, {slowest} FROM time_to_healthy GROUP BY 1 ORDER BY 1",
    ]
    return [[tuple(row) for row in warehouse.ask(query)] for query in queries]


def _truth(nomad) -> list:
    """The same, from Nomad's API."""
    allocs = [nomad.api("GET", f"/v1/allocation/{one['ID']}") for one in nomad.api("GET", "/v1/allocations")]
    statuses = _deployments(nomad, by="Status")
    over = statuses["successful"], statuses["failed"]
    restarts, failures, healthy = collections.Counter(), collections.Counter(), {}
    for one in allocs:
        restarts[one["JobID"]] += len((one.get("RescheduleTracker") or {}).get("Events") or [])
        for state in (one.get("TaskStates") or {}).values():
            restarts[one["JobID"]] += state["Restarts"]
            failures[one["NodeName"]] += state["Restarts"] + state["Failed"]
        health = one.get("DeploymentStatus") or {}
        if health.get("Healthy"):
            took = round(_stamp(health["Timestamp"]) - one["CreateTime"] / 1e9, 2)
            healthy[one["JobID"]] = max(healthy.get(one["JobID"], 0), took)
    deployments = [(statuses.total(), *over, statuses.total() - sum(over))]
    return [deployments, sorted((+restarts).items()), sorted(failures.items()), sorted(healthy.items())]


# ---- exactly once


def test_every_event_once_whatever_is_killed_and_whoever_else_writes(kafka, topic, warehouse, postgres):
    with Marathon() as m, _busbar(kafka, topic, marathon=m.address) as busbar:
        m.wait_streams(1)
        m.play(capture("real-1.11.sse"))
        told = 6370 + 1  # and our own attachment
        values = 'busbar_published_total{source="marathon",sink="warehouse"}'
        wait_until(lambda: busbar.metrics().get(values, 0) >= told, 60, f"{told} are published\n{busbar.log_tail()}")
        busbar.stop()
    total = len(kafka.read_all([topic]))  # what busbar said itself among them
    assert total >= told
    # Two at once, without the lock that keeps them apart and the net that catches what is told twice, in small steps.
    (take,) = warehouse.ask("SELECT pg_get_functiondef('take'::regproc)")
    assert "ON CONFLICT (id) DO NOTHING" in take
    warehouse.ask(take.replace("ON CONFLICT (id) DO NOTHING", ""))
    patch = f"warehouse.BATCH = 20; {NO_LOCK}; {SLOW}"
    chance, kills, fights = random.Random(6), 0, 0
    with Consumer(kafka, warehouse, topic, patch) as one, Consumer(kafka, warehouse, topic, patch) as other:
        taken = 0
        while taken < total:
            goal = min(total, taken + chance.randrange(100, 400))
            _wait(lambda: warehouse.count("events") >= goal, one, f"{goal} events")
            victim = chance.choice((one, other))
            victim.kill9()
            kills += 1
            if kills == 5:
                postgres.restart(hard=True)
                warehouse.connection = None
            victim.start()
            taken = warehouse.count("events")
        fights = len(one.lines("somebody else moved")) + len(other.lines("somebody else moved"))
    assert kills > 8 and fights > 0
    assert "duplicate key" not in postgres.log.read_text()  # nobody so much as tried
    _assert_all_once(kafka, topic, warehouse)
    assert warehouse.count("missing") == 0

    undisturbed = Database(postgres)
    with Consumer(kafka, undisturbed, topic) as consumer:
        ends = "SELECT part, next_offset FROM progress ORDER BY part"
        _wait(lambda: undisturbed.ask(ends) == warehouse.ask(ends), consumer, "it is at the end")
    assert _tables(undisturbed) == _tables(warehouse)
    assert undisturbed.count("task_runs") > 300 and undisturbed.count("deployments") > 30


def _produce(kafka, topic: str, numbers, partition: int = 0, **changed) -> None:
    """Events as a busbar writes them; changed: value, or headers of it by their names, None to leave one out."""
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap, **QUIET})
    for number in numbers:
        headers = {
            "ce_id": f"prod/{number}", "ce_source": "prod", "ce_topic": "Task", "ce_type": "status_update_event",
            "ce_subject": "/a", "ce_index": str(number), "ce_time": f"{DAY}T10:00:00.000Z",
        }  # fmt: skip
        headers |= {name: text for name, text in changed.items() if name != "value"}
        body = {"eventType": "status_update_event", "taskId": f"t{number}", "taskStatus": "TASK_RUNNING", "host": "h"}
        value = changed.get("value", json.dumps(body).encode())
        kept = [(name, text) for name, text in headers.items() if text is not None]
        producer.produce(topic, value, headers=kept, partition=partition)
    assert producer.flush(30) == 0


def _produce_and_abort(kafka, topic: str, number: int) -> None:
    settings = {"bootstrap.servers": kafka.bootstrap, "transactional.id": topic, **QUIET}
    producer = confluent_kafka.Producer(settings)
    producer.init_transactions(30)
    producer.begin_transaction()
    headers = {"ce_source": "prod", "ce_topic": "x", "ce_type": "x", "ce_index": "1", "ce_time": "2026-03-02T00:00:00Z"}
    producer.produce(topic, b"{}", headers=list({"ce_id": f"aborted/{number}", **headers}.items()), partition=0)
    producer.flush(30)
    producer.abort_transaction(30)


def test_one_works_and_the_other_takes_over(kafka, topic, warehouse):
    def taken(count):
        return lambda: warehouse.count("events") == count

    with Consumer(kafka, warehouse, topic) as first:
        _produce_and_abort(kafka, topic, 0)
        _produce(kafka, topic, range(10))
        _wait(taken(10), first, "10 events")
        with Consumer(kafka, warehouse, topic) as second:
            first.kill9()
            _produce(kafka, topic, range(10, 20), partition=1)
            _wait(taken(20), second, "10 more, by the other")
            first.start()
            second.pause()  # and its machine is gone, as far as PostgreSQL can tell
            held = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
            warehouse.ask(f"SELECT pg_terminate_backend(pid) FROM ({held}) AS l")
            _produce(kafka, topic, range(20, 30), partition=2)
            _wait(taken(30), first, "10 more, by the first")
            second.resume()
            _wait(lambda: len(second.lines("event=starts_anew")) > 0, second, "it notices")
            _produce(kafka, topic, range(30, 40))
            _wait(taken(40), first, "10 more")
            _wait(lambda: len(warehouse.ask(held)) == 1, first, "one has the lock")
            assert second.stop() == 0 and first.stop() == 0
    _assert_all_once(kafka, topic, warehouse)


def test_what_postgresql_or_kafka_has_not_is_written_down(kafka, warehouse, source_name):
    kafka.create_topic(source_name)
    _produce(kafka, source_name, [1])
    _produce(kafka, source_name, [2], value=b'{"eventType":"x","nul":"\\u0000"}')
    _produce(kafka, source_name, [3], value=b"\xff\xfe")
    _produce(kafka, source_name, [4], ce_id=None)
    _produce(kafka, source_name, [5], ce_id="x" * 10_000 + os.urandom(5_000).hex())
    _produce(kafka, source_name, [6], value=b'{"eventType":"x","big":1e999999}')
    _produce(kafka, source_name, [7], value=None)
    _produce(kafka, source_name, [8], ce_time="2026-13-41T00:00:00Z")
    _produce(kafka, source_name, [9], ce_source=b"\xff")
    _produce(kafka, source_name, [7])
    _produce(kafka, source_name, [7, 7])  # no busbar does that
    with Consumer(kafka, warehouse, source_name) as consumer:
        _wait(lambda: warehouse.ask("SELECT next_offset FROM progress") == [12], consumer, "all are read")
        assert warehouse.ask("SELECT id FROM events ORDER BY seq") == ["prod/1", "prod/7"]
        rows = warehouse.ask("SELECT kind, source, began::date::text AS day FROM missing")
        assert [row.kind for row in rows] == ["Refused"] * 8
        assert [(row.source, row.day) for row in rows[:6]] == [("prod", DAY)] * 6
        assert bytes(warehouse.ask("SELECT bytes FROM missing")[1]) == b"\xff\xfe"
        consumer.stop()
        kafka.delete_topic(source_name)
        kafka.create_topic(source_name)
        _produce(kafka, source_name, [10, 11])
        consumer.start()
        _wait(lambda: warehouse.ask("SELECT next_offset FROM progress") == [2], consumer, "the new topic is read")
        assert warehouse.ask("SELECT id FROM events ORDER BY seq") == ["prod/1", "prod/7", "prod/10", "prod/11"]
        (reason,) = warehouse.ask("SELECT reason FROM missing WHERE kind = 'Expired' AND source IS NULL")
        assert reason == f"{source_name}[0]: 12 was next, Kafka has 0 to 2"


# ---- what events mean


def _status(warehouse, task: str, status: str, when: str, **more) -> None:
    body = {"eventType": "status_update_event", "taskId": task, "taskStatus": f"TASK_{status}", "host": "h"}
    assert warehouse.tell("Task", "status_update_event", "/a", {**body, **more}, when)


def test_terminal_states_old_and_new(warehouse):
    meant = {
        "FINISHED": "finished", "FAILED": "failed", "ERROR": "failed", "KILLED": "killed", "LOST": "lost",
        "DROPPED": "lost", "GONE": "lost", "GONE_BY_OPERATOR": "lost", "UNKNOWN": "lost",
        "KILLING": None, "UNREACHABLE": None, "STAGING": None, "STARTING": None, "RUNNING": None, "SOMETHING_NEW": None,
    }  # fmt: skip
    for state in meant:
        _status(warehouse, state, "STAGING", "10:00:00")
        _status(warehouse, state, "RUNNING", "10:00:01")
        _status(warehouse, state, state, "10:00:05")
    rows = warehouse.ask("SELECT id, outcome, ended - running AS ran, restarted FROM task_runs")
    assert {row.id: row.outcome for row in rows} == meant
    assert {row.ran for row in rows} == {4 * SECOND, None}
    assert all(row.restarted == (row.outcome not in (None, "killed")) for row in rows)


def test_late_news_and_tasks_that_come_back(warehouse):
    _status(warehouse, "late", "FAILED", "10:00:05")
    _status(warehouse, "late", "RUNNING", "10:00:04")  # told after its end, as Marathon does
    _status(warehouse, "back", "RUNNING", "10:00:00")
    _status(warehouse, "back", "LOST", "10:01:00")
    _status(warehouse, "back", "RUNNING", "10:02:00")
    _status(warehouse, "unhealthy", "RUNNING", "10:00:00")
    _status(warehouse, "unhealthy", "KILLED", "10:01:00")
    kill = {"eventType": "unhealthy_task_kill_event", "taskId": "unhealthy"}
    assert warehouse.tell("Task", "unhealthy_task_kill_event", "/a", kill, "10:00:59")
    rows = warehouse.ask("SELECT id, outcome, restarted, began::time::text FROM task_runs ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("back", None, False, "10:00:00"),
        ("late", "failed", True, None),
        ("unhealthy", "unhealthy", True, "10:00:00"),
    ]


def test_an_event_again_changes_nothing(warehouse):
    _status(warehouse, "a", "RUNNING", "10:00:00")
    before = _tables(warehouse)
    body = {"eventType": "status_update_event", "taskId": "a", "taskStatus": "TASK_FAILED"}
    assert warehouse.tell("Task", "status_update_event", "/a", body, "10:00:09", name="marathon/0")
    assert _tables(warehouse) == before and warehouse.count("events") == 1


def test_every_shape_that_marathon_ever_had(warehouse):
    """From public clients and documentation; what they mean is checked where the ids are whole."""
    for path in sorted(FIXTURES.glob("*.ndjson")):
        for line in path.read_text().splitlines():
            body = json.loads(line)
            key = body.get("appId") or body.get("runSpecId") or body.get("id") or body.get("plan", {}).get("id") or ""
            topic = {"d": "Deployment", "s": "Task", "i": "Instance"}.get(body["eventType"][0], "Other")
            assert warehouse.tell(topic, body["eventType"], key, line, "10:00:00")
    assert warehouse.count("events") == sum(len(path.read_text().splitlines()) for path in FIXTURES.glob("*.ndjson"))
    rows = warehouse.ask("SELECT apps, outcome FROM deployments ORDER BY outcome")
    assert [tuple(row) for row in rows] == [([], "successful"), (["/my-app"], None)]
    rows = warehouse.ask("SELECT id, outcome FROM task_runs WHERE app = '/test/app' ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("python_simple.4a7e99d0-9cc1-11e5-b4d8-0a0027000004", "killed"),
        ("task.1", "killed"),
    ]
    unique = "8a65bb27-e5da-11f1-8fc8-02fc00000001"
    for name in (f"web.instance-{unique}", f"web.marathon-{unique}", f"web.{unique}", f"web.instance-{unique}._app.2"):
        assert warehouse.ask("SELECT marathon_instance(%s)", name) == [f"web.{unique}"]


def _tell_nomad(warehouse, topic: str, kind: str, key: str, payload: dict, when: str) -> None:
    body = {"Topic": topic, "Type": kind, "Key": key, "Namespace": "", "Index": 7, "Payload": payload}
    assert warehouse.tell(topic, kind, key, body, when)


def test_what_busbar_says_is_missing(warehouse):
    _status(warehouse, "a", "RUNNING", "10:00:00")
    _tell_nomad(warehouse, "Busbar", "ResyncStarted", "nomad", {"Reason": "first start"}, "10:05:00")
    _tell_nomad(warehouse, "Busbar", "Gap", "nomad", {"From": 12, "To": 90, "Reason": "away"}, "10:30:00")
    _tell_nomad(warehouse, "Busbar", "Malformed", "nomad", {"Reason": "no JSON", "Base64": ""}, "11:00:00")
    _tell_nomad(warehouse, "Busbar", "Rejected", "nomad", {"Reason": "too large", "Event": "x"}, "11:30:00")
    rows = warehouse.ask("SELECT kind, began::time::text, ended::time::text, reason, event FROM missing ORDER BY ended")
    assert [tuple(row) for row in rows] == [
        ("Gap", "10:00:00", "10:30:00", "away", "marathon/2"),  # from the last that was heard before it
        ("Malformed", "11:00:00", "11:00:00", "no JSON", "marathon/3"),
        ("Rejected", "11:30:00", "11:30:00", "too large", "marathon/4"),
    ]
    hours = "generate_series(%s::timestamptz, %s::timestamptz, interval '1 hour') AS hour"
    gaps = f"SELECT gaps(%s, hour, hour + interval '1 hour') FROM {hours}"
    assert warehouse.ask(gaps, "marathon", f"{DAY} 09:00", f"{DAY} 12:00") == [0, 1, 2, 0]
    assert warehouse.ask(gaps, "another", f"{DAY} 09:00", f"{DAY} 12:00") == [0, 0, 0, 0]


def _allocation(status: str, started: int, restarts: int = 0, **more) -> dict:
    """Of one task that runs, as its node last said; times in seconds of the day."""
    midnight = calendar.timegm(time.strptime(DAY, "%Y-%m-%d"))
    state = {"State": "running", "Failed": False, "Restarts": restarts}
    state["Events"] = [{"Type": "Started", "Time": (midnight + started) * 10**9}]
    known = {"ID": "a", "JobID": "j", "NodeName": "n1", "ClientStatus": status, "DesiredStatus": "run"}
    return {"Allocation": {**known, "CreateTime": midnight * 10**9, "TaskStates": {"t": state}, **more}}


def test_nomads_that_were_not_watched_all_the_time(warehouse):
    def deployment(kind, key, status, when):
        body = {"Deployment": {"ID": key, "JobID": "j", "Status": status, "StatusDescription": "why"}}
        _tell_nomad(warehouse, "Deployment", kind, key, body, when)

    deployment("Snapshot", "long over", "successful", "10:00:00")
    deployment("Snapshot", "ran already", "running", "10:00:00")
    deployment("DeploymentStatusUpdate", "ran already", "failed", "11:00:00")
    deployment("DeploymentStatusUpdate", "over unseen", "running", "10:00:00")
    deployment("Snapshot", "over unseen", "successful", "12:00:00")
    deployment("DeploymentStatusUpdate", "vanished", "paused", "10:00:00")
    _tell_nomad(warehouse, "Deployment", "Vanished", "vanished", {"Resync": 1}, "13:00:00")
    rows = warehouse.ask("SELECT id, outcome, began::time::text, ended::time::text FROM deployments ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("long over", "successful", None, None),
        ("over unseen", "successful", "10:00:00", "12:00:00"),
        ("ran already", "failed", None, "11:00:00"),
        ("vanished", "unknown", "10:00:00", "13:00:00"),
    ]
    assert warehouse.ask("SELECT deployments FROM deployments_per_day") == [3]

    for key in ("lost", "back", "gone"):
        _tell_nomad(warehouse, "Allocation", "AllocationUpdated", key, _allocation("running", 3600), "01:00:01")
    midnight = calendar.timegm(time.strptime(DAY, "%Y-%m-%d"))
    lost, later = [
        _allocation("lost", 3600, ModifyTime=(midnight + when) * 10**9, NextAllocation="b") for when in (7200, 9000)
    ]
    for key in ("lost", "back"):
        _tell_nomad(warehouse, "Allocation", "AllocationUpdated", key, lost, "02:00:01")
    _tell_nomad(warehouse, "Allocation", "PlanResult", "lost", later, "02:30:00")
    _tell_nomad(warehouse, "Allocation", "AllocationUpdated", "back", _allocation("running", 10_800, 2), "03:00:01")
    _tell_nomad(warehouse, "Allocation", "Vanished", "gone", {"Resync": 1}, "04:00:00")
    columns = "id, outcome, running::time::text, ended::time::text, restarted"
    assert [tuple(row) for row in warehouse.ask(f"SELECT {columns} FROM task_runs ORDER BY id")] == [
        ("back/t/0", "lost", "01:00:00", "02:00:00", True),
        ("back/t/2", None, "03:00:00", None, False),  # of the one between nobody heard
        ("gone/t/0", "unknown", "01:00:00", "04:00:00", False),
        ("lost/t/0", "lost", "01:00:00", "02:00:00", True),
    ]
