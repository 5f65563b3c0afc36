"""A Nomad whose stream the test writes as it goes."""

import threading

from .standin import event_line, is_over


class Feed:
    """A Nomad that tells what the test says, when it says it, and all of it again at each connection."""

    def __init__(self, index: int = 100):
        self._lines, self._news = [b"{}\n"], threading.Condition()
        self.index = index  # of the last event told

    def __iter__(self):
        for at in range(1 << 30):
            with self._news:
                while at >= len(self._lines):
                    if is_over():
                        return
                    self._news.wait(0.2)
                line = self._lines[at]
            yield line

    def say(self, count: int = 1, **more) -> list[bytes]:
        """As many events, each at an index of its own; their bytes."""
        said = []
        with self._news:
            for _ in range(count):
                self.index += 1
                line = event_line(self.index, **more)
                said.append(line[len(b'{"Events":[') : line.rindex(b'],"Index":')])
                self._lines.append(line)
            self._news.notify_all()
        return said

    def forget(self) -> None:
        """As a Nomad whose buffer is small: who comes from now on is not told what was said so far."""
        with self._news:
            del self._lines[1:]
