"""Takes rights away from everybody on a Kafka, and gives them back: CreateAcls and DeleteAcls, version 1, since the
Python client does not know them yet. The broker needs `authorizer.class.name` and `allow.everyone.if.no.acl.found`."""

import socket
import struct

from .proc import wait_until

TOPIC, GROUP, TRANSACTIONAL_ID = 2, 3, 5  # ResourceType
ANY, ALL, READ, WRITE = 1, 2, 3, 4  # AclOperation
ANY_PERMISSION, DENY, ALLOW = 1, 2, 3  # AclPermissionType
LITERAL = 3  # PatternType
DESCRIBE_ACLS, CREATE_ACLS, DELETE_ACLS = 29, 30, 31


class Acls:
    def __init__(self, port: int):
        self.port = port

    def deny(self, kind: int, name: str, operation: int) -> None:
        """This one operation; all others stay allowed."""
        entries = [_resource(kind, name) + struct.pack(">bb", *entry) for entry in ((ALL, ALLOW), (operation, DENY))]
        answer = self._ask(CREATE_ACLS, struct.pack(">i", len(entries)) + b"".join(entries))
        assert _error(answer, ">iiih") == 0
        self._await(kind, name, True)

    def grant(self, kind: int, name: str) -> None:
        """Everything again."""
        body = _resource(kind, name) + struct.pack(">bb", ANY, ANY_PERMISSION)
        assert _error(self._ask(DELETE_ACLS, struct.pack(">i", 1) + body), ">iiih") == 0
        self._await(kind, name, False)

    def _await(self, kind: int, name: str, there: bool) -> None:
        """The controller has it: the broker, which is the one to refuse, hears of it a little later."""
        body = _resource(kind, name) + struct.pack(">bb", ANY, ANY_PERMISSION)

        def is_so() -> bool:
            answer = self._ask(DESCRIBE_ACLS, body)
            assert _error(answer, ">iih") == 0
            return (struct.unpack_from(">i", answer, 12)[0] > 0) is there  # behind the message, which is null

        wait_until(is_so, 30, f"the broker knows what is denied of {name}")

    def _ask(self, api: int, body: bytes) -> bytes:
        request = struct.pack(">hhi", api, 1, 1) + _string("rig") + body
        with socket.create_connection(("127.0.0.1", self.port), 20) as broker:
            broker.sendall(struct.pack(">i", len(request)) + request)
            return _read(broker, struct.unpack(">i", _read(broker, 4))[0])


def _error(answer: bytes, layout: str) -> int:
    """The (first) error code: behind correlation id and throttle time, and mostly the number of results."""
    return struct.unpack_from(layout, answer)[-1]


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
