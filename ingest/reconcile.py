"""Source against staging at one snapshot: counts, key sets, checksums.

Both sides hash each row (the MD5 of its key and of its values' canonical texts) and
add the hashes up per bucket of keys, so equal rows cannot cancel out: a sum, not an
XOR, and the count beside it. Only buckets that differ are then read row by row, and
the keys that differ are named. A row changed after the last ingest's bound is not
settled yet and not a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from common.errors import UsageError
from common.progress import say
from ingest import statements as st
from ingest.bounds import Watermark
from ingest.engine import open_engine
from ingest.land import LIVE
from ingest.manifest import Manifest, TableSpec
from ingest.postgres import SourceSession, open_source
from ingest.run import OPS, Endpoints, known_watermarks, relation
from ingest.types import Mapping, map_column, quote

BUCKETS = 1024
NAMED_KEYS = 20
# Both engines render these differently, so their checksum leaves them out.
UNCOMPARED = ("float", "double")


@dataclass
class Reconciliation:
    """The outcome for one table; counts are rows.

    Attributes:
        table: the table's name.
        source_rows: rows of the source at the snapshot.
        staged_rows: live rows in staging.
        rejected_rows: rows in `<table>__rejects`.
        differences: up to 20 of `(key, what)`, what being `missing in staging`,
            `not in the source` or `values differ`.
        differing_keys: how many keys differ in all.
        verified_through: all rows whose cursor is before this were compared.
    """

    table: str
    source_rows: int = 0
    staged_rows: int = 0
    rejected_rows: int = 0
    differences: list[tuple[str, str]] = field(default_factory=list)
    differing_keys: int = 0
    verified_through: datetime | None = None

    @property
    def agrees(self) -> bool:
        """Whether source and staging are the same over the settled window."""
        return self.differing_keys == 0

    def describe(self) -> str:
        """One line, and one more for each key that is named."""
        verdict = "agrees" if self.agrees else f"{self.differing_keys:,} keys differ"
        lines = [
            f"{self.table}: {verdict}; source {self.source_rows:,} rows, staging "
            f"{self.staged_rows:,}, rejected {self.rejected_rows:,}"
        ]
        lines += [f"  {key}: {what}" for key, what in self.differences]
        return "\n".join(lines)


def reconcile(
    endpoints: Endpoints, manifest: Manifest, names: Sequence[str]
) -> list[Reconciliation]:
    """Compare the tables named, or all; each outcome is a row in `ops.reconciliations`.

    Raises:
        UsageError: a table has never been ingested.
        ServiceError: source or engine do not answer.
    """
    target = f"{endpoints.engine_url}/{manifest.target_schema}"
    specs = manifest.select(list(names))
    with (
        open_source(endpoints.source_dsn, target) as source,
        open_engine(endpoints.engine_url, "reconcile") as session,
    ):
        marks = _watermarks(session, manifest, specs)
        tables = {s.name: source.describe(manifest.source_schema, s) for s in specs}
        source.horizon()
        found = []
        for spec in specs:
            say(f"Comparing {spec.name}")
            mappings = [
                map_column(c, spec.columns.get(c.name))
                for c in tables[spec.name].columns
            ]
            comparison = _Comparison(source, session, manifest, spec, mappings)
            found.append(comparison.run(marks[spec.name]))
        _record(session, found)
        return found


def _watermarks(
    session: Any, manifest: Manifest, specs: Sequence[TableSpec]
) -> dict[str, Watermark]:
    marks = known_watermarks(session, manifest.target_schema, specs)
    for spec in specs:
        if spec.name not in marks:
            raise UsageError(
                f"Reconciling {spec.name}: it has never been ingested",
                f"run `ecom ingest {spec.name}` first",
            )
    return marks


class _Comparison:
    def __init__(
        self,
        source: SourceSession,
        session: Any,
        manifest: Manifest,
        spec: TableSpec,
        mappings: Sequence[Mapping],
    ) -> None:
        self.source, self.session, self.spec = source, session, spec
        self.mappings = mappings
        self.relation = relation(manifest.target_schema, spec.target)
        self.rejects = relation(manifest.target_schema, f"{spec.target}__rejects")
        self.origin = f"{quote(manifest.source_schema)}.{quote(spec.name)}"
        self.fit = f"NOT ({st.unfit(mappings)})"

    def run(self, mark: Watermark) -> Reconciliation:
        """Counts, then buckets, then the rows of buckets that differ."""
        name = self.spec.name
        result = Reconciliation(name, verified_through=mark.lower)
        result.source_rows = self.source.count(f"SELECT 1 FROM {self.origin}")
        result.rejected_rows = self._spark(f"SELECT count(*) AS n FROM {self.rejects}")[
            0
        ]["n"]
        ours = {
            r["b"]: (r["n"], int(r["h"])) for r in self._spark(self._buckets("spark"))
        }
        theirs = {
            b: (n, int(h)) for b, n, h in self.source.rows(self._buckets("postgres"))
        }
        result.staged_rows = sum(count for count, _ in ours.values())
        apart = [b for b in ours.keys() | theirs.keys() if ours.get(b) != theirs.get(b)]
        if apart:
            self._name_keys(apart, mark, result)
        return result

    def _name_keys(
        self, apart: list[int], mark: Watermark, result: Reconciliation
    ) -> None:
        ours = {r["k"]: r["h"] for r in self._spark(self._rows("spark", apart))}
        theirs = {
            k: (h, c) for k, h, c in self.source.rows(self._rows("postgres", apart))
        }
        for key in sorted(ours.keys() | theirs.keys()):
            digest, cursor = theirs.get(key, (None, None))
            settled = cursor is None or mark.lower is None or cursor < mark.lower
            if digest is None:
                what = "not in the source"
            elif not settled or ours.get(key) == digest:
                continue
            else:
                what = "values differ" if key in ours else "missing in staging"
            result.differing_keys += 1
            if len(result.differences) < NAMED_KEYS:
                result.differences.append((key, what))

    def _spark(self, statement: str) -> list[Any]:
        rows: list[Any] = self.session.sql(statement).collect()
        return rows

    def _buckets(self, side: str) -> str:
        total = "numeric" if side == "postgres" else "decimal(38,0)"
        return (
            f"SELECT b, count(*) AS n, sum(cast(h AS {total})) AS h "
            f"FROM ({self._hashed(side)}) q GROUP BY b"
        )

    def _rows(self, side: str, buckets: list[int]) -> str:
        cursor = ", c" if side == "postgres" else ""
        chosen = ", ".join(str(bucket) for bucket in buckets)
        return (
            f"SELECT k, h{cursor} FROM ({self._hashed(side)}) q WHERE b IN ({chosen})"
        )

    def _hashed(self, side: str) -> str:
        """Bucket, hash, key text and, in the source, cursor of each row."""
        texts = [
            self._canonical(m, side)
            for m in self.mappings
            if m.spark_type not in UNCOMPARED
        ]
        by_name = {m.column: m for m in self.mappings}
        key = (
            "concat_ws('|', "
            + ", ".join(self._canonical(by_name[c], side) for c in self.spec.key)
            + ")"
        )
        row = (
            "concat_ws(chr(31), "
            + ", ".join(f"coalesce({t}, chr(30))" for t in texts)
            + ")"
        )
        bucket, digest = (
            _number(f"md5({key})", 5, side),
            _number(f"md5({row})", 15, side),
        )
        columns = f"{bucket} % {BUCKETS} AS b, {digest} AS h, {key} AS k"
        if side == "spark":
            return f"SELECT {columns} FROM {self.relation} WHERE {LIVE}"
        cursor = (
            f"{quote(self.spec.cursor)}" if self.spec.cursor else "NULL::timestamptz"
        )
        return f"SELECT {columns}, {cursor} AS c FROM {self.origin} WHERE {self.fit}"

    def _canonical(self, mapping: Mapping, side: str) -> str:
        """A text both engines give for the same value."""
        kind = mapping.spark_type
        if side == "spark":
            name = st.tick(mapping.column)
            if kind == "timestamp":
                return f"cast(unix_micros({name}) AS string)"
            if kind == "timestamp_ntz":
                return f"date_format({name}, 'yyyy-MM-dd HH:mm:ss.SSSSSS')"
            if kind == "binary":
                return f"lower(hex({name}))"
            return f"cast({name} AS string)"
        value = f"({mapping.expression})"
        if kind == "timestamp":
            return f"(extract(epoch FROM {value}) * 1000000)::bigint::text"
        if kind == "timestamp_ntz":
            return f"to_char({value}, 'YYYY-MM-DD HH24:MI:SS.US')"
        if kind == "binary":
            return f"encode({value}, 'hex')"
        return f"{value}::text"


def _number(digest: str, digits: int, side: str) -> str:
    if side == "spark":
        return f"cast(conv(substr({digest}, 1, {digits}), 16, 10) AS bigint)"
    zeros = "0" * (16 - digits)
    return f"('x{zeros}' || substr({digest}, 1, {digits}))::bit(64)::bigint"


def _record(session: Any, found: Sequence[Reconciliation]) -> None:
    columns = [
        ("checked_at", "timestamp"), ("table_name", "string"), ("source_rows", "bigint"),
        ("staged_rows", "bigint"), ("rejected_rows", "bigint"),
        ("differing_keys", "bigint"), ("verified_through", "timestamp"),
    ]  # fmt: skip
    session.sql(
        st.create_table(
            f"{OPS}.reconciliations",
            columns,
            None,
            "One row per table of each reconcile",
        )
    ).collect()
    now = st.spark_timestamp(datetime.now(timezone.utc))
    rows = [
        f"({now}, {st.spark_literal(one.table)}, {one.source_rows}, {one.staged_rows}, "
        f"{one.rejected_rows}, {one.differing_keys}, "
        f"{st.spark_timestamp(one.verified_through) if one.verified_through else 'NULL'})"
        for one in found
    ]
    session.sql(f"INSERT INTO {OPS}.reconciliations VALUES {', '.join(rows)}").collect()
