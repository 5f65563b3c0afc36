"""deploy/examples/deploy-notifier at a Nomad and at a mirror: every status is posted, none twice but where it says so."""

import collections
import contextlib
import json
import time

import pytest
from rig.busbar import Busbar
from rig.fetched import fetched
from rig.jobs import job
from rig.nomad import Nomad
from rig.proc import Server, wait_until
from rig.tap import Tap
from rig.webhook import Webhook

STATUSES = 4  # that one _deploy() tells


class Notifier(Server):
    """The example, built; its state file lies in its folder."""

    name = "notifier"

    def __init__(self, address: str, webhook: Webhook, *words: str):
        super().__init__()
        self.words = words
        self.env = {"NOMAD_ADDR": address, "WEBHOOK_URL": webhook.url, "NOMAD_UI": "https://nomad.test"}

    @property
    def state(self) -> dict:
        return json.loads((self.folder / "state.json").read_text())

    def _argv(self):
        return [fetched("notifier"), "-state", self.folder / "state.json", *self.words]

    def _env(self):
        return self.env

    def _is_ready(self):
        return True

    def wait_noted(self, key: str) -> None:
        """Until the post of that key is in its state file."""
        deployment, status, index = key.split("/")
        wanted = {"ID": deployment, "Index": int(index)}

        def noted():
            return any(wanted.items() <= one.items() and status in one["Statuses"] for one in self.state["Posted"])

        wait_until(noted, 20, f"{key} is noted\n{self.log_tail()}")


def _deploy(nomad, job_id: str) -> None:
    """A deployment that is running, paused, running, failed. (Nobody can run its job, so that nothing else moves.)"""
    nomad.register(job(job_id, 1))
    deployment = wait_until(lambda: nomad.api("GET", f"/v1/job/{job_id}/deployment"), 20, "a deployment")["ID"]
    for paused in (True, False):
        nomad.api("PUT", f"/v1/deployment/pause/{deployment}", {"DeploymentID": deployment, "Pause": paused})
    nomad.api("PUT", f"/v1/deployment/fail/{deployment}", {})


def _changes(nomad) -> list[str]:
    """What is to be posted, by the rig's own reader: deployment/status/index of each change of a status."""
    marker = nomad.register_job("marker", number=time.time_ns())["JobModifyIndex"]
    with Tap(nomad.address, reconnect=True) as tap:  # it is cut where the buffer moves on faster
        wait_until(lambda: tap.last_index >= marker, 20, "all is told that was before")
    last, found = {}, []
    for event in [event for event in tap.events if event.topic == "Deployment"]:
        status = json.loads(event.data)["Payload"]["Deployment"]["Status"]
        if last.get(event.key) != status:
            last[event.key] = status
            found.append(f"{event.key}/{status}/{event.index}")
    return found


@pytest.fixture(params=("nomad", "mirror"))
def upstream(request):
    """A Nomad, what stands between it and the notifier (the agent itself, or a busbar), and its address."""
    with contextlib.ExitStack() as stack:
        nomad = stack.enter_context(Nomad())
        if request.param == "nomad":
            yield nomad, nomad, nomad.address
            return
        source = {"name": "prod", "type": "nomad", "servers": [nomad.address], "start": "oldest"}
        busbar = stack.enter_context(Busbar({"name": "t", "sources": [source]}))
        yield nomad, busbar, busbar.url


def _wait_posts(webhook, count: int, notifier) -> None:
    wait_until(lambda: len(webhook.taken) >= count, 40, f"{count} posts: {webhook.keys}\n{notifier.log_tail()}")


def test_every_status_is_posted_and_none_again_after_kills_and_failures(upstream):
    nomad, front, address = upstream
    with Webhook() as webhook, Notifier(address, webhook, "-start", "oldest") as notifier:
        webhook.failures = [(500, {}), (429, {"Retry-After": "1"})]
        _deploy(nomad, "first")
        _wait_posts(webhook, STATUSES, notifier)
        assert webhook.refused == 2
        ((member, text),) = webhook.taken[-1].body.items()
        assert member == "text" and text.startswith("*first* version 0 in default: *failed* – Deployment marked as failed")
        assert "<https://nomad.test/ui/jobs/first@default/deployments|deployment " in text

        notifier.wait_noted(webhook.keys[-1])
        notifier.kill9()
        _deploy(nomad, "while-killed")
        notifier.start()
        _wait_posts(webhook, 2 * STATUSES, notifier)

        front.restart(hard=True)
        _deploy(nomad, "after-upstream-was-killed")
        _wait_posts(webhook, 3 * STATUSES, notifier)

        webhook.open.clear()  # it takes the post, and nobody hears of that
        _deploy(nomad, "in-doubt")
        _wait_posts(webhook, 3 * STATUSES + 1, notifier)
        doubtful = webhook.keys[-1]
        notifier.kill9()
        webhook.open.set()
        notifier.start()
        _wait_posts(webhook, 4 * STATUSES + 1, notifier)
        notifier.wait_noted(webhook.keys[-1])
        assert notifier.stop() == 0

        changes = _changes(nomad)
        assert len(changes) == 4 * STATUSES
        assert collections.Counter(webhook.keys) == collections.Counter([*changes, doubtful])
        assert list(dict.fromkeys(webhook.keys)) == changes  # in order


def test_a_mirror_still_has_what_the_agent_forgot_meanwhile():
    with Nomad(event_buffer_size=100) as nomad:
        source = {"name": "prod", "type": "nomad", "servers": [nomad.address], "start": "oldest"}
        with Busbar({"name": "t", "sources": [source]}) as busbar, Webhook() as webhook:
            busbar.wait_attached()
            _deploy(nomad, "before")
            with Notifier(busbar.url, webhook, "-start", "oldest") as notifier:
                _wait_posts(webhook, STATUSES, notifier)
                notifier.stop()
                _deploy(nomad, "while-away")
                changes = _changes(nomad)
                last = int(changes[-1].rpartition("/")[2])
                wait_until(lambda: busbar.status()["sources"][0]["last_index"] > last, 20, "the mirror has them")
                for number in range(120):
                    nomad.register_job("busy", number=number)
                assert not set(_changes(nomad)) & set(changes)
                notifier.start()
                _wait_posts(webhook, 2 * STATUSES, notifier)
                assert webhook.keys == changes


def test_a_stop_in_the_middle_of_a_post_leaves_no_doubt(upstream):
    nomad, _, address = upstream
    with Webhook() as webhook, Notifier(address, webhook, "-start", "oldest") as notifier:
        webhook.open.clear()
        _deploy(nomad, "web")
        _wait_posts(webhook, 1, notifier)
        notifier.process.signal(15)
        time.sleep(0.3)
        assert notifier.running
        webhook.open.set()
        assert notifier.process.wait(10) == 0
        notifier.start()
        _wait_posts(webhook, STATUSES, notifier)
        assert webhook.keys == _changes(nomad)


def test_a_first_start_tells_nothing_old(upstream):
    nomad, _, address = upstream
    _deploy(nomad, "old")
    old = _changes(nomad)
    with Webhook() as webhook, Notifier(address, webhook) as notifier:
        attempts = 0
        while not webhook.taken:  # until it listens
            attempts += 1
            _deploy(nomad, f"new{attempts}")
            time.sleep(0.5)
        _deploy(nomad, "last")
        changes = _changes(nomad)
        wait_until(lambda: webhook.keys[-1:] == changes[-1:], 20, f"the last one\n{notifier.log_tail()}")
        assert webhook.keys == changes[-len(webhook.keys) :]
        assert not set(webhook.keys) & set(old)
