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
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ingest import statements as st
from ingest import sweep
from ingest.bounds import Watermark
from ingest.engine import committing, last_commit, read_source
from ingest.evolve import Evolution, evolve
from ingest.plan import TablePlan
from ingest.postgres import JdbcAddress, SourceSession
from ingest.rejects import Rejects
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
        session: Any,
        source: SourceSession,
        address: JdbcAddress,
        schema: str,
        plan: TablePlan,
    ) -> None:
        self.session, self.source, self.address = session, source, address
        self.schema, self.plan = schema, plan
        self.spec = plan.spec
        self.types = [(m.column, m.spark_type) for m in plan.mappings]
        self.result = TableResult(plan.spec.name, notes=list(plan.notes))
        self.evolution = Evolution()
        self.rejects = Rejects(
            session, source, address, schema, plan, self._side("rejects")
        )
        self.commits = 0

    def land(self) -> TableResult:
        """Read, land and sweep; the counts of what was done."""
        began = time.monotonic()
        self._prepare()
        self.result.rows_rejected = self.rejects.refresh()
        if self.plan.first:
            self._load_everything()
        else:
            self._land_changes()
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

    def _prepare(self) -> None:
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
        self.rejects.prepare()

    def _evolve(self, relation: str) -> Evolution:
        present = dict(self.session.table(relation).dtypes)
        found = evolve(self.spec.name, present, self.types)
        for action in found.actions:
            self._sql(f"ALTER TABLE {relation} {action}")
        return found

    def _side(self, kind: str) -> str:
        schema, name = self.plan.relation.rsplit(".", 1)
        return f"{schema}.{st.tick(name.strip('`') + '__' + kind)}"

    def _load_everything(self) -> None:
        """The first load replaces whatever a killed one may still bring."""
        rows = self._stamped(self._read(self.plan.query, self.plan.split))
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
        self.commits += 1
        summary = last_commit(self.session, self.plan.relation)
        self.result.rows_read = int(summary.get("added-records", 0))
        self.result.rows_inserted = self.result.rows_read
        self.result.bytes_written += int(summary.get("added-files-size", 0))

    def _land_changes(self) -> None:
        rows = self._read(self.plan.query, self.plan.split).persist()
        scope = "true" if self.plan.complete else None
        self._commit_changes(rows, scope)
        rows.unpersist()
        if self.rejects.in_window and scope is None and not self.spec.sweep:
            self._retire_rejected()

    def _remark(self) -> None:
        """Commit the watermark alone."""
        nothing = self.session.table(self.plan.relation).limit(0)
        with committing(self.session, self._mark()):
            nothing.writeTo(self.plan.relation).append()
        self.commits += 1

    def _commit_changes(self, rows: Any, scope: str | None) -> None:
        """Merge the rows that are new or differ; no commit where none does.

        Args:
            rows: rows of the source, persisted.
            scope: condition on keys for which `rows` has every row the source has,
                so that a staged row without one is gone; None where it has not.
        """
        read, keys = self._extent(rows)
        self.result.rows_read += read
        if not read and scope is None:
            return
        target = self.session.table(self.plan.relation)
        target = target.where(scope if scope is not None else keys)
        names = [name for name, _ in self.types]
        joined = rows.alias("s").join(
            target.alias("t"), on=_expr(st.on_key(self.spec.key)),
            how="left" if scope is None else "full",
        )  # fmt: skip
        key = st.tick(self.spec.key[0])
        live = "t._cdc_batch_id IS NOT NULL AND t._cdc_deleted_at IS NULL"
        gone = f"s.{key} IS NULL"
        changed = (
            joined.where(
                f"CASE WHEN {gone} THEN {live} "
                f"ELSE NOT ({live}) OR {st.changed(self._compared(scope))} END"
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
        counts = {
            row["_cdc_change"]: row["count"]
            for row in changed.groupBy("_cdc_change").count().collect()
        }
        if counts:
            self._merge(self._stamped(changed, "_cdc_change = 'deleted'"))
        self.result.rows_inserted += counts.get("inserted", 0)
        self.result.rows_updated += counts.get("updated", 0)
        self.result.rows_deleted += counts.get("deleted", 0)
        changed.unpersist()

    def _compared(self, scope: str | None) -> list[str]:
        """The columns that tell whether a row changed.

        In mode append it is the cursor alone: rows of that mode do not change, and
        reading their other columns would cost what the mode is there to save.
        """
        cursor = self.spec.cursor
        if self.spec.mode == "append" and cursor and scope is None and self.plan.lower:
            return [cursor]
        return [name for name, _ in self.types]

    def _extent(self, rows: Any) -> tuple[int, str]:
        """Number of rows, and the condition on staging that their keys allow."""
        first = self.spec.key[0]
        if dict(self.types)[first] not in st.INTEGERS:
            return int(rows.count()), "true"
        name = st.tick(first)
        found = rows.selectExpr(
            "count(*) AS n", f"min({name}) AS low", f"max({name}) AS high"
        ).collect()[0]
        return found[
            "n"
        ], f"{name} BETWEEN {found['low'] or 0} AND {found['high'] or 0}"

    def _merge(self, changes: Any) -> None:
        """Upsert by key in one commit with the watermark; history first."""
        if self.spec.history:
            self._append(changes, self._side("history"))
        view = "changes_now"
        changes.createOrReplaceTempView(view)
        columns = [st.tick(name) for name in changes.columns]
        names = ", ".join(columns)
        values = ", ".join(f"s.{column}" for column in columns)
        updates = ", ".join(f"t.{column} = s.{column}" for column in columns)
        on = st.on_key(self.spec.key)
        _, keys = self._extent(changes)
        on += f" AND t.{keys}" if keys != "true" else ""
        with committing(self.session, self._mark()):
            self._sql(
                f"MERGE INTO {self.plan.relation} t USING {st.tick(view)} s "
                f"ON {on} "
                f"WHEN MATCHED THEN UPDATE SET {updates} "
                f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
            )
        self.commits += 1
        summary = last_commit(self.session, self.plan.relation)
        self.result.bytes_written += int(summary.get("added-files-size", 0))
        self.session.catalog.dropTempView(view)

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
        theirs = self._counts(self.source.rows, ranges, table, fit, "postgres")
        ours = self._counts(self._sql, ranges, self.plan.relation, LIVE, "spark")
        apart = [b for b in ours.keys() | theirs.keys() if ours.get(b) != theirs.get(b)]
        if apart:
            inside = sweep.differing(ranges, key, mappings, apart, "postgres")
            query = st.select_rows(self.schema, self.spec.name, mappings, inside)
            rows = self._read(query).persist()
            scope = sweep.differing(ranges, key, mappings, apart, "spark")
            self._commit_changes(rows, scope)
            rows.unpersist()
        if self.rejects.possible:
            unfit = self.source.count(f"SELECT 1 FROM {table} WHERE NOT ({fit})")
            self.result.rows_rejected += self.rejects.follow(unfit)

    def _counts(
        self, run: Any, ranges: sweep.Ranges, relation: str, condition: str, side: str
    ) -> sweep.Counts:
        cursor = self.spec.cursor
        if cursor and cursor in self.spec.columns:
            cursor = None
        rows = run(
            sweep.fingerprint(
                ranges, self.spec.key, cursor, self.plan.mappings,
                relation, condition, side,
            )
        )  # fmt: skip
        return {int(b): (int(n), int(s), int(t)) for b, n, s, t in rows}

    def _retire_rejected(self) -> None:
        """A row that was landed and can no longer be represented is in the rejects
        alone: its old version in staging is marked like a deleted one."""
        target = self.session.table(self.plan.relation).where(LIVE)
        keys = self.rejects.keys()
        condition = _expr(st.on_key(self.spec.key, "k", "t"))
        stale = target.alias("t").join(keys.alias("k"), on=condition, how="left_semi")
        stale = stale.select(*(st.tick(name) for name, _ in self.types)).persist()
        count = stale.count()
        if count:
            self._merge(self._stamped(stale, "true"))
            self.result.rows_deleted += count
        stale.unpersist()

    # --- shared

    def _sql(self, statement: str) -> list[Any]:
        return self.session.sql(statement).collect()  # type: ignore[no-any-return]

    def _read(self, query: str, split: Split | None = None) -> Any:
        return read_source(
            self.session,
            self.address,
            self.source.snapshot_id,
            query,
            self.types,
            split.ranges if split else (),
        )

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


def _expr(text: str) -> Any:
    from pyspark.sql.connect.functions import expr

    return expr(text)
