"""A scripted, mixed load on a Nomad: many keys, many kinds of change, odd text, odd sizes."""

import http.client
import random
import threading
import time

from .nomad import Nomad, Refused

# What the script below makes on average, counted on a real agent.
EVENTS_A_CHANGE = 5.8
SIZES = (0, 0, 0, 0, 200, 1_000, 4_000, 12_000, 48_000)


class Load:
    """Changes jobs (and, on a Nomad with a client, runs a few) at some `rate` events a second.

    Each registration has a number of its own, in order, in the Meta of its job; `numbers` has
    those that Nomad confirmed, `errors` counts requests that failed, as they do while a test keeps
    Nomad down: the load goes on. The same seed makes the same script.
    """

    def __init__(self, nomad: Nomad, rate: float = 60, seed: int = 1, keys: int = 40, namespaces=("default",)):
        self.nomad, self.rate, self.keys = nomad, rate, keys
        self.namespaces = namespaces
        self.numbers: list[int] = []
        self.changes = 0
        self.errors = 0
        self.error: Exception | None = None
        self._random = random.Random(seed)
        self._number = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._script = [(self._update, 50), (self._stop, 12), (self._revive, 8), (self._purge, 6), (self._pending, 6)]
        if nomad.client:
            self._script += [(self._run_one, 2), (self._end_one, 2), (self._toggle_node, 2)]

    def start(self):
        for namespace in self.namespaces:
            if namespace != "default":
                self.nomad.create_namespace(namespace)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(30)
        if self.error:
            raise self.error

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _run(self) -> None:
        actions, weights = zip(*self._script)
        due = time.monotonic()
        while not self._stopping.is_set():
            try:
                self._random.choices(actions, weights)[0]()
                self.changes += 1
            except (OSError, http.client.HTTPException, Refused):
                self.errors += 1
                self._stopping.wait(0.1)
            except Exception as error:  # a mistake of ours: shown by stop()
                self.error = error
                return
            due = max(due + EVENTS_A_CHANGE / self.rate, time.monotonic() - 1)
            self._stopping.wait(max(0.0, due - time.monotonic()))

    def _pick(self) -> tuple[str, str]:
        """A job id and its namespace; some ids are odd."""
        number = self._random.randrange(self.keys)
        job_id = (f"job-{number}", f"team/ä-{number}", f"with:colon:{number}", f"漢字-🚌-{number}")[number % 4]
        return job_id, self.namespaces[number % len(self.namespaces)]

    def _register(self, job_id: str, namespace: str, count: int = 0, **how) -> None:
        self._number += 1
        size = self._random.choice(SIZES)
        self.nomad.register_job(job_id, count, number=self._number, payload_size=size, namespace=namespace, **how)
        self.numbers.append(self._number)

    def _update(self) -> None:
        self._register(*self._pick())

    def _pending(self) -> None:
        """Asks for more than any node has, so that the evaluation is blocked."""
        job_id, namespace = self._pick()
        self._register(f"{job_id}-pending", namespace, count=1, command="exit 0", constraint="no-such-node")

    def _stop(self) -> None:
        job_id, namespace = self._pick()
        self.nomad.deregister(job_id, namespace=namespace)

    def _purge(self) -> None:
        job_id, namespace = self._pick()
        self.nomad.deregister(job_id, purge=True, namespace=namespace)

    def _revive(self) -> None:
        """Registers a job that is dead: one tuple, twice at one index."""
        job_id, namespace = self._pick()
        self._register(job_id, namespace)
        self.nomad.deregister(job_id, namespace=namespace)
        self._register(job_id, namespace)

    def _run_one(self) -> None:
        """Few at a time: each costs the machine a tenth of a second."""
        self._register(f"running-{self._random.randrange(3)}", "default", count=1, service=True)

    def _end_one(self) -> None:
        self.nomad.deregister(f"running-{self._random.randrange(3)}")

    def _toggle_node(self) -> None:
        self.nomad.set_eligible(False)
        self.nomad.set_eligible(True)
