"""The NameNode's own protocol, spoken from Python: milliseconds a call, no JVM.

Hadoop RPC over one connection a user (`ClientNamenodeProtocol`, simple
authentication); only the calls that folders, owners, modes and ACLs need.
"""

from __future__ import annotations

import os
import socket
import struct
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.errors import ServiceError

PROTOCOL = "org.apache.hadoop.hdfs.protocol.ClientProtocol"
PATIENCE, QUICK = 10.0, 2.0
MAY_DO_ALL = 7
DIRECTORY = 1
SAFE_MODE_GET = 3
LIVE_DATANODES = 2
# Protobuf: the bit of a byte that says more follow, the type of counted bytes.
MORE, COUNTED = 0x80, 2
ACL_TYPES = ("user", "group", "mask", "other")
Address = tuple[str, int]
Fields = dict[int, list[int | bytes]]


class RefusedError(Exception):
    """The NameNode said no: the exception's Java class and its first line."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind.rpartition(".")[2]


@dataclass(frozen=True)
class FileStatus:
    """One file or folder: its name, owner, group and permission bits."""

    name: str
    is_folder: bool
    owner: str
    group: str
    mode: int


class NameNodeClient:
    """Calls of one user on one connection."""

    def __init__(self, connection: socket.socket, user: str) -> None:
        self._connection, self._call = connection, 0
        self._client = uuid.uuid4().bytes
        context = _bytes(2, _text(1, user)) + _text(3, PROTOCOL)
        connection.sendall(
            b"hrpc\x09\x00\x00" + _frame(_header(-3, self._client), context)
        )

    def check_access(self, path: str, access: int = MAY_DO_ALL) -> None:
        """Return where the user may use `path`; `access` is 4 read, 2 write, 1 pass.

        Raises:
            RefusedError: the user may not; the text names inode, owner, group and mode.
            FileNotFoundError: there is no such path.
        """
        self._ask("checkAccess", _text(1, path) + _number(2, access))

    def heartbeats(self) -> list[float]:
        """Seconds since 1970 of the last word of each live DataNode that offers space."""
        answer = self._ask("getDatanodeReport", _number(1, LIVE_DATANODES))
        nodes = [_fields(one) for one in answer.get(1, [])]
        # DatanodeInfoProto: capacity and the time of its last update, in milliseconds.
        return [int(node[6][0]) / 1000 for node in nodes if node.get(2, [0])[0]]

    def status(self, path: str) -> FileStatus | None:
        """What `path` is, or None where there is nothing."""
        answer = self._ask("getFileInfo", _text(1, path))
        return _status(answer[1][0]) if 1 in answer else None

    def list(self, path: str) -> list[FileStatus]:
        """Everything directly in a folder, in the order of names.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        found: list[FileStatus] = []
        while True:
            after = found[-1].name if found else ""
            question = _text(1, path) + _text(2, after) + _number(3, 0)
            answer = self._ask("getListing", question)
            if 1 not in answer:
                raise FileNotFoundError(path)
            listing = _fields(answer[1][0])
            found += [_status(one) for one in listing.get(1, [])]
            if not listing.get(2, [0])[0]:
                return found

    def acl(self, path: str) -> set[str]:
        """The ACL's entries beyond the mode, as `[default:]type:name:rwx`."""
        answer = self._ask("getAclStatus", _text(1, path))
        entries = _fields(answer[1][0]).get(4, [])
        return {_acl_entry(entry) for entry in entries}

    def in_safe_mode(self) -> bool:
        """Whether the NameNode refuses changes, waiting for blocks or for space."""
        answer = self._ask("setSafeMode", _number(1, SAFE_MODE_GET))
        return bool(answer[1][0])

    def make_folder(self, path: str) -> None:
        """Make a folder and what is missing above it."""
        self._ask("mkdirs", _text(1, path) + _mode(2, 0o777) + _number(3, 1))

    def set_owner(self, path: str, owner: str, group: str) -> None:
        """Give a path to another owner and group."""
        self._ask("setOwner", _text(1, path) + _text(2, owner) + _text(3, group))

    def set_mode(self, path: str, mode: int) -> None:
        """Set permission bits, the sticky one included."""
        self._ask("setPermission", _text(1, path) + _mode(2, mode))

    def add_acl(self, path: str, entries: str) -> None:
        """Add or replace ACL entries, `[default:]type:name:rwx` joined by commas."""
        encoded = b"".join(_bytes(2, _acl_bytes(one)) for one in entries.split(","))
        self._ask("modifyAclEntries", _text(1, path) + encoded)

    def rename(self, path: str, to: str) -> None:
        """Move a path."""
        self._ask("rename2", _text(1, path) + _text(2, to) + _number(3, 0))

    def delete(self, path: str) -> None:
        """Remove a path with all below it."""
        self._ask("delete", _text(1, path) + _number(2, 1))

    def _ask(self, method: str, question: bytes) -> Fields:
        call = _text(1, method) + _text(2, PROTOCOL) + _number(3, 1)
        header = _header(self._call, self._client)
        self._call += 1
        self._connection.sendall(_frame(header, call, question))
        return _answer(_receive(self._connection))


def answers(address: Address) -> bool:
    """Whether a NameNode that has started is there."""
    try:
        with namenode(address, "hdfs", QUICK) as client:
            client.in_safe_mode()
    except (ServiceError, RefusedError):
        return False
    return True


@contextmanager
def namenode(
    address: Address, user: str, patience: float = PATIENCE
) -> Iterator[NameNodeClient]:
    """A connection to the NameNode as `user`.

    Raises:
        ServiceError: nothing answers there, or what answers is no NameNode.
    """
    try:
        with socket.create_connection(address, patience) as connection:
            yield NameNodeClient(connection, user)
    except FileNotFoundError:
        raise
    except (OSError, IndexError, KeyError, struct.error) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error)
        raise ServiceError(
            f"Asking the NameNode at {address[0]}:{address[1]}: {reason}",
            "run `ecom up`",
        ) from error


def _answer(data: bytes) -> Fields:
    """The fields of a call's result.

    Raises:
        FileNotFoundError: the path asked about is not there.
        RefusedError: any other exception of the NameNode.
    """
    size, start = _varint(data, 0)
    header = _fields(data[start : start + size])
    if header.get(2, [0])[0] == 0:
        at = start + size
        size, start = _varint(data, at) if at < len(data) else (0, at)
        return _fields(data[start : start + size])
    kind, text = _word(header.get(4, [b""])[0]), _word(header.get(5, [b""])[0])
    first = (text or kind).splitlines()[0]
    if kind.endswith("FileNotFoundException"):
        raise FileNotFoundError(first)
    raise RefusedError(kind, first)


def _status(data: int | bytes) -> FileStatus:
    """HdfsFileStatusProto: type, name, length, permission, owner, group."""
    fields = _fields(data)
    mode = _fields(fields[4][0])[1][0]
    assert isinstance(mode, int)
    return FileStatus(
        name=_word(fields[2][0]),
        is_folder=fields[1][0] == DIRECTORY,
        owner=_word(fields[5][0]),
        group=_word(fields[6][0]),
        mode=mode & 0o1777,
    )


def _acl_entry(data: int | bytes) -> str:
    """AclEntryProto: type, scope, permissions, name."""
    fields = _fields(data)
    kind, scope, bits = (fields.get(n, [0])[0] for n in (1, 2, 3))
    assert isinstance(kind, int)
    assert isinstance(bits, int)
    name = _word(fields.get(4, [b""])[0])
    return f"{'default:' if scope else ''}{ACL_TYPES[kind]}:{name}:{_letters(bits)}"


def _acl_bytes(entry: str) -> bytes:
    scope = entry.startswith("default:")
    kind, name, letters = entry.removeprefix("default:").split(":")
    bits = sum(4 >> at for at, letter in enumerate(letters) if letter != "-")
    return (
        _number(1, ACL_TYPES.index(kind))
        + _number(2, int(scope))
        + _number(3, bits)
        + (_text(4, name) if name else b"")
    )


def _letters(bits: int) -> str:
    return "".join(letter if bits & 4 >> at else "-" for at, letter in enumerate("rwx"))


def _mode(field: int, mode: int) -> bytes:
    return _bytes(field, _number(1, mode))


def _header(call: int, client: bytes) -> bytes:
    """RpcRequestHeaderProto: protobuf, final packet, call id, client, no retry."""
    zigzag = (call << 1) ^ (call >> 31)
    return (
        _number(1, 2)
        + _number(2, 0)
        + _number(3, zigzag & 0xFFFFFFFF)
        + _bytes(4, client)
        + _number(5, 1)
    )


def _frame(*messages: bytes) -> bytes:
    body = b"".join(_encode(len(one)) + one for one in messages)
    return struct.pack(">I", len(body)) + body


def _receive(connection: socket.socket) -> bytes:
    (size,) = struct.unpack(">I", _exactly(connection, 4))
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise ConnectionError("it closed the connection")
        found += piece
    return found


def _encode(value: int) -> bytes:
    out = bytearray()
    while value >= MORE:
        out.append(value % MORE | MORE)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _encode(field << 3) + _encode(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _encode(field << 3 | COUNTED) + _encode(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _word(value: int | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte % MORE) << shift
        at, shift = at + 1, shift + 7
        if byte < MORE:
            return value, at


def _fields(data: int | bytes) -> Fields:
    """Field number -> its values, in the order in which they came."""
    assert isinstance(data, bytes)
    at, found = 0, Fields()
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _varint(data, at)
        if tag & 7 == COUNTED:
            found.setdefault(tag >> 3, []).append(data[at : at + value])
            at += value
        else:
            found.setdefault(tag >> 3, []).append(value)
    return found
