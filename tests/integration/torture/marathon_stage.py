"""The stage with a Marathon (a stand-in) in the place of Nomad."""

import time

from rig.marathon import Marathon
from rig.marathon_load import MarathonLoad
from rig.marathon_shapes import milliseconds_of
from rig.proc import wait_until

from .stage import Stage

APART = 0.3  # seconds: two streams may tell an event so far apart


class MarathonStage(Stage):
    source = {"type": "marathon", "start": "now", "silence": "4s"}
    excuses_gaps = True

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.marathon.nodes]

    def _start_upstream(self) -> None:
        self.marathon = self._ends.enter_context(Marathon(shuffle=APART, heartbeat=1.0))

    def _start_load(self) -> None:
        for instance in self.instances.values():
            instance.busbar.wait_log("source_attached", 30 * self.patience)
        self.load = self._ends.enter_context(MarathonLoad(self.marathon, self._rate))

    def _end_load(self) -> int:
        """Once all are attached one more event is told, which everybody gets."""
        self.load.stop()
        wait_until(self._all_stay_attached, 90 * self.patience, "all are attached")
        last = self.load.tell()
        return milliseconds_of(last.partition(b'"timestamp":"')[2][:24].decode())

    def _all_stay_attached(self) -> bool:
        """Who was just cut off may not know it yet."""
        attached = self._times_attached()
        time.sleep(APART + 1)
        return all(map(self._is_attached, self.instances.values())) and self._times_attached() == attached

    def _times_attached(self) -> list[int]:
        return [len(instance.busbar.log_lines("source_attached")) for instance in self.instances.values()]

    def _is_attached(self, instance) -> bool:
        try:
            return instance.busbar.status()["sources"][0]["state"] == "attached"
        except (OSError, ValueError):
            return False
