"""`ecom bench source`: generator and CSV door against PostgreSQL's own COPY.

Both are measured in one run, on a PostgreSQL of the benchmark's own and the same
rows, so that the ratios say something on any machine. Start-up of Python counts
against us; PostgreSQL's COPY fills tables with the same keys and indexes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from common.progress import say
from common.settings import PROJECT, Settings
from source import schema
from source.bulk import encode
from source.database import connect
from source.generate import Size, parts
from source.tables import INTERACTIONS, TABLES
from stack.endpoints import source_dsn
from stack.home import Home
from stack.postgres import Postgres

ROWS = 1_000_000
DOOR_ROWS = 10_000_000


def run(settings: Settings, rows: int = 0) -> dict[str, Any]:
    """Measure; rows of interactions from `rows`, `ECOM_BENCH_ROWS` or a million.

    Returns:
        Seconds, ratios (COPY's seconds by ours: 1 is as fast, more is faster) and
        the generator's greatest memory in MiB.
    """
    rows = rows or int(os.environ.get("ECOM_BENCH_ROWS", ROWS))
    size = Size(max(rows // 20, 100), max(rows // 200, 50), rows, rows // 20)
    with (
        _database(settings) as own,
        tempfile.TemporaryDirectory(prefix="ecom-") as where,
    ):
        folder = Path(where)
        return {
            "interactions": rows,
            "generate": _generator(own, size, folder),
            "load_csv": _door(own, folder, min(rows, DOOR_ROWS)),
        }


@contextmanager
def _database(settings: Settings) -> Iterator[Settings]:
    """A PostgreSQL like the embedded one, gone at the end."""
    home = Home(settings.home / "bench-source")
    shutil.rmtree(home.root, ignore_errors=True)
    home.root.mkdir(parents=True)
    home.claim_ports(["postgres"])
    server = Postgres(home)
    server.start()
    try:
        embedded = Settings(home.root, None, settings.target)
        yield replace(embedded, source_dsn=source_dsn(embedded, "owner"))
    finally:
        server.stop()
        shutil.rmtree(home.root, ignore_errors=True)


def _generator(settings: Settings, size: Size, folder: Path) -> dict[str, Any]:
    say(
        f"Writing {size.interactions:,} interactions and their shop as binary COPY files"
    )
    files = {table.name: folder / f"{table.name}.bin" for table in TABLES}
    for table in TABLES:
        with files[table.name].open("wb") as file:
            chosen = [part for part in parts(size) if part.table is table]
            batches = (b for part in chosen for b in part.batches(lambda rows: None))
            for piece in encode(table.schema, batches):
                file.write(piece)
    schema.init(settings)
    say(
        "Bare COPY FROM of the same binary data, one connection, keys and indexes there"
    )
    bare = _timed(lambda: _copy_files(settings, files, "binary"))
    for file_path in files.values():
        file_path.unlink()
    _empty(settings)
    say("ecom source generate")
    ours, memory = _command(
        settings, "generate", "--customers", size.customers, "--products", size.products,
        "--interactions", size.interactions, "--orders", size.orders,
    )  # fmt: skip
    return {
        "bare_copy_seconds": round(bare, 2),
        "seconds": round(ours, 2),
        "ratio": round(bare / ours, 2),
        "rows_per_second": round(size.interactions / ours),
        "memory_mib": round(memory),
    }


def _door(settings: Settings, folder: Path, rows: int) -> dict[str, Any]:
    """Interactions alone, as the issue measures it; the other files hold a header."""
    say("Writing the interactions as CSV")
    files = {table.name: folder / f"{table.name}.csv" for table in TABLES}
    with connect(settings) as connection, connection.cursor() as cursor:
        for table in TABLES:
            query = sql.SQL(
                "COPY (SELECT * FROM {} LIMIT {}) TO STDOUT (FORMAT csv, HEADER)"
            )
            chosen = sql.Literal(rows if table is INTERACTIONS else 0)
            with files[table.name].open("wb") as file:
                statement = query.format(sql.Identifier(table.name), chosen)
                cursor.copy_expert(statement, file)
    _empty(settings)
    say("Bare COPY ... CSV, one connection, keys and indexes there")
    bare = _timed(lambda: _copy_files(settings, files, "csv, HEADER"))
    _empty(settings)
    say("ecom source load-csv")
    ours, memory = _command(settings, "load-csv", folder)
    return {
        "interactions": rows,
        "bare_copy_seconds": round(bare, 2),
        "seconds": round(ours, 2),
        "ratio": round(bare / ours, 2),
        "memory_mib": round(memory),
    }


def _empty(settings: Settings) -> None:
    with connect(settings) as connection, connection.cursor() as cursor:
        names = sql.SQL(", ").join(sql.Identifier(table.name) for table in TABLES)
        cursor.execute(sql.SQL("TRUNCATE {}").format(names))


def _copy_files(settings: Settings, files: dict[str, Path], form: str) -> None:
    connection = psycopg2.connect(settings.source_dsn)
    with connection, connection.cursor() as cursor:
        for name, path in files.items():
            statement = sql.SQL("COPY {} FROM STDIN (FORMAT {})").format(
                sql.Identifier(name), sql.SQL(form)
            )
            with path.open("rb") as file:
                cursor.copy_expert(statement, file, size=1 << 20)
    connection.close()


def _timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _command(settings: Settings, *arguments: object) -> tuple[float, float]:
    """Run `ecom source ...`; seconds and the greatest memory in MiB."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "source", *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, "ECOM_SOURCE_DSN": str(settings.source_dsn)},
        stdout=subprocess.DEVNULL,
    )
    memory = 0.0
    while process.poll() is None:
        memory = _peak_mib(process.pid) or memory
        time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(
            f"ecom source {arguments[0]} ended with {process.returncode}"
        )
    return time.monotonic() - began, memory


def _peak_mib(pid: int) -> float:
    """The most memory a process has had; its parent's share in `ru_maxrss` left out."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) / 1024 if found else 0.0
