"""Cursors of every kind, keys of every kind, tables whose rows change under them."""

from __future__ import annotations

from typing import Any

from tests.ingest.conftest import Shop


def table(name: str, cursor: str, mode: str = "upsert", more: str = "") -> str:
    return f"  - {{name: {name}, key: [id], cursor: {cursor}, mode: {mode}{more}}}\n"


def agree(shop: Shop, name: str, columns: str = "*") -> None:
    """Live rows of staging are the rows of the source, each once."""
    staged = shop.staged(
        f"SELECT {columns} FROM {{s}}.{name} WHERE _cdc_deleted_at IS NULL ORDER BY 1"
    )
    assert staged == shop.source(f"SELECT {columns} FROM {name} ORDER BY 1")


def test_numbers_local_times_and_days_as_cursors_lose_nothing(shop: Shop) -> None:
    shop.execute(
        "CREATE TABLE n (id bigserial PRIMARY KEY, v text)",
        "CREATE TABLE l (id int PRIMARY KEY, v text, at timestamp DEFAULT now())",
        "CREATE TABLE d (id int PRIMARY KEY, v text, at date DEFAULT current_date)",
        "INSERT INTO n (v) VALUES ('a'), ('b')",
        "INSERT INTO l VALUES (1, 'a')",
        "INSERT INTO d VALUES (1, 'a')",
    )
    manifest = shop.manifest(
        table("n", "id", "append") + table("l", "at") + table("d", "at")
    )
    late = shop.connect()
    late.cursor().execute("INSERT INTO n (v) VALUES ('late')")
    shop.execute("INSERT INTO n (v) VALUES ('after')")
    shop.ingest(manifest)
    # In New York's winter now() is five hours before what UTC says.
    shop.execute(
        "SET LOCAL timezone = 'America/New_York'",
        "INSERT INTO l VALUES (2, 'west')",
        "INSERT INTO d VALUES (2, 'west')",
    )
    second = shop.ingest(manifest)
    assert second["n"]["watermark"] is None
    late.commit()
    late.close()
    shop.execute("INSERT INTO n (v) VALUES ('more')")
    shop.ingest(manifest)
    for name in ("n", "l", "d"):
        agree(shop, name, "id, v")
    assert int(shop.ingest(manifest)["n"]["watermark"]) >= 4
    shop.reconcile(manifest)


def test_a_null_in_a_key_is_rejected_and_never_doubled(shop: Shop) -> None:
    shop.execute(
        "CREATE TABLE t (a int, b text, v int, at timestamptz DEFAULT now(), UNIQUE (a, b))",
        "INSERT INTO t VALUES (1, 'x', 1), (1, NULL, 2), (1, NULL, 3), (NULL, 'y', 4)",
    )
    manifest = shop.manifest(
        "  - {name: t, key: [a, b], cursor: at, mode: upsert, deletes: sweep}\n"
    )
    first = shop.ingest(manifest)["t"]
    assert (first["rows_inserted"], first["rows_rejected"]) == (1, 3)
    again = shop.ingest(manifest)["t"]
    assert (again["rows_inserted"], again["rows_rejected"]) == (0, 0)
    assert shop.staged("SELECT count(*) FROM {s}.t") == [(1,)]
    assert shop.staged("SELECT key, reason FROM {s}.t__rejects ORDER BY key") == [
        ("1", "null in a key column"),
        ("1", "null in a key column"),
        ("y", "null in a key column"),
    ]
    shop.reconcile(manifest)


def test_an_append_table_holds_each_row_once_whatever_its_cursor_does(
    shop: Shop,
) -> None:
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz DEFAULT now())",
        "INSERT INTO t SELECT i, 'v', '2024-01-01' FROM generate_series(1, 100) i",
        "INSERT INTO t VALUES (1000, 'no cursor', NULL)",
    )
    manifest = shop.manifest(table("t", "at", "append"))
    shop.ingest(manifest)
    shop.execute(
        "UPDATE t SET v = 'moved', at = now() WHERE id = 5",
        "UPDATE t SET v = 'nulled', at = NULL WHERE id = 6",
        "UPDATE t SET v = 'set', at = '2024-01-02' WHERE id = 1000",
        "INSERT INTO t VALUES (2000, 'new')",
    )
    shop.ingest(manifest)
    assert shop.staged("SELECT count(*), count(DISTINCT id) FROM {s}.t") == [(102, 102)]
    assert shop.staged("SELECT id, v FROM {s}.t WHERE id IN (5, 6) ORDER BY id") == [
        (5, "moved"), (6, "nulled"),
    ]  # fmt: skip
    shop.execute("DELETE FROM t WHERE id IN (7, 8)")
    said = shop.reconcile(manifest, code=1)
    assert "7: not in the source" in said
    assert "1000: values differ (v, at)" in said
    assert shop.ingest(manifest, "--full")["t"]["rows_deleted"] == 2
    shop.reconcile(manifest)
    shop.execute("INSERT INTO t VALUES (7, 'back')")
    shop.ingest(manifest)
    agree(shop, "t", "id, v")


def test_a_sweep_finds_a_cursor_that_moved_against_the_clock(shop: Shop) -> None:
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz)",
        "INSERT INTO t SELECT i, 'v', '2024-01-01' FROM generate_series(-3000, 3000) i",
    )
    manifest = shop.manifest(table("t", "at", more=", deletes: sweep"))
    shop.ingest(manifest)
    shop.execute(
        "UPDATE t SET v = 'behind', at = '2023-01-01' WHERE id = -2500",
        "INSERT INTO t VALUES (9000, 'behind', '2020-01-01')",
        "DELETE FROM t WHERE id IN (-3000, 0, 3000)",
    )
    found = shop.ingest(manifest)["t"]
    counts = [found[f"rows_{name}"] for name in ("inserted", "updated", "deleted")]
    assert counts == [1, 1, 3]
    # Only ranges that differ were read again.
    assert found["rows_read"] < 100
    agree(shop, "t", "id, v")
    shop.reconcile(manifest)


KEYS = {
    "text": "'k' || i || 'É'", "char(6)": "'k' || i", "uuid": "md5(i::text)::uuid",
    "timestamptz": "'2024-01-01 00:00:00.25+00'::timestamptz + i * interval '1 day'",
    "timestamp": "'1890-03-31 02:30'::timestamp + i * interval '1 year'",
    "date": "'1500-02-28'::date + i * 400", "numeric(9,3)": "i + 0.5",
    "bytea": "decode(md5(i::text), 'hex')", "bool": "i = 1", "smallint": "i",
    "double precision": "i / 3.0", "numeric": "i * 1e10",
}  # fmt: skip


def test_keys_of_every_type_hash_alike_on_both_sides(shop: Shop) -> None:
    entries = ""
    for number, (kind, value) in enumerate(KEYS.items()):
        shop.execute(
            f"CREATE TABLE k{number} (id {kind} PRIMARY KEY, at timestamptz)",
            f"INSERT INTO k{number} SELECT {value}, '2024-01-01' FROM generate_series(1, 2) i",
        )
        entries += table(f"k{number}", "at", more=", deletes: sweep")
    manifest = shop.manifest(entries)
    shop.ingest(manifest)
    again = shop.ingest(manifest)
    assert {name: row["rows_read"] for name, row in again.items()} == dict.fromkeys(
        again, 0
    )
    for number in range(len(KEYS)):
        shop.execute(f"DELETE FROM k{number} WHERE ctid = '(0,1)'")
    found = shop.ingest(manifest)
    assert {name: row["rows_deleted"] for name, row in found.items()} == dict.fromkeys(
        found, 1
    )
    shop.reconcile(manifest)


def test_old_rows_follow_a_change_of_columns(shop: Shop) -> None:
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text, b text, s smallint, at timestamptz)",
        "INSERT INTO t VALUES (1, 'a', 'b', 7, '2024-01-01')",
    )
    manifest = shop.manifest(table("t", "at"))
    shop.ingest(manifest)
    shop.execute(
        "ALTER TABLE t ADD COLUMN n int DEFAULT 5",
        "ALTER TABLE t DROP COLUMN a",
        "ALTER TABLE t RENAME COLUMN b TO c",
    )
    notes = " ".join(shop.ingest(manifest)["t"]["notes"])
    for part in ("n int added", "kept: a, b", "all rows were compared"):
        assert part in notes
    agree(shop, "t", "id, n, c, s")
    shop.execute("ALTER TABLE t ADD COLUMN a text DEFAULT 'again'")
    shop.ingest(manifest)
    agree(shop, "t", "id, a, n, c")
    assert shop.ingest(manifest)["t"]["rows_read"] == 0
    shop.execute(
        "ALTER TABLE t ALTER COLUMN n DROP DEFAULT",
        "ALTER TABLE t ALTER COLUMN n TYPE date USING '2024-01-01'",
    )
    said = shop.ingest(manifest, code=2)
    for part in ("t.n", "int", "date"):
        assert part in said
    shop.execute("ALTER TABLE t DROP COLUMN n")
    shop.ingest(manifest)
    shop.reconcile(manifest)


def test_a_table_made_anew_and_a_partition_attached_are_read_whole(shop: Shop) -> None:
    rows = "SELECT i, '{}', '2024-01-01'::timestamptz FROM generate_series({}) i"
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz)",
        "CREATE TABLE p (id int PRIMARY KEY, v text, at timestamptz) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100)",
        "INSERT INTO t " + rows.format("first", "1, 50"),
        "INSERT INTO p " + rows.format("first", "1, 50"),
    )
    manifest = shop.manifest(table("t", "at", "append") + table("p", "at", "append"))
    shop.ingest(manifest)
    shop.execute(
        "TRUNCATE t",
        "INSERT INTO t " + rows.format("reloaded", "1, 60"),
        "CREATE TABLE p2 (LIKE p INCLUDING ALL)",
        "INSERT INTO p2 " + rows.format("attached", "100, 120"),
        "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)",
    )
    found = shop.ingest(manifest)
    assert "made anew" in " ".join(found["t"]["notes"])
    assert (found["t"]["rows_updated"], found["t"]["rows_inserted"]) == (50, 10)
    assert (found["p"]["rows_read"], found["p"]["rows_inserted"]) == (21, 21)
    again = shop.ingest(manifest)
    assert [again[name]["rows_read"] for name in ("t", "p")] == [0, 0]
    shop.reconcile(manifest)


def test_a_lost_or_rolled_back_watermark_doubles_and_loses_nothing(shop: Shop) -> None:
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz DEFAULT now())",
        "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i",
    )
    manifest = shop.manifest(table("t", "at", "append"))
    shop.ingest(manifest)
    first = _current_snapshot(shop)
    shop.execute("INSERT INTO t VALUES (21, 'v')")
    shop.ingest(manifest)
    _call(shop, f"rollback_to_snapshot('{shop.schema}.t', {first})")
    shop.ingest(manifest)
    agree(shop, "t", "id, v")
    # Maintenance rewrites files in a commit of its own, then expires the others.
    shop.staged("UPDATE {s}.t SET v = 'v' WHERE id = 1")
    _call(
        shop, f"expire_snapshots(table => '{shop.schema}.t', retain_last => 1, "
        "older_than => timestamp '2100-01-01')",
    )  # fmt: skip
    shop.execute("INSERT INTO t VALUES (22, 'v')")
    shop.ingest(manifest)
    assert shop.staged("SELECT count(*), count(DISTINCT id) FROM {s}.t") == [(22, 22)]
    assert shop.ingest(manifest)["t"]["rows_read"] < 22
    shop.reconcile(manifest)


def _current_snapshot(shop: Shop) -> Any:
    return shop.staged("SELECT snapshot_id FROM {s}.t.refs WHERE name = 'main'")[0][0]


def _call(shop: Shop, procedure: str) -> None:
    shop.staged(f"CALL lake.system.{procedure}")
