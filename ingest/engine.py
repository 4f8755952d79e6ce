"""The Spark side: sessions, reads through the shared snapshot, commits."""

from __future__ import annotations

import logging
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.errors import ServiceError
from common.progress import PLAIN_INTERVAL, say
from ingest.bounds import Watermark
from ingest.postgres import JdbcAddress, join_snapshot
from ingest.statements import from_wire, spark_literal, tick

DEFAULT_PORT = 15002
FETCH_SIZE = 20_000
INTERRUPT_PATIENCE = 2.0
PROPERTY = "ecom.watermark"
PROPERTY_CONF = f"spark.sql.iceberg.snapshot-property.{PROPERTY}"


@contextmanager
def open_engine(url: str, what: str, ledger: Path | None = None) -> Iterator[Any]:
    """A Spark Connect session of its own; says how far the work for `what` is.

    Args:
        url: a Spark Connect URL.
        what: named in the progress lines.
        ledger: folder in which a file stands for each open session, so that the
            next run can end what a killed one left running on the server.

    Raises:
        ServiceError: the engine does not answer.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.session import SparkSession

    _check_listening(url)
    # The client logs a server's whole stack trace; our errors quote its first line.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    logging.getLogger("DataFrameQueryContextLogger").setLevel(logging.CRITICAL)
    session_id = str(uuid.uuid4())
    entry = ledger / session_id if ledger else None
    if entry:
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.touch()
    try:
        session = SparkSession.builder.remote(_with_session(url, session_id)).create()
        session.conf.set("spark.sql.session.timeZone", "UTC")
    except (PySparkException, OSError) as error:
        raise ServiceError(
            f"Opening the Spark engine at {url}: {error}", "run `ecom up`"
        ) from error
    session.registerProgressHandler(_Progress(what))
    try:
        yield session
    finally:
        # An interrupted client must not leave its statement running.
        session.interruptAll()
        session.stop()
        if entry:
            entry.unlink(missing_ok=True)


def end_leftovers(url: str, ledger: Path) -> None:
    """End what killed runs left running on the server.

    Spark goes on with a statement whose client has died; its late commit would
    double what the next run lands. The caller holds the target's lock.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.session import SparkSession

    interrupted = False
    for entry in sorted(ledger.iterdir()) if ledger.is_dir() else []:
        try:
            session = SparkSession.builder.remote(
                _with_session(url, entry.name)
            ).create()
            interrupted = bool(session.interruptAll()) or interrupted
            session.stop()
        except PySparkException:
            # The server has forgotten the session, and its statements with it.
            pass
        entry.unlink(missing_ok=True)
    if interrupted:
        # A commit that had begun may still come through.
        time.sleep(INTERRUPT_PATIENCE)


def _with_session(url: str, session_id: str) -> str:
    return f"{url.rstrip('/')}/;session_id={session_id}"


def _check_listening(url: str) -> None:
    """Refuse at once: the client itself retries a dead address for ten minutes."""
    parts = urlsplit(url)
    try:
        socket.create_connection(
            (parts.hostname or "", parts.port or DEFAULT_PORT), timeout=5
        ).close()
    except OSError as error:
        raise ServiceError(
            f"Reaching the Spark engine at {url}: {error.strerror or error}",
            "start it (`ecom up`), or correct ECOM_SPARK_REMOTE",
        ) from None


class _Progress:
    """Prints one line of Spark's own progress every few seconds."""

    def __init__(self, what: str) -> None:
        self._what, self._began, self._said = what, time.monotonic(), time.monotonic()
        self._lock = threading.Lock()

    def __call__(
        self, stages: Any, inflight_tasks: int, operation_id: str | None, done: bool
    ) -> None:
        with self._lock:
            now = time.monotonic()
            if not stages or done or now - self._said < 2 * PLAIN_INTERVAL:
                return
            self._said = now
        finished = sum(stage.num_completed_tasks for stage in stages)
        total = sum(stage.num_tasks for stage in stages)
        read = sum(stage.num_bytes_read for stage in stages) / 1e6
        say(
            f"  {self._what}: {finished} of {total} tasks, {read:,.0f} MB read, "
            f"{now - self._began:.0f} s"
        )


def read_source(
    session: Any,
    address: JdbcAddress,
    snapshot: str,
    query: str,
    types: Sequence[tuple[str, str]],
    ranges: Sequence[str] = (),
) -> Any:
    """A lazy DataFrame over `query` at the exported snapshot.

    Args:
        session: a Spark Connect session.
        address: the source.
        snapshot: id from `pg_export_snapshot()`; its exporter must stay open.
        query: a SELECT in PostgreSQL's dialect.
        types: (column, Spark type) in order; values are cast to exactly these.
        ranges: one condition a parallel read; none for a single read.
    """
    options = {
        "user": address.user,
        "password": address.password,
        "driver": "org.postgresql.Driver",
        # With a fetch size of 0 the shared snapshot would silently not be used.
        "fetchsize": str(FETCH_SIZE),
        "sessionInitStatement": join_snapshot(snapshot),
        "preferTimestampNTZ": "true",
    }
    frame = session.read.jdbc(
        address.url,
        f"({query}) AS source",
        predicates=list(ranges) or ["true"],
        properties=options,
    )
    return frame.selectExpr(
        *(f"{from_wire(name, kind)} AS {tick(name)}" for name, kind in types)
    )


@dataclass(frozen=True)
class Landed:
    """What staging holds of a table.

    Attributes:
        watermark: of its latest commit that carries one, or None.
        rows: rows in its current snapshot, deleted ones too.
        newest: whether the current snapshot itself carries the watermark.
    """

    watermark: Watermark | None
    rows: int
    newest: bool


def read_landed(session: Any, relations: dict[str, str]) -> dict[str, Landed]:
    """Table name -> what staging holds of it.

    Only ancestors of the current snapshot count: a rolled back commit took its rows
    with it, so its watermark must not be followed.

    Args:
        session: a Spark Connect session.
        relations: table name -> quoted relation, of tables that exist.
    """
    if not relations:
        return {}
    parts = [
        f"SELECT {spark_literal(name)} AS name, "
        f"max_by(s.summary['{PROPERTY}'], h.made_current_at) "
        f"FILTER (WHERE s.summary['{PROPERTY}'] IS NOT NULL) AS mark, "
        "max_by(s.summary['total-records'], h.made_current_at) AS total, "
        f"max_by(s.summary['{PROPERTY}'] IS NOT NULL, h.made_current_at) AS newest "
        f"FROM {relation}.snapshots s JOIN {relation}.history h "
        "ON h.snapshot_id = s.snapshot_id WHERE h.is_current_ancestor"
        for name, relation in relations.items()
    ]
    rows = session.sql(" UNION ALL ".join(parts)).collect()
    return {
        row.name: Landed(
            Watermark.from_json(row.mark) if row.mark else None,
            int(row.total or 0), bool(row.newest),
        )
        for row in rows
    }  # fmt: skip


@contextmanager
def committing(session: Any, watermark: Watermark) -> Iterator[None]:
    """Every Iceberg commit inside the block carries this watermark."""
    session.conf.set(PROPERTY_CONF, watermark.to_json())
    try:
        yield
    finally:
        session.conf.unset(PROPERTY_CONF)


def last_commit(session: Any, relation: str) -> dict[str, str]:
    """Summary of a table's newest snapshot; empty where it has none."""
    rows = session.sql(
        f"SELECT summary FROM {relation}.snapshots ORDER BY committed_at DESC LIMIT 1"
    ).collect()
    return dict(rows[0].summary) if rows else {}
