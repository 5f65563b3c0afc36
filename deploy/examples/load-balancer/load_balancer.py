#!/usr/bin/python3
"""load_balancer.py - keeps HAProxy's servers what the healthy tasks of Marathon's apps are, from Busbar's mirror.

Table: what is known, a pure function of the events in their order. Follower: the stream, which goes on after the last
id. Haproxy: a file, checked and reloaded. Table and id are kept in one file. README.md says what is promised.
"""

import argparse
import email.utils
import hashlib
import http.client
import ipaddress
import itertools
import json
import logging
import os
import pathlib
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

TOPICS = ("App", "Task", "HealthCheck", "Instance")
TYPES = (
    "Snapshot", "Vanished", "api_post_event", "app_terminated_event", "status_update_event",
    "health_status_changed_event", "instance_health_changed_event",
)  # fmt: skip
RUNNING, UNREACHABLE = "TASK_RUNNING", "TASK_UNREACHABLE"
# Mesos never revives these; a task that is LOST, it may.
DEAD = {f"TASK_{name}" for name in ("FINISHED", "FAILED", "KILLED", "ERROR", "DROPPED", "GONE", "GONE_BY_OPERATOR")}
REMEMBERED = 1000  # ids of dead tasks
DOUBT = 2.0  # seconds: twice of what Marathon's timestamps were seen to go back
QUIET, QUIET_BEHIND = 0.1, 1.0  # seconds without an event after which a change is published; while reading what is past
LATEST = 1.0  # seconds after which it is published though events go on coming
STILL = 0.1  # seconds between two looks at the clock; more is a machine that stood still, and no quiet of the stream's
SAVE_EVERY = 5.0  # seconds, where the id has moved but the table has not
LOOK_EVERY = 2.0  # seconds, at HAProxy, and for ports that were taken
SILENCE = 60.0  # seconds; the mirror's heartbeats come every 15 s
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,252})")


def write_atomically(path: pathlib.Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


# ---- what is known ----


class Table:
    """Apps and their tasks, by the order of arrival. take() returns whether anything changed; any exception that it
    raises means an event that is not as Marathon has it, and that nothing was changed by it."""

    def __init__(self, label: str, state: dict | None = None):
        self.label = re.compile(rf"{re.escape(label)}(?:\.([0-9]{{1,2}}))?")
        state = state or {}
        self.apps: dict[str, dict] = state.get("apps", {})
        self.owners: dict[str, str] = state.get("owners", {})  # front port: the app that had it first
        self.dead: dict[str, None] = dict.fromkeys(state.get("dead", []))
        self.is_complete: bool = state.get("complete", False)  # a whole resync was seen
        self.told: dict | None = state.get("told")  # the apps that the present resync told
        self.is_foreign: bool = state.get("foreign", False)  # another journal, which may never tell what vanished

    def as_json(self) -> dict:
        return {
            "apps": self.apps, "owners": self.owners, "dead": list(self.dead), "complete": self.is_complete,
            "told": self.told, "foreign": self.is_foreign,
        }  # fmt: skip

    def take(self, kind: str, event: dict, now: float) -> bool:
        match kind:
            case "Snapshot" if "appDefinition" in event:
                self._snapshot(event["appDefinition"], str(event["timestamp"]))
            case "api_post_event":
                self._define(event["appDefinition"])
            case "Vanished" if event["Topic"] == "App":
                self._forget(event["Key"])
            case "app_terminated_event":
                self._forget(event["appId"])
            case "status_update_event":
                return self._status(event, now)
            case "health_status_changed_event":
                return self._health(event["appId"], event, event["alive"])
            case "instance_health_changed_event":
                return self._health(event["runSpecId"], event, event["healthy"])
            case "Gap":
                # Nothing is thrown away: the resync that follows says what is different.
                logging.warning("event=gap reason=%s", json.dumps(event["Payload"].get("Reason")))
                self.told = None
            case "ResyncStarted":
                self.told = {}
            case "ResyncFinished":
                self._finish()
            case _:
                return False
        return True

    def _define(self, app: dict) -> dict:
        """The definition as it is now. What was true of a task of an older one stays with the task."""
        labels, info = app.get("labels") or {}, app.get("versionInfo") or {}
        fronts = {}
        for name, value in sorted(labels.items()):
            found = self.label.fullmatch(name)
            if found and re.fullmatch("[1-9][0-9]{0,4}", str(value)):
                fronts[found[1] or "0"] = int(value)
        config = str(info.get("lastConfigChangeAt") or app.get("version", ""))
        new = {"fronts": fronts, "checks": bool(app.get("healthChecks")), "config": config}
        entry = self._app(app["id"])
        for task in entry["tasks"].values():
            task["checks"] = _needs_health(entry, task)
        entry.update(new)
        if self.told is not None:
            self.told[app["id"]] = None
        return entry

    def _snapshot(self, app: dict, timestamp: str) -> None:
        """All there is of an app. (Busbar tells no Snapshot older than what it has told of the app before.)"""
        running = {task["id"]: _task(task) for task in app.get("tasks") or [] if _state(task) in (RUNNING, UNREACHABLE)}
        entry = self._define(app)
        for task_id, task in running.items():
            if task_id in entry["tasks"]:
                task["checks"] = entry["tasks"][task_id]["checks"]
            self.dead.pop(task_id, None)
        if "tasks" in app:
            self._bury(entry["tasks"].keys() - running.keys())
            entry["tasks"] = running
        entry["snapshot"] = timestamp

    def _status(self, event: dict, now: float) -> bool:
        task_id, state = event["taskId"], event["taskStatus"]
        known = self.apps.get(event["appId"], {}).get("tasks", {})
        if state == UNREACHABLE and task_id in known:
            known[task_id]["state"] = state
            return True
        if state != RUNNING:
            if state in DEAD:
                self._bury([task_id])
            return known.pop(task_id, None) is not None or state in DEAD
        if task_id in self.dead:
            return False
        task = _task(event | {"state": state})
        entry = self._app(event["appId"])
        if old := entry["tasks"].get(task_id):
            task |= {name: old[name] for name in ("alive", "checks", "since")}
            task["ports"] = task["ports"] or old["ports"]
        elif str(event.get("timestamp")) < entry["snapshot"]:
            # Told after the Snapshot that does not have it, and yet older: late news of a task that may be dead, of
            # which the end is then on its way too. Or the clocks of Marathon and Busbar differ, and it is alive.
            task["since"] = now + DOUBT
        entry["tasks"][task_id] = task
        return True

    def _health(self, app_id: str, event: dict, alive) -> bool:
        which, found = event.get("instanceId") or event["taskId"], False
        for task_id, task in self.apps.get(app_id, {}).get("tasks", {}).items():
            if which in (task_id, instance_of(task_id)):
                task["alive"], found = alive is True, True
        return found

    def _forget(self, app_id: str) -> None:
        self._bury(self.apps.pop(app_id, {}).get("tasks", {}))

    def _bury(self, task_ids) -> None:
        self.dead |= dict.fromkeys(task_ids)
        for task_id in list(itertools.islice(self.dead, max(0, len(self.dead) - REMEMBERED))):
            del self.dead[task_id]

    def _finish(self) -> None:
        """The end of a resync. Another Busbar, or one that lost its journal, tells nothing of what it never knew:
        whatever its resync did not tell is gone, then and only then."""
        if self.told is None:
            return
        if self.is_foreign and self.told:
            for app_id in self.apps.keys() - self.told.keys():
                self._forget(app_id)
        self.is_complete, self.is_foreign, self.told = True, False, None
        logging.info("event=complete apps=%d", len(self.apps))

    def _app(self, app_id: str) -> dict:
        """An app of which no definition was told yet has tasks, and no fronts."""
        if not isinstance(app_id, str):
            raise TypeError("the app's id is no string")
        return self.apps.setdefault(app_id, {"fronts": {}, "checks": False, "config": "", "snapshot": "", "tasks": {}})

    def fronts(self, now: float) -> dict[int, tuple[str, dict]]:
        """Front port: its app and servers {(host, port): whether as backup}, as they should be now."""
        claims: dict[str, dict] = {}
        for app_id, entry in self.apps.items():  # the first known first
            for index, port in entry["fronts"].items():
                claims.setdefault(str(port), {}).setdefault(app_id, int(index))
        found = {}
        for port, apps in claims.items():
            owner = self.owners.get(port)
            owner = owner if owner in apps else next(iter(apps))
            if self.owners.get(port) != owner:
                self.owners[port] = owner
            found[int(port)] = owner, _servers(self.apps[owner], apps[owner], now)
        for port in self.owners.keys() - claims.keys():
            del self.owners[port]
        return dict(sorted(found.items()))

    def doubted_until(self, now: float) -> float | None:
        """When the next task is no longer in doubt."""
        tasks = [task for app in self.apps.values() for task in app["tasks"].values()]
        return min((task["since"] for task in tasks if _is_doubted(task, now)), default=None)


def _state(task: dict) -> str:
    """Old versions tell no state."""
    return task.get("state") or (RUNNING if task.get("startedAt") else "TASK_STAGING")


def _task(task: dict) -> dict:
    """From GET /v2/apps or a status update."""
    results = task.get("healthCheckResults") or []
    ports = task.get("ports")
    return {
        "host": str(task.get("host")), "ports": list(ports) if isinstance(ports, list) else [ports],
        "state": _state(task), "version": str(task.get("version", "")), "since": 0,
        "alive": bool(results) and all(result.get("alive") is True for result in results),
        "checks": bool(results),  # of an older definition than the app's present one
    }  # fmt: skip


def instance_of(task_id: str) -> str:
    """"app.instance-UUID._app.1" and the shapes before it: "app.marathon-UUID.name", "app.UUID"."""
    if found := re.match(r"(.+\.(?:instance|marathon)-[^_.]+)[._]", task_id):
        return found[1]
    spec, _, unique = task_id.rpartition(".")
    return f"{spec}.marathon-{unique}"


def _needs_health(app: dict, task: dict) -> bool:
    """By the definition that the task was started of: checks that are new don't turn old tasks away."""
    return app["checks"] if task["version"] >= app["config"] else task["checks"]


def _is_doubted(task: dict, now: float) -> bool:
    return 0 < task["since"] - now <= DOUBT


def _servers(app: dict, index: int, now: float) -> dict:
    found = {}
    for task in app["tasks"].values():
        healthy = task["alive"] or not _needs_health(app, task)
        if not healthy or _is_doubted(task, now) or index >= len(task["ports"]):
            continue
        host, port = task["host"], task["ports"][index]
        if not is_host(host) or type(port) is not int or not 0 < port < 65536:
            continue
        found[host, port] = task["state"] == UNREACHABLE and found.get((host, port), True)
    return dict(sorted(found.items()))


def is_host(host: str) -> bool:
    """A name or an address, and nothing that means anything else to HAProxy."""
    if HOST.fullmatch(host):
        return True
    try:
        return ipaddress.ip_address(host).version == 6 and "%" not in host
    except ValueError:
        return False


# ---- the stream ----


class Follower(threading.Thread):
    """Puts what happens on `news`: ("attached", the mirror's clock), ("event", id, type, data), ("lost", why)."""

    def __init__(self, mirrors: list[str], source: str, token: str, last_id: str):
        super().__init__(name="follower", daemon=True)
        self.mirrors, self.token, self.last_id = mirrors, token, last_id
        self.query = {"source": source, "topic": TOPICS, "type": TYPES}
        self.news: queue.Queue = queue.Queue(1000)
        self.heard = False

    def run(self) -> None:
        pause = 0.0
        for mirror in itertools.cycle(self.mirrors):
            self.heard = False
            try:
                self._follow(mirror)
                why = "the stream has ended"
            except (OSError, http.client.HTTPException, ValueError, TypeError) as error:
                why = f"{type(error).__name__}: {error}"
            pause = 0.25 if self.heard else min(10.0, max(0.25, pause * 2))
            self.news.put(("lost", f"{mirror}: {why}", pause))
            time.sleep(pause * random.uniform(0.75, 1.25))

    def _follow(self, mirror: str) -> None:
        # Without an id: all there is.
        query = self.query if self.last_id else self.query | {"last_event_id": ""}
        request = urllib.request.Request(f"{mirror}/events?{urllib.parse.urlencode(query, doseq=True)}")
        request.add_header("Accept", "text/event-stream")
        if self.last_id:
            request.add_header("Last-Event-ID", self.last_id)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=SILENCE) as answer:
            if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise ValueError("this is no mirror: no event stream")
            date = answer.headers["Date"]
            clock = email.utils.parsedate_to_datetime(date).timestamp() if date else 0
            self.news.put(("attached", mirror, clock))
            self._read(answer)

    def _read(self, answer) -> None:
        told_id, kind, data = self.last_id, "message", []
        for line in answer:
            name, _, value = line.rstrip(b"\r\n").partition(b":")
            value = value.removeprefix(b" ")
            if name == b"id":
                told_id = value.decode()
            elif name == b"event":
                kind = value.decode()
            elif name == b"data":
                data.append(value)
            elif line in (b"\n", b"\r\n"):
                self.heard, self.last_id = True, told_id
                # An id without data: the mirror passed over what is filtered.
                self.news.put(("event", self.last_id, kind if data else None, b"\n".join(data)))
                kind, data = "message", []


# ---- HAProxy ----


class Haproxy:
    """Its configuration file, and the process that reads it."""

    def __init__(self, options):
        self.config, self.pidfile, self.socket = options.config, options.pidfile, options.socket
        self.head = options.template.read_text(encoding="utf-8")
        self.bind, self.ports, self.haproxy = options.bind, options.ports, options.haproxy
        self.present = self.config.read_text(encoding="utf-8") if self.config.exists() else ""
        self.refused = ""  # a text that `haproxy -c` does not like
        self.taken: set[int] = set()  # front ports of others
        self.tries, self.tried = 0, 0.0

    def render(self, fronts: dict) -> str:
        parts = []
        for port, (app_id, servers) in fronts.items():
            lines = [f"listen lb_{port}", f"    # {re.sub('[^A-Za-z0-9/._-]', '?', app_id)[:200]}"]
            lines.append(f"    bind {self.bind}:{port}")
            for (host, number), is_backup in servers.items():
                at = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
                lines.append(f"    server {host}:{number} {at}{' backup' if is_backup else ''}")
            parts.append("\n".join(lines) + "\n")
        body = "\n".join(parts)
        name = hashlib.sha256((self.head + body).encode()).hexdigest()[:16]
        return f'{self.head}\n# From here on: load_balancer.py.\nglobal\n    description "list {name}"\n\n{body}'

    def usable(self, fronts: dict) -> dict:
        """Without ports that nobody allowed, and those that somebody else listens at: one would keep all of HAProxy
        from starting. What the file has already is HAProxy's own."""
        own = {int(port) for port in re.findall(r"^listen lb_(\d+)$", self.present, re.MULTILINE)}
        taken = {port for port in fronts if port not in self.ports or (port not in own and self._is_taken(port))}
        for port in sorted(taken - self.taken):
            why, app_id = "in use" if port in self.ports else "not among --ports", json.dumps(fronts[port][0])
            logging.warning('event=port_refused port=%d app=%s why="%s"', port, app_id, why)
        self.taken = taken
        return {port: what for port, what in fronts.items() if port not in taken}

    def _is_taken(self, port: int) -> bool:
        host = self.bind.strip("[]")
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("" if host == "*" else host, port))
            except PermissionError:
                return False  # HAProxy may be allowed what this program is not
            except OSError:
                return True
        return False

    def publish(self, fronts: dict) -> None:
        """Where anything changes: checked, written, reloaded."""
        fronts = self.usable(fronts)
        text = self.render(fronts)
        if text in (self.present, self.refused):
            return
        new = self.config.with_name(self.config.name + ".check")
        write_atomically(new, text)
        check = subprocess.run([self.haproxy, "-c", "-q", "-f", new], capture_output=True, text=True, check=False)
        if check.returncode != 0:
            logging.error("event=refused err=%s", json.dumps(check.stderr[-2000:]))
            self.refused = text
            return
        os.replace(new, self.config)
        self.present, self.refused, self.tries = text, "", 0
        servers = sum(len(servers) for _, servers in fronts.values())
        logging.info("event=published fronts=%d servers=%d", len(fronts), servers)
        self.reload()

    def reload(self) -> None:
        """A master process (haproxy -W) starts a new worker, which takes over the listening sockets."""
        self.tries, self.tried = self.tries + 1, time.monotonic()
        try:
            os.kill(int(self.pidfile.read_text()), signal.SIGUSR2)
        except (OSError, ValueError) as error:
            # When it starts it reads the file.
            logging.warning("event=haproxy_away err=%s", json.dumps(str(error)))

    def look(self) -> None:
        """Whether it runs what it should: a reload can fail, and a signal can come too early."""
        pause = min(60.0, LOOK_EVERY * 2 ** max(0, self.tries - 1))
        if not self.present or time.monotonic() - self.tried < pause:
            return
        name = re.search(r'^    description "(list [0-9a-f]+)"$', self.present, re.MULTILINE)
        runs = self._ask_description()
        if name and runs is not None and runs != name[1]:
            logging.warning("event=reloads_again runs=%s", json.dumps(runs))
            self.reload()
        else:
            self.tries, self.tried = 1, time.monotonic()

    def _ask_description(self) -> str | None:
        """None: it is away."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(2)
                client.connect(str(self.socket))
                client.sendall(b"show info\n")
                with client.makefile(encoding="utf-8", errors="replace") as lines:
                    found = [line.partition(":")[2].strip() for line in lines if line.startswith("description:")]
                    return found[0] if found else ""
        except OSError:
            return None


# ---- all of it ----


class LoadBalancer:
    def __init__(self, options):
        self.path, self.interval = options.state, options.interval
        state = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        self.last_id: str = state.get("last_event_id", "")
        self.table = Table(options.label, state)
        self.haproxy = Haproxy(options)
        self.follower = Follower(options.mirror, options.source, os.environ.get("BUSBAR_TOKEN", ""), self.last_id)
        self.is_changed = self.is_moved = False
        self.is_attached, self.is_behind, self.clock = False, True, 0.0
        self.heard = self.changed = self.saved = self.published = 0.0
        self.looked, self.quiet = time.monotonic(), 0.0  # quiet: seconds without an event, as far as we were there
        self.wake: float | None = None  # when a doubt ends, by time.time()

    def run(self, is_stopping) -> None:
        if self.table.is_complete:
            self.publish()  # it may have been written down, and no more
        self.follower.start()
        while not is_stopping():
            try:
                news = self.follower.news.get(timeout=0.05)
            except queue.Empty:
                news = None
            self.look(time.monotonic())
            if news:
                self.hear(*news)
            self.tick(time.monotonic())
        self.save()

    def look(self, now: float) -> None:
        self.looked, self.quiet = now, self.quiet + min(now - self.looked, STILL)

    def hear(self, what: str, *words) -> None:
        match what:
            case "event":
                self.take(*words)
            case "attached":
                logging.info("event=attached mirror=%s", words[0])
                self.is_attached, self.is_behind = True, True
                self.clock, self.quiet = words[1] * 1e6, 0.0
            case "lost":
                self.is_attached = False
                logging.warning("event=lost retry_s=%g err=%s", words[1], json.dumps(words[0]))

    def take(self, event_id: str, kind: str | None, data: bytes) -> None:
        place = re.fullmatch(r".*@([0-9]+)\.([^.]+)", event_id)
        if place and self.last_id and not self.last_id.endswith("." + place[2]):
            logging.warning("event=other_journal journal=%s", place[2])
            self.table.is_foreign, self.table.told = True, None
        is_new = False
        if kind:
            self.heard, self.quiet = time.monotonic(), 0.0
            self.is_behind = self.is_behind and bool(place) and int(place[1]) < self.clock
            is_new = self.apply(kind, data)
        if is_new and not self.is_changed:
            self.is_changed, self.changed = True, self.heard
        self.last_id, self.is_moved = event_id, True

    def apply(self, kind: str, data: bytes) -> bool:
        try:
            return self.table.take(kind, json.loads(data), time.time())
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            logging.warning("event=odd type=%s err=%s", kind, json.dumps(repr(error)))
            return False

    def tick(self, now: float) -> None:
        if self.table.is_complete and self.is_due(now):
            self.publish()
        elif self.is_moved and now - self.saved > SAVE_EVERY:
            self.save()
        self.haproxy.look()

    def is_due(self, now: float) -> bool:
        """While what is past is read the list stays: it would go through all of it once more."""
        if self.is_attached and self.quiet > QUIET_BEHIND:
            self.is_behind = False
        if now - self.published < self.interval or self.is_behind:
            return False
        if self.wake and time.time() >= self.wake:
            return True
        if self.haproxy.taken and now - self.published > LOOK_EVERY:
            return True  # perhaps a port is free by now
        return self.is_changed and (self.quiet > QUIET or now - self.changed > LATEST)

    def save(self) -> None:
        """Table and id, always together."""
        state = {"last_event_id": self.last_id, **self.table.as_json()}
        write_atomically(self.path, json.dumps(state))
        self.saved, self.is_moved = time.monotonic(), False

    def publish(self) -> None:
        fronts = self.table.fronts(time.time())
        self.save()  # first: what HAProxy has is never newer
        self.haproxy.publish(fronts)
        self.published, self.is_changed = time.monotonic(), False
        self.wake = self.table.doubted_until(time.time())


def ports_of(text: str) -> set[int]:
    ranges = [part.partition("-") for part in text.split(",")]
    return {port for low, _, high in ranges for port in range(int(low), int(high or low) + 1)}


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    path = pathlib.Path
    here = path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Keeps HAProxy's servers what Marathon's healthy tasks are.")
    say = parser.add_argument
    say("--mirror", action="append", help="URL of a Busbar; of several, one after the other [http://127.0.0.1:8484]")
    say("--source", default="marathon", help="its source of type marathon [%(default)s]")
    say("--label", default="lb.port", help="of an app: its front port; LABEL.1: that of its second port [%(default)s]")
    say("--ports", type=ports_of, default="10000-20000", help="that apps may ask for: 80,8000-8999 [%(default)s]")
    say("--bind", default="*", help="address of the front ports [%(default)s]")
    say("--template", type=path, default=here / "haproxy.template.cfg", help="what the list is appended to")
    say("--config", type=path, default="/etc/haproxy/haproxy.cfg", help="written whole [%(default)s]")
    say("--state", type=path, default="/var/lib/load-balancer/state.json", help="[%(default)s]")
    say("--pidfile", type=path, default="/run/haproxy.pid", help="of HAProxy's master [%(default)s]")
    say("--socket", type=path, default="/run/haproxy/admin.sock", help="its stats socket [%(default)s]")
    say("--haproxy", default="haproxy", help="the program that checks [%(default)s]")
    say("--interval", type=float, default=1.0, help="seconds between two reloads at least [%(default)s]")
    options = parser.parse_args(words)
    options.mirror = [url.rstrip("/") for url in options.mirror or ["http://127.0.0.1:8484"]]
    return options


def main() -> int:
    logging.basicConfig(format="level=%(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: asked.append(received))
    LoadBalancer(options_of()).run(lambda: asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
