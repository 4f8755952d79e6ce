"""`<table>__rejects`: the source's rows that cannot be represented, as they are now."""

from __future__ import annotations

from typing import Any

from ingest import statements as st
from ingest.engine import read_source
from ingest.plan import TablePlan
from ingest.postgres import JdbcAddress, SourceSession

COLUMNS = [(name, "string") for name in ("key", "column_name", "raw_value", "reason")]


class Rejects:
    """The rejects of one table within one run."""

    def __init__(
        self,
        session: Any,
        source: SourceSession,
        address: JdbcAddress,
        schema: str,
        plan: TablePlan,
        relation: str,
    ) -> None:
        self.session, self.source, self.address = session, source, address
        self.schema, self.plan, self.relation = schema, plan, relation
        self.possible = st.unfit(plan.mappings) != "false"
        self.in_window = 0

    def prepare(self) -> None:
        """Make the table where there is none."""
        self.session.sql(
            st.create_table(
                self.relation,
                [*COLUMNS, *st.CDC_COLUMNS[:2]],
                None,
                f"Rows of {self.plan.spec.name} that cannot be represented",
            )
        ).collect()

    def refresh(self) -> int:
        """Follow the source; the number of rejects that are new.

        A run asks whether rows it reads are unfit; only where there are some, or
        were some before, is the whole table asked.
        """
        if not self.possible:
            return 0
        held = self.session.table(self.relation)
        self.in_window = self.source.count(self._query(self.plan.window))
        if not self.in_window and held.isEmpty():
            return 0
        return self._replace(held)

    def follow(self, unfit_rows: int) -> int:
        """The same where the source was counted and staging may not agree."""
        held = self.session.table(self.relation)
        return 0 if held.count() == unfit_rows else self._replace(held)

    def keys(self) -> Any:
        """Keys of rows in this read that cannot be represented, though they can."""
        keyed = [m for m in self.plan.mappings if m.column in self.plan.spec.key]
        query = st.select_rejected_keys(
            self.schema, self.plan.spec.name, self.plan.spec.key,
            self.plan.mappings, self.plan.window,
        )  # fmt: skip
        return read_source(
            self.session, self.address, self.source.snapshot_id, query,
            [(m.column, m.spark_type) for m in keyed],
        )  # fmt: skip

    def _query(self, condition: str) -> str:
        spec = self.plan.spec
        return str(
            st.select_rejects(
                self.schema, spec.name, spec.key, self.plan.mappings, condition
            )
        )

    def _replace(self, held: Any) -> int:
        """Write what cannot be represented now; what stays keeps its batch."""
        names = [name for name, _ in COLUMNS]
        found = read_source(
            self.session,
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
        rows = self.session.sql(
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
            self.session.sql(
                f"INSERT OVERWRITE {self.relation} SELECT * FROM rejects_now"
            ).collect()
        rows.unpersist()
        return new
