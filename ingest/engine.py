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
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.errors import ServiceError
from common.progress import PLAIN_INTERVAL, Task, say
from ingest.bounds import Watermark
from ingest.postgres import JdbcAddress, join_snapshot
from ingest.split import Split
from ingest.statements import from_wire, tick

DEFAULT_PORT = 15002
FETCH_SIZE = 20_000
INTERRUPT_PATIENCE = 2.0
RETRIES, RETRY_WAIT_MS = 5, 1500
PROPERTY = "ecom.watermark"
PROPERTY_CONF = f"spark.sql.iceberg.snapshot-property.{PROPERTY}"


@contextmanager
def open_engine(
    url: str, what: str, ledger: Path | None = None, reading: Reading | None = None
) -> Iterator[Any]:
    """A Spark Connect session of its own; says how far the work for `what` is.

    Args:
        url: a Spark Connect URL.
        what: named in the progress lines.
        ledger: folder in which a file stands for each open session, so that the
            next run can end what a killed one left running on the server.
        reading: told how far the engine's tasks are, in place of lines.

    Raises:
        ServiceError: the engine does not answer, or has gone away.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.client.retries import DefaultPolicy
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
        # By default a client asks an engine that is gone for ten minutes more.
        session.client.set_retry_policies(
            [DefaultPolicy(max_retries=RETRIES, max_backoff=RETRY_WAIT_MS)]
        )
        session.conf.set("spark.sql.session.timeZone", "UTC")
    except (PySparkException, OSError) as error:
        raise ServiceError(
            f"Opening the Spark engine at {url}: {error}", "run `ecom up`"
        ) from error
    session.registerProgressHandler(_Progress(what, reading))
    try:
        yield session
    except PySparkException:
        _check_listening(url)
        raise
    finally:
        try:
            _end(session)
            if entry:
                entry.unlink(missing_ok=True)
        except PySparkException as error:
            # The next run ends what this one could not: its entry stays.
            logging.getLogger(__name__).debug("closing a session: %s", error)


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
            interrupted = _end(session) or interrupted
        except PySparkException:
            # The server has forgotten the session, and its statements with it.
            pass
        entry.unlink(missing_ok=True)
    if interrupted:
        # A commit that had begun may still come through.
        time.sleep(INTERRUPT_PATIENCE)


def _end(session: Any) -> bool:
    """Stop a session for good, and what it has left running; whether there was any.

    The collector calls `close` a second time when it finds the session, in whatever
    thread and line it runs. `close` ends the pool that all sessions of the process
    share; within that pool's own `submit` it would wait for itself for ever.
    """
    try:
        interrupted = bool(session.interruptAll())
        session.stop()
    finally:
        session.client.close = lambda: None
    return interrupted


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


class Reading:
    """How many rows of one table have been read, as far as finished tasks tell."""

    def __init__(self, shown: Task) -> None:
        self._shown, self._rows, self._ranges, self._done = shown, 0, 0, 0

    def expect(self, rows: int, ranges: int) -> None:
        """So many rows will be read, in so many ranges of about the same size."""
        self._rows, self._ranges, self._done = rows, ranges, 0
        self._shown.expect(rows)

    def at(self, finished: int, tasks: int) -> None:
        """So many tasks of a stage are done; a read has one for each range."""
        if tasks != self._ranges:
            return
        done = self._rows * finished // tasks
        if done > self._done:
            self._shown.advance(done - self._done)
            self._done = done


class _Progress:
    """Prints one line of Spark's own progress every few seconds."""

    def __init__(self, what: str, reading: Reading | None) -> None:
        self._what, self._began, self._said = what, time.monotonic(), time.monotonic()
        self._reading = reading
        self._lock = threading.Lock()

    def __call__(
        self, stages: Any, inflight_tasks: int, operation_id: str | None, done: bool
    ) -> None:
        if self._reading is not None:
            for stage in stages or ():
                self._reading.at(stage.num_completed_tasks, stage.num_tasks)
            return
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
    split: Split | None = None,
    exact: bool = False,
) -> Any:
    """A lazy DataFrame over `query` at the exported snapshot.

    Args:
        session: a Spark Connect session.
        address: the source.
        snapshot: id from `pg_export_snapshot()`; its exporter must stay open.
        query: a SELECT in PostgreSQL's dialect.
        types: (column, Spark type) in order; values are cast to exactly these.
        split: how the read is divided; None for a single read.
        exact: as the query was made; see `statements.to_wire`.
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
        predicates=list(split.ranges if split else ()) or ["true"],
        properties=options,
    )
    if split and split.readers:
        frame = frame.coalesce(split.readers)
    return frame.selectExpr(
        *(f"{from_wire(name, kind, exact)} AS {tick(name)}" for name, kind in types)
    )


@dataclass(frozen=True)
class Landed:
    """What the lake holds of a table.

    Attributes:
        watermark: of its latest commit that carries one, or None.
        rows: rows in its current snapshot, deleted ones too.
        newest: whether the current snapshot itself carries the watermark.
        snapshot: id of the current snapshot; None where nothing was committed.
        made_at: when that became the current one.
    """

    watermark: Watermark | None = None
    rows: int = 0
    newest: bool = False
    snapshot: int | None = None
    made_at: datetime | None = None


def read_landed(session: Any, relations: Sequence[str]) -> dict[str, Landed]:
    """Quoted relation -> what the lake holds of it.

    Only ancestors of the current snapshot count: a rolled back commit took its rows
    with it, so its watermark must not be followed. The few rows are joined here: as a
    query of the engine, five tables took longer to plan than all else in a run.

    Args:
        session: a Spark Connect session.
        relations: tables that exist.
    """
    if not relations:
        return {}
    parts = [
        f"SELECT {number} AS number, snapshot_id, cast(null AS timestamp) AS made_at, "
        f"summary['{PROPERTY}'] AS mark, summary['total-records'] AS total "
        f"FROM {relation}.snapshots UNION ALL SELECT {number}, snapshot_id, "
        f"made_current_at, null, null FROM {relation}.history WHERE is_current_ancestor"
        for number, relation in enumerate(relations)
    ]
    rows = session.sql(" UNION ALL ".join(parts)).collect()
    return {
        relation: landed_from([tuple(row)[1:] for row in rows if row.number == number])
        for number, relation in enumerate(relations)
    }


def landed_from(rows: Sequence[tuple[Any, ...]]) -> Landed:
    """What a table's metadata say.

    Args:
        rows: (snapshot id, time it became current, watermark, total rows): with the
            time for each ancestor of the current snapshot, with the others for each
            snapshot that is kept.
    """
    summaries = {row[0]: row[2:] for row in rows if row[1] is None}
    current = sorted((row[1], row[0]) for row in rows if row[1] is not None)
    marked = [one for _, one in current if summaries.get(one, (None,))[0]]
    if not current:
        return Landed()
    made_at, newest = current[-1]
    total = summaries.get(newest, (None, 0))[1]
    return Landed(
        Watermark.from_json(summaries[marked[-1]][0]) if marked else None,
        int(total or 0), bool(marked) and marked[-1] == newest, newest, made_at,
    )  # fmt: skip


@contextmanager
def committing(session: Any, watermark: Watermark) -> Iterator[None]:
    """Every Iceberg commit inside the block carries this watermark."""
    session.conf.set(PROPERTY_CONF, watermark.to_json())
    try:
        yield
    finally:
        session.conf.unset(PROPERTY_CONF)


def last_commit(session: Any, relation: str) -> tuple[int | None, dict[str, str]]:
    """Id and summary of a table's newest snapshot; (None, {}) where it has none."""
    rows = session.sql(
        f"SELECT snapshot_id, summary FROM {relation}.snapshots "
        "ORDER BY committed_at DESC LIMIT 1"
    ).collect()
    return (rows[0].snapshot_id, dict(rows[0].summary)) if rows else (None, {})
