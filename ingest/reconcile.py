"""Source against staging at one snapshot: counts, key sets, checksums.

Both sides hash each row (the MD5 of its key and of its values' canonical texts) and
add the hashes up per bucket of keys: a sum, not an XOR, and the count beside it, so
that equal rows cannot cancel out. Only buckets that differ are then read, each column
with a checksum of its own, and the keys and columns that differ are named. A row
changed after the last ingest's bound is not settled yet and not a difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from common.errors import UsageError
from common.progress import say
from ingest import statements as st
from ingest.bounds import Bound, Watermark
from ingest.catalogue import SourceTable
from ingest.engine import open_engine
from ingest.land import LIVE
from ingest.manifest import Manifest, TableSpec
from ingest.plan import known_tables, relation
from ingest.postgres import SourceSession, open_source
from ingest.run import Endpoints
from ingest.types import quote

BUCKETS = 1024
KEPT_KEYS = 10_000
PRINTED_KEYS = 20
ROWS_AT_ONCE = 200_000
ROWS_EXAMINED = 1_000_000
HASH_DIGITS = 15

MISSING, GONE = "missing in staging", "not in the source"
DIFFERS, REPEATED = "values differ", "stands {n} times in staging"
UNREJECTED, UNRELATED = "missing in the rejects", "in the rejects, but not a bad row"


@dataclass
class Reconciliation:
    """The outcome for one table; counts are rows.

    Attributes:
        table: the table's name.
        source_rows: rows of the source at the snapshot.
        staged_rows: live rows in staging.
        rejected_rows: rows in `<table>__rejects`.
        differences: up to 10,000 of `(key, what)`.
        differing_keys: how many keys differ in all; at least so many where
            `examined_all` is false.
        differing_columns: column -> keys whose value differs there.
        examined_all: whether every range that differs was looked into.
        verified_through: all rows whose cursor is before this agree; None where
            some do not, or where the whole table was compared without a cursor.
        notes: what was left out of the comparison.
    """

    table: str
    source_rows: int = 0
    staged_rows: int = 0
    rejected_rows: int = 0
    differences: list[tuple[str, str]] = field(default_factory=list)
    differing_keys: int = 0
    differing_columns: dict[str, int] = field(default_factory=dict)
    examined_all: bool = True
    verified_through: Bound | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether source and staging are the same over the settled window."""
        return self.differing_keys == 0 and self.examined_all

    def add(self, key: str, what: str) -> None:
        """Count a differing key; keep it while there is room."""
        self.differing_keys += 1
        if len(self.differences) < KEPT_KEYS:
            self.differences.append((key, what))

    def document(self) -> dict[str, Any]:
        """All of it, and the verdict, for `--json`."""
        return {**asdict(self), "agrees": self.agrees}

    def describe(self) -> str:
        """One line, and one more for each of the first keys that differ."""
        least = "" if self.examined_all else "at least "
        verdict = (
            "agrees" if self.agrees else f"{least}{self.differing_keys:,} keys differ"
        )
        lines = [
            f"{self.table}: {verdict}; source {self.source_rows:,} rows, staging "
            f"{self.staged_rows:,}, rejected {self.rejected_rows:,}"
        ]
        if self.differing_columns:
            columns = (f"{name} ({n:,})" for name, n in self.differing_columns.items())
            lines.append(f"  columns that differ: {', '.join(columns)}")
        lines += [f"  {key}: {what}" for key, what in self.differences[:PRINTED_KEYS]]
        if len(self.differences) > PRINTED_KEYS:
            more = self.differing_keys - PRINTED_KEYS
            lines.append(
                f"  and {least}{more:,} more; --json names up to {KEPT_KEYS:,}"
            )
        lines += [f"  {note}" for note in self.notes]
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
            comparison = _Comparison(
                source, session, manifest, spec, tables[spec.name], marks[spec.name]
            )
            found.append(comparison.run())
        _record(session, manifest.ops_schema, found)
        return found


def _watermarks(
    session: Any, manifest: Manifest, specs: Sequence[TableSpec]
) -> dict[str, Watermark | None]:
    landed = known_tables(session, manifest.target_schema, specs)
    for spec in specs:
        if spec.name not in landed:
            raise UsageError(
                f"Reconciling {spec.name}: it has never been ingested",
                f"run `ecom ingest {spec.name}` first",
            )
    return {name: one.table.watermark for name, one in landed.items()}


class _Comparison:
    def __init__(
        self,
        source: SourceSession,
        session: Any,
        manifest: Manifest,
        spec: TableSpec,
        table: SourceTable,
        mark: Watermark | None,
    ) -> None:
        self.source, self.session, self.spec = source, session, spec
        self.lower = mark.lower if mark else None
        self.relation = relation(manifest.target_schema, spec.target)
        self.rejects = relation(manifest.target_schema, f"{spec.target}__rejects")
        self.origin = f"{quote(manifest.source_schema)}.{quote(spec.name)}"
        self.fit = f"NOT ({st.unfit(table.mappings)})"
        self.settled = st.settled(spec.cursor, table.cursor_type, self.lower)
        present = dict(session.table(self.relation).dtypes)
        self.mappings = [
            m for m in table.mappings if present.get(m.column) == m.spark_type
        ]
        self.result = Reconciliation(spec.name)
        left_out = [m.column for m in table.mappings if m not in self.mappings]
        if left_out:
            self.result.notes.append(
                f"not compared, the source changed them since the last ingest: "
                f"{', '.join(left_out)}"
            )

    def run(self) -> Reconciliation:
        """Counts, then buckets, then the rows of buckets that differ, then rejects."""
        result = self.result
        result.source_rows = self.source.count(f"SELECT 1 FROM {self.origin}")
        ours = {
            int(b): (int(n), int(h)) for b, n, h in self._spark(self._buckets("spark"))
        }
        theirs = {
            int(b): (int(n), int(h))
            for b, n, h in self.source.rows(self._buckets("postgres"))
        }
        result.staged_rows = sum(count for count, _ in ours.values())
        apart = {
            b: max(ours.get(b, (0, 0))[0], theirs.get(b, (0, 0))[0])
            for b in ours.keys() | theirs.keys()
            if ours.get(b) != theirs.get(b)
        }
        for some in self._chunks(apart):
            self._name_keys(some)
        self._compare_rejects(sum(count for count, _ in theirs.values()))
        if result.agrees:
            result.verified_through = self.lower
        return result

    def _chunks(self, apart: dict[int, int]) -> Iterator[list[int]]:
        """Buckets a few at a time, so that memory stays small however many differ."""
        some: list[int] = []
        rows = examined = 0
        for bucket in sorted(apart):
            if examined and examined + apart[bucket] > ROWS_EXAMINED:
                self.result.examined_all = False
                break
            if some and rows + apart[bucket] > ROWS_AT_ONCE:
                yield some
                some, rows = [], 0
            some.append(bucket)
            rows += apart[bucket]
            examined += apart[bucket]
        if some:
            yield some

    def _name_keys(self, buckets: list[int]) -> None:
        ours: dict[str, list[tuple[Any, ...]]] = {}
        for key, *checksums in self._spark(self._rows("spark", buckets)):
            ours.setdefault(key, []).append(tuple(checksums))
        seen = set()
        for key, settled, *checksums in self.source.rows(
            self._rows("postgres", buckets)
        ):
            seen.add(key)
            staged = ours.get(key, [])
            if len(staged) > 1:
                self.result.add(_shown(key), REPEATED.format(n=len(staged)))
            elif settled and not staged:
                self.result.add(_shown(key), MISSING)
            elif settled and staged[0] != tuple(checksums):
                self._differs(key, staged[0], checksums)
        for key in sorted(ours.keys() - seen):
            self.result.add(_shown(key), GONE)

    def _differs(self, key: str, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
        columns = [m.column for m, a, b in zip(self.mappings, ours, theirs) if a != b]
        self.result.add(_shown(key), f"{DIFFERS} ({', '.join(columns)})")
        for name in columns:
            counts = self.result.differing_columns
            counts[name] = counts.get(name, 0) + 1

    def _compare_rejects(self, fit_rows: int) -> None:
        """Every settled row is landed or rejected, and nothing else is rejected."""
        held = Counter(
            row["key"]
            for row in self._spark(
                f"SELECT key FROM {self.rejects} LIMIT {ROWS_EXAMINED}"
            )
        )
        self.result.rejected_rows = sum(held.values())
        unfit = self.result.source_rows - fit_rows
        if not held and not unfit:
            return
        rows = self.source.rows(
            f"SELECT {st.record_key(self.spec.key)}, {self.settled} FROM {self.origin} "
            f"WHERE NOT ({self.fit}) LIMIT {ROWS_EXAMINED}"
        )
        for key, settled in rows:
            if held[key]:
                held[key] -= 1
            elif settled:
                self.result.add(key, UNREJECTED)
        left = +held
        if left and not self._any_unsettled():
            for key in sorted(left):
                self.result.add(key, UNRELATED)

    def _any_unsettled(self) -> bool:
        """Whether rows changed since the last ingest: a reject may have been mended."""
        query = f"SELECT EXISTS (SELECT FROM {self.origin} WHERE NOT {self.settled})"
        return bool(self.source.rows(query)[0][0])

    def _spark(self, statement: str) -> list[Any]:
        rows: list[Any] = self.session.sql(statement).collect()
        return rows

    def _buckets(self, side: str) -> str:
        total = "numeric" if side == "postgres" else "decimal(38,0)"
        texts = st.joined([st.canonical(m, side) for m in self.mappings])
        digest = st.number_of(f"md5({texts})", HASH_DIGITS, side)
        return (
            f"SELECT b, count(*) AS n, sum(cast(h AS {total})) AS h FROM "
            f"(SELECT {self._bucket(side)} AS b, {digest} AS h FROM {self._live(side)}) q "
            "GROUP BY b"
        )

    def _rows(self, side: str, buckets: list[int]) -> str:
        chosen = ", ".join(str(bucket) for bucket in buckets)
        checksums = ", ".join(
            f"coalesce({st.number_of(f'md5({st.canonical(m, side)})', HASH_DIGITS, side)}, -1) AS c{i}"
            for i, m in enumerate(self.mappings)
        )
        settled = f"{self.settled} AS settled, " if side == "postgres" else ""
        return (
            f"SELECT {self._key(side)} AS k, {settled}{checksums} FROM {self._live(side)} "
            f"AND {self._bucket(side)} IN ({chosen})"
        )

    def _key(self, side: str) -> str:
        by_name = {m.column: m for m in self.mappings}
        return st.joined([st.canonical(by_name[name], side) for name in self.spec.key])

    def _bucket(self, side: str) -> str:
        return f"({st.number_of(f'md5({self._key(side)})', 5, side)} % {BUCKETS})"

    def _live(self, side: str) -> str:
        if side == "spark":
            return f"{self.relation} WHERE {LIVE}"
        return f"{self.origin} WHERE {self.fit}"


def _shown(key: str) -> str:
    """A key's values joined by a vertical bar, for people."""
    return "|".join(part[1:] for part in key.split("\x1f"))


def _record(session: Any, ops: str, found: Sequence[Reconciliation]) -> None:
    columns = [
        ("checked_at", "timestamp"), ("table_name", "string"), ("source_rows", "bigint"),
        ("staged_rows", "bigint"), ("rejected_rows", "bigint"),
        ("differing_keys", "bigint"), ("verified_through", "timestamp"),
    ]  # fmt: skip
    session.sql(
        st.create_table(
            f"{ops}.reconciliations",
            columns,
            None,
            "One row per table of each reconcile",
        )
    ).collect()
    now = st.spark_timestamp(datetime.now(timezone.utc))
    rows = [
        f"({now}, {st.spark_literal(one.table)}, {one.source_rows}, {one.staged_rows}, "
        f"{one.rejected_rows}, {one.differing_keys}, {_moment(one.verified_through)})"
        for one in found
    ]
    session.sql(f"INSERT INTO {ops}.reconciliations VALUES {', '.join(rows)}").collect()


def _moment(bound: Bound | None) -> str:
    return st.spark_timestamp(bound) if isinstance(bound, datetime) else "NULL"
