"""deploy/examples/load-balancer between a Marathon, a busbar and a real HAProxy: requests reach the healthy tasks only.

A task that is dead goes on answering here unless a test closes it, so that a request that reaches it is seen.
"""

import contextlib
import http.client
import importlib.util
import json
import pathlib
import re
import shutil
import socket
import sys
import threading
import time

import pytest
from rig.busbar import Busbar, run_busbar
from rig.marathon import Marathon, capture
from rig.marathon_shapes import stamp
from rig.ports import free_ports
from rig.proc import Failed, Server, wait_until
from rig.proxy import DOWN, Proxy
from rig.standin import refusal
from rig.tasks import Task

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "examples" / "load-balancer"


class Haproxy(Server):
    """Debian's, with the configuration that the example wrote."""

    name = "haproxy"

    @property
    def config(self) -> pathlib.Path:
        return self.folder / "haproxy.cfg"

    @property
    def socket(self) -> pathlib.Path:
        return self.folder / "admin.sock"

    def servers(self) -> list[str]:
        """Their ports, as the file has them."""
        return sorted(re.findall(r"^    server 127\.0\.0\.1:(\d+) ", self.config.read_text(), re.MULTILINE))

    def _argv(self):
        return [shutil.which("haproxy", path="/usr/sbin:/usr/bin"), "-W", "-f", self.config, "-p", self.folder / "pid"]

    def _is_ready(self) -> bool:
        return bool(self._info())

    def _info(self) -> str:
        """What it says of itself; nothing where it is away."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self.socket))
            client.sendall(b"show info\n")
            return client.makefile(encoding="utf-8").read()
        return ""

    def is_current(self) -> bool:
        """Whether it runs the list that the file has."""
        name = re.search(r'^    description "(.*)"$', self.config.read_text(), re.MULTILINE)[1]
        return f"description: {name}\n" in self._info()


class Program(Server):
    """The example itself; its state file lies in its folder. patch: Python that changes its module first."""

    name = "load-balancer"

    def __init__(self, mirrors: list[str], haproxy: Haproxy, ports: list[int], *words: str):
        super().__init__()
        self.patch = ""
        template = (EXAMPLE / "haproxy.template.cfg").read_text()
        assert "/run/haproxy/admin.sock" in template
        (self.folder / "template.cfg").write_text(template.replace("/run/haproxy/admin.sock", str(haproxy.socket)))
        self.words = [word for url in mirrors for word in ("--mirror", url)] + [*words, "--source", "m"]
        self.words += ["--config", haproxy.config, "--pidfile", haproxy.folder / "pid", "--socket", haproxy.socket]
        self.words += ["--template", self.folder / "template.cfg", "--state", self.state, "--bind", "127.0.0.1"]
        self.words += ["--ports", ",".join(map(str, ports)), "--interval", "0.2", "--haproxy", haproxy._argv()[0]]

    @property
    def state(self) -> pathlib.Path:
        return self.folder / "state.json"

    def _argv(self):
        start = f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {str(EXAMPLE)!r}); import load_balancer"
        code = f"{start}; {self.patch}; sys.exit(load_balancer.main())"
        return [sys.executable, *(["-c", code] if self.patch else [EXAMPLE / "load_balancer.py"]), *self.words]

    def _is_ready(self) -> bool:
        return True

    def count(self, event: str) -> int:
        return len(re.findall(rf"\bevent={event}\b", self.log.read_text()))


def ask(front: int) -> str:
    """The port that answered; else what went wrong."""
    connection = http.client.HTTPConnection("127.0.0.1", front, timeout=10)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == 200 else str(answer.status)
    except ConnectionRefusedError:
        return "refused"
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def reached(front: int) -> list[str]:
    """Who answers there, taken in turn, and whatever goes wrong."""
    return sorted({ask(front) for _ in range(8)})


class World:
    """Marathon, busbar, program and HAProxy; `fronts` for labels, `ports` for tasks, all of them answering."""

    def __init__(self, stack: contextlib.ExitStack):
        self.fronts, self.ports = free_ports(5), sorted(free_ports(32))
        self.tasks = {port: Task(port) for port in self.ports}
        stack.callback(self._end_tasks)
        self.marathon = stack.enter_context(Marathon(nodes=2))
        self.source = {"name": "m", "type": "marathon", "servers": self.marathon.addresses}
        self.busbar = stack.enter_context(Busbar({"name": "t", "sources": [self.source]}))
        self.haproxy = Haproxy()
        stack.callback(self.haproxy.close)
        self.program = Program([self.busbar.url], self.haproxy, self.fronts)
        stack.callback(self.program.close)

    def _end_tasks(self) -> None:
        ending = [threading.Thread(target=task.end) for task in self.tasks.values()]
        for one in ending:
            one.start()
        for one in ending:
            one.join()

    def start(self) -> None:
        """Once the first apps are there."""
        self.program.start()
        wait_until(self.haproxy.config.exists, 30, f"a first list\n{self.program.log_tail()}")
        self.haproxy.start()

    def put(self, app_id: str, instances: int, front: int = 0, **fields) -> dict:
        return self.marathon.put_app(app_id, instances, labels={"lb.port": str(self.fronts[front])}, **fields)

    def healthy(self, app_id: str) -> list[str]:
        """As Marathon's own state has it."""
        app = self.marathon.apps[app_id]
        tasks = [task for task in app["tasks"] if task["state"] == "TASK_RUNNING"]
        if app.get("healthChecks"):
            tasks = [task for task in tasks if task.get("healthCheckResults", [{}])[0].get("alive")]
        return sorted(str(task["ports"][0]) for task in tasks)

    def wait(self, expected: list, front: int = 0) -> None:
        expected = sorted(map(str, expected))
        try:
            wait_until(lambda: reached(self.fronts[front]) == expected, 30, f"requests reach {expected}")
        except Failed as failed:
            now = reached(self.fronts[front])
            raise Failed(f"{failed}, not {now}\n{self.haproxy.config.read_text()}\n{self.program.log_tail()}") from None

    def wait_healthy(self, app_id: str, front: int = 0) -> None:
        """Until exactly those are reached that Marathon has for healthy."""
        expected = self.healthy(app_id)
        assert expected
        self.wait(expected, front)


@pytest.fixture
def world():
    with contextlib.ExitStack() as stack:
        yield World(stack)


class Client(threading.Thread):
    """Asks all the time; counts what is not a 200. keep: over one connection as long as that stands."""

    def __init__(self, front: int, keep: bool):
        super().__init__(daemon=True)
        self.front, self.keep, self.stopping = front, keep, False
        self.answers, self.failures = 0, []
        self.between = threading.Lock()  # held during a request
        self.start()

    def run(self) -> None:
        connection = None
        while not self.stopping:
            connection = connection or http.client.HTTPConnection("127.0.0.1", self.front, timeout=20)
            with self.between:
                try:
                    connection.request("GET", "/")
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status != 200:
                        self.failures.append((self.answers, answer.status))
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append((self.answers, repr(error)))
                    connection.close()
            self.answers += 1
            if not self.keep:
                connection.close()
            time.sleep(0.003)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.join(30)


# ---- through HAProxy ----


def test_requests_reach_exactly_the_healthy_tasks(world):
    marathon, ports = world.marathon, world.ports
    world.put("/shop/web", 2, ports=ports, health=True)
    marathon.put_app("/no/label", 1, ports=ports[5:])
    world.start()
    world.wait(ports[:2])
    marathon.scale("/shop/web", 3, until="Running")  # runs, and nobody knows yet whether it is well
    world.put("/plain", 1, front=1, ports=ports[6:])  # without checks running is enough
    world.wait(ports[6:7], front=1)
    world.wait(ports[:2])
    marathon.finish("/shop/web")
    world.wait(ports[:3])
    marathon.set_health("/shop/web", 0, False)
    world.wait(ports[1:3])
    marathon.set_health("/shop/web", 0, True)
    world.wait(ports[:3])
    marathon.kill_task("/shop/web", 1)  # the same instance again, with a new task that is not yet healthy
    world.wait([ports[0], ports[2]])
    marathon.set_health("/shop/web", 1, True)
    world.wait([ports[0], ports[2], ports[3]])
    marathon.fail_task("/plain")
    world.wait(ports[7:8], front=1)
    marathon.scale("/shop/web", 1, until="Killing")
    world.wait(ports[:1])
    marathon.finish("/shop/web")
    marathon.delete_app("/shop/web")
    world.wait(["refused"])
    marathon.delete_app("/plain")
    world.wait(["refused"], front=1)
    assert world.program.stop() == 0


def test_after_a_gap_the_list_is_right_and_no_backend_was_empty_meanwhile(world):
    marathon, ports = world.marathon, world.ports
    world.put("/web", 3, ports=ports, health=True)
    world.put("/goner", 1, front=1, ports=ports[6:])
    world.start()
    world.wait(ports[:3])
    with Client(world.fronts[0], keep=False) as client:
        marathon.elect(None)
        dead = marathon.apps["/web"]["tasks"][0]
        marathon.kill_task("/web", 0)
        marathon.set_health("/web", 0, True)
        marathon.set_health("/web", 1, False)
        marathon.delete_app("/goner")
        world.put("/new", 1, front=2, ports=ports[5:])
        marathon.answer("/v2/apps", refusal("503 Service Unavailable"))
        marathon.elect(1)
        wait_until(lambda: world.program.count("gap"), 30, "it is told of the gap")
        time.sleep(0.5)
        world.wait(ports[:3])  # as was known last
        marathon.answer("/v2/apps", None)
        world.wait([ports[2], ports[3]])
        world.wait(["refused"], front=1)
        world.wait([ports[5]], front=2)
        ids = {"taskId": dead["id"], "appId": "/web", "taskStatus": "TASK_RUNNING", "slaveId": "a", "message": ""}
        where = {"host": "127.0.0.1", "ports": dead["ports"], "ipAddresses": [], "version": dead["version"]}
        marathon.emit("status_update_event", ids | where | {"timestamp": stamp(time.time() - 60)})
        marathon.emit("health_status_changed_event", {"appId": "/web", "instanceId": "x", "version": "", "alive": True})
        marathon.set_health("/web", 1, True)
        world.wait(ports[1:4])
    assert client.failures == [] and client.answers > 50
    assert world.program.count("gap") == 1


def test_killed_amid_changes_it_goes_on_exactly_where_it_was(world):
    marathon, program = world.marathon, world.program
    world.put("/web", 2, ports=world.ports, health=True)
    world.start()
    world.wait_healthy("/web")
    for number in range(4):
        for count in (3, 4, 2):
            marathon.scale("/web", count)
            time.sleep(0.03 * number)
        program.kill9()
        kept = json.loads(program.state.read_text())
        assert kept["last_event_id"].startswith("m:")
        marathon.kill_task("/web", 0)
        marathon.set_health("/web", 0, True)
        if number % 2:
            marathon.fail_task("/web", 1)
        program.start()
        world.wait_healthy("/web")
    assert program.count("gap") == 0 and program.count("odd") == 0


def test_what_is_past_is_read_and_not_lived_through_again(world):
    marathon, program = world.marathon, world.program
    world.put("/web", 2, ports=world.ports)
    world.start()
    world.wait_healthy("/web")
    program.stop()
    for _ in range(30):
        for count in (4, 1, 3):
            marathon.scale("/web", count)
    published, attached = program.count("published"), program.count("attached")
    time.sleep(1.1)  # the mirror's clock, in its answer, has whole seconds
    with Proxy(world.busbar.http_port) as wire:
        wire.throttle(150_000, DOWN)  # so that it takes seconds
        program.words[1] = wire.address
        program.patch = "load_balancer.QUIET_BEHIND = 3.0"  # a second without an event is nothing on a busy machine
        program.start()
        wait_until(lambda: program.count("attached") > attached, 30, "it is attached")
        program.pause()
        time.sleep(4)  # a machine that stands still, which is no stream that is silent
        program.resume()
        world.wait_healthy("/web")
    assert program.count("published") == published + 1


def test_a_busbar_that_dies_changes_nothing_and_then_all_that_happened_meanwhile(world):
    marathon = world.marathon
    world.put("/web", 3, ports=world.ports, health=True)
    world.start()
    world.wait_healthy("/web")
    before = world.healthy("/web")
    world.busbar.kill9()
    marathon.kill_task("/web", 0)
    marathon.set_health("/web", 0, True)
    marathon.scale("/web", 4)
    for times in (1, 2):
        wait_until(lambda: world.program.count("lost") >= times, 20, "it says that nobody answers")
        time.sleep(0.5)
        world.wait(before)
        world.program.restart(hard=True)  # with nobody to ask
    world.busbar.start()
    world.wait_healthy("/web")


def test_another_busbar_goes_on_and_what_it_never_knew_is_gone_after_its_resync(world):
    marathon, ports = world.marathon, world.ports
    world.put("/web", 2, ports=ports)
    world.put("/goner", 1, front=1, ports=ports[6:])
    world.start()
    world.wait(ports[6:7], front=1)
    world.busbar.kill9()
    marathon.delete_app("/goner")
    marathon.kill_task("/web", 0)
    with Busbar({"name": "t2", "sources": [world.source], "http": {"listen": f"127.0.0.1:{world.busbar.http_port}"}}):
        world.wait_healthy("/web")
        world.wait(["refused"], front=1)
        marathon.scale("/web", 3)
        world.wait_healthy("/web")


def test_haproxy_comes_back_with_the_list_of_now(world):
    marathon = world.marathon
    world.put("/web", 2, ports=world.ports)
    world.start()
    world.wait_healthy("/web")
    world.haproxy.kill9()
    world.wait(["refused"])  # its worker lives on for a moment
    world.haproxy.start()
    assert reached(world.fronts[0]) == world.healthy("/web")
    world.haproxy.stop()
    away = world.program.count("haproxy_away")
    marathon.scale("/web", 3)
    wait_until(lambda: world.program.count("haproxy_away") > away, 20, "it says that nobody reads the list")
    world.haproxy.start()
    world.wait_healthy("/web")
    text = world.haproxy.config.read_text()
    world.haproxy.stop()
    world.haproxy.config.write_text(re.sub("list [0-9a-f]+", "list 0", text).replace(f":{world.ports[2]}", ":1"))
    world.haproxy.start()  # it runs another list than the file has, as after a signal that came too early
    world.haproxy.config.write_text(text)
    world.wait_healthy("/web")
    assert world.program.count("reloads_again") >= 1


HOSTILE = "1\n    server evil 127.0.0.1:1\nlisten evil\n    bind 127.0.0.1:1"


def test_no_definition_can_write_configuration_or_stop_others(world):
    marathon, ports, fronts = world.marathon, world.ports, world.fronts
    world.put("/web", 1, ports=ports)
    world.start()
    world.wait(ports[:1])
    taken = socket.create_server(("127.0.0.1", fronts[1]))
    for number, label in enumerate((HOSTILE, f"{fronts[2]}\n", "$HOME", "-1", "0", "99999", "22", "٢٢", '"', "")):
        labels = {"lb.port": label, "lb.port.\n1": "1", f"lb.port.1 {HOSTILE}": "2"}
        marathon.put_app(f"/label{number}", 1, labels=labels)
    world.put(f"/id {HOSTILE} \\", 1, front=2, ports=ports[1:2])
    hosts = [HOSTILE, "a b", "${HOME}", "::1%lo", "unix@/x", "#", "-x", "x" * 300, "127.0.0.1"]
    world.put("/hosts", len(hosts), front=3, hosts=hosts, ports=ports[2:3])
    numbers = ["80", [[]], [True], [0], [70000], [{"a": 1}], ports[3]]
    world.put("/ports", len(numbers), front=4, ports=numbers)
    world.put("/a/thief", 1, ports=ports[5:6])  # of a port that is another's
    world.put("/taken", 1, front=1, ports=ports[6:7])
    deep = b'{"appDefinition":' + b"[" * 2000 + b"]" * 2000 + b"}"
    for odd in (b"[]", b'{"appId":{}}', deep, b'{"appDefinition":{"id":7}}', b'{"appDefinition":0}'):
        for kind in ("status_update_event", "api_post_event", "health_status_changed_event", "app_terminated_event"):
            marathon.emit(kind, odd)
    for front, port in zip((0, 2, 3, 4), ports):
        world.wait([port], front)
    lines = world.haproxy.config.read_text().split("# From here on")[1].split("\n\n", 1)[1].splitlines()
    listens = [line for line in lines if line.startswith("listen")]
    assert listens == [f"listen lb_{port}" for port in sorted((fronts[0], *fronts[2:]))]
    servers = sorted(line for line in lines if "server" in line and "#" not in line)
    assert servers == [f"    server 127.0.0.1:{port} 127.0.0.1:{port}" for port in ports[:4]]
    assert len(lines) == 4 * 4 + 3
    taken.close()
    world.wait(ports[6:7], front=1)  # noticed by itself
    marathon.delete_app("/web")
    world.wait(ports[5:6])  # now the port is free for the next


def test_who_asks_all_the_time_sees_no_failure_through_twenty_changes(world):
    marathon = world.marathon
    world.put("/web", 3, ports=world.ports, health=True)
    world.start()
    world.wait_healthy("/web")
    with Client(world.fronts[0], keep=False) as one, Client(world.fronts[0], keep=True) as two:
        for number in range(20):
            match number % 4:
                case 0:
                    marathon.scale("/web", 2)
                case 1:  # crashes: what it had of connections is answered, then nobody listens there
                    port = marathon.apps["/web"]["tasks"][0]["ports"][0]
                    with one.between, two.between:
                        world.tasks.pop(port).end()
                    time.sleep(0.05)
                    marathon.fail_task("/web", 0)
                    world.tasks[port] = Task(port)
                    marathon.set_health("/web", 0, True)
                case 2:
                    marathon.scale("/web", 4)
                case 3:
                    marathon.set_health("/web", 1, False)
                    time.sleep(0.2)
                    marathon.set_health("/web", 1, True)
            wait_until(lambda: world.haproxy.servers() == world.healthy("/web"), 30, f"change {number} is in the list")
            if number % 2:  # the others may come while it reloads
                wait_until(world.haproxy.is_current, 30, f"change {number} is in force")
    world.wait_healthy("/web")
    assert one.failures == [] and two.failures == []
    print(f"\n{one.answers} + {two.answers} requests")
    assert one.answers > 100 and two.answers > 100 and world.haproxy.log.read_text().count("New worker") >= 8


def test_its_configuration_for_busbar_is_accepted():
    checked = run_busbar("check", "-c", EXAMPLE / "busbar.yaml")
    assert checked.returncode == 0, checked.stderr
    options = example().options_of([])
    assert options.source in (EXAMPLE / "busbar.yaml").read_text() and options.mirror == ["http://127.0.0.1:8484"]
    assert str(options.socket) in (EXAMPLE / "haproxy.template.cfg").read_text()


# ---- the table by itself ----


def example():
    spec = importlib.util.spec_from_file_location("load_balancer", EXAMPLE / "load_balancer.py")
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    spec.loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


def app(version="2026-01-01T00:00:00.000Z", tasks=None, port="80", **more) -> dict:
    definition = {"id": "/a", "labels": {"lb.port": port}, "versionInfo": {"lastConfigChangeAt": version}, **more}
    if tasks is not None:
        definition["tasks"] = tasks
    return {"appDefinition": definition, "timestamp": "2026-01-01T00:01:00.000Z"}


def update(task: str, state="TASK_RUNNING", port=1, version="2026-01-01T00:00:00.000Z", timestamp="2026-01-01T00:02"):
    ids = {"appId": "/a", "taskId": task, "taskStatus": state, "version": version, "timestamp": timestamp}
    return ids | {"host": "h", "ports": [port] if isinstance(port, int) else port}


@pytest.fixture
def table():
    return example().Table("lb.port")


def servers(table, now=0.0, port=80) -> dict:
    return {number: backup for (_, number), backup in table.fronts(now)[port][1].items()}


def test_only_a_running_task_serves_and_an_unreachable_one_where_there_is_no_other(table):
    table.take("api_post_event", app(), 0)
    revived = ("STAGING", "STARTING", "KILLING", "LOST", "UNKNOWN", "BRAND_NEW")
    dead = ("FINISHED", "FAILED", "KILLED", "ERROR", "DROPPED", "GONE", "GONE_BY_OPERATOR")
    for number, name in enumerate(revived + dead):
        task = f"a.instance-{number}._app.1"
        table.take("status_update_event", update(task), 0)
        assert servers(table) == {1: False}
        table.take("status_update_event", update(task, f"TASK_{name}", port=[]), 0)
        assert servers(table) == {}, name
        table.take("status_update_event", update(task), 0)
        assert servers(table) == ({1: False} if name in revived else {}), name
        table.take("status_update_event", update(task, "TASK_KILLED"), 0)
    table.take("status_update_event", update("a.x"), 0)
    table.take("status_update_event", update("a.x", "TASK_UNREACHABLE", port=[]), 0)
    assert servers(table) == {1: True}
    table.take("status_update_event", update("a.x"), 0)
    assert servers(table) == {1: False}


def test_what_is_told_after_a_snapshot_and_is_older_is_doubted(table):
    running = {"id": "a.1", "state": "TASK_RUNNING", "host": "h", "ports": [1], "version": "2026-01-01T00:00:00.000Z"}
    table.take("status_update_event", update("a.dead", port=9), 0)
    table.take("Snapshot", app(tasks=[running]), 0)
    assert servers(table) == {1: False}
    old = "2026-01-01T00:00:59.999Z"
    table.take("status_update_event", update("a.dead", port=9, timestamp=old), 100)
    assert servers(table, 1000) == {1: False}  # known to be dead
    table.take("status_update_event", update("a.late", port=2, timestamp=old), 100)
    assert servers(table, 100.0) == {1: False}  # may be dead
    assert table.doubted_until(100) == 102
    assert servers(table, 102.1) == {1: False, 2: False}  # it was the clocks
    table.take("status_update_event", update("a.late", "TASK_KILLED", timestamp=old), 100.1)
    assert servers(table, 102.1) == {1: False}
    table.take("status_update_event", update("a.new", port=3), 100)
    assert servers(table, 100.0) == {1: False, 3: False}
    assert servers(example().Table("lb.port", json.loads(json.dumps(table.as_json())))) == {1: False, 3: False}


def test_checks_that_are_new_turn_no_old_task_away(table):
    table.take("api_post_event", app(), 0)
    table.take("status_update_event", update("a.old"), 0)
    newer = "2026-02-01T00:00:00.000Z"
    table.take("api_post_event", app(newer, healthChecks=[{}]), 0)
    table.take("status_update_event", update("a.new", port=2, version=newer), 0)
    assert servers(table) == {1: False}
    table.take("health_status_changed_event", {"appId": "/a", "taskId": "a.new", "alive": True}, 0)  # before 1.5
    assert servers(table) == {1: False, 2: False}
    for which in ("a.instance-1", "a.marathon-1"):
        table.take("status_update_event", update(f"{which}._app.1", port=3, version=newer), 0)
        table.take("instance_health_changed_event", {"runSpecId": "/a", "instanceId": which, "healthy": True}, 0)
        assert servers(table) == {1: False, 2: False, 3: False}
        table.take("instance_health_changed_event", {"runSpecId": "/a", "instanceId": which, "healthy": False}, 0)
        assert servers(table) == {1: False, 2: False}
    table.take("health_status_changed_event", {"appId": "/a", "instanceId": "a.marathon-new", "alive": False}, 0)
    assert servers(table) == {1: False}


def test_repeats_change_nothing(table):
    old = [
        ("Snapshot", app(tasks=[])),
        ("status_update_event", update("a.1")), ("status_update_event", update("a.2", port=2)),
        ("status_update_event", update("a.1", "TASK_KILLED")), ("status_update_event", update("a.3", port=3)),
        ("health_status_changed_event", {"appId": "/a", "instanceId": "a.3", "alive": True}),
    ]  # fmt: skip
    for kind, event in old:
        table.take(kind, event, 0)
    assert servers(table) == {2: False, 3: False}
    kept = json.dumps(table.as_json())
    for begin in range(1, len(old)):
        for kind, event in old[begin:]:
            table.take(kind, event, 0)
            assert servers(table) == {2: False, 3: False}
        assert json.dumps(table.as_json()) == kept


def test_what_a_real_marathon_said_is_understood(table):
    alive: dict[str, str] = {}
    for kind, data in capture("real-1.11.sse"):
        event = json.loads(data)
        table.take(kind, event, 0)
        if kind == "status_update_event":
            alive.pop(event["taskId"], None)
            if event["taskStatus"] == "TASK_RUNNING":
                alive[event["taskId"]] = event["appId"]
        if kind == "app_terminated_event":
            alive = {task_id: app_id for task_id, app_id in alive.items() if app_id != event["appId"]}
        known = {task_id: app_id for app_id, entry in table.apps.items() for task_id in entry["tasks"]}
        assert known == alive
    assert len(table.dead) > 300
