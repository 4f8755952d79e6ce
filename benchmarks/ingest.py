"""Ingest against a bare COPY of the same rows, and runs with little or nothing new."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg2

from common.progress import say
from common.settings import Settings
from ingest import manifest
from ingest import run as running
from publish.run import ingest_endpoints
from source import schema
from stack.endpoints import source_dsn
from stack.manager import Stack

DEFAULT_ROWS = 1_000_000
FEW = 10_000
FILL = """
    INSERT INTO interactions SELECT i, 1 + i % 100000, 1 + i % 5000,
        (ARRAY['view','search','click','add_to_cart','wishlist','purchase','review'])[1 + i % 7],
        '2024-01-01 00:00+00'::timestamptz + (i % 30) * interval '1 day' + i * interval '1 ms',
        gen_random_uuid(), 'web', '2024-02-01 00:00+00'::timestamptz + i * interval '1 ms'
    FROM generate_series(%s, %s) i
"""


def run(settings: Settings) -> dict[str, Any]:
    """Measure on a stack of its own; `ECOM_BENCH_ROWS` sets the size.

    Returns:
        Seconds of COPY (binary, one connection), of the first full ingest on a warm
        engine, their ratio, of a run of all five tables with nothing new, and of one
        with 10,000 new rows.
    """
    rows = int(os.environ.get("ECOM_BENCH_ROWS", DEFAULT_ROWS))
    with tempfile.TemporaryDirectory(prefix="ecom bench ") as folder:
        own = Settings(Path(folder) / "home", None, settings.target)
        stack = Stack(own)
        try:
            stack.up()
            schema.init(own)
            return _measure(own, rows)
        finally:
            stack.down()


def _measure(own: Settings, rows: int) -> dict[str, Any]:
    tables = manifest.load(running.DEFAULT_MANIFEST)
    endpoints = ingest_endpoints(own)
    say(f"Filling interactions with {rows:,} rows")
    _fill(own, 1, 1000)
    _timed(lambda: running.ingest(endpoints, tables, []))
    # The engine is warm now; the measured load is a first one, into a new schema.
    _fill(own, 1001, rows)
    fresh = manifest.Manifest(tables.path, "public", "bench_staging", tables.tables)
    copy = _timed(lambda: _copy(own))
    full = _timed(lambda: running.ingest(endpoints, fresh, ["interactions"]))
    _timed(lambda: running.ingest(endpoints, fresh, []))
    nothing = _timed(lambda: running.ingest(endpoints, fresh, []))
    _fill(own, rows + 1, rows + FEW, now=True)
    few = _timed(lambda: running.ingest(endpoints, fresh, ["interactions"]))
    return {
        "rows": rows,
        "copy_binary_seconds": copy,
        "full_seconds": full,
        "full_over_copy": round(full / copy, 2),
        "nothing_new_seconds": nothing,
        "ten_thousand_new_seconds": few,
    }


def _fill(own: Settings, first: int, last: int, now: bool = False) -> None:
    statement = (
        FILL.replace("'2024-02-01 00:00+00'::timestamptz", "now()") if now else FILL
    )
    connection = psycopg2.connect(source_dsn(own, "owner"))
    with connection, connection.cursor() as cursor:
        cursor.execute(statement, (first, last))
    with connection, connection.cursor() as cursor:
        cursor.execute("ANALYZE interactions")
    connection.close()


def _copy(own: Settings) -> None:
    connection = psycopg2.connect(source_dsn(own, "ingest"))
    with connection.cursor() as cursor, Path(os.devnull).open("wb") as sink:
        cursor.copy_expert("COPY interactions TO STDOUT (FORMAT binary)", sink)
    connection.close()


def _timed(action: Any) -> float:
    began = time.monotonic()
    action()
    return round(time.monotonic() - began, 2)
