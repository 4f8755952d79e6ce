"""One table into staging: read at the snapshot, keep what differs, commit with the bound.

Side tables (`__history`, `__rejects`) are written before the table itself: a crash
between leaves them ahead, and the next run, which still has the old watermark, writes
the same rows again; history of a commit that never came is removed first.

A statement of a killed run may still be alive on the engine and commit late. Nothing
doubles: the first load replaces all rows, and every later commit is a MERGE by key,
which Iceberg refuses where the rows it looked at have changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from ingest import statements as st
from ingest import sweep
from ingest.bounds import Watermark
from ingest.engine import Reading, committing, last_commit, read_source
from ingest.evolve import Evolution, evolve
from ingest.plan import TablePlan
from ingest.postgres import JdbcAddress, SourceSession, Window
from ingest.rejects import Rejects
from ingest.remembered import Remembered
from ingest.split import Split
from ingest.types import quote

LIVE = "_cdc_deleted_at IS NULL"


@dataclass
class TableResult:
    """What one run did with one table; counts are rows."""

    table: str
    rows_read: int = 0
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_deleted: int = 0
    rows_rejected: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    watermark: str | None = None
    notes: list[str] = field(default_factory=list)


class Lander:
    """Lands one table within one run."""

    def __init__(
        self,
        open_session: Callable[[], Any],
        source: SourceSession,
        address: JdbcAddress,
        schema: str,
        plan: TablePlan,
        remembered: Remembered,
        reading: Reading,
    ) -> None:
        self.open_session, self.source, self.address = open_session, source, address
        self.schema, self.plan, self.remembered = schema, plan, remembered
        self.reading = reading
        self.spec = plan.spec
        self.types = [(m.column, m.spark_type) for m in plan.mappings]
        self.result = TableResult(plan.spec.name, notes=list(plan.notes))
        self.evolution = Evolution()
        self.rejects = Rejects(
            self._ready_session, source, address, schema, plan, self._side("rejects")
        )
        self.ready, self.commits, self.snapshot = False, 0, plan.landed.snapshot

    @cached_property
    def session(self) -> Any:
        """The engine's; opened when there is something for it to do."""
        return self.open_session()

    def land(self) -> TableResult:
        """Read, land and sweep; the counts of what was done."""
        began = time.monotonic()
        if not self.plan.settled:
            self._prepare()
        window = self._ask_source()
        self.reading.expect(window.fit, self.plan.split.tasks)
        self.result.rows_rejected = self.rejects.refresh(window.unfit)
        if self.plan.first:
            self._load_everything(window)
        elif window.fit or self.plan.complete:
            self._land_changes(window)
        if window.unfit and not (
            self.plan.complete or self.plan.first or self.spec.sweep
        ):
            self._retire_rejected()
        if self.spec.sweep and not self.plan.complete:
            self._sweep()
        if self.plan.remark and not self.commits:
            self._remark()
        self.result.seconds = round(time.monotonic() - began, 2)
        lower = self.plan.watermark.lower
        self.result.watermark = (
            lower.isoformat() if isinstance(lower, datetime)
            else None if lower is None
            else str(lower)
        )  # fmt: skip
        return self.result

    # --- the table itself

    def _ask_source(self) -> Window:
        """How much there is to read: often nothing, and then the engine has no work."""
        first = self.spec.key[0]
        whole = first if dict(self.types)[first] in st.INTEGERS else None
        return self.source.count_window(
            st.count_window(
                self.schema, self.spec.name, self.plan.mappings, self.plan.window, whole
            )
        )

    def _ready_session(self) -> Any:
        """The engine's session, staging's tables made and altered where need be."""
        if not self.ready:
            self._prepare()
        return self.session

    def _prepare(self) -> None:
        self.ready = True
        columns = [*self.types, *st.CDC_COLUMNS]
        comment = f"{self.schema}.{self.spec.name} of the source, as landed by ingest"
        plain = self.plan.distinct
        self._sql(
            st.create_table(
                self.plan.relation, columns, self.spec.partition, comment, plain
            )
        )
        self.evolution = self._evolve(self.plan.relation)
        self.result.notes += self.evolution.notes
        if self.spec.history:
            history = self._side("history")
            comment = f"Every captured version of {self.spec.name}, append-only"
            self._sql(st.create_table(history, columns, None, comment, plain))
            self._evolve(history)
            self._drop_unlanded_history()
        self.rejects.prepare(self.session)

    def _evolve(self, relation: str) -> Evolution:
        present = dict(self.session.table(relation).dtypes)
        found = evolve(self.spec.name, present, self.types)
        for action in found.actions:
            self._sql(f"ALTER TABLE {relation} {action}")
        return found

    def _side(self, kind: str) -> str:
        schema, name = self.plan.relation.rsplit(".", 1)
        return f"{schema}.{st.tick(name.strip('`') + '__' + kind)}"

    def _load_everything(self, window: Window) -> None:
        """The first load replaces whatever a killed one may still bring."""
        read = self._read(self.plan.window, self.plan.split, window.old)
        rows = self._stamped(read)
        if self.spec.history:
            rows = rows.persist()
            if not rows.isEmpty():
                self._append(rows, self._side("history"))
        with committing(self.session, self._mark()):
            writer = self._with_kept(rows).writeTo(self.plan.relation)
            if self.plan.split.in_order:
                # Written by the tasks that have the rows, each sorting by partition,
                # instead of sending them to their partitions first.
                writer = writer.option("distribution-mode", "none")
            writer.overwrite(_expr("true"))
        if self.spec.history:
            # The engine outlives the session, and would keep the rows.
            rows.unpersist()
        summary = self._committed()
        self.result.rows_read = int(summary.get("added-records", 0))
        self.result.rows_inserted = self.result.rows_read
        self.result.bytes_written += int(summary.get("added-files-size", 0))

    def _land_changes(self, window: Window) -> None:
        session = self._ready_session()
        rows = self._read(self.plan.window, self.plan.split, window.old)
        self.result.rows_read += window.fit
        target = session.table(self.plan.relation)
        if self.plan.complete:
            self._commit_changes(rows, target, complete=True)
        else:
            self._commit_changes(rows, target.where(self._between(window.extent)))

    def _remark(self) -> None:
        """Commit the watermark alone."""
        nothing = self._ready_session().table(self.plan.relation).limit(0)
        with committing(self.session, self._mark()):
            nothing.writeTo(self.plan.relation).append()
        self.commits += 1

    def _commit_changes(self, rows: Any, target: Any, complete: bool = False) -> None:
        """Merge the rows that are new or differ; no commit where none does.

        Args:
            rows: rows of the source.
            target: the staged rows with which they may share a key.
            complete: whether `rows` has every row that the source has of the keys of
                `target`, so that a staged row without one is gone.
        """
        names = [name for name, _ in self.types]
        joined = rows.alias("s").join(
            target.alias("t"), on=_expr(st.on_key(self.spec.key)),
            how="full" if complete else "left",
        )  # fmt: skip
        key = st.tick(self.spec.key[0])
        live = "t._cdc_batch_id IS NOT NULL AND t._cdc_deleted_at IS NULL"
        gone = f"s.{key} IS NULL"
        changed = (
            joined.where(
                f"CASE WHEN {gone} THEN {live} "
                f"ELSE NOT ({live}) OR {st.changed(self._compared(complete))} END"
            )
            .selectExpr(
                *(
                    f"if({gone}, t.{st.tick(n)}, s.{st.tick(n)}) AS {st.tick(n)}"
                    for n in names
                ),
                f"CASE WHEN {gone} THEN 'deleted' WHEN t._cdc_batch_id IS NULL "
                "THEN 'inserted' ELSE 'updated' END AS _cdc_change",
            )
            .persist()
        )
        extent = self._extent_of_key()
        counted = changed.groupBy("_cdc_change").agg(_expr("count(*) AS n"), *extent)
        kinds = {row["_cdc_change"]: row for row in counted.collect()}
        counts = {kind: row["n"] for kind, row in kinds.items()}
        if counts:
            keys = self._between_all(kinds.values())
            self._merge(self._stamped(changed, "_cdc_change = 'deleted'"), keys)
        self.result.rows_inserted += counts.get("inserted", 0)
        self.result.rows_updated += counts.get("updated", 0)
        self.result.rows_deleted += counts.get("deleted", 0)
        changed.unpersist()

    def _compared(self, complete: bool) -> list[str]:
        """The columns that tell whether a row changed.

        In mode append it is the cursor alone: rows of that mode do not change, and
        reading their other columns would cost what the mode is there to save.
        """
        cursor = self.spec.cursor
        if self.spec.mode == "append" and cursor and not complete and self.plan.lower:
            return [cursor]
        return [name for name, _ in self.types]

    def _extent_of_key(self) -> list[Any]:
        """Aggregates that give the least and greatest of an integer key."""
        first = self.spec.key[0]
        whole = dict(self.types)[first] in st.INTEGERS
        name = st.tick(first) if whole else "cast(null AS bigint)"
        return [_expr(f"min({name}) AS low"), _expr(f"max({name}) AS high")]

    def _between_all(self, rows: Iterable[Any]) -> str:
        """The condition on staging that the keys of counted changes allow."""
        ends = [(row["low"], row["high"]) for row in rows if row["low"] is not None]
        if not ends:
            return "true"
        return self._between((min(a for a, _ in ends), max(b for _, b in ends)))

    def _between(self, extent: tuple[int, int] | None) -> str:
        if extent is None:
            return "true"
        return f"{st.tick(self.spec.key[0])} BETWEEN {extent[0]} AND {extent[1]}"

    def _merge(self, changes: Any, keys: str) -> None:
        """Upsert by key in one commit with the watermark; history first.

        Args:
            changes: the rows, stamped.
            keys: condition on staging that all their keys meet.
        """
        if self.spec.history:
            self._append(changes, self._side("history"))
        view = "changes_now"
        changes.createOrReplaceTempView(view)
        columns = [st.tick(name) for name in changes.columns]
        names = ", ".join(columns)
        values = ", ".join(f"s.{column}" for column in columns)
        updates = ", ".join(f"t.{column} = s.{column}" for column in columns)
        on = st.on_key(self.spec.key)
        on += f" AND t.{keys}" if keys != "true" else ""
        with committing(self.session, self._mark()):
            self._sql(
                f"MERGE INTO {self.plan.relation} t USING {st.tick(view)} s "
                f"ON {on} "
                f"WHEN MATCHED THEN UPDATE SET {updates} "
                f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
            )
        summary = self._committed()
        self.result.bytes_written += int(summary.get("added-files-size", 0))
        self.session.catalog.dropTempView(view)

    def _committed(self) -> dict[str, str]:
        """Take note of a commit just made; its summary."""
        self.commits += 1
        self.snapshot, summary = last_commit(self.session, self.plan.relation)
        return summary

    def _append(self, rows: Any, relation: str) -> None:
        self._with_kept(rows).writeTo(relation).append()

    def _with_kept(self, rows: Any) -> Any:
        """Columns the source has dropped stay in staging and take nulls."""
        kept = self.evolution.kept.items()
        nulls = [f"cast(null AS {kind}) AS {st.tick(name)}" for name, kind in kept]
        return rows.selectExpr("*", *nulls)

    def _drop_unlanded_history(self) -> None:
        """Remove history rows of a commit that died before its table's own."""
        history = self._side("history")
        until = self.plan.landed_until
        after = f"_cdc_loaded_at > {st.spark_timestamp(until)}" if until else "true"
        if until is None and not self.plan.first:
            after = (
                "_cdc_loaded_at > (SELECT coalesce(max(_cdc_loaded_at), timestamp '1970-01-01') "
                f"FROM {self.plan.relation})"
            )
        if self._sql(f"SELECT 1 FROM {history} WHERE {after} LIMIT 1"):
            self._sql(f"DELETE FROM {history} WHERE {after}")

    # --- deletes

    def _sweep(self) -> None:
        """Compare key sets at the snapshot; read again the ranges that differ."""
        key, mappings = self.spec.key, self.plan.mappings
        kinds = dict(self.types)
        whole = kinds[key[0]] in st.INTEGERS
        table = f"{quote(self.schema)}.{quote(self.spec.name)}"
        ranges = sweep.divide(
            key, kinds,
            self.source.extent(self.schema, self.spec.name, key[0]) if whole else None,
        )  # fmt: skip
        fit = f"NOT ({st.unfit(mappings)})"
        theirs = _counts(
            self.source.rows(self._fingerprint(ranges, table, fit, "postgres"))
        )
        ours = self._staged_counts(ranges)
        apart = [b for b in ours.keys() | theirs.keys() if ours.get(b) != theirs.get(b)]
        if apart:
            session = self._ready_session()
            inside = sweep.differing(ranges, key, mappings, apart, "postgres")
            self.result.rows_read += sum(theirs[b][0] for b in apart if b in theirs)
            scope = sweep.differing(ranges, key, mappings, apart, "spark")
            target = session.table(self.plan.relation).where(scope)
            self._commit_changes(
                self._read(inside, Split(), True), target, complete=True
            )
        if self.rejects.possible:
            total = self.source.count(f"SELECT 1 FROM {table}")
            unfit = total - sum(n for n, _, _ in theirs.values())
            self.result.rows_rejected += self.rejects.follow(unfit, bool(apart))

    def _staged_counts(self, ranges: sweep.Ranges) -> sweep.Counts:
        """Staging's side, which is counted once a snapshot."""
        statement = self._fingerprint(ranges, self.plan.relation, LIVE, "spark")
        found = self.remembered.recall(self.snapshot, statement)
        if found is None:
            found = _counts(self._sql(statement))
            if self.snapshot is not None:
                self.remembered.keep(self.snapshot, statement, found)
        return found

    def _fingerprint(
        self, ranges: sweep.Ranges, relation: str, condition: str, side: str
    ) -> str:
        cursor = self.spec.cursor
        if cursor and cursor in self.spec.columns:
            cursor = None
        return sweep.fingerprint(
            ranges, self.spec.key, cursor, self.plan.mappings, relation, condition, side
        )

    def _retire_rejected(self) -> None:
        """A row that was landed and can no longer be represented is in the rejects
        alone: its old version in staging is marked like a deleted one."""
        target = self._ready_session().table(self.plan.relation).where(LIVE)
        keys = self.rejects.keys()
        condition = _expr(st.on_key(self.spec.key, "k", "t"))
        stale = target.alias("t").join(keys.alias("k"), on=condition, how="left_semi")
        stale = stale.select(*(st.tick(name) for name, _ in self.types)).persist()
        found = stale.agg(_expr("count(*) AS n"), *self._extent_of_key()).collect()
        count = found[0]["n"]
        if count:
            self._merge(self._stamped(stale, "true"), self._between_all(found))
            self.result.rows_deleted += count
        stale.unpersist()

    # --- shared

    def _sql(self, statement: str) -> list[Any]:
        return self.session.sql(statement).collect()  # type: ignore[no-any-return]

    def _read(self, condition: str, split: Split, exact: bool) -> Any:
        """Rows of the source, lazily.

        Args:
            condition: which rows, in the source's dialect.
            split: how the read is divided.
            exact: whether there may be moments before `statements.OLD`.
        """
        query = st.select_rows(
            self.schema,
            self.spec.name,
            self.plan.mappings,
            condition,
            split.by_page,
            exact,
        )
        return read_source(
            self.session, self.address, self.source.snapshot_id, query, self.types,
            split, exact,
        )  # fmt: skip

    def _mark(self) -> Watermark:
        """The watermark of this run's next commit; each commit has its own moment."""
        return replace(
            self.plan.watermark,
            loaded_at=self.plan.watermark.loaded_at
            + timedelta(microseconds=self.commits),
        )

    def _stamped(self, rows: Any, deleted: str = "false") -> Any:
        """The rows with the batch's columns, in the table's own column order.

        Args:
            rows: has the source's columns.
            deleted: condition for a row that the source no longer has.
        """
        loaded = st.spark_timestamp(self._mark().loaded_at)
        return rows.selectExpr(
            *(st.tick(name) for name, _ in self.types),
            f"{st.spark_literal(self.plan.watermark.batch)} AS _cdc_batch_id",
            f"{loaded} AS _cdc_loaded_at",
            f"if({deleted}, {loaded}, cast(null AS timestamp)) AS _cdc_deleted_at",
        )


def _counts(rows: Sequence[tuple[Any, ...]]) -> sweep.Counts:
    return {int(b): (int(n), int(s), int(t)) for b, n, s, t in rows}


def _expr(text: str) -> Any:
    from pyspark.sql.connect.functions import expr

    return expr(text)
