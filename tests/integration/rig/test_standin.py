"""The stand-in plays what it is told."""

import threading

import pytest

from . import standin
from .http_stream import Closed, HttpStream


def body_of(stream):
    body = b""
    try:
        while True:
            body += stream.read()
    except Closed as ended:
        return body, str(ended)


@pytest.mark.parametrize("chunked", [True, False])
def test_standin_plays_its_script(chunked):
    line = standin.event_line(3)
    answers = [standin.permission_denied(), standin.stream(line, 0.01, line[:9], chunked=chunked)]
    with standin.Standin(*answers) as server:
        url = f"{server.address}/v1/event/stream?topic=*&topic=Job:a&index=0"
        refused = HttpStream(url, {"X-Nomad-Token": "secret"})
        assert (refused.status, body_of(refused)[0]) == (500, b"Permission denied")
        for _ in range(2):
            assert body_of(HttpStream(url))[0] == b"{}\n" + line + line[:9]
        first = server.wait_requests(3)[0]
        assert first.query == {"topic": ["*", "Job:a"], "index": ["0"]} and first.headers["x-nomad-token"] == "secret"
        assert HttpStream(f"{server.address}/other").status == 404


def test_standin_holds_and_resets():
    heard = threading.Event()  # else the reset may overtake the answer
    with standin.Standin(standin.silence(), standin.stream(heard, standin.RESET)) as server:
        url = f"{server.address}/v1/event/stream"
        silent = HttpStream(url)
        assert silent.read() == b"{}\n"
        silent.set_timeout(0.3)
        with pytest.raises(Closed, match="silent"):
            silent.read()
        broken = HttpStream(url)
        assert broken.read() == b"{}\n"
        heard.set()
        assert "broken" in body_of(broken)[1]
