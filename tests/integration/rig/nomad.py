"""A real Nomad agent: one server, with a client beside it where a test wants allocations.

Not `-dev`: that one keeps its raft log in memory, and a kill -9 would end the
cluster. This one has a data folder and comes back with its state and its indexes.
"""

import http.client
import json
import pathlib
import subprocess
import urllib.parse

from . import jobs
from .fetched import fetched
from .ports import free_ports
from .proc import Server, wait_until


class Refused(Exception):
    """Nomad answered other than 200."""

    def __init__(self, status: int, text: str):
        super().__init__(f"{status} {text.strip()}")
        self.status, self.text = status, text


class Nomad(Server):
    """client: runs jobs too, by raw_exec (without one, jobs with a count > 0 stay pending).

    event_buffer_size: Nomad's own default is 100; a test that is not about gaps wants more.
    acl: `token` is then the management token. peers: other Nomads that form one cluster. server: more settings of
    its `server` block. tls: its `tls` block; with `http: True` the rig asks by rig_tls, an ssl.SSLContext that the test
    sets. After a restart the buffer holds what the raft log has behind its last snapshot.
    """

    name = "nomad"
    request_timeout = 20.0

    def __init__(
        self,
        client=False,
        event_buffer_size=10_000,
        acl=False,
        node_name="node1",
        folder=None,
        server: dict | None = None,
        tls: dict | None = None,
    ):
        super().__init__(folder)
        self.server_settings = server or {}
        self.tls, self.rig_tls = tls or {}, None
        self.client, self.acl, self.node_name = client, acl, node_name
        self.event_buffer_size = event_buffer_size
        self.http_port, self.rpc_port, self.serf_port = free_ports(3)
        self.peers: list[Nomad] = [self]
        self.token = ""

    @property
    def address(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.http_port}"

    def _argv(self):
        config = self.folder / "agent.json"
        config.write_text(json.dumps(self._config(), indent=2))
        return [fetched("nomad"), "agent", f"-config={config}"]

    def _env(self) -> dict:
        """Its plugins leave their sockets behind when it is killed: in the folder, then."""
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return {"TMPDIR": str(temporary)}

    def _config(self) -> dict:
        ports = {"http": self.http_port, "rpc": self.rpc_port, "serf": self.serf_port}
        return {
            "name": self.node_name,
            "bind_addr": "127.0.0.1",
            "advertise": {which: f"127.0.0.1:{port}" for which, port in ports.items()},
            "ports": ports,
            "data_dir": str(self.folder / "data"),
            "disable_update_check": True,
            "log_level": "INFO",
            # SIGTERM stops the agent as a reboot would; it stays a member.
            "leave_on_terminate": False,
            "acl": {"enabled": self.acl},
            "tls": self.tls,
            "limits": {"http_max_conns_per_client": 0},
            "server": self._server_config(),
            "client": self._client_config(),
            "plugin": [{"raw_exec": [{"config": [{"enabled": True, "no_cgroups": True}]}]}],
        }

    def _server_config(self) -> dict:
        return {
            "enabled": True,
            "bootstrap_expect": len(self.peers),
            "num_schedulers": 1,
            "raft_multiplier": 1,
            "event_buffer_size": self.event_buffer_size,
            "server_join": {
                "retry_join": [f"127.0.0.1:{peer.serf_port}" for peer in self.peers if peer is not self],
                "retry_interval": "1s",
            },
            **self.server_settings,
        }

    def _client_config(self) -> dict:
        """Figures of its own instead of the machine's: enough for every job, the same everywhere."""
        return {
            "enabled": self.client,
            "network_interface": "lo",
            "cpu_total_compute": 100_000,
            "memory_total_mb": 65_536,
            "gc_interval": "1h",
            "options": {
                "driver.allowlist": "raw_exec",
                "fingerprint.denylist": "bridge,cgroup,cni,consul,env_aws,env_azure,env_digitalocean,env_gce,vault",
            },
        }

    def _is_ready(self) -> bool:
        try:
            if self.acl and not self.token:
                self.token = self.api("POST", "/v1/acl/bootstrap")["SecretID"]
            if not self.api("GET", "/v1/status/leader"):
                return False
            return not self.client or self._has_ready_node()
        except (OSError, http.client.HTTPException, Refused):
            return False

    def _has_ready_node(self) -> bool:
        return any(node["Status"] == "ready" for node in self.api("GET", "/v1/nodes"))

    def _connection(self) -> http.client.HTTPConnection:
        where = ("127.0.0.1", self.http_port)
        if self.tls:
            return http.client.HTTPSConnection(*where, timeout=self.request_timeout, context=self.rig_tls)
        return http.client.HTTPConnection(*where, timeout=self.request_timeout)

    def request(self, method: str, path: str, body=None, token: str | None = None):
        """One exchange: (status, bytes of the answer)."""
        headers = {"X-Nomad-Token": self.token if token is None else token}
        connection = self._connection()
        try:
            text = None if body is None else json.dumps(body).encode()
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def api(self, method: str, path: str, body=None, token: str | None = None):
        """One exchange whose answer is JSON; anything but 200 raises Refused."""
        status, text = self.request(method, path, body, token)
        if status != 200:
            raise Refused(status, text.decode(errors="replace"))
        return json.loads(text) if text.strip() else None

    def register_job(self, job_id: str, count: int = 0, **how) -> dict:
        """Registers a job as jobs.job() describes it; returns Nomad's answer."""
        return self.register(jobs.job(job_id, count, **how))

    def register(self, job: dict) -> dict:
        return self.api("PUT", "/v1/jobs", {"Job": job})

    def wait_evaluated(self) -> int:
        """Until nothing that was registered waits for its evaluation, which changes the job once more; the last's index."""

        def evaluated():
            found = self.api("GET", "/v1/evaluations?namespace=*")
            is_over = all(one["Status"] != "pending" for one in found)
            return is_over and [one["ModifyIndex"] for one in found] + [1]

        return max(wait_until(evaluated, 30, "all is evaluated"))

    def deregister(self, job_id: str, purge: bool = False, namespace: str = "default") -> dict:
        query = urllib.parse.urlencode({"purge": str(purge).lower(), "namespace": namespace})
        return self.api("DELETE", f"/v1/job/{urllib.parse.quote(job_id, safe='')}?{query}")

    def create_namespace(self, name: str) -> None:
        self.api("PUT", f"/v1/namespace/{name}", {"Name": name, "Description": "of the tests"})

    def node_id(self) -> str:
        """The id of the one client."""
        return self.api("GET", "/v1/nodes")[0]["ID"]

    def set_eligible(self, eligible: bool) -> None:
        node, word = self.node_id(), "eligible" if eligible else "ineligible"
        self.api("PUT", f"/v1/node/{node}/eligibility", {"NodeID": node, "Eligibility": word})

    def drain(self, enable: bool) -> None:
        node = self.node_id()
        spec = {"Deadline": 10_000_000_000} if enable else None
        self.api("PUT", f"/v1/node/{node}/drain", {"NodeID": node, "DrainSpec": spec, "MarkEligible": True})

    def create_token(self, rules: str) -> str:
        """The secret of a client token that may do what the rules (HCL) say."""
        name = f"policy{len(self.api('GET', '/v1/acl/policies'))}"
        self.api("PUT", f"/v1/acl/policy/{name}", {"Name": name, "Rules": rules})
        return self.api("PUT", "/v1/acl/token", {"Type": "client", "Policies": [name]})["SecretID"]

    def make_token(self, how: dict) -> tuple[str, str]:
        """(accessor, secret) of a token as Nomad's API describes one."""
        made = self.api("PUT", "/v1/acl/token", {"Name": "of the tests", **how})
        return made["AccessorID"], made["SecretID"]

    def revoke_token(self, accessor: str) -> None:
        self.api("DELETE", f"/v1/acl/token/{accessor}")

    def close(self) -> None:
        """Besides, removes the mounts of tasks' secrets folders, which a killed agent leaves."""
        if self.process:
            self.process.end()
        for line in pathlib.Path("/proc/mounts").read_text().splitlines():
            where = line.split()[1]
            if where.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", where], check=False)
        super().close()


def nomad_cluster(size: int = 3, **how) -> list[Nomad]:
    """Servers that form one cluster; started, with a leader. Close each of them."""
    members = [Nomad(node_name=f"node{number + 1}", **how) for number in range(size)]
    try:
        for member in members:
            member.peers = members
            member.start(wait=False)
        for member in members:
            member.wait_ready()
    except BaseException:
        close_all(members)
        raise
    return members


def close_all(servers: list[Server]) -> None:
    for server in servers:
        server.close()


def wait_leader(members: list[Nomad], timeout: float = 30) -> Nomad:
    """The member that leads, once those that run agree on one."""

    def leader():
        known = {member.rpc_port: member for member in members if member.running}
        try:
            said = {member.api("GET", "/v1/status/leader") for member in known.values()}
        except (OSError, http.client.HTTPException, Refused):  # they are about to elect one, once more
            return None
        port = int(said.pop().rpartition(":")[2] or 0) if len(said) == 1 else 0
        return known.get(port)

    return wait_until(leader, timeout, "the cluster has a leader")


def register_somewhere(members: list[Nomad], job_id: str) -> dict:
    """By whoever leads, as soon as somebody does: on a machine that stands still now and then leaders come and go."""

    def registered():
        try:
            return wait_leader(members).register_job(job_id)
        except (OSError, http.client.HTTPException, Refused):
            return None

    return wait_until(registered, 60, f"{job_id} is registered")
