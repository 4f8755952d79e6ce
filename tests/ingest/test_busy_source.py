"""Two hundred sessions write while ingest reads: nothing missing, nothing double."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from ingest import manifest as manifests
from ingest import run as running
from ingest import split
from publish.run import ingest_endpoints
from stack.postgres import binaries
from tests.ingest.conftest import Shop

WRITERS, RUNS, ACCOUNTS, AT_MOST = 200, 4, 4000, 600
# Rows are stamped with the transaction's start and become visible up to a second later.
TRANSACTION = f"""
\\set a random(1, {ACCOUNTS})
\\set b random(1, {ACCOUNTS})
\\set pause random(0, 800)
BEGIN;
INSERT INTO log (v) VALUES (:a);
UPDATE accounts SET balance = balance - 5, at = now() WHERE id = least(:a, :b);
UPDATE accounts SET balance = balance + 5, at = now() WHERE id = greatest(:a, :b);
\\sleep :pause ms
END;
"""


def start_writers(shop: Shop, folder: Path) -> subprocess.Popen[bytes]:
    script = folder / "writer.sql"
    script.write_text(TRANSACTION, encoding="utf-8")
    return subprocess.Popen(
        [str(binaries() / "pgbench"), "-h", "127.0.0.1", "-p", str(shop.server.port),
         "-U", "postgres", "-n", "-c", str(WRITERS), "-j", "2", "-T", str(AT_MOST),
         "-f", str(script), shop.database],
        env={**os.environ, "PGPASSWORD": shop.server.home.secret("postgres_postgres")},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_two_hundred_writers_lose_nothing_and_each_read_is_one_moment(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.execute(
        "CREATE TABLE log (id bigserial PRIMARY KEY, v int, at timestamptz DEFAULT now())",
        "CREATE TABLE accounts (id int PRIMARY KEY, balance int, at timestamptz)",
        f"INSERT INTO accounts SELECT i, 100, now() FROM generate_series(1, {ACCOUNTS}) i",
    )
    monkeypatch.setattr(split, "SPLIT_FROM_BYTES", 0)
    monkeypatch.setattr(split, "RANGE_BYTES", 2**15)
    path = shop.manifest(
        "  - {name: log, key: [id], cursor: at, mode: append}\n"
        "  - {name: accounts, key: [id], cursor: at, mode: upsert}\n"
    )
    endpoints, loaded = ingest_endpoints(shop.settings), manifests.load(path)
    writers = start_writers(shop, tmp_path)
    try:
        for _ in range(RUNS):
            running.ingest(endpoints, loaded, [])
            # Each transfer between two ranges was read whole or not at all.
            assert shop.staged("SELECT count(*), sum(balance) FROM {s}.accounts") == [
                (ACCOUNTS, 100 * ACCOUNTS)
            ]
        assert writers.poll() is None, writers.communicate()[1]
    finally:
        writers.terminate()
        writers.communicate()
    writing = "SELECT FROM pg_stat_activity WHERE application_name = 'pgbench'"
    while shop.source(writing):
        time.sleep(0.1)
    running.ingest(endpoints, loaded, [])
    for name, columns in {"log": "id, v", "accounts": "id, balance"}.items():
        staged = shop.staged(f"SELECT {columns} FROM {{s}}.{name} ORDER BY id")
        assert staged == shop.source(f"SELECT {columns} FROM {name} ORDER BY id")
    assert len(shop.source("SELECT id FROM log")) > WRITERS
