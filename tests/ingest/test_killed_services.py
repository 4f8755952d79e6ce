"""kill -9 of each service under an ingest: the next run makes it good, in any time zone."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from stack.manager import Stack
from tests.conftest import BIN, ecom, environment
from tests.ingest.conftest import Shop

ROWS = 60_000
# After the first kill the engine comes back in a zone 5 h 45 min off, to the end.
KILLS = (("thrift", 2.5), ("datanode", 2.0), ("postgres", 1.5), ("thrift", 4.0))
ZONES = ("Asia/Kathmandu", None, None, None)
OLD_DAYS = (
    "0001-01-01", "1000-02-28", "1500-02-28", "1582-10-04", "1582-10-10", "1582-10-15",
    "1883-11-18", "1969-12-31", "2024-03-31", "9999-12-31",
)  # fmt: skip


def kill_under_ingest(shop: Shop, manifest: Path, service: str, delay: float) -> None:
    """The service dies while an ingest runs, which ends by itself and says why."""
    run = subprocess.Popen(
        [str(BIN / "ecom"), "ingest", "--manifest", str(manifest)],
        env=environment(shop.settings), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(delay)
    process = getattr(Stack(shop.settings), service).process()
    process.kill()
    _, said = run.communicate(timeout=180)
    assert run.returncode in (0, 1, 3), said
    assert "Traceback" not in said
    assert run.returncode == 0 or "Next:" in said


def test_any_service_may_be_killed_under_an_ingest(shop: Shop) -> None:
    shop.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text, at timestamptz DEFAULT now())",
        f"INSERT INTO t SELECT i, 'v' FROM generate_series(1, {ROWS}) i",
        "CREATE TABLE old (id serial PRIMARY KEY, d date, l timestamp, z timestamptz, "
        "at timestamptz DEFAULT now())",
    )
    table = "  - {{name: {}, key: [id], cursor: at, mode: upsert, deletes: sweep}}\n"
    manifest = shop.manifest(table.format("t") + table.format("old"))
    for (service, delay), zone in zip(KILLS, ZONES):
        kill_under_ingest(shop, manifest, service, delay)
        if zone:
            os.environ["TZ"] = zone
        try:
            ecom(shop.settings, "up")
        finally:
            os.environ.pop("TZ", None)
        shop.execute(
            "UPDATE t SET v = v || '+', at = clock_timestamp() WHERE id % 3 = 0",
            f"DELETE FROM t WHERE id % {ROWS // 10} = {len(zone or '')}",
        )
        if zone:
            for day in OLD_DAYS:
                moment = f"{day} 02:30:00.000001"
                shop.execute(
                    f"INSERT INTO old (d, l, z) VALUES ('{day}', '{moment}', '{moment}+00')"
                )
            shop.ingest(manifest)
    shop.ingest(manifest)
    for name, columns in {
        "t": "id, v",
        "old": "id, cast(d AS {text}), cast(l AS {text}), {moment}",
    }.items():
        staged = shop.staged(
            f"SELECT {columns.format(text='string', moment='cast(z AS string)')} "
            f"FROM {{s}}.{name} WHERE _cdc_deleted_at IS NULL ORDER BY id"
        )
        moment = "(z AT TIME ZONE 'UTC')::text"
        assert staged == shop.source(
            f"SELECT {columns.format(text='text', moment=moment)} FROM {name} ORDER BY id"
        )
    shop.reconcile(manifest)
