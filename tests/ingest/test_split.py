"""How whole tables are read in parts, and written partition by partition."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as s

from ingest import manifest as manifests
from ingest import run as running
from ingest import split
from ingest import statements as st
from ingest.catalogue import Heap
from publish.run import ingest_endpoints
from tests.ingest.conftest import Shop

DAYS = 40
ORDERS = {"in order": "i", "shuffled": "md5(i::text)"}


@pytest.mark.parametrize("order", ORDERS)
def test_a_partitioned_load_keeps_one_file_open(
    shop: Shop, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text, at timestamptz)",
        f"INSERT INTO t SELECT i, 'v', '2024-01-01 00:00+00'::timestamptz + {DAYS} * i "
        "* interval '86.4 s' / 20 FROM generate_series(0, 19999) i "
        f"ORDER BY {ORDERS[order]}",
        "ANALYZE t",
    )
    monkeypatch.setattr(split, "SPLIT_FROM_BYTES", 0)
    monkeypatch.setattr(split, "SORTED_RANGE_BYTES", 2**17)
    path = shop.manifest(
        "  - {name: t, key: [id], cursor: at, mode: append, partition_by: days(at)}\n"
    )
    endpoints, loaded = ingest_endpoints(shop.settings), manifests.load(path)
    (plan,) = running.plan(endpoints, loaded, [])
    running.ingest(endpoints, loaded, [])

    assert plan.split.in_order == (order == "in order")
    assert len(plan.split.ranges) >= (4 if plan.split.in_order else 2)
    assert shop.staged("SELECT count(*), count(DISTINCT id), sum(id) FROM {s}.t") == [
        (20000, 20000, sum(range(20000)))
    ]
    partitions, files = shop.staged(
        "SELECT count(DISTINCT partition), count(*) FROM {s}.t.files"
    )[0]
    assert partitions == DAYS
    assert files <= 2 * DAYS
    # A dictionary of values that hardly repeat is pure cost.
    properties = dict(shop.staged("SHOW TBLPROPERTIES {s}.t"))
    without = [name for name in properties if name.startswith(st.DICTIONARY)]
    assert without == [f"{st.DICTIONARY}.column.{name}" for name in ("at", "id")]
    # Every later write, too, gets its rows sorted, so that files close one by one.
    explained = shop.staged("EXPLAIN INSERT INTO {s}.t SELECT * FROM {s}.t")[0][0]
    assert "Sort [" in explained


@pytest.mark.parametrize(
    ("n_distinct", "expected"),
    [(-1.0, True), (-0.1, False), (7.0, False), (900.0, True)],
)
def test_whether_most_rows_have_a_value_of_their_own(
    n_distinct: float, expected: bool
) -> None:
    assert split.mostly_distinct(n_distinct, 1000) is expected


@given(s.integers(0, 10**7), s.integers(1, 10**12), s.integers(1, 2**28))
def test_page_ranges_take_every_page_once(
    pages: int, table_bytes: int, range_bytes: int
) -> None:
    heap = Heap(pages, max(table_bytes, 1), True)
    if table_bytes // range_bytes > 5000:
        return
    found = split.page_ranges(heap, range_bytes)
    assert found[0].count(st.PAGE) <= 1
    for before, after in itertools.pairwise(found):
        assert before.split(" < ")[1] == after.split(" AND ")[0].split(" >= ")[1]
    assert "<" not in found[-1]


@given(s.integers(-100, 100), s.integers(0, 300), s.integers(1, 7))
def test_column_ranges_take_every_value_once(low: int, width: int, parts: int) -> None:
    conditions = split.column_ranges("n", low, low + width, parts)
    python = [c.replace('"n"', "n").replace("AND", "and") for c in conditions]
    for value in range(low - 2, low + width + 3):
        taken = [c for c in python if c == "true" or eval(c, {"n": value})]
        assert len(taken) == 1


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (None, None),
        ("days(at)", "date_trunc('day', \"at\")::text"),
        ("years(at)", "date_trunc('year', \"at\")::text"),
        ("region", '"region"::text'),
    ],
)
def test_a_partition_transform_in_the_source(
    transform: str | None, expected: str | None
) -> None:
    assert split.partition_bucket(transform) == expected
