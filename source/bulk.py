"""Arrow batches into PostgreSQL by binary COPY, streamed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TypeVar, cast

import pgpq
import psycopg2
import pyarrow as pa
from psycopg2 import sql

from source.database import Cursor

T = TypeVar("T")


class Stream:
    """A readable file over byte pieces, for `copy_expert`; holds one piece.

    Attributes:
        error: what went wrong in making a piece; psycopg2 hides it in one of its own.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = memoryview(b"")
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`; empty at the end."""
        while not self._held:
            try:
                piece = next(self._pieces, None)
            except BaseException as error:
                self.error = error
                raise
            if piece is None:
                return b""
            self._held = memoryview(piece)
        given = self._held if size < 0 else self._held[:size]
        self._held = self._held[len(given) :]
        return bytes(given)


def encode(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """PostgreSQL's binary COPY format of `batches`, piece by piece."""
    encoder = pgpq.ArrowToPostgresBinaryEncoder(schema)
    yield encoder.write_header()
    for batch in batches:
        yield encoder.write_batch(batch)
    yield encoder.finish()


def copy_batches(
    cursor: Cursor,
    target: sql.Identifier,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
) -> None:
    """COPY batches of one schema into `target`, columns by name."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        target, sql.SQL(", ").join(map(sql.Identifier, schema.names))
    )
    stream = Stream(encode(schema, batches))
    try:
        cursor.copy_expert(statement, cast("IO[bytes]", stream), size=1 << 20)
    except psycopg2.Error:
        if stream.error is not None:
            raise stream.error from None
        raise


@contextmanager
def ahead(items: Iterator[T], depth: int = 2) -> Iterator[Iterator[T]]:
    """Make up to `depth` items ahead on a thread of its own while others are used.

    An error in making them is raised where the next item is taken.
    """
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    over = threading.Event()

    def put(item: tuple[T | None, BaseException | None]) -> None:
        while not over.is_set():
            try:
                made.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def produce() -> None:
        try:
            for item in items:
                put((item, None))
                if over.is_set():
                    return
        except BaseException as error:
            put((None, error))
        else:
            put((None, None))

    def consume() -> Iterator[T]:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item

    worker = threading.Thread(target=produce, name="ecom-ahead", daemon=True)
    worker.start()
    try:
        yield consume()
    finally:
        over.set()
        worker.join()
