"""A few new rows cost what they are, not what the table has grown to."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from stack.home import Home
from tests.ingest.conftest import Shop

UPSERT = "  - {name: t, key: [id], cursor: at, mode: upsert}\n"
APPEND = "  - {name: t, key: [id], cursor: at, mode: append, partition_by: days(at)}\n"
TABLE = "CREATE TABLE t (id bigint PRIMARY KEY, v text, at timestamptz)"


def executions(shop: Shop, after: int = -1) -> list[dict[str, Any]]:
    """What the engine has executed since, as its own UI tells."""
    port = Home(shop.settings.home).ports()["spark_ui"]
    base = f"http://127.0.0.1:{port}/api/v1/applications"
    with urllib.request.urlopen(base) as answer:
        application = json.load(answer)[0]["id"]
    url = f"{base}/{application}/sql?details=true&offset=0&length=100000"
    with urllib.request.urlopen(url) as answer:
        return [one for one in json.load(answer) if int(one["id"]) > after]


def scanned_files(shop: Shop, after: int) -> int:
    """Data files of `t` that scans have read since an execution."""
    total = 0
    for execution in executions(shop, after):
        for node in execution["nodes"]:
            if f"{shop.schema}.t " in f"{node['nodeName']} ":
                for metric in node["metrics"]:
                    if metric["name"] == "number of result data files":
                        total += int(metric["value"].replace(",", ""))
    return total


def ingest_counting_files(shop: Shop, manifest: Any) -> tuple[int, int]:
    """Rows inserted by an ingest, and files of `t` it read."""
    last = max((int(one["id"]) for one in executions(shop)), default=-1)
    inserted = shop.ingest(manifest)["t"]["rows_inserted"]
    return inserted, scanned_files(shop, last)


def test_an_upsert_of_new_rows_reads_no_file_without_their_keys(shop: Shop) -> None:
    shop.execute(
        TABLE, "INSERT INTO t SELECT i, 'v', '2024-01-01' FROM generate_series(1, 50) i"
    )
    manifest = shop.manifest(UPSERT)
    shop.ingest(manifest)
    for first in (100, 200):
        shop.execute(f"INSERT INTO t VALUES ({first}, 'new', now())")
        shop.ingest(manifest)
    shop.execute("INSERT INTO t VALUES (300, 'new', now())")
    inserted, files = ingest_counting_files(shop, manifest)
    assert inserted == 1
    assert files <= 2  # what the overlap of the reads brings again
    shop.execute("UPDATE t SET v = 'changed', at = now() WHERE id = 7")
    found = shop.ingest(manifest)["t"]
    assert found["rows_updated"] == 1
    shop.reconcile(manifest)


def test_an_append_reads_no_file_from_before_its_bound(shop: Shop) -> None:
    shop.execute(
        TABLE,
        "INSERT INTO t SELECT i, 'v', '2024-01-01'::timestamptz + i * interval '1 day' "
        "FROM generate_series(1, 40) i",
    )
    manifest = shop.manifest(APPEND)
    shop.ingest(manifest)
    shop.execute("INSERT INTO t VALUES (300, 'new', now())")
    assert ingest_counting_files(shop, manifest) == (1, 0)
    shop.execute("INSERT INTO t VALUES (301, 'new', now())")
    inserted, files = ingest_counting_files(shop, manifest)
    assert inserted == 1
    assert files <= 1
