"""`ecom bench ingest`: full and incremental loads, as ratios within one run.

A stack of its own and the generated shop, at a tenth of the size first (which also
warms the engine), then at the size asked for. COPY (binary, one connection, to
/dev/null) is what PostgreSQL itself can do; ConnectorX and dlt write the same table
to local Parquet, their imports not counted.

Java compiles while it works, so the first load of millions of rows costs twice the
processor time of the third. The ratios are those of the last load, the first is printed too.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from benchmarks import peers
from common.errors import DataError
from common.progress import task
from common.settings import Settings
from ingest import manifest
from ingest import plan as planning
from ingest import run as running
from ingest.engine import open_engine
from publish.run import ingest_endpoints
from source import schema
from source.generate import Size, generate
from stack.endpoints import connect_url, source_dsn
from stack.manager import Stack

DEFAULT_ROWS = 1_000_000
SMALLER = 10
FEW = 10_000
REPEATS = 3
LOADS = 3
ONE_LOAD_FROM = 50_000_000
"""From here on a load warms its own engine, and dlt would take half an hour."""
LARGE = "interactions"
NEW_ROWS = f"""
    INSERT INTO {LARGE}
    SELECT top + i, customer_id, product_id, interaction_type, now() - i * interval '1 ms',
        session_id, device, now()
    FROM (SELECT max(interaction_id) AS top FROM {LARGE}) m,
        (SELECT *, row_number() OVER () AS i FROM
            (SELECT * FROM {LARGE} LIMIT %s) few) chosen
"""


def run(settings: Settings) -> dict[str, Any]:
    """Measure on a stack of its own; `ECOM_BENCH_ROWS` sets the interactions.

    Returns:
        Seconds, and the ratios that say something on any machine: the full load by
        COPY's time, each peer's time by ours, a few new rows on the whole table by the
        same on a tenth of it. Memory is the engine's resident MiB at its highest.
    """
    rows = int(os.environ.get("ECOM_BENCH_ROWS", DEFAULT_ROWS))
    python = peers.environment()
    with tempfile.TemporaryDirectory(prefix="ecom bench ") as folder:
        own = Settings(Path(folder) / "home", None, settings.target)
        stack = Stack(own)
        try:
            stack.up()
            schema.init(own)
            bench = _Bench(own, stack)
            small = bench.size(max(rows // SMALLER, 1), "bench_small")
            large = bench.size(rows, "bench")
            others = bench.peers(python) if rows < ONE_LOAD_FROM else {}
        finally:
            stack.down()
    full = large["full_seconds"]
    return {
        "rows": rows,
        **large,
        "full_over_copy": round(full / large["copy_seconds"], 2),
        **{f"{name}_seconds": seconds for name, seconds in others.items()},
        **{f"{name}_over_full": round(s / full, 2) for name, s in others.items()},
        "rows_smaller": small["interactions"],
        "few_new_seconds_smaller": small["few_new_seconds"],
        "few_new_large_over_smaller": round(
            large["few_new_seconds"] / small["few_new_seconds"], 2
        ),
        "engine_peak_mib_smaller": small["engine_peak_mib"],
    }


class _Bench:
    """The phases, on one stack."""

    def __init__(self, own: Settings, stack: Stack) -> None:
        self.own, self.stack = own, stack
        self.endpoints = ingest_endpoints(own)
        self.tables = manifest.load(running.DEFAULT_MANIFEST)

    def size(self, rows: int, target: str) -> dict[str, Any]:
        """A new shop of `rows` interactions, landed in new schemas named by `target`."""
        size = Size(max(rows // 20, 100), max(rows // 200, 50), rows, rows // 20)
        generate(self.own, size, replace=True)
        copies, loads = [self._copy()], []
        with self._peak_memory() as memory:
            for number in range(LOADS if rows < ONE_LOAD_FROM else 1):
                tables = replace(self.tables, target_schema=f"{target}_{number}")
                with task(f"{target}: full load {number + 1}"):
                    loads.append(self._load(tables))
        copies.append(self._copy())
        with task(f"{target}: the other tables"):
            running.ingest(self.endpoints, tables, [])
        nothing = self._nothing_new(tables)
        with task(f"{target}: {FEW:,} new rows, {REPEATS} times"):
            # The first of the smaller size would pay for the engine's warming up.
            few = [self._few_new(tables) for _ in range(1 + REPEATS)][1:]
        return {
            "interactions": rows,
            "copy_seconds": round(statistics.mean(copies), 2),
            "full_seconds_first": loads[0],
            "full_seconds": loads[-1],
            "engine_peak_mib": memory[0],
            "nothing_new_seconds": nothing,
            "few_new_rows": FEW,
            "few_new_seconds": statistics.median(few),
        }

    def _load(self, tables: manifest.Manifest) -> float:
        return _timed(lambda: running.ingest(self.endpoints, tables, [LARGE]))

    def peers(self, python: Path) -> dict[str, float]:
        """Seconds of each peer for the shop that is there."""
        dsn = source_dsn(self.own, "ingest")
        return {name: peers.measure(python, name, dsn) for name in peers.NAMES}

    def _copy(self) -> float:
        connection = psycopg2.connect(source_dsn(self.own, "ingest"))
        with (
            task(f"COPY {LARGE} (FORMAT binary) to {os.devnull}"),
            connection.cursor() as cursor,
            Path(os.devnull).open("wb") as sink,
        ):
            statement = f"COPY {LARGE} TO STDOUT (FORMAT binary)"
            seconds = _timed(lambda: cursor.copy_expert(statement, sink, 1 << 20))
        connection.close()
        return seconds

    def _nothing_new(self, tables: manifest.Manifest) -> float:
        """Median seconds of a run over all tables that finds nothing."""
        before = self._snapshots(tables)
        with task(f"All tables, nothing new, {REPEATS} times"):
            seconds = [
                _timed(lambda: running.ingest(self.endpoints, tables, []))
                for _ in range(REPEATS)
            ]
        if self._snapshots(tables) != before:
            raise DataError(
                "Measuring a run with nothing new: it made an Iceberg snapshot",
                "this is a fault of ingest; please report it",
            )
        return statistics.median(seconds)

    def _few_new(self, tables: manifest.Manifest) -> float:
        connection = psycopg2.connect(source_dsn(self.own, "owner"))
        with connection, connection.cursor() as cursor:
            cursor.execute(NEW_ROWS, (FEW,))
        connection.close()
        found = {}

        def work() -> None:
            found["rows"] = running.ingest(self.endpoints, tables, [LARGE])

        seconds = _timed(work)
        landed = sum(result.rows_inserted for result in found["rows"])
        if landed != FEW:
            raise DataError(
                f"Measuring {FEW:,} new rows: {landed:,} were landed",
                "this is a fault of ingest; please report it",
            )
        return seconds

    def _snapshots(self, tables: manifest.Manifest) -> list[int]:
        with open_engine(connect_url(self.own), "bench") as session:
            return [
                session.sql(
                    "SELECT count(*) AS n FROM "
                    f"{planning.relation(tables.target_schema, spec.target)}.snapshots"
                ).collect()[0].n
                for spec in tables.tables
            ]  # fmt: skip

    @contextmanager
    def _peak_memory(self) -> Iterator[list[int]]:
        """Resident MiB of the engine at its highest while the block runs."""
        process, peak, over = self.stack.thrift.process(), [0], threading.Event()

        def watch() -> None:
            while process is not None and not over.wait(0.2):
                try:
                    peak[0] = max(peak[0], process.memory_info().rss >> 20)
                except psutil.NoSuchProcess:
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield peak
        finally:
            over.set()
            watcher.join()


def _timed(action: Callable[[], Any]) -> float:
    began = time.monotonic()
    action()
    return round(time.monotonic() - began, 2)
