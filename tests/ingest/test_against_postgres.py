"""Nothing is lost, nothing is doubled: against real PostgreSQL and the real stack."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from stack.home import Home
from tests.conftest import BIN, environment
from tests.ingest.conftest import Shop

UPSERT = "  - {name: t, key: [id], cursor: at, mode: upsert, deletes: sweep}\n"
APPEND = "  - {name: t, key: [id], cursor: at, mode: append}\n"
TABLE = "CREATE TABLE t (id bigint PRIMARY KEY, v text, at timestamptz DEFAULT now())"


def live(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.staged(
        "SELECT id, v FROM {s}.t WHERE _cdc_deleted_at IS NULL ORDER BY id"
    )


def snapshots(shop: Shop) -> int:
    return int(shop.staged("SELECT count(*) FROM {s}.t.snapshots")[0][0])


@pytest.mark.parametrize("mode", [UPSERT, APPEND])
def test_a_transaction_that_commits_late_is_not_lost(shop: Shop, mode: str) -> None:
    shop.execute(TABLE, "INSERT INTO t VALUES (1, 'a')")
    manifest = shop.manifest(mode)
    late = shop.connect()
    late.cursor().execute("INSERT INTO t VALUES (2, 'late')")
    shop.execute("INSERT INTO t VALUES (3, 'after')")
    shop.ingest(manifest)
    assert live(shop) == [(1, "a"), (3, "after")]
    late.commit()
    late.close()
    shop.ingest(manifest)
    assert live(shop) == [(1, "a"), (2, "late"), (3, "after")]
    shop.reconcile(manifest)


def test_a_prepared_transaction_is_not_lost(shop: Shop) -> None:
    shop.execute(TABLE, "INSERT INTO t VALUES (1, 'a')")
    manifest = shop.manifest(UPSERT)
    shop.ingest(manifest)
    pending = shop.connect()
    cursor = pending.cursor()
    cursor.execute("INSERT INTO t VALUES (2, 'prepared')")
    time.sleep(3)
    cursor.execute(f"PREPARE TRANSACTION '{shop.database}'")
    pending.close()
    for number in (3, 4):
        shop.execute(f"INSERT INTO t VALUES ({number}, 'x')")
        shop.ingest(manifest)
    finishing = shop.connect()
    finishing.autocommit = True
    finishing.cursor().execute(f"COMMIT PREPARED '{shop.database}'")
    finishing.close()
    shop.ingest(manifest)
    assert [row[0] for row in live(shop)] == [1, 2, 3, 4]


def test_ties_updates_deletes_returns_and_null_cursors(shop: Shop) -> None:
    moment = "'2024-01-01 00:00+00'"
    shop.execute(
        TABLE,
        f"INSERT INTO t SELECT i, 'v', {moment} FROM generate_series(1, 16000) i",
        "INSERT INTO t VALUES (20000, 'no cursor', NULL)",
    )
    manifest = shop.manifest(UPSERT)
    first = shop.ingest(manifest)["t"]
    assert (first["rows_inserted"], first["rows_rejected"]) == (16001, 0)
    before = snapshots(shop)
    again = shop.ingest(manifest)["t"]
    assert (again["rows_inserted"], again["rows_updated"], again["rows_deleted"]) == (
        0,
        0,
        0,
    )
    assert snapshots(shop) == before
    shop.execute(
        "UPDATE t SET v = 'new', at = now() WHERE id = 1",
        "DELETE FROM t WHERE id IN (2, 3)",
        f"INSERT INTO t VALUES (30000, 'old cursor', {moment})",
    )
    found = shop.ingest(manifest)["t"]
    assert (found["rows_updated"], found["rows_deleted"], found["rows_inserted"]) == (
        1,
        2,
        1,
    )
    assert shop.staged(
        "SELECT count(*) FROM {s}.t WHERE _cdc_deleted_at IS NOT NULL"
    ) == [(2,)]
    shop.execute(f"INSERT INTO t VALUES (2, 'back', {moment})")
    shop.ingest(manifest)
    assert shop.staged("SELECT v, _cdc_deleted_at FROM {s}.t WHERE id = 2") == [
        ("back", None)
    ]
    assert live(shop) == shop.source("SELECT id, v FROM t ORDER BY id")
    shop.reconcile(manifest)


def test_what_cannot_be_represented_is_rejected_and_counted(shop: Shop) -> None:
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n numeric, p numeric(12,2), d date, "
        "ts timestamptz, u uuid, j jsonb, b bytea, f float8, c char(4), at timestamptz DEFAULT now())",
        "INSERT INTO t (id, n, p, d, ts, u, j, b, f, c) VALUES "
        "(1, 1.5, 2.25, '2024-02-29', '2024-03-31 01:30+00', gen_random_uuid(), '{\"a\": 1}', "
        "'\\x00ff', 'NaN', 'ab'), "
        "(2, 'NaN', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL), "
        "(3, 1e30, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL), "
        "(4, 1, 'NaN', NULL, NULL, NULL, NULL, NULL, NULL, NULL), "
        "(5, 1, 1, 'infinity', NULL, NULL, NULL, NULL, NULL, NULL), "
        "(6, 1, 1, '0044-03-15 BC', NULL, NULL, NULL, NULL, NULL, NULL), "
        "(7, 1, 1, NULL, '-infinity', NULL, NULL, NULL, NULL, NULL), "
        "(8, 0.1234567890123456789, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL), "
        "(9, 12345678901234567890.123456789012345678, 1, NULL, NULL, NULL, NULL, NULL, NULL, '\U0001f6d2')",
    )
    manifest = shop.manifest(UPSERT)
    found = shop.ingest(manifest)["t"]
    assert (found["rows_inserted"], found["rows_rejected"]) == (2, 7)
    rejects = shop.staged("SELECT key, column_name FROM {s}.t__rejects ORDER BY key")
    assert rejects == [
        ("2", "n"), ("3", "n"), ("4", "p"), ("5", "d"), ("6", "d"), ("7", "ts"), ("8", "n"),
    ]  # fmt: skip
    assert shop.staged("SELECT cast(n AS string), c FROM {s}.t WHERE id = 9") == [
        ("12345678901234567890.123456789012345678", "\U0001f6d2   ")
    ]
    assert shop.staged(
        "SELECT cast(ts AS string), cast(d AS string) FROM {s}.t WHERE id = 1"
    ) == [("2024-03-31 01:30:00", "2024-02-29")]
    shop.execute(
        "UPDATE t SET n = 7, at = now() WHERE id = 2", "DELETE FROM t WHERE id = 3"
    )
    shop.ingest(manifest)
    assert shop.staged("SELECT count(*) FROM {s}.t__rejects") == [(5,)]
    shop.reconcile(manifest)


def test_schema_changes(shop: Shop) -> None:
    shop.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n int, gone text, at timestamptz DEFAULT now())",
        "INSERT INTO t VALUES (1, 1, 'x')",
        "CREATE TABLE o (id int PRIMARY KEY, at timestamptz DEFAULT now())",
    )
    manifest = shop.manifest(UPSERT + UPSERT.replace("name: t", "name: o"))
    shop.ingest(manifest)
    shop.execute(
        "ALTER TABLE t ADD COLUMN extra text DEFAULT 'e'",
        "ALTER TABLE t ALTER COLUMN n TYPE bigint",
        "ALTER TABLE t DROP COLUMN gone",
        "INSERT INTO t VALUES (2, 5000000000, now(), 'new')",
    )
    notes = " ".join(shop.ingest(manifest)["t"]["notes"])
    for part in ("extra", "widened from int to bigint", "gone"):
        assert part in notes
    assert shop.staged("SELECT n, extra FROM {s}.t WHERE id = 2") == [
        (5000000000, "new")
    ]
    shop.execute("ALTER TABLE t ALTER COLUMN n TYPE text", "INSERT INTO o VALUES (1)")
    said = shop.ingest(manifest, code=2)
    assert "t.n was bigint" in said
    assert "string" in said
    # What failed hides nothing of what did not.
    document = json.loads(said[: said.index("\n}\n") + 3])
    assert [(o["table"], o["rows_inserted"]) for o in document["tables"]] == [("o", 1)]
    assert shop.staged("SELECT id FROM {s}.o") == [(1,)]


def test_odd_names_and_a_composite_key(shop: Shop) -> None:
    shop.execute(
        'CREATE TABLE "Odd ""Name" ("Key A" text, "k-b" date, "sel`ect" int, "at" timestamptz, '
        'PRIMARY KEY ("Key A", "k-b"))',
        """INSERT INTO "Odd ""Name" VALUES ('x''y', '2024-01-01', 1, now()), ('', '2024-01-02', 2, now())""",
    )
    manifest = shop.manifest(
        "  - name: 'Odd \"Name'\n    key: ['Key A', 'k-b']\n    cursor: at\n"
        "    mode: upsert\n    deletes: sweep\n"
    )
    assert shop.ingest(manifest)['Odd "Name']["rows_inserted"] == 2
    shop.execute('DELETE FROM "Odd ""Name" WHERE "Key A" = \'\'')
    assert shop.ingest(manifest)['Odd "Name']["rows_deleted"] == 1
    shop.reconcile(manifest)


def test_runs_at_once_into_one_target_and_into_another(shop: Shop) -> None:
    shop.execute(TABLE, "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 500) i")
    first = shop.manifest(UPSERT)
    other = shop.folder / "other.yml"
    text = first.read_text(encoding="utf-8")
    other.write_text(text.replace(shop.schema, f"{shop.schema}_b"), encoding="utf-8")
    runs = [
        subprocess.Popen(
            [str(BIN / "ecom"), "ingest", "--manifest", str(manifest)],
            env=environment(shop.settings), stderr=subprocess.PIPE, text=True,
        )
        for manifest in (first, first, other)
    ]  # fmt: skip
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    for suffix in ("", "_b"):
        assert shop.staged(
            f"SELECT count(*), count(DISTINCT id) FROM {{s}}{suffix}.t"
        ) == [(500, 500)]


def test_history_keeps_every_captured_version(shop: Shop) -> None:
    shop.execute(TABLE, "INSERT INTO t VALUES (1, 'a')")
    manifest = shop.manifest(UPSERT.replace("sweep}", "sweep, history: true}"))
    shop.ingest(manifest)
    for value in ("b", "c"):
        shop.execute(f"UPDATE t SET v = '{value}', at = now()")
        shop.ingest(manifest)
    shop.execute("DELETE FROM t")
    shop.ingest(manifest)
    assert shop.staged(
        "SELECT v, _cdc_deleted_at IS NOT NULL FROM {s}.t__history ORDER BY _cdc_loaded_at"
    ) == [("a", False), ("b", False), ("c", False), ("c", True)]


def test_reconcile_names_what_differs(shop: Shop) -> None:
    shop.execute(
        TABLE, "INSERT INTO t SELECT i, 'v', '2024-01-01' FROM generate_series(1, 50) i"
    )
    manifest = shop.manifest(UPSERT)
    shop.ingest(manifest)
    shop.execute(
        "UPDATE t SET v = 'silent' WHERE id = 7",
        "DELETE FROM t WHERE id = 8",
        "INSERT INTO t VALUES (99, 'unseen', '2023-01-01')",
    )
    said = shop.reconcile(manifest, code=1)
    assert "7: values differ" in said
    assert "8: not in the source" in said
    assert "99: missing in staging" in said


def test_what_is_refused_before_anything_moves(shop: Shop) -> None:
    shop.execute(
        TABLE,
        "INSERT INTO t VALUES (1, 'a')",
        "CREATE TABLE loose (id int, at timestamptz)",
        # PostgreSQL has no idea of its size before the first ANALYZE.
        "CREATE TABLE vast (id int PRIMARY KEY, at timestamptz) WITH (autovacuum_enabled = false)",
        "INSERT INTO vast SELECT i, now() FROM generate_series(1, 1000000) i",
    )
    for tables, word in {
        "  - {name: nowhere, key: [id], cursor: at, mode: upsert}\n": "nowhere",
        "  - {name: t, key: [id], cursor: changed, mode: upsert}\n": "changed",
        "  - {name: loose, key: [id], cursor: at, mode: upsert}\n": "unique",
        "  - {name: vast, key: [id], cursor: at, mode: upsert}\n": "1,000,000 rows and no index",
        UPSERT.replace("deletes: sweep", "columns: {v: varchar}"): "varchar",
    }.items():
        said = shop.ingest(shop.manifest(tables), code=2)
        assert word in said
    assert shop.staged("SHOW NAMESPACES LIKE '{s}'") == []
    shop.execute("REVOKE SELECT ON t FROM ecom_ingest")
    said = shop.ingest(shop.manifest(UPSERT), code=2)
    assert "GRANT SELECT ON public.t" in said


def test_a_source_that_went_back_is_refused(shop: Shop) -> None:
    shop.execute(TABLE, "INSERT INTO t VALUES (1, 'a')")
    manifest = shop.manifest(UPSERT)
    shop.ingest(manifest)
    with_later = (
        '{"lower": "2026-01-01T00:00:00+00:00", "batch": "b", '
        '"loaded_at": "2026-01-01T00:00:00+00:00", "snapshot_xmax": 9000000000, "system": ""}'
    )
    from ingest.engine import PROPERTY_CONF, open_engine
    from stack.endpoints import connect_url

    with open_engine(connect_url(shop.settings), "test") as session:
        session.conf.set(PROPERTY_CONF, with_later)
        session.sql(
            f"INSERT INTO {shop.schema}.t SELECT * FROM {shop.schema}.t WHERE id = 0"
        ).collect()
        session.sql(f"UPDATE {shop.schema}.t SET v = 'a' WHERE id = 1").collect()
    said = shop.ingest(manifest, code=1)
    assert "went back in time" in said
    shop.ingest(manifest, "--full")
    shop.ingest(manifest)


def test_what_is_left_of_a_session_ends_no_other(shop: Shop) -> None:
    """The client's pool is one for all sessions; the collector closes them late."""
    from pyspark.sql.connect.client.reattach import (
        ExecutePlanResponseReattachableIterator as Responses,
    )

    from ingest.engine import open_engine
    from stack.endpoints import connect_url

    with open_engine(connect_url(shop.settings), "test") as first:
        first.sql("SELECT 1").collect()
    with open_engine(connect_url(shop.settings), "test") as second:
        second.sql("SELECT 1").collect()
        pool = Responses._release_thread_pool_instance
        first.__del__()
        assert pool is not None
        assert Responses._release_thread_pool_instance is pool


def test_a_killed_ingest_is_made_good_by_the_next(shop: Shop) -> None:
    shop.execute(TABLE, "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 200000) i")
    manifest = shop.manifest(UPSERT)
    for delay in (2.0, 4.0):
        _kill_after(shop, manifest, delay)
    shop.ingest(manifest)
    for delay in (2.5, 4.0, 5.5):
        shop.execute(
            "UPDATE t SET v = v || '+', at = clock_timestamp() WHERE id % 3 = 0"
        )
        _kill_after(shop, manifest, delay)
    shop.ingest(manifest)
    assert shop.staged("SELECT count(*), count(DISTINCT id) FROM {s}.t") == [
        (200000, 200000)
    ]
    shop.reconcile(manifest)


def _kill_after(shop: Shop, manifest: Path, delay: float) -> None:
    process = subprocess.Popen(
        [str(BIN / "ecom"), "ingest", "--manifest", str(manifest)],
        env=environment(shop.settings), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_without_the_right_to_see_sessions_it_says_so(shop: Shop) -> None:
    shop.execute(TABLE, "INSERT INTO t VALUES (1, 'a')")
    shop.execute("REVOKE pg_read_all_stats FROM ecom_ingest")
    try:
        done = subprocess.run(
            [str(BIN / "ecom"), "ingest", "--manifest", str(shop.manifest(UPSERT))],
            env=environment(shop.settings), capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        shop.execute("GRANT pg_read_all_stats TO ecom_ingest")
    assert "pg_read_all_stats" in done.stderr


def test_a_wrong_password_is_a_wrong_configuration_and_stays_secret(shop: Shop) -> None:
    shop.execute(TABLE)
    manifest = shop.manifest(UPSERT)
    dsn = str(shop.settings.source_dsn)
    head, _, tail = dsn.partition("@")
    secret = "s3cr3t-and-wrong"
    wrong = {
        **environment(shop.settings),
        "ECOM_SOURCE_DSN": f"{head.rpartition(':')[0]}:{secret}@{tail}",
    }
    run = subprocess.Popen(
        [str(BIN / "ecom"), "ingest", "--manifest", str(manifest)],
        env=wrong, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while run.poll() is None:
        assert secret not in str([p.info for p in psutil.process_iter(["cmdline"])])
        time.sleep(0.1)
    said = run.communicate()[0]
    assert run.returncode == 2
    assert "password authentication failed" in said
    assert secret not in said
    for folder in ("logs", "run", "conf", "tmp"):
        for file in (shop.settings.home / folder).rglob("*"):
            if file.is_file():
                assert secret.encode() not in file.read_bytes(), file


def test_the_engines_own_pages_do_not_show_the_password(shop: Shop) -> None:
    shop.execute(TABLE, "INSERT INTO t VALUES (1, 'a')")
    shop.ingest(shop.manifest(UPSERT))
    home = Home(shop.settings.home)
    secret = home.secret("postgres_ecom_ingest")
    base = f"http://127.0.0.1:{home.ports()['spark_ui']}"

    def page(path: str) -> str:
        with urllib.request.urlopen(base + path) as answer:
            return str(answer.read().decode(errors="replace"))

    sessions = re.findall(r'href="(/connect/session[^"#]*)', page("/connect/"))
    assert sessions
    application = json.loads(page("/api/v1/applications"))[0]["id"]
    pages = [html.unescape(path) for path in sessions[:20]]
    pages += ["/connect/", "/SQL/", f"/api/v1/applications/{application}/environment"]
    pages += [f"/api/v1/applications/{application}/sql?details=true&length=1000"]
    for path in pages:
        assert secret not in page(path), path
