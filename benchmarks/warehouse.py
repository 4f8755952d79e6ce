"""The warehouse: a full build, one with nothing new, days of change, and DuckDB."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.progress import say
from common.settings import PROJECT, Settings, git_commit
from ingest import manifest
from ingest import run as ingesting
from publish import building, upkeep
from publish.lake import open_lake
from publish.run import ingest_endpoints
from source import change, generate, schema
from source.timeline import FIRST_DAY, LAST_DAY
from stack.manager import Stack

DEFAULT_ROWS = 1_000_000
DAYS = 30
EDGE = 5
"""Days at either end of the row of daily builds that are compared."""
REPEATS = 3
SHARE = 10
"""The day of change touches one row in so many."""

PARTS = ("build", "day", "daily", "duckdb", "larger")
STAGED = (
    "customers__history", "products", "orders", "order_items", "interactions",
)  # fmt: skip
COMPARED = {
    "customer_activity_by_region_tier": "interactions",
    "top_products_by_category_region": "units",
    "interaction_trend_daily": "interactions",
    "purchase_trend_by_category": "units",
    "interaction_by_age": "interactions",
}
"""Mart -> the measure whose sum must agree with DuckDB's, like the number of rows."""


def run(settings: Settings, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Measure on stacks of their own; what each part found is kept in the home.

    `ECOM_BENCH_ROWS` sets the interactions (default 1 million), `ECOM_BENCH_DAYS` the
    daily builds (default 30), `ECOM_BENCH_LARGER` by how many times the second history
    is larger (default 5): as many times the days and orders, of the same shop.

    Args:
        settings: whose home keeps the findings.
        parts: some of `PARTS`, measured now and added to what the others of this size
            found before; none means all of them, anew.

    Returns:
        Seconds and ratios of all parts known, and when and on which commit each was
        measured; a ratio of 0.25 says a quarter of the time.
    """
    rows = int(os.environ.get("ECOM_BENCH_ROWS", DEFAULT_ROWS))
    kept = Findings(settings.home / "bench" / f"warehouse_{rows}.json")
    if not parts:
        kept.forget()
    wanted = parts or PARTS
    small = [part for part in PARTS if part in wanted and part != "larger"]
    if small:
        with own_shop(settings, rows) as shop:
            measures = {
                "build": shop.basics,
                "day": shop.day,
                "daily": shop.daily,
                "duckdb": shop.against_duckdb,
            }
            if "build" not in small:
                shop.build()
            for part in small:
                kept.measure(part, measures[part])
    if "larger" in wanted:
        larger = int(os.environ.get("ECOM_BENCH_LARGER", "5"))
        with own_shop(settings, rows * larger, larger) as shop:
            kept.measure("larger", shop.built_and_day)
    return {"interactions": rows, **kept.ratios(), "parts": kept.parts}


class Findings:
    """What each part found, on disk: a part can be measured by itself, or again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        text = path.read_text(encoding="utf-8") if path.exists() else "{}"
        self.parts: dict[str, dict[str, Any]] = json.loads(text)

    def forget(self) -> None:
        """Begin anew."""
        self.parts = {}

    def measure(self, part: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measure a part, say what it found and keep it."""
        say(f"== {part}")
        began = time.monotonic()
        found = measure()
        for name, value in found.items():
            say(f"  {name}: {value}")
        self.parts[part] = {
            **found,
            "part_seconds": round(time.monotonic() - began),
            "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "git_commit": git_commit(),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.parts, indent=2), encoding="utf-8")

    def ratios(self) -> dict[str, Any]:
        """The figures that say something on any machine, as far as they are known."""
        build, day = self.parts.get("build", {}), self.parts.get("day", {})
        daily, duck = self.parts.get("daily", {}), self.parts.get("duckdb", {})
        large = self.parts.get("larger", {})
        pairs = {
            "full_over_nothing_new": (build, "full", build, "nothing_new"),
            "day_on_larger_over_smaller": (large, "day", day, "day"),
            "last_days_over_first": (daily, "last_days", daily, "first_days"),
            "after_upkeep_over_first": (daily, "after_upkeep", daily, "first_days"),
            "full_refresh_over_duckdb": (duck, "full_refresh", duck, "duckdb"),
        }
        found = {
            name: round(above[f"{a}_seconds"] / below[f"{b}_seconds"], 2)
            for name, (above, a, below, b) in pairs.items()
            if above and below
        }
        if build:
            found["time_in_dbt_share"] = build["full_time_in_dbt_share"]
        return found


class Shop:
    """A generated shop, ingested, on a stack of its own."""

    def __init__(self, settings: Settings, rows: int, times: int, folder: Path) -> None:
        self.settings, self.rows, self.folder = settings, rows, folder
        self.times = times

    def fill(self) -> None:
        """Generate and ingest: a history `times` as long as the usual one."""
        longer = (LAST_DAY - FIRST_DAY + timedelta(days=1)) * (self.times - 1)
        first = FIRST_DAY - longer
        say(f"A shop of {self.rows:,} interactions from {first} to {LAST_DAY}")
        schema.init(self.settings)
        generate.generate(
            self.settings,
            generate.Size(
                customers=max(self.rows // self.times // 20, 100),
                products=max(self.rows // self.times // 200, 50),
                interactions=self.rows,
                orders=max(self.rows // 10, 100),
                days=(first, LAST_DAY),
            ),
        )
        self.ingest()

    def ingest(self) -> None:
        """Bring staging up to date."""
        tables = manifest.load(ingesting.DEFAULT_MANIFEST)
        ingesting.ingest(ingest_endpoints(self.settings), tables, [])

    def build(self, *flags: str) -> float:
        """Seconds of one `dbt build`, tests and all, straight to what readers see.

        Args:
            flags: more for dbt.

        Raises:
            DataError: it failed.
        """
        log = self.folder / "logs"
        (log / "dbt.log").unlink(missing_ok=True)
        began = time.monotonic()
        succeeded = building.dbt(
            self.settings,
            ["--quiet", "--log-format-file", "json", "build",
             "--target", "local", "--exclude-resource-type", "unit_test", *flags],
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
        """The first build, some with nothing new, and dbt's own share."""
        full = self.build()
        share = adapter_share(self.log(), full)
        nothing = [self.build() for _ in range(REPEATS)]
        return {
            "full_seconds": full,
            "full_time_in_dbt_share": share,
            "nothing_new_seconds": statistics.median(nothing),
        }

    def log(self) -> list[str]:
        """dbt's log of the last build."""
        text = (self.folder / "logs" / "dbt.log").read_text(encoding="utf-8")
        return text.splitlines()

    def day(self) -> dict[str, Any]:
        """A build after a day that touches a tenth of the smaller history's rows."""
        rate = 1 / SHARE / self.times
        done = change.change(self.settings, None, rate, 1)
        changed = sum(done.counts.values())
        say(f"  a day of {changed:,} changes")
        self.ingest()
        seconds = self.build()
        share = adapter_share(self.log(), seconds)
        return {
            "changes": changed,
            "day_seconds": seconds,
            "day_time_in_dbt_share": share,
            "day_seconds_by_model": self.slowest(),
        }

    def built_and_day(self) -> dict[str, Any]:
        """The first build, and the day of change."""
        full = self.build()
        return {"rows": self.rows, "full_seconds": full, **self.day()}

    def slowest(self) -> dict[str, float]:
        """Seconds of the models and snapshots of the last build, the longest first."""
        text = (self.folder / "run_results.json").read_text(encoding="utf-8")
        spent = {
            result["unique_id"].split(".")[-1]: round(result["execution_time"], 1)
            for result in json.loads(text)["results"]
            if result["unique_id"].startswith(("model.", "snapshot."))
        }
        ordered = sorted(spent, key=spent.__getitem__, reverse=True)
        return {name: spent[name] for name in ordered if spent[name] >= 1}

    def ordinary_days(self, first: int, how_many: int) -> list[float]:
        """Seconds of the build of each of some ordinary days in a row."""
        rate = 1 / ((LAST_DAY - FIRST_DAY).days + 1) / self.times
        spent = []
        for number in range(first, first + how_many):
            say(f"  day {number + 1}")
            change.change(self.settings, None, rate, number)
            self.ingest()
            spent.append(self.build())
        return spent

    def daily(self) -> dict[str, Any]:
        """Ordinary days in a row, then upkeep and a few more."""
        days = int(os.environ.get("ECOM_BENCH_DAYS", DAYS))
        spent = self.ordinary_days(0, days)
        upkeep.maintain(self.settings, dry_run=False)
        after = self.ordinary_days(days, EDGE)
        return {
            "daily_seconds": spent,
            "first_days_seconds": statistics.median(spent[:EDGE]),
            "last_days_seconds": statistics.median(spent[-EDGE:]),
            "after_upkeep_seconds": statistics.median(after),
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
            ours = {mart: _sums(lake.rows, f"marts.{mart}") for mart in COMPARED}
        duck, theirs = duckdb_star(parquet)
        if ours != theirs:
            raise DataError(
                f"DuckDB finds other rows in the marts: {ours} here, {theirs} there",
                "compare benchmarks/star.sql with the models",
            )
        refresh = self.build("--full-refresh", "--exclude-resource-type", "test")
        return {"full_refresh_seconds": refresh, "duckdb_seconds": duck}


@contextmanager
def own_shop(settings: Settings, rows: int, times: int = 1) -> Iterator[Shop]:
    with tempfile.TemporaryDirectory(prefix="ecom bench ") as folder:
        own = Settings(Path(folder) / "home", None, settings.target)
        stack = Stack(own)
        kept = os.environ.get("DBT_TARGET_PATH")
        os.environ["DBT_TARGET_PATH"] = str(Path(folder) / "target")
        try:
            stack.up()
            # Beside a run's own folder: dbt parses all anew when the target changes.
            shop = Shop(own, rows, times, Path(folder) / "direct")
            shop.fill()
            yield shop
        finally:
            stack.down()
            os.environ.pop("DBT_TARGET_PATH")
            if kept is not None:
                os.environ["DBT_TARGET_PATH"] = kept


def _sums(rows_of: Callable[[str], list[Any]], mart: str) -> tuple[int, int]:
    """How many rows a mart has and the sum of its measure."""
    measure = COMPARED[mart.rsplit(".", maxsplit=1)[-1]]
    [(rows, total)] = rows_of(f"SELECT count(*), sum({measure}) FROM {mart}")
    return int(rows), int(total)


def duckdb_star(parquet: Path) -> tuple[float, dict[str, tuple[int, int]]]:
    """Seconds in which DuckDB makes star and marts on disk, and rows and sums by mart."""
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
    found = {
        mart: _sums(lambda query: connection.execute(query).fetchall(), mart)
        for mart in COMPARED
    }
    connection.close()
    return seconds, found


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
