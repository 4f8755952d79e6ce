"""Upkeep changes no row, and takes nothing that publishing, ingest or dbt need."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from filelock import FileLock

from common.errors import BusyError, UsageError
from common.settings import Settings
from ingest.engine import PROPERTY, PROPERTY_CONF
from publish import upkeep
from publish.journal import PUBLISHED, Entry, Journal, Move
from publish.lake import open_lake
from publish.upkeep import Policy, move_days, policies_of
from stack.hdfs_layout import ADMIN, address
from stack.hdfs_rpc import _number, _text, namenode
from stack.home import Home
from tests.warehouse.conftest import BIN, Dbt, copy_of_project
from tests.warehouse.engine import Engine
from tests.warehouse.expected import Expected
from tests.warehouse.scenario import BUILDS
from tests.warehouse.staging import Staging
from tests.warehouse.test_four_builds import differences, states, versions

AGED_MS = 10 * 86_400_000
EAGER = Policy(compact_from_files=2, keep_days=0)
SELECTED = ("--select", "+interaction_trend_daily")
MARK = '{"lower": "2024-03-01T00:00:00"}'


def snapshots(engine: Engine, table: str) -> list[int]:
    """Ids of a table's snapshots, oldest first."""
    rows = engine.run(
        f"select snapshot_id from {table}.snapshots order by committed_at"
    )
    return [row[0] for row in rows]


def plant_orphan(dbt: Dbt, engine: Engine, table: str) -> str:
    """A file ten days old beside a table's own, which no snapshot knows; its path."""
    [(known,)] = engine.run(f"select file_path from {table}.files limit 1")
    folder = known.rsplit("/", 1)[0] + "/lost"
    engine.run(f"insert overwrite directory '{folder}' using parquet select 1 as one")
    with namenode(address(Home(dbt.home)), ADMIN) as client:
        inside = "/" + folder.split("/", 3)[3]
        [name] = [f.name for f in client.list(inside) if f.name.startswith("part-")]
        old = int(time.time() * 1000) - AGED_MS
        moments = _number(2, old) + _number(3, old)
        client._ask("setTimes", _text(1, f"{inside}/{name}") + moments)
    return f"{inside}/{name}"


def is_there(dbt: Dbt, path: str) -> bool:
    """Whether HDFS has a file."""
    with namenode(address(Home(dbt.home)), ADMIN) as client:
        return client.status(path) is not None


def test_upkeep_changes_no_row_and_costs_the_next_build_nothing(
    dbt: Dbt,
    engine: Engine,
    staging: Staging,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(dbt.home, None, "local")
    monkeypatch.setattr(
        upkeep, "read_policies", lambda _: dict.fromkeys(upkeep.SCHEMAS, EAGER)
    )
    engine.run("create schema if not exists ops")
    for name in ("publishes", "publish_events"):
        engine.run(f"drop table if exists ops.{name} purge")
    for change, selected in zip(BUILDS[:2], ((), SELECTED)):
        change(staging)
        staging.write()
        dbt.build(*selected)
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
    orphan = plant_orphan(dbt, engine, "core.dim_customer")

    assert_a_dry_run_changes_nothing(dbt, engine)
    assert is_there(dbt, orphan)
    with FileLock(dbt.home / "run.lock"), pytest.raises(BusyError):
        upkeep.maintain(settings, dry_run=True)
    done = {one.table: one for one in upkeep.maintain(settings, dry_run=False)}

    assert states(engine) == before
    assert done["core.dim_customer"].files_compacted > 0
    assert done["core.dim_customer"].orphans_removed == 1
    assert not is_there(dbt, orphan)
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
    assert_what_comes_beside_a_compaction_is_seen(settings, engine)
    assert_a_failed_build_is_taken_up(dbt, engine, staging, tmp_path)


def assert_what_comes_beside_a_compaction_is_seen(
    settings: Settings, engine: Engine
) -> None:
    """Ingest takes no lock: what it commits meanwhile no build has seen."""
    table = "staging.products"
    with open_lake(settings) as lake:
        before = upkeep.state_of(lake, table)
        lake.rows(f"call lake.system.rewrite_manifests('{table}')")
        assert upkeep.only_replaced(lake, table, before)
        engine.run(f"update {table} set price = price where product_id = 1")
        assert upkeep.state_of(lake, table) != before
        assert not upkeep.only_replaced(lake, table, before)


def assert_a_failed_build_is_taken_up(
    dbt: Dbt, engine: Engine, staging: Staging, tmp_path: Path
) -> None:
    """What builds of a selection have left undone, and one that fails, `retry` does."""
    # Ingest adds a column that the source has got, and a snapshot follows.
    for table in ("customers", "customers__history"):
        engine.run(f"alter table staging.{table} add columns (phone string)")
    BUILDS[2](staging)
    staging.write()
    newest = max(row["_cdc_loaded_at"] for row in staging.history)
    engine.run(
        "update staging.customers__history set phone = '555' "
        f"where _cdc_loaded_at = timestamp '{newest}'"
    )
    project = copy_of_project(tmp_path)
    model = project / "models" / "marts" / "customer_activity_by_region_tier.sql"
    text = model.read_text(encoding="utf-8")
    model.write_text(
        text.replace("count(*) as interactions", "count(no) as interactions")
    )
    kinds = ("--exclude-resource-type", "test", "unit_test")
    dbt.run("build", *kinds, fails=True, DBT_PROJECT_DIR=str(project))
    model.write_text(text)
    dbt.run("retry", DBT_PROJECT_DIR=str(project))
    ran = [r["unique_id"] for r in dbt.results() if r["unique_id"].startswith("model.")]
    assert ran == [f"model.ecom.{model.stem}"]
    assert not differences(engine, Expected(staging))
    phones = engine.run(
        "select phone, count(*) from snapshots.customers_snapshot group by phone"
    )
    changed = sum(row["_cdc_loaded_at"] == newest for row in staging.history)
    assert dict(phones)["555"] == changed < len(staging.history)


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
    assert tables["core.dim_customer"]["orphans_removed"] == 1


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
