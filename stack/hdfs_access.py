"""Asks the NameNode whether a user may use a folder: HDFS's own protocol, no JVM.

The words of the protocol are `ClientNamenodeProtocol.checkAccess`; its answer costs
milliseconds where Hadoop's shell costs seconds, so it can be asked before each run.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import uuid
from collections.abc import Sequence

from common.errors import ServiceError, UsageError
from common.settings import Settings
from stack import hadoop
from stack.home import Home

MAY_DO_ALL = 7
PROTOCOL = "org.apache.hadoop.hdfs.protocol.ClientProtocol"
PATIENCE = 10.0
# Protobuf: the bit of a byte that says more follow, the type of counted bytes.
MORE, COUNTED = 0x80, 2
REFUSED = re.compile(
    r'inode="(?P<path>[^"]*)":(?P<owner>[^:]+):(?P<group>[^:]+):(?P<mode>\S+)'
)
Address = tuple[str, int]


def demand_writable(settings: Settings, paths: Sequence[str]) -> None:
    """Refuse to go on where the engine may not write to a folder of the warehouse.

    An engine elsewhere (`ECOM_SPARK_REMOTE`) and a home never started are not asked.

    Args:
        settings: where the stack is.
        paths: folders below the warehouse's; of what is missing, the folder above.

    Raises:
        UsageError: naming path, owner, mode, acting user and the command that mends it.
        ServiceError: the NameNode does not answer.
    """
    port = Home(settings.home).ports().get("namenode")
    if port is None or os.environ.get("ECOM_SPARK_REMOTE"):
        return
    for path in paths:
        _demand(("127.0.0.1", port), f"{hadoop.WAREHOUSE}/{path}")


def laid_out(home: Home) -> bool:
    """Whether the engine may write to each folder that `up` lays out."""
    address = ("127.0.0.1", home.ports()["namenode"])
    try:
        return all(
            refusal(address, hadoop.ENGINE, path) is None
            for path in hadoop.LAYOUT
            if path.startswith(hadoop.WAREHOUSE)
        )
    except FileNotFoundError:
        return False


def refusal(address: Address, user: str, path: str) -> str | None:
    """Why `user` may not read, write and pass `path`; None where the user may.

    Args:
        address: host and port of the NameNode.
        user: who asks, by simple authentication.
        path: an absolute path of HDFS.

    Raises:
        ServiceError: the NameNode does not answer.
        FileNotFoundError: there is no such path.
    """
    client = uuid.uuid4().bytes
    context = _bytes(2, _text(1, user)) + _text(3, PROTOCOL)
    call = _text(1, "checkAccess") + _text(2, PROTOCOL) + _number(3, 1)
    question = _text(1, path) + _number(2, MAY_DO_ALL)
    try:
        with socket.create_connection(address, PATIENCE) as connection:
            connection.sendall(
                b"hrpc\x09\x00\x00"
                + _frame(_header(-3, client), context)
                + _frame(_header(0, client), call, question)
            )
            answer = _receive(connection)
    except OSError as error:
        raise ServiceError(
            f"Asking the NameNode at {address[0]}:{address[1]} about {path}: {error}",
            "run `ecom up`",
        ) from error
    return _reason(answer, path)


def _demand(address: Address, path: str) -> None:
    try:
        reason = refusal(address, hadoop.ENGINE, path)
    except FileNotFoundError:
        _demand(address, path.rpartition("/")[0])
        return
    if reason is None:
        return
    found = REFUSED.search(reason)
    where = found["path"] if found else path
    state = (
        f"its owner is {found['owner']}:{found['group']}, its mode {found['mode']}"
        if found
        else reason
    )
    raise UsageError(
        f"Before any data moves: {hadoop.ENGINE} may not write to {where} on HDFS: {state}",
        _mend(where),
    )


def _mend(path: str) -> str:
    if path in hadoop.LAYOUT:
        return "run `ecom up`, which sets owner, mode and ACL of this folder right"
    owner = next(
        (
            wanted[0]
            for folder, wanted in reversed(hadoop.LAYOUT.items())
            if path.startswith(f"{folder}/")
        ),
        hadoop.TRANSFORM,
    )
    return (
        f"as {hadoop.ADMIN} run `hdfs dfs -chown -R {owner}:{owner} {path} && "
        f"hdfs dfs -chmod -R 775 {path}`"
    )


def _reason(answer: bytes, path: str) -> str | None:
    """The exception's text in an answer, or None where the call succeeded."""
    size, start = _varint(answer, 0)
    fields = dict(_fields(answer[start : start + size]))
    if fields.get(2, 0) == 0:
        return None
    kind, text = _word(fields.get(4)), _word(fields.get(5))
    if kind.endswith("FileNotFoundException"):
        raise FileNotFoundError(path)
    return (text or kind).splitlines()[0]


def _word(value: int | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


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
    return _encode(field << 3 | 2) + _encode(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte % MORE) << shift
        at, shift = at + 1, shift + 7
        if byte < MORE:
            return value, at


def _fields(data: bytes) -> list[tuple[int, int | bytes]]:
    at = 0
    found: list[tuple[int, int | bytes]] = []
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _varint(data, at)
        if tag & 7 == COUNTED:
            found.append((tag >> 3, data[at : at + value]))
            at += value
        else:
            found.append((tag >> 3, value))
    return found
