"""How a whole table is read and laid out: in ranges, and in partition order or not.

A heap is divided by its pages: even, without an index, whatever the key. Ranges of a
column serve what has no pages of its own (a partitioned table, PostgreSQL 13).

Rows that go to a partitioned table must reach their writer partition by partition,
or a file stays open for each partition met, and hundreds of them do not fit into
memory. Where a range holds few partitions, as in a log in order of time, sorting the
range where it is read is enough; otherwise Spark sends the rows to their partitions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ingest import statements as st
from ingest.catalogue import Heap, SourceTable
from ingest.manifest import TRANSFORM, TableSpec
from ingest.postgres import SourceSession
from ingest.types import quote

RANGE_BYTES = 256 * 2**20
SORTED_RANGE_BYTES = 64 * 2**20
"""What one task sorts must fit into memory beside its neighbour's."""
PARALLEL_READS = 2
SPLIT_FROM_BYTES = 32 * 2**20
SAMPLE_PAGES = 2000
MOSTLY = 0.2
"""Values that come fewer than five times in a file: compression finds those few."""
FILES_PER_PARTITION = 2.0
"""Up to this many files a partition, sorting in place beats sending rows about."""


@dataclass(frozen=True)
class Split:
    """How a read of all rows is divided.

    Attributes:
        ranges: one condition a parallel read, in the source's dialect; together
            they take every row once; empty for a single read.
        in_order: whether each range holds few of the target's partitions.
        partitions: how many partitions of the target a sample met; 1 where it has
            none, or nobody asked.
        readers: how many ranges may be read at a time; None for as many as the
            engine has task slots.
    """

    ranges: tuple[str, ...] = ()
    in_order: bool = False
    partitions: int = 1
    readers: int | None = None

    @property
    def tasks(self) -> int:
        """How many of the engine's tasks read it."""
        return self.readers or max(len(self.ranges), 1)

    @property
    def by_page(self) -> bool:
        """Whether the ranges are of pages."""
        return any(st.PAGE in condition for condition in self.ranges)


def split_for(
    source: SourceSession,
    schema: str,
    spec: TableSpec,
    table: SourceTable,
) -> Split:
    """How to read a whole table; asks the source for a sample of a large one."""
    heap = table.heap
    if heap.table_bytes < SPLIT_FROM_BYTES:
        return Split()
    if heap.pages_scannable:
        bucket = partition_bucket(spec.partition_by)
        if bucket:
            ranges = page_ranges(heap, SORTED_RANGE_BYTES)
            files, partitions = _sample(source, schema, spec, heap, bucket, len(ranges))
            if files <= FILES_PER_PARTITION * partitions:
                return Split(ranges, True, max(partitions, 1))
            return Split(page_ranges(heap, RANGE_BYTES), False, max(partitions, 1))
        return Split(page_ranges(heap, RANGE_BYTES))
    kinds = {m.column: m.spark_type for m in table.mappings}
    column = spec.split_by or (spec.key[0] if len(spec.key) == 1 else None)
    if column is None or kinds.get(column) not in st.INTEGERS:
        return Split()
    extent = source.extent(schema, spec.name, column)
    return Split(column_ranges(column, *extent, PARALLEL_READS)) if extent else Split()


def bounded(split: Split, connections: int | None) -> Split:
    """The same read with no more connections to the source than these.

    A task then reads several ranges, too many to be sorted where they are read: rows
    are sent to their partitions instead.
    """
    if connections is None or len(split.ranges) <= connections:
        return split
    return replace(split, in_order=False, readers=connections)


def page_ranges(heap: Heap, range_bytes: int) -> tuple[str, ...]:
    """Conditions on `st.PAGE` that divide a heap into about equal parts.

    The first and the last are open: pages added meanwhile hold no row of the
    snapshot, but what the size says may already be old.
    """
    parts = max(PARALLEL_READS, -(-heap.table_bytes // range_bytes))
    parts = min(parts, max(heap.pages, 1))
    return _ranges(
        st.PAGE, [f"'({heap.pages * i // parts},0)'::tid" for i in range(1, parts)]
    )


def column_ranges(column: str, low: int, high: int, parts: int) -> tuple[str, ...]:
    """Conditions that divide the values of an integer column."""
    steps = [low + (high + 1 - low) * i // parts for i in range(1, parts)]
    return _ranges(quote(column), [str(step) for step in dict.fromkeys(steps)])


def _ranges(name: str, bounds: Sequence[str]) -> tuple[str, ...]:
    lows, highs = [None, *bounds], [*bounds, None]
    found = []
    for low, high in zip(lows, highs):
        ends = [f"{name} >= {low}" if low else "", f"{name} < {high}" if high else ""]
        found.append(" AND ".join(end for end in ends if end) or "true")
    return tuple(found)


def partition_bucket(partition_by: str | None) -> str | None:
    """PostgreSQL expression with one value a partition, or None for no partitions."""
    found = TRANSFORM.match(partition_by or "")
    if not found:
        return None
    unit, timed, plain = found.groups()
    if plain:
        return f"{quote(plain)}::text"
    return f"date_trunc('{re.sub('s$', '', unit)}', {quote(timed)})::text"


def _sample(
    source: SourceSession,
    schema: str,
    spec: TableSpec,
    heap: Heap,
    bucket: str,
    parts: int,
) -> tuple[int, int]:
    """How many partitions the ranges meet: summed over them, and in all."""
    share = min(100.0, 100.0 * SAMPLE_PAGES / max(heap.pages, 1))
    size = max(heap.pages // parts, 1)
    rows = source.rows(
        f"SELECT count(*), count(DISTINCT bucket) FROM (SELECT DISTINCT "
        f"(ctid::text::point)[0]::bigint / {size} AS range, {bucket} AS bucket "
        f"FROM {quote(schema)}.{quote(spec.name)} TABLESAMPLE SYSTEM ({share})) q"
    )
    files, partitions = rows[0]
    return int(files), int(partitions)


def distinct_columns(
    source: SourceSession, schema: str, spec: TableSpec, rows: int
) -> tuple[str, ...]:
    """Columns in which most rows of a file differ: a dictionary there is pure cost.

    As PostgreSQL's statistics say; key and cursor where it has none.

    Args:
        source: the source.
        schema: its schema.
        spec: the manifest's entry.
        rows: about how many rows a file will have.
    """
    found = source.rows(
        "SELECT attname, max(n_distinct) FROM pg_stats WHERE schemaname = "
        f"{st.literal(schema)} AND tablename = {st.literal(spec.name)} "
        "GROUP BY attname ORDER BY attname"
    )
    if not found:
        single = spec.key if len(spec.key) == 1 else ()
        return tuple(dict.fromkeys(n for n in (spec.cursor, *single) if n))
    return tuple(name for name, n in found if mostly_distinct(n, rows))


def mostly_distinct(n_distinct: float, rows: int) -> bool:
    """What `pg_stats.n_distinct` means: a number of values, or minus their share.

    Args:
        n_distinct: as in `pg_stats`.
        rows: rows of a file, over which a number of values is spread.
    """
    share = -n_distinct if n_distinct < 0 else n_distinct / max(rows, 1)
    return share > MOSTLY
