"""Events as Nomad's stream tells them, each with the very bytes it came in.

The oracle's own idea of the format, written from Nomad's documentation and from
what real agents sent; deliberately not shared with the busbar's code.
"""

import collections
import json
from typing import NamedTuple

_decoder = json.JSONDecoder()
_SPACE = " \t\r\n"


class Event(NamedTuple):
    index: int
    topic: str
    namespace: str
    key: str
    type: str
    occurrence: int
    data: bytes

    @property
    def what(self) -> tuple:
        """All of the identity but the occurrence."""
        return self[:5]

    def identity(self, source: str) -> str:
        """As `ce_id` has it."""
        return f"{source}/{self.index}/{self.topic}/{self.namespace}/{self.key}/{self.type}/{self.occurrence}"


def members(text: str):
    """Yields (key, value, elements) of the object that text is.

    `elements` has (value, start, end) of each element where the value is an array
    of the top level, since json.loads() does not tell where anything stood.
    """
    at = _skip(text, 0)
    if text[at] != "{":
        raise ValueError("not an object")
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = _decoder.raw_decode(text, at)
        at = _skip(text, _expect(text, at, ":"))
        elements = list(_elements(text, at)) if text[at] == "[" else []
        value, at = _decoder.raw_decode(text, at)
        yield key, value, elements
        at = _next(text, at, "}")


def _elements(text: str, at: int):
    at = _skip(text, at + 1)
    while text[at] != "]":
        value, end = _decoder.raw_decode(text, at)
        yield value, at, end
        at = _next(text, end, "]")


def _next(text: str, at: int, closing: str) -> int:
    """The start of the next member, or the closing bracket."""
    at = _skip(text, at)
    return at if text[at] == closing else _skip(text, _expect(text, at, ","))


def _expect(text: str, at: int, character: str) -> int:
    at = _skip(text, at)
    if text[at] != character:
        raise ValueError(f"no {character!r} at {at}")
    return at + 1


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


class LineReader:
    """Turns the lines of one connection into events.

    It counts the occurrences of one (topic, namespace, key, type) at one index,
    which only means something within one connection: hence one reader for each.
    """

    def __init__(self):
        self._index = -1
        self._seen: collections.Counter = collections.Counter()

    def read(self, line: bytes) -> list[Event]:
        """The events of one line; none for a heartbeat. A broken line raises ValueError."""
        text = line.decode("utf-8", "surrogateescape")
        try:
            parts = {key: elements for key, _, elements in members(text)}
        except IndexError:
            raise ValueError("ends too early") from None
        return [self._event(text, *element) for element in parts.get("Events", [])]

    def _event(self, text: str, value: dict, start: int, end: int) -> Event:
        what = (value["Index"], value["Topic"], value["Namespace"], value["Key"], value["Type"])
        if what[0] != self._index:
            self._index = what[0]
            self._seen.clear()
        occurrence = self._seen[what]
        self._seen[what] += 1
        return Event(*what, occurrence, text[start:end].encode("utf-8", "surrogateescape"))


def canonical(data: bytes):
    """A value that is equal for equal JSON, whatever the order of the members.

    Nomad encodes an event anew for each subscriber and walks Go's maps in random
    order: two connections get the same event in different bytes. Numbers stay text,
    so that no 64-bit integer is rounded before it is compared.
    """

    def members_of(pairs):
        return frozenset(collections.Counter((key, value) for key, value in pairs).items())

    def frozen(value):
        if isinstance(value, list):
            return ("list", *map(frozen, value))
        return value

    def pairs_hook(pairs):
        return members_of([(key, frozen(value)) for key, value in pairs])

    def number(text):
        return ("number", text)

    return frozen(json.loads(data, object_pairs_hook=pairs_hook, parse_int=number, parse_float=number))
