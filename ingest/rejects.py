"""`<table>__rejects`: the source's rows that cannot be represented, as they are now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ingest import statements as st
from ingest.engine import read_source
from ingest.plan import TablePlan
from ingest.postgres import JdbcAddress, SourceSession
from ingest.types import quote

ASKED_BY_KEY = 10_000
COLUMNS = [(name, "string") for name in ("key", "column_name", "raw_value", "reason")]


class Rejects:
    """The rejects of one table within one run."""

    def __init__(
        self,
        ready_session: Callable[[], Any],
        source: SourceSession,
        address: JdbcAddress,
        schema: str,
        plan: TablePlan,
        relation: str,
    ) -> None:
        self.ready_session, self.source, self.address = ready_session, source, address
        self.schema, self.plan, self.relation = schema, plan, relation
        self.spec = plan.spec
        self.possible = st.unfit(plan.mappings) != "false"
        self.current = False

    def prepare(self, session: Any) -> None:
        """Make the table where there is none."""
        session.sql(
            st.create_table(
                self.relation,
                [*COLUMNS, *st.CDC_COLUMNS[:2]],
                None,
                f"Rows of {self.plan.spec.name} that cannot be represented",
            )
        ).collect()

    def refresh(self, unfit_rows: int) -> int:
        """Follow the source; the number of rejects that are new.

        The whole table is asked only where this read has rows that are unfit, or
        rows that were rejected and are not any more.

        Args:
            unfit_rows: how many rows of this read are unfit.
        """
        if unfit_rows or (self.plan.rejected and self._any_mended()):
            return self._replace()
        return 0

    def follow(self, unfit_rows: int, moved: bool) -> int:
        """The same where the whole table was counted.

        Args:
            unfit_rows: how many of its rows are unfit.
            moved: whether its rows are not those of the last run.
        """
        agree = unfit_rows == self.plan.rejected and not (moved and unfit_rows)
        return 0 if self.current or agree else self._replace()

    def _any_mended(self) -> bool:
        """Whether rows of this read, none of them unfit, were rejected before.

        A row of a swept table is found by the sweep, and one that left its table
        without a trace by nothing else.
        """
        if self.plan.lower is None:
            return True
        if self.spec.sweep:
            return False
        if self.plan.rejected > ASKED_BY_KEY:
            return True
        held = self.ready_session().table(self.relation).select("key").collect()
        keys = ", ".join(sorted({st.literal(row.key) for row in held if row.key}))
        return bool(
            self.source.count(
                f"SELECT 1 FROM {quote(self.schema)}.{quote(self.spec.name)} WHERE "
                f"{self.plan.window} AND {st.record_key(self.spec.key)} IN ({keys})"
            )
            if keys
            else False
        )

    def keys(self) -> Any:
        """Keys of rows in this read that cannot be represented, though they can."""
        keyed = [m for m in self.plan.mappings if m.column in self.spec.key]
        query = st.select_rejected_keys(
            self.schema, self.plan.spec.name, self.plan.spec.key,
            self.plan.mappings, self.plan.window,
        )  # fmt: skip
        return read_source(
            self.ready_session(), self.address, self.source.snapshot_id, query,
            [(m.column, m.spark_type) for m in keyed], exact=True,
        )  # fmt: skip

    def _query(self, condition: str) -> str:
        spec = self.spec
        return str(
            st.select_rejects(
                self.schema, spec.name, spec.key, self.plan.mappings, condition
            )
        )

    def _replace(self) -> int:
        """Write what cannot be represented now; what stays keeps its batch."""
        self.current = True
        session = self.ready_session()
        if not self.possible:
            session.sql(f"DELETE FROM {self.relation}").collect()
            return 0
        held = session.table(self.relation)
        names = [name for name, _ in COLUMNS]
        found = read_source(
            session,
            self.address,
            self.source.snapshot_id,
            self._query("true"),
            COLUMNS,
        )
        batch = st.spark_literal(self.plan.watermark.batch)
        loaded = st.spark_timestamp(self.plan.watermark.loaded_at)
        same = " AND ".join(f"s.{st.tick(n)} <=> h.{st.tick(n)}" for n in names)
        listed = ", ".join(st.tick(name) for name in names)
        found.createOrReplaceTempView("unfit_now")
        rows = session.sql(
            f"SELECT {', '.join('s.' + st.tick(n) for n in names)}, "
            f"coalesce(h._cdc_batch_id, {batch}) AS _cdc_batch_id, "
            f"coalesce(h._cdc_loaded_at, {loaded}) AS _cdc_loaded_at "
            f"FROM unfit_now s LEFT JOIN (SELECT {listed}, min(_cdc_batch_id) AS _cdc_batch_id, "
            f"min(_cdc_loaded_at) AS _cdc_loaded_at FROM {self.relation} GROUP BY {listed}) h "
            f"ON {same}"
        ).persist()
        new = int(rows.where(f"_cdc_batch_id = {batch}").count())
        if new or rows.count() != held.count():
            rows.createOrReplaceTempView("rejects_now")
            session.sql(
                f"INSERT OVERWRITE {self.relation} SELECT * FROM rejects_now"
            ).collect()
        rows.unpersist()
        return new
