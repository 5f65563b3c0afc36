"""What a proxy saw Nomad send to a busbar: the bytes that must come out again."""

import collections

from .events import Event, LineReader
from .http_stream import BodyDecoder
from .proxy import Link, Proxy


def stream_lines(link: Link) -> list[bytes]:
    """The whole lines of the event stream on one connection; none if it carried another answer."""
    request_line = bytes(link.request).split(b"\r\n", 1)[0]
    head, found, body = bytes(link.answer).partition(b"\r\n\r\n")
    if b"/v1/event/stream" not in request_line or not found or b" 200 " not in head.split(b"\r\n")[0]:
        return []
    decoder = BodyDecoder(b"transfer-encoding: chunked" in head.lower())
    return decoder.feed(body).split(b"\n")[:-1]


def link_events(link: Link) -> list[Event]:
    reader = LineReader()
    return [event for line in stream_lines(link) for event in reader.read(line)]


def sent_bytes(*proxies: Proxy) -> dict[tuple, set[bytes]]:
    """For each (index, topic, namespace, key, type) the bytes in which it was sent.

    Several, where it was sent on several connections: Nomad encodes anew each time.
    """
    sent = collections.defaultdict(set)
    for proxy in proxies:
        for link in list(proxy.links):
            for event in link_events(link):
                sent[event.what].add(event.data)
    return sent
