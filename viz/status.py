"""The state of the warehouse as readers see it: fresh when, how many, agreed."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from viz import sql, text
from viz.reader import Reader

_NEWEST_BY = ("finished_at", "happened_at", "checked_at", "ended_at", "started_at")
_RELATIONS = (
    *(f"marts.{mart}" for mart in sql.MARTS),
    "core.dim_customer",
    "core.dim_product",
    "core.dim_date",
    "core.fct_interactions",
    "core.fct_order_items",
    "core.rejected_records",
)
_KEPT = 20
_LEFT_OUT = {"versions"}
_NUMBER = re.compile(r"[\d,]+(\.\d+)?")


@dataclass(frozen=True)
class Log:
    """The newest rows of one table of `ops`, newest first, as text."""

    columns: list[str]
    rows: list[list[str]]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is recorded."""
        return not self.rows

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers alone."""
        return [
            all(_NUMBER.fullmatch(value) for value in column if value) and any(column)
            for column in zip(*self.rows, strict=True)
        ]


@dataclass(frozen=True)
class Status:
    """What the status page shows; each None or empty where not recorded yet.

    Attributes:
        newest_event: the last day with an interaction.
        counts: rows of each relation of core and marts that readers see.
        runs, publishes, ingests, reconciliations: the newest rows of the tables of
            `ops`.
    """

    newest_event: str | None
    counts: list[tuple[str, int]]
    runs: Log | None
    publishes: Log | None
    ingests: Log | None
    reconciliations: Log | None

    @property
    def last_publish(self) -> str | None:
        """When readers last got new tables, or None where nothing is recorded."""
        return self._publish("published")

    @property
    def taken_back(self) -> str | None:
        """When the last publish was taken back, or None where it still stands."""
        last, back = self.last_publish, self._publish("rolled_back")
        return back if last and back and back > last else None

    def _publish(self, event: str) -> str | None:
        log = self.publishes
        if log is None or "event" not in log.columns:
            return None
        kind, when = log.columns.index("event"), log.columns.index("happened_at")
        return next((row[when] for row in log.rows if row[kind] == event), None)

    @property
    def agreement(self) -> str | None:
        """What the newest comparison of each table found, as a sentence."""
        log = self.reconciliations
        if log is None or log.is_empty or "differing_keys" not in log.columns:
            return None
        when, keys, table = (
            log.columns.index(n) for n in ("checked_at", "differing_keys", "table_name")
        )
        # Rows come newest first, so that the first of a table is its last state.
        newest: dict[str, list[str]] = {}
        for row in log.rows:
            newest.setdefault(row[table], row)
        differing = sorted(name for name, row in newest.items() if row[keys] != "0")
        tables = text.count(len(newest), "table")
        if not differing:
            return (
                f"{tables} compared, last at {log.rows[0][when]} UTC, no key differs."
            )
        return f"{len(differing)} of {tables} differ: {text.joined(differing)}."


def read(reader: Reader, prefix: str) -> Status:
    """Ask the warehouse; what is not there yet stays empty.

    Raises:
        ServiceError: the server went away.
    """
    newest = reader.rows_or_none(
        "select max(date_day) as newest from "
        f"{prefix}marts.interaction_trend_daily where interactions > 0"
    )
    known = newest is not None and len(newest) and pd.notna(newest["newest"].iloc[0])
    return Status(
        newest_event=(
            text.day(newest["newest"].iloc[0]) if known and newest is not None else None
        ),
        counts=_counts(reader, prefix),
        runs=log(reader, f"{prefix}ops.runs"),
        publishes=log(reader, f"{prefix}ops.publish_events"),
        ingests=log(reader, f"{prefix}ops.ingest_runs"),
        reconciliations=log(reader, f"{prefix}ops.reconciliations"),
    )


def _counts(reader: Reader, prefix: str) -> list[tuple[str, int]]:
    """Row counts in one query, or one by one where a relation is not there."""
    every = " union all ".join(_count(name, prefix) for name in _RELATIONS)
    found = reader.rows_or_none(every)
    if found is None:
        single = [reader.rows_or_none(_count(name, prefix)) for name in _RELATIONS]
        present = [rows for rows in single if rows is not None]
        if not present:
            return []
        found = pd.concat(present)
    counted = dict(zip(found["relation"], found["row_count"].astype(int), strict=True))
    return [(name, counted[name]) for name in _RELATIONS if name in counted]


def _count(name: str, prefix: str) -> str:
    return f"select '{name}' as relation, count(*) as row_count from {prefix}{name}"


def log(reader: Reader, relation: str) -> Log | None:
    """The newest rows of a table of `ops`, or None where it is not there yet."""
    described = reader.rows_or_none(f"describe table {relation}")
    if described is None:
        return None
    # A blank name starts the description's part on partitions.
    names = [str(name) for name in described["col_name"]]
    names = names[: names.index("")] if "" in names else names
    names = [name for name in names if not name.startswith("#")]
    newest = next((name for name in _NEWEST_BY if name in names), names[0])
    columns = ", ".join(f"`{name}`" for name in names if name not in _LEFT_OUT)
    rows = reader.rows_or_none(
        f"select {columns} from {relation} order by `{newest}` desc limit {_KEPT}"
    )
    return None if rows is None else as_log(rows)


def as_log(rows: pd.DataFrame) -> Log:
    """A frame as text: times to the second, numbers grouped, nulls blank."""
    return Log(
        columns=[str(name) for name in rows.columns],
        rows=[[_shown(value) for value in row] for row in rows.itertuples(index=False)],
    )


def _shown(value: Any) -> str:
    if (
        value is None
        or value is pd.NaT
        or (isinstance(value, float) and math.isnan(value))
    ):
        return ""
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return text.short(_pairs(str(value)), 160)


def _pairs(value: str) -> str:
    """`ingest 4.1, build 20`, where a value is such a JSON object."""
    if not value.startswith("{"):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return value
    return ", ".join(f"{key} {one}" for key, one in found.items())
