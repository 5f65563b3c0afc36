"""Takes rights away from everybody on a Kafka, and gives them back: CreateAcls and DeleteAcls, version 1, since the
Python client does not know them yet. The broker needs `authorizer.class.name` and `allow.everyone.if.no.acl.found`."""

import socket
import struct

TOPIC, GROUP, TRANSACTIONAL_ID = 2, 3, 5  # ResourceType
ANY, ALL, READ, WRITE = 1, 2, 3, 4  # AclOperation
ANY_PERMISSION, DENY, ALLOW = 1, 2, 3  # AclPermissionType
LITERAL = 3  # PatternType
CREATE_ACLS, DELETE_ACLS = 30, 31


class Acls:
    def __init__(self, port: int):
        self.port = port

    def deny(self, kind: int, name: str, operation: int) -> None:
        """This one operation; all others stay allowed."""
        entries = [_resource(kind, name) + struct.pack(">bb", *entry) for entry in ((ALL, ALLOW), (operation, DENY))]
        self._ask(CREATE_ACLS, struct.pack(">i", len(entries)) + b"".join(entries))

    def grant(self, kind: int, name: str) -> None:
        """Everything again."""
        self._ask(DELETE_ACLS, struct.pack(">i", 1) + _resource(kind, name) + struct.pack(">bb", ANY, ANY_PERMISSION))

    def _ask(self, api: int, body: bytes) -> None:
        request = struct.pack(">hhi", api, 1, 1) + _string("rig") + body
        with socket.create_connection(("127.0.0.1", self.port), 20) as broker:
            broker.sendall(struct.pack(">i", len(request)) + request)
            answer = _read(broker, struct.unpack(">i", _read(broker, 4))[0])
        # Correlation id, throttle time, number of results, and the first result's error code.
        assert struct.unpack(">iiih", answer[:14])[3] == 0


def _resource(kind: int, name: str) -> bytes:
    return struct.pack(">b", kind) + _string(name) + struct.pack(">b", LITERAL) + _string("User:ANONYMOUS") + _string("*")


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _read(broker: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = broker.recv(size - len(data))
        assert more, "the broker closed the connection"
        data += more
    return data
