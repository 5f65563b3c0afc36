"""HashiCorp's newest Go client, unchanged: a Nomad and the mirror of a busbar that follows it tell it the same."""

import os
import pathlib
import subprocess

import pytest
from rig.busbar import Busbar
from rig.feed import Feed
from rig.fetched import fetched
from rig.goclient import GoClient, ask, ask_each
from rig.jobs import job
from rig.nomad import Nomad
from rig.proc import wait_until
from rig.standin import Answer, Standin

TYPED = {"Job", "Node", "Allocation", "Evaluation", "Deployment", "Service"}
BOTH = ("nomad", "mirror")
ROOT = pathlib.Path(__file__).resolve().parents[2]


def _config(address: str, **http) -> dict:
    source = {"name": "prod", "type": "nomad", "servers": [address], "region": "global", "start": "oldest"}
    return {"name": "t", "http": http, "sources": [source]}


def _caught_up(busbar, nomad) -> bool:
    """The busbar has whatever the agent tells now."""
    newest = ask(nomad.address, "-topic", "*", "-namespace", "*", "-index", str(2**63 - 1))
    return busbar.status()["sources"][0]["last_index"] >= newest.index


def _deploy(nomad) -> None:
    """Something of every topic that the client has a type for, in two namespaces; deployments that end well and badly."""
    nomad.create_namespace("other")
    nomad.register_job("web", 1, service=True)
    nomad.register_job("there", 1, namespace="other")

    def deployed():
        return sorted(d["Status"] for d in nomad.api("GET", "/v1/deployments?namespace=*"))

    wait_until(lambda: deployed() == ["successful"] * 2, 60, "two deployments are successful")
    nomad.register_job("web", 1, number=2, service=True, command="exec sleep 3601")
    nomad.register(job("slow", 1, constraint="nowhere"))
    deployment = wait_until(lambda: nomad.api("GET", "/v1/job/slow/deployment"), 20, "a deployment")["ID"]
    for paused in (True, False):
        nomad.api("PUT", f"/v1/deployment/pause/{deployment}", {"DeploymentID": deployment, "Pause": paused})
    nomad.api("PUT", f"/v1/deployment/fail/{deployment}", {})
    nomad.deregister("there", namespace="other")

    def all_quiet():
        allocations = {a["ClientStatus"] for a in nomad.api("GET", "/v1/allocations?namespace=other")}
        return deployed() == ["failed", *["successful"] * 3] and allocations == {"complete"}

    wait_until(all_quiet, 60, "nothing is under way")
    nomad.wait_evaluated()


class World:
    """A Nomad on which something happened, and the mirror of a busbar that follows it."""

    def __init__(self, nomad, busbar):
        self.nomad, self.busbar = nomad, busbar
        self.addresses = {"nomad": nomad.address, "mirror": busbar.url}

    def ask_both(self, *requests: tuple) -> dict[tuple, list[GoClient]]:
        """For each request (words) what the agent says and what the mirror says, each in one go; anew where the
        agent's client says something more meanwhile (a node does, now and then)."""
        for _ in range(5):
            index = self.newest
            agents = ask_each(*[(self.nomad.address, *words) for words in requests])
            mirrors = ask_each(*[(self.busbar.url, *words) for words in requests])
            if self.newest == index:
                break
        return {words: [agent, mirror] for words, agent, mirror in zip(requests, agents, mirrors, strict=True)}

    @property
    def newest(self) -> int:
        """The index of the newest line that both have."""
        wait_until(lambda: _caught_up(self.busbar, self.nomad), 30, "the busbar has all")
        return self.busbar.status()["sources"][0]["last_index"]


@pytest.fixture(scope="module")
def world():
    with Nomad(client=True) as nomad, Busbar(_config(nomad.address)) as busbar:
        world = World(nomad, busbar)
        _deploy(nomad)
        wait_until(lambda: _caught_up(busbar, nomad), 30, "the busbar has all")
        yield world


@pytest.fixture(scope="module", autouse=True)
def idle():
    """Clients of nothing but heartbeats, since the first test, so that the last one needs not wait for long."""
    words = ("-topic", "Job:nothing", "-for", "40s")
    with Nomad() as nomad, Busbar(_config(nomad.address)) as busbar:
        busbar.wait_attached()
        with GoClient(nomad.address, *words) as agent, GoClient(busbar.url, *words) as mirror:
            yield {"nomad": agent, "mirror": mirror}


def test_every_line_is_the_agents_and_decodes_into_the_clients_types(world):
    ((agent, mirror),) = world.ask_both(("-topic", "*", "-namespace", "*", "-index", "1")).values()
    assert mirror.batches == agent.batches
    assert {event["Topic"] for event in agent.events} >= TYPED
    for event in mirror.events:
        assert "Error" not in event, event
        assert event["Topic"] not in TYPED or event["Decoded"]["ID"] == event["Key"]
    told = [e["Decoded"] for e in mirror.events if e["Topic"] == "Deployment" and e["Decoded"]["JobID"] == "slow"]
    assert [deployment["Status"] for deployment in told] == ["running", "paused", "running", "failed"]
    assert mirror.end == {"How": "quiet", "Heartbeats": 1, "CloseMs": mirror.end["CloseMs"], "Leaked": 0}


FILTERS = (
    ("-topic", "Job"),
    ("-topic", "Job:*"),
    ("-topic", "Job:web"),
    ("-topic", "Job:web", "-topic", "Job:slow", "-topic", "Node"),
    ("-topic", "Deployment:slow"),  # a FilterKey
    ("-topic", "Evaluation:web", "-topic", "Allocation:web"),
    ("-topic", "Service:rig-service"),
    ("-topic", "*:web"),
    ("-topic", "Job", "-namespace", "other"),
    ("-topic", "*", "-namespace", "default"),
    ("-topic", "Job:there", "-namespace", "*"),
    ("-topic", "Job", "-stale"),
    ("-topic", "Job", "-region", "global"),
    ("-index", "1"),
)


@pytest.fixture(scope="module")
def filtered(world):
    return world.ask_both(*FILTERS)


@pytest.mark.parametrize("words", FILTERS, ids=" ".join)
def test_filters_are_the_agents(filtered, words):
    agent, mirror = filtered[words]
    assert agent.batches, "this filter tests nothing"
    assert mirror.batches == agent.batches


def test_an_index_begins_where_the_agent_begins(world):
    everything = ask(world.nomad.address, "-topic", "*", "-namespace", "*", "-index", "1").batches
    indexes = sorted({batch["Index"] for batch in everything})
    between = next(index + 1 for index in indexes[3:] if index + 1 not in indexes)
    asked = (0, indexes[len(indexes) // 2], between, indexes[-1], indexes[-1] + 1, 2**63 - 1)
    told = world.ask_both(*[("-topic", "*", "-namespace", "*", "-index", str(index)) for index in asked])
    for words, (agent, mirror) in told.items():
        assert agent.batches and mirror.batches == agent.batches, words


def test_what_the_agent_refuses_is_refused_in_its_words(world):
    bad = ("-topic", "Job:a:b"), ("-index", str(2**63)), ("-region", "nowhere")
    for words, (agent, mirror) in world.ask_both(*bad).items():
        assert agent.end["How"] == "refused" and agent.end["Status"] >= 400 and mirror.end == agent.end, words


def test_a_token_in_x_nomad_token_is_asked_for():
    with Nomad(acl=True) as nomad:
        config = _config(nomad.address, token="0b2cbf4e-0000-0000-0000-0000000005e7")
        config["sources"][0]["token"] = nomad.token
        with Busbar(config) as busbar:
            nomad.register_job("web")
            doors = (nomad.address, nomad.token), (busbar.url, config["http"]["token"])
            for address, right in doors:
                with GoClient(address, "-topic", "Job", "-token", right, "-events", "1") as client:
                    assert client.wait().events[0]["Decoded"]["ID"] == "web"
            for wrong in ((), ("-token", "0a7a3e7c-0000-0000-0000-000000000000")):
                agent, mirror = ask_each(*[(address, "-topic", "Job", *wrong) for address, _ in doors])
                assert agent.end["How"] == "refused" and agent.end["Error"] == "Permission denied"
                assert mirror.end == agent.end


def test_a_client_names_one_of_several_regions(feed):
    other, answer = Feed(200), Answer()
    answer.steps = other
    with Standin(answer) as server:
        config = _config(feed.address)
        config["sources"].append({**config["sources"][0], "name": "eu", "region": "eu", "servers": [server.address]})
        with Busbar(config) as busbar:
            feed.say(key="here")
            other.say(key="there")
            busbar.wait_attached()
            for region, key in (("global", "here"), ("eu", "there")):
                with GoClient(busbar.url, "-topic", "Job", "-region", region, "-events", "1") as client:
                    assert client.wait().events[0]["Decoded"]["ID"] == key
            assert ask(busbar.url, "-topic", "Job").end["Status"] == 400  # which?


@pytest.mark.parametrize("which", BOTH)
def test_a_cancelled_subscription_is_over_at_once_at_both_ends(world, which):
    with GoClient(world.addresses[which], "-topic", "*") as client:
        client.wait_index(1)
        if which == "mirror":  # which may yet have to see that earlier ones left
            wait_until(lambda: world.busbar.metrics()["busbar_clients"] == 1, 20, "it is the only one")
        client.stop()
    assert client.end["How"] == "asked" and client.end["CloseMs"] < 5000 and not client.end["Leaked"]
    if which == "mirror":
        wait_until(lambda: world.busbar.metrics()["busbar_clients"] == 0, 20, "the mirror saw it leave")


def _stir(nomad, count: int) -> None:
    for number in range(count):
        nomad.register_job(f"live{number % 3}", number=number)


def test_a_client_goes_on_by_its_index_after_the_mirror_was_killed(world):
    words = ("-topic", "*", "-namespace", "*")
    before = ask(world.busbar.url, *words, "-index", "1").index
    with GoClient(world.busbar.url, *words, "-index", str(before)) as first:
        _stir(world.nomad, 10)
        first.wait_index(before + 10)
        world.busbar.kill9()
        _stir(world.nomad, 10)
        assert first.wait().end["How"] == "ended" and "EOF" in first.end["Error"]
    world.busbar.start()
    world.nomad.wait_evaluated()
    for _ in range(5):  # anew where the agent's client says something more meanwhile
        index = world.newest
        agent, second = ask_each(
            (world.nomad.address, *words, "-index", str(before)), (world.busbar.url, *words, "-index", str(first.index))
        )
        if world.newest == index:
            break
    assert second.batches[0]["Index"] == first.index
    assert [batch for batch in first.batches if batch["Index"] < first.index] + second.batches == agent.batches


@pytest.mark.parametrize("folder", ("tests/integration/goclient", "deploy/examples/deploy-notifier"))
def test_the_go_code_is_formatted_vetted_and_tested(folder):
    go = fetched("go")
    root = subprocess.run([go, "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
    env = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off", "GOROOT": root}
    for words in ([f"{root}/bin/gofmt", "-d", "."], [go, "vet", "./..."], [go, "test", "-count=1", "./..."]):
        done = subprocess.run(words, cwd=ROOT / folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "@@" not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("which", BOTH)
def test_an_idle_stream_has_a_heartbeat_at_once_and_every_thirty_seconds(idle, which):
    client = idle[which].wait()
    assert client.end["How"] == "time" and client.end["Heartbeats"] == 2 and not client.batches
