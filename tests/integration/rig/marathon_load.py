"""A Marathon that is at work."""

import threading

from .marathon import Marathon


class MarathonLoad:
    """Numbered events of several apps, rate a second; after every twentieth three that are equal byte for byte.

    count: the number of the last one.
    """

    def __init__(self, marathon: Marathon, rate: float, apps: int = 24):
        self._marathon, self._rate, self._apps = marathon, rate, apps
        self.count = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="marathon-load", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(1 / self._rate):
            self.tell()

    def tell(self) -> bytes:
        self.count += 1
        app = f"/load/app-{self.count % self._apps}"
        body = {"slaveId": "s", "taskId": "t", "taskStatus": "TASK_RUNNING", "appId": app, "number": self.count}
        data = self._marathon.emit("status_update_event", body)
        if self.count % 20 == 0:
            same = self._marathon.emit("health_status_changed_event", {"appId": app, "alive": True})
            for _ in range(2):
                self._marathon.emit("health_status_changed_event", same)
        return data
