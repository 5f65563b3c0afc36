"""A busbar whose port speaks TLS only."""

import http.client
import ssl

from .busbar import Busbar


class SecureBusbar(Busbar):
    """`ca`: the file of who must have signed what it shows."""

    def __init__(self, config: dict | str, ca, folder=None):
        super().__init__(config, folder)
        self.trust = ssl.create_default_context(cafile=str(ca))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.http_port}"

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.http_port, timeout=20, context=self.trust)

    def ask(self, path: str) -> http.client.HTTPResponse:
        """The answer, to be read as it comes."""
        connection = self.connect()
        connection.request("GET", path)
        return connection.getresponse()
