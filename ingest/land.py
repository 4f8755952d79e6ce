"""One table into staging: read at the snapshot, keep what is new, commit once.

Side tables (`__history`, `__rejects`) are written before the table itself: a crash
between leaves them ahead, and the next run, which still has the old watermark, writes
the same rows again; rows of a batch that never landed are removed first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from common.errors import UsageError
from ingest import statements as st
from ingest.bounds import Watermark
from ingest.engine import committing, last_commit, read_source
from ingest.manifest import TableSpec
from ingest.postgres import JdbcAddress, SourceSession
from ingest.split import Split
from ingest.types import Mapping, quote

LIVE = "_cdc_deleted_at IS NULL"
WIDENINGS = {
    ("smallint", "int"), ("smallint", "bigint"), ("int", "bigint"), ("float", "double"),
}  # fmt: skip


@dataclass
class TablePlan:
    """What one run does with one table.

    Attributes:
        spec: the manifest's entry.
        mappings: how each column travels.
        relation: the staging table, quoted.
        lower: cursor bound of this read; None reads everything.
        first: whether the table has never been landed.
        watermark: what the commit will remember.
        estimated_rows: PostgreSQL's own estimate of the whole table.
        rebase: the source went back and all rows are compared on request: the
            watermark must follow even where no row differs.
        query: the SELECT sent to the source.
        split: how the read is divided.
        distinct: columns in which most rows differ.
    """

    spec: TableSpec
    mappings: tuple[Mapping, ...]
    relation: str
    lower: datetime | None
    first: bool
    watermark: Watermark
    estimated_rows: int
    query: str
    split: Split = field(default_factory=Split)
    rebase: bool = False
    distinct: tuple[str, ...] = ()


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
        self.result = TableResult(plan.spec.name)
        self.dropped: dict[str, str] = {}

    def land(self) -> TableResult:
        """Read, land and sweep; the counts of what was done."""
        began = time.monotonic()
        self._prepare()
        self._land_rejects()
        if self.plan.first:
            self._load_everything()
        else:
            self._land_changes()
        if self.plan.rebase:
            self._rebase()
        if self.spec.sweep or self.spec.mode == "full":
            self._sweep()
        self.result.seconds = round(time.monotonic() - began, 2)
        lower = self.plan.watermark.lower
        self.result.watermark = lower.isoformat() if lower else None
        return self.result

    # --- the table itself

    def _prepare(self) -> None:
        columns = [*self.types, *st.CDC_COLUMNS]
        comment = f"{self.schema}.{self.spec.name} of the source, as landed by ingest"
        self.session.sql(
            st.create_table(
                self.plan.relation,
                columns,
                self._partition(),
                comment,
                self.plan.distinct,
            )
        ).collect()
        if not self.plan.first:
            self._evolve()
        if self.spec.history:
            self.session.sql(
                st.create_table(
                    self._side("history"), columns, None,
                    f"Every captured version of {self.spec.name}, append-only",
                    self.plan.distinct,
                )
            ).collect()  # fmt: skip

    def _partition(self) -> str | None:
        return self.spec.partition_by

    def _side(self, kind: str) -> str:
        schema, name = self.plan.relation.rsplit(".", 1)
        return f"{schema}.{st.tick(name.strip('`') + '__' + kind)}"

    def _evolve(self) -> None:
        for relation in [self.plan.relation] + (
            [self._side("history")] if self.spec.history else []
        ):
            if self.session.catalog.tableExists(relation):
                self._evolve_one(relation)

    def _evolve_one(self, relation: str) -> None:
        present = dict(self.session.table(relation).dtypes)
        for name, kind in self.types:
            old = present.get(name)
            if old is None:
                self.session.sql(
                    f"ALTER TABLE {relation} ADD COLUMN {st.tick(name)} {kind}"
                ).collect()
                self.result.notes.append(f"column {name} {kind} added")
            elif old != kind:
                self._widen(relation, name, old, kind)
        known = {name for name, _ in self.types} | {n for n, _ in st.CDC_COLUMNS}
        gone = [name for name in present if name not in known]
        self.dropped = {name: present[name] for name in gone}
        if gone and relation == self.plan.relation:
            self.result.notes.append(
                f"no longer in the source, kept: {', '.join(gone)}"
            )

    def _widen(self, relation: str, name: str, old: str, new: str) -> None:
        if (old, new) not in WIDENINGS and not _wider_decimal(old, new):
            raise UsageError(
                f"{self.spec.name}.{name} was {old} in staging and is now {new} in "
                "the source: not a widening",
                "override the type in the manifest's `columns`, or drop the staging "
                "table and ingest it anew",
            )
        self.session.sql(
            f"ALTER TABLE {relation} ALTER COLUMN {st.tick(name)} TYPE {new}"
        ).collect()
        self.result.notes.append(f"column {name} widened from {old} to {new}")

    def _load_everything(self) -> None:
        rows = self._stamped(self._read(self.plan.query, self.plan.split))
        if self.spec.history:
            self._drop_unlanded_history(None)
            rows = rows.persist()
            if not rows.isEmpty():
                self._append(rows, self._side("history"))
        with committing(self.session, self.plan.watermark):
            self._append(rows, self.plan.relation, in_place=self.plan.split.in_order)
        summary = last_commit(self.session, self.plan.relation)
        self.result.rows_read = int(summary.get("added-records", 0))
        self.result.rows_inserted = self.result.rows_read
        self.result.bytes_written += int(summary.get("added-files-size", 0))

    def _land_changes(self) -> None:
        rows = self._read(self.plan.query, self.plan.split).persist()
        self.result.rows_read = rows.count()
        if self.result.rows_read:
            self._commit_changes(rows)
        rows.unpersist()

    def _rebase(self) -> None:
        """Commit the watermark alone."""
        nothing = self.session.table(self.plan.relation).limit(0)
        with committing(self.session, self.plan.watermark):
            nothing.writeTo(self.plan.relation).append()

    def _commit_changes(self, rows: Any) -> None:
        """Merge the rows that are new or differ; no commit where none does."""
        target = self.session.table(self.plan.relation)
        if self.spec.mode == "append":
            self._append_new(rows, target)
            return
        names = [name for name, _ in self.types]
        joined = rows.alias("s").join(
            target.alias("t"), on=_expr(st.on_key(self.spec.key)), how="left"
        )
        live = "t._cdc_batch_id IS NOT NULL AND t._cdc_deleted_at IS NULL"
        changed = (
            joined.where(f"NOT ({live}) OR {st.changed(names)}")
            .selectExpr(
                *(f"s.{st.tick(n)} AS {st.tick(n)}" for n in names),
                "t._cdc_batch_id IS NULL AS _is_new",
            )
            .persist()
        )
        counts = changed.groupBy("_is_new").count().collect()
        by_new = {row["_is_new"]: row["count"] for row in counts}
        if by_new:
            self._merge(self._stamped(changed.drop("_is_new")), self.plan.watermark)
        self.result.rows_inserted += by_new.get(True, 0)
        self.result.rows_updated += by_new.get(False, 0)
        changed.unpersist()

    def _append_new(self, rows: Any, target: Any) -> None:
        """Append mode: what the overlap already brought is recognised by its key."""
        cursor = st.tick(str(self.spec.cursor))
        known = target
        if self.plan.lower is not None:
            bound = st.spark_timestamp(self.plan.lower)
            known = target.where(f"{cursor} >= {bound} OR {cursor} IS NULL")
        new = rows.join(
            known.select(*map(st.tick, self.spec.key)),
            on=list(self.spec.key),
            how="left_anti",
        )
        new = self._stamped(
            new.select(*(st.tick(name) for name, _ in self.types))
        ).persist()
        count = new.count()
        if count:
            with committing(self.session, self.plan.watermark):
                self._append(new, self.plan.relation)
            summary = last_commit(self.session, self.plan.relation)
            self.result.bytes_written += int(summary.get("added-files-size", 0))
        self.result.rows_inserted += count
        new.unpersist()

    def _merge(self, changes: Any, watermark: Watermark | None) -> None:
        """Upsert by key in one commit; history first."""
        if self.spec.history:
            self._drop_unlanded_history(self._landed_until())
            self._append(changes, self._side("history"))
        view = "changes_now"
        changes.createOrReplaceTempView(view)
        columns = [st.tick(name) for name in changes.columns]
        names = ", ".join(columns)
        values = ", ".join(f"s.{column}" for column in columns)
        updates = ", ".join(f"t.{column} = s.{column}" for column in columns)
        with committing(self.session, watermark):
            self.session.sql(
                f"MERGE INTO {self.plan.relation} t USING {st.tick(view)} s "
                f"ON {st.on_key(self.spec.key)} "
                f"WHEN MATCHED THEN UPDATE SET {updates} "
                f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
            ).collect()
        summary = last_commit(self.session, self.plan.relation)
        self.result.bytes_written += int(summary.get("added-files-size", 0))
        self.session.catalog.dropTempView(view)

    def _append(self, rows: Any, relation: str, in_place: bool = False) -> None:
        """Append; columns the source has dropped stay in staging and take nulls.

        `in_place` writes rows in the tasks that have them, instead of sending them
        to their partitions first; either way each task sorts by partition.
        """
        nulls = [
            f"cast(null AS {kind}) AS {st.tick(n)}" for n, kind in self.dropped.items()
        ]
        writer = rows.selectExpr("*", *nulls).writeTo(relation)
        if in_place:
            writer = writer.option("distribution-mode", "none")
        writer.append()

    def _landed_until(self) -> str | None:
        row = self.session.sql(
            f"SELECT cast(max(_cdc_loaded_at) AS string) AS at FROM {self.plan.relation}"
        ).collect()[0]
        return row["at"]  # type: ignore[no-any-return]

    def _drop_unlanded_history(self, landed_until: str | None) -> None:
        """Remove history rows of a batch that died before its table's commit."""
        after = (
            f"_cdc_loaded_at > timestamp '{landed_until}'" if landed_until else "true"
        )
        history = self._side("history")
        if self.session.sql(f"SELECT 1 FROM {history} WHERE {after} LIMIT 1").collect():
            self.session.sql(f"DELETE FROM {history} WHERE {after}").collect()

    # --- deletes

    def _sweep(self) -> None:
        """Compare key sets at the snapshot; mark what is gone, fetch what was missed."""
        if self._fingerprint_source() == self._fingerprint_staging():
            return
        types = [(n, k) for n, k in self.types if n in self.spec.key]
        order = {name: i for i, name in enumerate(self.spec.key)}
        types.sort(key=lambda pair: order[pair[0]])
        query = st.select_keys(
            self.schema, self.spec.name, self.spec.key, self.plan.mappings
        )
        keys = read_source(
            self.session, self.address, self.source.snapshot_id, query, types
        ).persist()
        target = self.session.table(self.plan.relation).where(LIVE)
        gone = target.join(keys, on=list(self.spec.key), how="left_anti")
        gone = gone.select(*(st.tick(name) for name, _ in self.types)).persist()
        self.result.rows_deleted = gone.count()
        if self.result.rows_deleted:
            self._merge(self._stamped(gone, deleted=True), None)
        missed = keys.join(
            target.select(*map(st.tick, self.spec.key)),
            on=list(self.spec.key),
            how="left_anti",
        ).persist()
        if not missed.isEmpty():
            whole = st.select_rows(
                self.schema, self.spec.name, self.plan.mappings, "true"
            )
            rows = self._read(whole).join(
                missed, on=list(self.spec.key), how="left_semi"
            )
            self._commit_changes(rows.persist())
        for frame in (keys, gone, missed):
            frame.unpersist()

    def _fingerprint_source(self) -> tuple[int, ...]:
        by_name = {m.column: m for m in self.plan.mappings}
        hashed = st.key_hash(
            [by_name[c].spark_type for c in self.spec.key],
            [quote(c) for c in self.spec.key],
            "postgres",
        )
        condition = f"NOT ({st.unfit(self.plan.mappings)})"
        row = self.source.rows(
            f"SELECT count(*), coalesce(sum(h), 0), coalesce(sum(h * h % 2147483647), 0) FROM "
            f"(SELECT {hashed} AS h FROM {quote(self.schema)}.{quote(self.spec.name)} WHERE {condition}) q"
        )[0]
        return tuple(int(value) for value in row)

    def _fingerprint_staging(self) -> tuple[int, ...]:
        kinds = dict(self.types)
        hashed = st.key_hash(
            [kinds[c] for c in self.spec.key],
            [st.tick(c) for c in self.spec.key],
            "spark",
        )
        row = self.session.sql(
            f"SELECT count(*), coalesce(sum(cast(h AS decimal(38,0))), 0), "
            f"coalesce(sum(cast(h * h % 2147483647 AS decimal(38,0))), 0) FROM "
            f"(SELECT {hashed} AS h FROM {self.plan.relation} WHERE {LIVE})"
        ).collect()[0]
        return tuple(int(value) for value in row)

    # --- rejects

    def _land_rejects(self) -> None:
        """Make `__rejects` hold exactly the rows that cannot be represented now."""
        window = st.window(self.spec.cursor, self.plan.lower)
        new = st.select_rejects(
            self.schema, self.spec.name, self.spec.key, self.plan.mappings, window
        )
        relation = self._side("rejects")
        columns = [(n, "string") for n in ("key", "column_name", "raw_value", "reason")]
        self.session.sql(
            st.create_table(
                relation,
                [*columns, *st.CDC_COLUMNS[:2]],
                None,
                f"Rows of {self.spec.name} that cannot be represented",
            )
        ).collect()
        if new is None:
            return
        held = self.session.table(relation)
        if not self.source.count(new) and held.isEmpty():
            return
        everything = st.select_rejects(
            self.schema, self.spec.name, self.spec.key, self.plan.mappings, "true"
        )
        found = read_source(
            self.session,
            self.address,
            self.source.snapshot_id,
            str(everything),
            columns,
        )
        names = [name for name, _ in columns]
        stamped = (
            found.join(
                held.select(*names, "_cdc_batch_id", "_cdc_loaded_at"),
                on=names,
                how="left",
            )
            .selectExpr(
                *(st.tick(n) for n in names),
                f"coalesce(_cdc_batch_id, {st.spark_literal(self.plan.watermark.batch)}) AS _cdc_batch_id",
                f"coalesce(_cdc_loaded_at, {st.spark_timestamp(self.plan.watermark.loaded_at)}) AS _cdc_loaded_at",
            )
            .persist()
        )
        self.result.rows_rejected = stamped.where(
            f"_cdc_batch_id = {st.spark_literal(self.plan.watermark.batch)}"
        ).count()
        if self.result.rows_rejected or stamped.count() != held.count():
            stamped.createOrReplaceTempView("rejects_now")
            self.session.sql(
                f"INSERT OVERWRITE {relation} SELECT * FROM rejects_now"
            ).collect()
        stamped.unpersist()

    # --- shared

    def _read(self, query: str, split: Split | None = None) -> Any:
        return read_source(
            self.session,
            self.address,
            self.source.snapshot_id,
            query,
            self.types,
            split.ranges if split else (),
        )

    def _stamped(self, rows: Any, deleted: bool = False) -> Any:
        """The rows with the batch's columns, in the table's own column order."""
        mark = self.plan.watermark
        loaded = st.spark_timestamp(mark.loaded_at)
        return rows.selectExpr(
            *(st.tick(name) for name, _ in self.types),
            f"{st.spark_literal(mark.batch)} AS _cdc_batch_id",
            f"{loaded} AS _cdc_loaded_at",
            f"{loaded if deleted else 'cast(null AS timestamp)'} AS _cdc_deleted_at",
        )


def _expr(text: str) -> Any:
    from pyspark.sql.connect.functions import expr

    return expr(text)


def _wider_decimal(old: str, new: str) -> bool:
    import re

    pattern = re.compile(r"decimal\((\d+),(\d+)\)")
    was, now = pattern.fullmatch(old), pattern.fullmatch(new)
    if not was or not now:
        return False
    return was.group(2) == now.group(2) and int(now.group(1)) >= int(was.group(1))
