"""The time that this process had.

A busy machine, or the one that it is a guest of, stands still for seconds at any moment. That is no time that
anything took: so what may last so long at most is measured by had(), which counts little for each look at the
clock, however late the look came. What must last at least so long is measured by time.monotonic().
"""

import os
import threading
import time

LOOK, COUNTED = 0.01, 0.05  # seconds: between looks, and of one at most


class _Clock:
    def __init__(self):
        self._looked = 0.0, time.monotonic()  # what it had then, and when; both at once, since others read it
        self.start()

    def start(self) -> None:
        threading.Thread(target=self._run, name="stopwatch", daemon=True).start()

    def had(self) -> float:
        had, last = self._looked
        return had + min(max(time.monotonic() - last, 0.0), COUNTED)

    def _run(self) -> None:
        while True:
            time.sleep(LOOK)
            had, last = self._looked
            now = time.monotonic()
            self._looked = had + min(now - last, COUNTED), now


_clock = _Clock()
os.register_at_fork(after_in_child=_clock.start)
had = _clock.had
