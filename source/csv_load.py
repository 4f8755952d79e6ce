"""`ecom source load-csv`: five files into the shop, all of them or none.

One transaction loads everything. Each file is checked while it streams into its
table; only when PostgreSQL meets a key twice is that file read again by way of a
temporary table, where the rows at fault can be named by line.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg2
import pyarrow as pa
from psycopg2 import sql

from common.errors import DataError, UsageError
from common.progress import Task, say, task
from common.settings import Settings
from source.arrow import ArrowArray, array, nulls
from source.bulk import ahead, copy_batches
from source.csv_formats import PLAIN, Formats, read_formats
from source.csv_records import CsvFile, Records, Reject, shown
from source.csv_rejects import DOING, RejectLog
from source.csv_values import Values, convert, now_micros, reason
from source.database import Cursor, transaction
from source.schema import PUBLIC, analyze, lock_shop, require_keys
from source.tables import TABLES, Table

LINE = "ecom_line"
WAITING, WRONG = "ecom_waiting", "ecom_wrong"


@dataclass
class Loaded:
    """What was loaded: rows and rejected rows for each table, seconds taken."""

    rows: dict[str, int]
    rejected: dict[str, int]
    seconds: float


@dataclass
class _File:
    """One file on its way into one table."""

    table: Table
    path: Path
    formats: Formats
    log: RejectLog
    now: int
    restamp: bool
    shown: Task
    rows: int = 0
    oldest: int | None = None
    with_lines: bool = False
    stopped: bool = False
    is_behind: bool = False

    @property
    def schema(self) -> pa.Schema:
        """What is sent: the table's columns, less the cursor where it is restamped."""
        fields = [
            one
            for one in self.table.schema
            if not (self.restamp and one.name == self.table.cursor)
        ]
        if self.with_lines:
            fields.append(pa.field(LINE, pa.int64()))
        return pa.schema(fields)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The file's good rows; the others go to the log."""
        file = CsvFile(self.path)
        try:
            # Read a second time: somebody may have put another file there since.
            check_header(file, self.table)
            for records in file.records():
                batch = self._checked(file, records)
                self.shown.advance(batch.num_rows)
                # Once a row is refused and none may be, only the checking goes on.
                self.stopped = bool(self.log.counts) and not self.log.accepts
                if batch.num_rows and not self.stopped:
                    self.rows += batch.num_rows
                    yield batch
        finally:
            file.close()

    def _checked(self, file: CsvFile, records: Records) -> pa.RecordBatch:
        found = {}
        good = np.ones(records.table.num_rows, dtype=bool)
        for column in self.table.columns:
            texts = _one_array(records.table[column.name])
            formats = self.formats.get((self.table.name, column.name), PLAIN)
            found[column.name] = convert(column, texts, formats, self.now)
            good &= found[column.name].good
        if not good.all() or self.with_lines:
            placed = file.lines_of(records)
            if placed is not records and placed.table.num_rows != len(good):
                return self._checked(file, placed)
            records = placed
        for reject in records.rejects:
            self.log.add(self.table, reject)
        for row in np.flatnonzero(~good).tolist():
            self.log.add(self.table, self._reject(file, records, found, row))
        return self._batch(records, found, good)

    def _batch(
        self, records: Records, found: dict[str, Values], good: np.ndarray
    ) -> pa.RecordBatch:
        cursor = found[self.table.cursor].array
        arrays = [found[name].array for name in self.schema.names if name != LINE]
        if self.with_lines:
            follow = np.arange(len(good)) + records.first_line
            lines = follow if records.lines is None else records.lines
            arrays.append(array(lines, pa.int64()))
        batch = pa.record_batch(arrays, schema=self.schema)
        if not good.all():
            kept = array(good)
            batch, cursor = batch.filter(kept), cursor.filter(kept)
        if len(cursor):
            least = int(np.asarray(cursor.cast(pa.int64())).min())
            self.oldest = least if self.oldest is None else min(self.oldest, least)
        return batch

    def _reject(
        self, file: CsvFile, records: Records, found: dict[str, Values], row: int
    ) -> Reject:
        column = next(
            one for one in self.table.columns if not found[one.name].good[row]
        )
        text = records.table[column.name][row].as_py()
        values = found[column.name]
        ambiguous = values.ambiguous is not None and bool(values.ambiguous[row])
        formats = self.formats.get((self.table.name, column.name), PLAIN)
        why = reason(column, text, formats, ambiguous, self.now)
        return Reject(file.name, records.line(row), column.name, shown(text or ""), why)


def _one_array(column: ArrowArray) -> ArrowArray:
    if column.num_chunks == 1:
        return column.chunk(0)
    return (
        pa.concat_arrays(column.chunks) if column.num_chunks else nulls(0, pa.string())
    )


def check_header(file: CsvFile, table: Table) -> None:
    """Refuse a header that is not exactly the table's columns, in any order.

    Raises:
        DataError: naming what is missing, unknown or there twice.
    """
    if file.header == table.names:
        return
    problems = []
    twice = [name for name, times in Counter(file.header).items() if times > 1]
    missing = [name for name in table.names if name not in file.header]
    unknown = [name for name in file.header if name not in table.names]
    if twice:
        problems.append(f"twice: {', '.join(twice)}")
    if missing:
        problems.append(f"missing: {', '.join(missing)}")
    if unknown:
        problems.append(f"unknown: {', '.join(map(shown, unknown))}")
    if not problems:
        return
    fix = f"the header must name {', '.join(table.names)}, in any order"
    only = file.header[0] if len(file.header) == 1 else ""
    if any(mark in only for mark in ";\t|"):
        fix = "separate the values by commas; " + fix
    raise DataError(f"Reading {file.path}, header: {'; '.join(problems)}", fix)


def find_files(folder: Path) -> dict[str, Path]:
    """The five files of a folder, plain or gzip, by table.

    Raises:
        UsageError: the folder or one of the files is not there, or one is there twice.
    """
    if not folder.is_dir():
        raise UsageError(f"{DOING}: there is no folder {folder}", "name a folder")
    found, missing = {}, []
    for table in TABLES:
        plain, packed = folder / f"{table.name}.csv", folder / f"{table.name}.csv.gz"
        there = [path for path in (plain, packed) if path.exists()]
        odd = [path for path in there if not path.is_file()]
        if odd:
            raise UsageError(
                f"{DOING}: {odd[0]} is no file but a folder, a pipe or a device",
                "put a file of this name there",
            )
        if len(there) > 1:
            raise UsageError(
                f"{DOING}: both {plain.name} and {packed.name} are in {folder}",
                "keep one of them",
            )
        if there:
            found[table.name] = there[0]
        else:
            missing.append(plain.name)
    if missing:
        raise UsageError(
            f"{DOING}: {', '.join(missing)} not found in {folder}",
            "for a table without rows put a file there with the header line alone",
        )
    return found


def load_folder(
    settings: Settings, folder: Path, rejects: Path | None = None, restamp: bool = False
) -> Loaded:
    """Load the five files of a folder, all or nothing.

    Args:
        settings: where the source is.
        folder: holds `<table>.csv` or `<table>.csv.gz` and perhaps `formats.yml`.
        rejects: where rejected rows are written; None lets any reject fail the load.
        restamp: set the cursors to the server's now instead of the file's value.

    Raises:
        UsageError: the folder, a file or `formats.yml` is not as it must be.
        DataError: a file as a whole, or a row without `rejects`, is refused.
    """
    began = time.monotonic()
    files, formats = find_files(folder), read_formats(folder)
    for table in TABLES:
        file = CsvFile(files[table.name])
        file.close()
        check_header(file, table)
    if rejects is not None and any(_same(rejects, path) for path in files.values()):
        raise UsageError(
            f"{DOING}: --rejects {rejects} is one of the files to load",
            "name another file",
        )
    log = RejectLog(rejects)
    try:
        with transaction(settings, DOING) as connection, task(DOING) as shown_task:
            cursor = connection.cursor()
            lock_shop(cursor)
            require_keys(cursor)
            rows, behind = {}, []
            for table in TABLES:
                shown_task.describe(f"Loading {files[table.name].name}")
                one = _File(
                    table, files[table.name], formats, log, now_micros(), restamp,
                    shown_task,
                )  # fmt: skip
                rows[table.name] = _load(cursor, one)
                if one.is_behind and not restamp:
                    behind.append(table.name)
            log.refuse()
            for table in TABLES:
                if rows[table.name]:
                    analyze(cursor, PUBLIC, table)
            log.keep()
        _warn(behind)
    except BaseException:
        log.drop()
        raise
    rejected = {table.name: log.counts[table.name] for table in TABLES}
    return Loaded(rows, rejected, time.monotonic() - began)


def _same(left: Path, right: Path) -> bool:
    return left.exists() and left.samefile(right)


def _load(cursor: Cursor, file: _File) -> int:
    """Stream one file into its table; the rows loaded."""
    newest = _newest(cursor, file.table)
    mark = file.log.mark()
    cursor.execute("SAVEPOINT file")
    try:
        _stream(cursor, sql.Identifier(PUBLIC, file.table.name), file)
    except psycopg2.errors.UniqueViolation:
        cursor.execute("ROLLBACK TO SAVEPOINT file")
        file.log.back_to(mark)
        _load_by_key(cursor, file)
    file.is_behind = bool(
        newest and file.rows and file.oldest is not None and file.oldest < newest
    )
    return file.rows


def _stream(cursor: Cursor, target: sql.Identifier, file: _File) -> None:
    file.rows, file.oldest = 0, None
    with ahead(file.batches()) as batches:
        copy_batches(cursor, target, file.schema, batches)


def _newest(cursor: Cursor, table: Table) -> int | None:
    cursor.execute(
        sql.SQL(
            "SELECT (extract(epoch FROM max({0})) * 1000000)::bigint FROM {1} "
            "WHERE isfinite({0})"
        ).format(sql.Identifier(table.cursor), sql.Identifier(PUBLIC, table.name))
    )
    row = cursor.fetchone()
    return row[0] if row else None


def _warn(tables: list[str]) -> None:
    """Say which tables got rows that an ingest which has run already may not see."""
    if tables:
        names = " ".join(tables)
        say(
            f"Note: rows with older updated_at or recorded_at than the shop held were "
            f"loaded into {', '.join(tables)}. An ingest that has run already does not "
            f"see them by their cursor: run `ecom ingest {names} --full`, or load such "
            "feeds with `--restamp`."
        )


def _load_by_key(cursor: Cursor, file: _File) -> None:
    """Read the file again into a temporary table and leave out the keys met twice."""
    file.with_lines = True
    waiting = sql.Identifier(WAITING)
    target = sql.Identifier(PUBLIC, file.table.name)
    names = [name for name in file.schema.names if name != LINE]
    listed = sql.SQL(", ").join(map(sql.Identifier, names))
    cursor.execute(
        sql.SQL(
            "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {}, 0::bigint AS {} "
            "FROM {} WITH NO DATA"
        ).format(waiting, listed, sql.Identifier(LINE), target)
    )
    _stream(cursor, waiting, file)
    refused = _refuse_keys(cursor, file)
    cursor.execute(
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(
            target, listed, listed, waiting
        )
    )
    cursor.execute(sql.SQL("DROP TABLE {}").format(waiting))
    file.rows -= refused
    file.with_lines = False


def _refuse_keys(cursor: Cursor, file: _File) -> int:
    """Reject all but the first row of each key, and keys that the shop has."""
    names = {
        "waiting": sql.Identifier(WAITING),
        "wrong": sql.Identifier(WRONG),
        "target": sql.Identifier(PUBLIC, file.table.name),
        "line": sql.Identifier(LINE),
        "key": sql.SQL(", ").join(map(sql.Identifier, file.table.key)),
        "value": sql.SQL(" || '|' || ").join(
            sql.SQL("{}::text").format(sql.Identifier(name)) for name in file.table.key
        ),
    }
    cursor.execute(sql.SQL("ANALYZE {waiting}").format(**names))
    cursor.execute(
        sql.SQL(
            "CREATE TEMPORARY TABLE {wrong} ON COMMIT DROP AS "
            "WITH numbered AS (SELECT {line}, {key}, first_value({line}) OVER "
            "(PARTITION BY {key} ORDER BY {line}) AS first FROM {waiting}) "
            "SELECT {line}, {value} AS key, first, there FROM numbered LEFT JOIN "
            "(SELECT {key}, true AS there FROM {target}) t USING ({key}) "
            "WHERE first <> {line} OR there"
        ).format(**names)
    )
    cursor.execute(
        sql.SQL(
            "DELETE FROM {waiting} w USING {wrong} x WHERE w.{line} = x.{line}"
        ).format(**names)
    )
    refused = cursor.rowcount
    # All rows of a large file may be at fault: they come a few thousand at a time.
    with cursor.connection.cursor(name="ecom_wrong_keys") as wrong:
        wrong.itersize = 10_000
        wrong.execute(sql.SQL("SELECT * FROM {wrong} ORDER BY {line}").format(**names))
        for line, key, first, there in wrong:
            why = (
                "the shop has this key already" if there else f"the key of line {first}"
            )
            column = "|".join(file.table.key)
            file.log.add(file.table, Reject(file.path.name, line, column, key, why))
    cursor.execute(sql.SQL("DROP TABLE {wrong}").format(**names))
    return refused
