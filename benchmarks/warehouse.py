"""The warehouse: a full build, one with nothing new, days of change, and DuckDB."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.progress import say
from common.settings import PROJECT, Settings
from ingest import manifest
from ingest import run as ingesting
from publish import building, upkeep
from publish.lake import Lake, open_lake
from publish.run import ingest_endpoints
from source import change, generate, schema
from stack.manager import Stack

DEFAULT_ROWS = 1_000_000
DAYS = 30
EDGE = 5
"""Days at either end of the row of daily builds that are compared."""

STAGED = (
    "customers__history", "products", "orders", "order_items", "interactions",
)  # fmt: skip
COMPARED = (
    "customer_activity_by_region_tier", "top_products_by_category_region",
    "interaction_trend_daily", "purchase_trend_by_category", "interaction_by_age",
)  # fmt: skip


def run(settings: Settings) -> dict[str, Any]:
    """Measure on a stack of its own.

    `ECOM_BENCH_ROWS` sets the interactions (default 1 million), `ECOM_BENCH_DAYS` the
    daily builds (default 30; 0 leaves them out), `ECOM_BENCH_LARGER` by how many times
    a second history is larger, on which the same day of change is built (default 5; 1
    leaves it out).

    Returns:
        Seconds of each build and the ratios of the README; a ratio of 0.25 says a
        quarter of the time.
    """
    rows = int(os.environ.get("ECOM_BENCH_ROWS", DEFAULT_ROWS))
    days = int(os.environ.get("ECOM_BENCH_DAYS", DAYS))
    larger = int(os.environ.get("ECOM_BENCH_LARGER", "5"))
    with _shop(settings, rows) as shop:
        found = told(shop.basics())
        found |= told(shop.against_duckdb())
        if days:
            found |= told(shop.daily(days))
        small = shop.day_of_change(rows // 10)
        found["day_of_change_seconds"] = small
    if larger > 1:
        with _shop(settings, rows * larger) as shop:
            shop.build()
            large = shop.day_of_change(rows // 10)
        found |= {
            "day_on_larger_history_seconds": large,
            "larger_history_over_smaller": round(large / small, 2),
        }
    return {"interactions": rows, **found}


def told(found: dict[str, Any]) -> dict[str, Any]:
    """The same, said at once: a long benchmark that dies has told what it knew."""
    for name, value in found.items():
        say(f"  {name}: {value}")
    return found


class Shop:
    """A generated shop, ingested, on a stack of its own."""

    def __init__(self, settings: Settings, rows: int, folder: Path) -> None:
        self.settings, self.rows, self.folder = settings, rows, folder

    def fill(self) -> None:
        """Generate and ingest."""
        say(f"A shop of {self.rows:,} interactions")
        schema.init(self.settings)
        generate.generate(
            self.settings,
            generate.Size(
                customers=max(self.rows // 20, 100),
                products=max(self.rows // 200, 50),
                interactions=self.rows,
                orders=max(self.rows // 10, 100),
            ),
        )
        self.ingest()

    def ingest(self) -> None:
        """Bring staging up to date."""
        tables = manifest.load(ingesting.DEFAULT_MANIFEST)
        ingesting.ingest(ingest_endpoints(self.settings), tables, [])

    def build(self) -> float:
        """Seconds of one `dbt build`, tests and all, straight to what readers see.

        Raises:
            DataError: it failed.
        """
        log = self.folder / "logs"
        (log / "dbt.log").unlink(missing_ok=True)
        began = time.monotonic()
        succeeded = building.dbt(
            self.settings,
            ["--quiet", "--log-format-file", "json", "build",
             "--target", "local", "--exclude-resource-type", "unit_test"],
            {"DBT_TARGET_PATH": str(self.folder), "DBT_LOG_PATH": str(log)},
        )  # fmt: skip
        if not succeeded:
            raise DataError(
                "A build of the benchmark failed", "read dbt's message above"
            )
        seconds = round(time.monotonic() - began, 2)
        say(f"  built in {seconds:.0f} s")
        return seconds

    def basics(self) -> dict[str, Any]:
        """The first build, one with nothing new, and dbt's own share."""
        full = self.build()
        overhead = adapter_share(self.log(), full)
        nothing = min(self.build(), self.build())
        return {
            "full_build_seconds": full,
            "nothing_new_seconds": nothing,
            "full_over_nothing_new": round(full / nothing, 2),
            "time_in_dbt_share": overhead,
        }

    def log(self) -> list[str]:
        """dbt's log of the last build."""
        text = (self.folder / "logs" / "dbt.log").read_text(encoding="utf-8")
        return text.splitlines()

    def day_of_change(self, changed: int) -> float:
        """Seconds of a build after a day that touches about so many rows."""
        day = change.change(self.settings, None, changed / self.rows, 1)
        say(f"  a day of {sum(day.counts.values()):,} changes")
        self.ingest()
        return self.build()

    def daily(self, days: int) -> dict[str, Any]:
        """As many natural days in a row, then upkeep and a few more."""
        spent = []
        for number in range(days):
            change.change(self.settings, None, None, number)
            self.ingest()
            spent.append(self.build())
        upkeep.maintain(self.settings, dry_run=False)
        after = []
        for number in range(EDGE):
            change.change(self.settings, None, None, days + number)
            self.ingest()
            after.append(self.build())
        first = statistics.median(spent[:EDGE])
        return {
            "daily_builds": days,
            "first_days_seconds": first,
            "last_days_seconds": statistics.median(spent[-EDGE:]),
            "after_upkeep_seconds": statistics.median(after),
            "after_upkeep_over_first": round(statistics.median(after) / first, 2),
        }

    def against_duckdb(self) -> dict[str, Any]:
        """A full refresh by dbt and the same star by DuckDB from the same Parquet."""
        parquet = self.folder / "parquet"
        with open_lake(self.settings) as lake:
            for table in STAGED:
                lake.rows(
                    f"INSERT OVERWRITE DIRECTORY 'file://{parquet}/{table}' USING parquet "
                    f"SELECT * FROM staging.{table}"
                )
            ours = {mart: _count(lake, mart) for mart in COMPARED}
        duck, theirs = duckdb_star(parquet)
        if ours != theirs:
            raise DataError(
                f"DuckDB counts other rows in the marts: {ours} here, {theirs} there",
                "compare benchmarks/star.sql with the models",
            )
        warm = time.monotonic()
        building.dbt(
            self.settings,
            ["--quiet", "build", "--full-refresh", "--exclude-resource-type", "test",
             "--exclude-resource-type", "unit_test"],
            {"DBT_TARGET_PATH": str(self.folder)},
        )  # fmt: skip
        refresh = round(time.monotonic() - warm, 2)
        return {
            "full_refresh_without_tests_seconds": refresh,
            "duckdb_seconds": duck,
            "full_refresh_over_duckdb": round(refresh / duck, 1),
        }


@contextmanager
def _shop(settings: Settings, rows: int) -> Iterator[Shop]:
    with tempfile.TemporaryDirectory(prefix="ecom bench ") as folder:
        own = Settings(Path(folder) / "home", None, settings.target)
        stack = Stack(own)
        kept = os.environ.get("DBT_TARGET_PATH")
        os.environ["DBT_TARGET_PATH"] = str(Path(folder) / "target")
        try:
            stack.up()
            shop = Shop(own, rows, Path(folder) / "target")
            shop.fill()
            yield shop
        finally:
            stack.down()
            os.environ.pop("DBT_TARGET_PATH")
            if kept is not None:
                os.environ["DBT_TARGET_PATH"] = kept


def _count(lake: Lake, mart: str) -> int:
    return int(lake.rows(f"SELECT count(*) FROM marts.{mart}")[0][0])


def duckdb_star(parquet: Path) -> tuple[float, dict[str, int]]:
    """Seconds in which DuckDB makes star and marts on disk, and rows by mart."""
    import duckdb

    text = (PROJECT / "benchmarks" / "star.sql").read_text(encoding="utf-8")
    connection = duckdb.connect(str(parquet / "star.duckdb"))
    for table in STAGED:
        connection.execute(
            f"create view {table} as select * from read_parquet('{parquet}/{table}/*.parquet')"
        )
    began = time.monotonic()
    connection.execute(text)
    seconds = round(time.monotonic() - began, 2)
    rows = {
        mart: int(connection.execute(f"select count(*) from {mart}").fetchall()[0][0])
        for mart in COMPARED
    }
    connection.close()
    return seconds, rows


def adapter_share(log: Iterable[str], seconds: float) -> float:
    """The share of a build in which no statement was under way in Spark.

    Args:
        log: lines of dbt's log in JSON.
        seconds: how long the build took, from start to end of the process.
    """
    began: dict[str, datetime] = {}
    spans: list[tuple[datetime, datetime]] = []
    for line in log:
        try:
            info = json.loads(line)["info"]
        except (ValueError, KeyError):
            continue
        at = datetime.fromisoformat(info["ts"].replace("Z", "+00:00"))
        if info["name"] == "SQLQuery":
            began[info["thread"]] = at
        elif info["name"] == "SQLQueryStatus" and info["thread"] in began:
            spans.append((began.pop(info["thread"]), at))
    busy = sum(map(_length, _merged(spans)))
    return round(1 - busy / seconds, 2)


def _length(span: tuple[datetime, datetime]) -> float:
    return (span[1] - span[0]).total_seconds()


def _merged(
    spans: list[tuple[datetime, datetime]],
) -> list[tuple[datetime, datetime]]:
    """Spans of time without overlap."""
    merged: list[tuple[datetime, datetime]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
