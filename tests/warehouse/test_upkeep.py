"""Upkeep changes no row, and takes nothing that publishing, ingest or dbt need."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from filelock import FileLock

from common.errors import BusyError, UsageError
from common.settings import Settings
from ingest.engine import PROPERTY, PROPERTY_CONF
from publish import upkeep
from publish.journal import PUBLISHED, Entry, Journal, Move
from publish.lake import open_lake
from publish.upkeep import Policy, move_days, policies_of
from tests.warehouse.conftest import BIN, Dbt
from tests.warehouse.engine import Engine
from tests.warehouse.scenario import BUILDS
from tests.warehouse.staging import Staging
from tests.warehouse.test_four_builds import states, versions

EAGER = Policy(compact_from_files=2, keep_days=0)
SELECTED = ("--select", "+interaction_trend_daily")
MARK = '{"lower": "2024-03-01T00:00:00"}'


def snapshots(engine: Engine, table: str) -> list[int]:
    """Ids of a table's snapshots, oldest first."""
    rows = engine.run(
        f"select snapshot_id from {table}.snapshots order by committed_at"
    )
    return [row[0] for row in rows]


def test_upkeep_changes_no_row_and_costs_the_next_build_nothing(
    dbt: Dbt, engine: Engine, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(dbt.home, None, "local")
    monkeypatch.setattr(
        upkeep, "read_policies", lambda _: dict.fromkeys(upkeep.SCHEMAS, EAGER)
    )
    engine.run("create schema if not exists ops")
    for name in ("publishes", "publish_events"):
        engine.run(f"drop table if exists ops.{name} purge")
    for change in BUILDS[:2]:
        change(staging)
        staging.write()
        dbt.build(*SELECTED)
    # Ingest's watermark, and a commit after it that carries none.
    engine.run(f"set `{PROPERTY_CONF}`=`{MARK}`")
    staging.write()
    engine.run(f"reset `{PROPERTY_CONF}`")
    staging.write()
    dbt.build(*SELECTED)
    products = snapshots(engine, "core.dim_product")
    with open_lake(settings) as lake:
        journal = Journal(lake)
        journal.prepare()
        move = Move("core.dim_product", products[-2], products[-1])
        entry = Entry("p1", "audit_p1", "p1", "", (move,), 1)
        journal.intend(entry)
        journal.record(entry, PUBLISHED)
    before = states(engine)
    files = engine.run("select count(*) from core.dim_customer.files")[0][0]
    facts = snapshots(engine, "core.fct_interactions")

    assert_a_dry_run_changes_nothing(dbt, engine)
    with FileLock(dbt.home / "run.lock"), pytest.raises(BusyError):
        upkeep.maintain(settings, dry_run=True)
    done = {one.table: one for one in upkeep.maintain(settings, dry_run=False)}

    assert states(engine) == before
    assert done["core.dim_customer"].files_compacted > 0
    assert engine.run("select count(*) from core.dim_customer.files")[0][0] < files
    assert set(facts) - set(snapshots(engine, "core.fct_interactions"))
    assert products[-2] in snapshots(engine, "core.dim_product"), "rollback is lost"
    marks = engine.run(
        f"select max_by(summary['{PROPERTY}'], committed_at) from "
        f"staging.products.snapshots where summary['{PROPERTY}'] is not null"
    )
    assert marks[0][0] == MARK, "ingest would read everything again"

    dbt.build(*SELECTED)
    ran = [
        r["unique_id"] for r in dbt.results()
        if r["adapter_response"].get("_message") != "unchanged"
        and r["unique_id"].startswith(("model.", "snapshot."))
    ]  # fmt: skip
    assert not ran, "the next build looked at what upkeep had merely rewritten"


def assert_a_dry_run_changes_nothing(dbt: Dbt, engine: Engine) -> None:
    """And names each table that upkeep would look at."""
    before = versions(engine)
    done = subprocess.run(
        [str(BIN / "ecom"), "maintain", "--dry-run", "--json"],
        env={**os.environ, "ECOM_HOME": str(dbt.home), "DBT_TARGET_PATH": str(dbt.target_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tables = {one["table"]: one for one in json.loads(done.stdout)["tables"]}
    wanted = {"staging.customers", "core.dim_customer", "marts.interaction_trend_daily"}
    assert wanted <= set(tables)
    assert versions(engine) == before


def test_a_policy_is_checked_and_a_table_has_its_own() -> None:
    source = {
        "resource_type": "source", "schema": "staging", "identifier": "orders",
        "source_meta": {"upkeep": {"keep_days": 2}}, "config": {"meta": {}},
    }  # fmt: skip
    model = {
        "resource_type": "model", "schema": "core", "alias": "dim_date",
        "config": {"meta": {"upkeep": {"compact_from_files": 9}}},
    }  # fmt: skip
    found = policies_of({"sources": {"a": source}, "nodes": {"b": model}})
    assert found == {
        "staging": Policy(keep_days=2),
        "core.dim_date": Policy(compact_from_files=9),
    }
    for wrong in ({"keep": 1}, {"orphan_days": 0.5}, {"compact_from_files": 1}):
        with pytest.raises(UsageError):
            Policy.from_meta(wrong, "core.dim_date")


def test_a_day_not_read_yet_is_still_read_after_compaction() -> None:
    mark = "2024-03-01:aaaa 2024-03-02:bbbb 2024-03-03:cccc"
    before = {"2024-03-01": "aaaa", "2024-03-02": "xxxx"}
    after = {"2024-03-01": "1111", "2024-03-02": "2222"}
    assert move_days(mark, before, after) == (
        "2024-03-01:1111 2024-03-02:bbbb 2024-03-03:cccc"
    )
