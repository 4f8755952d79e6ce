"""Five builds in a row against tables worked out independently."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from tests.warehouse.conftest import Dbt, copy_of_project
from tests.warehouse.engine import Engine, tell_that_it_is_ours
from tests.warehouse.expected import Expected
from tests.warehouse.scenario import BUILDS, at, product
from tests.warehouse.staging import Staging

BRANCH = "audit_test"
QUERIES = {
    "snapshot": "select customer_id, region, loyalty_tier, is_deleted "
    "from snapshots.customers_snapshot where dbt_valid_to is null",
    "dim_customer": "select customer_id, birth_date, region, loyalty_tier, valid_from, "
    "valid_to, is_current, is_deleted from core.dim_customer where customer_id != -1",
    "dim_product": "select product_id, product_name, category, price, is_deleted "
    "from core.dim_product where product_id != -1",
    "fct_interactions": "select f.interaction_id, f.date_key, f.customer_id, "
    "f.product_id, f.interaction_type, f.occurred_at, c.valid_from, p.product_id as known "
    "from core.fct_interactions as f "
    "left join core.dim_customer as c on f.customer_key = c.customer_key "
    "left join core.dim_product as p on f.product_key = p.product_key",
    "fct_order_items": "select f.order_id, f.line_number, f.date_key, f.ordered_at, "
    "f.status, f.quantity, f.unit_price, f.revenue, c.valid_from, p.product_id "
    "from core.fct_order_items as f "
    "left join core.dim_customer as c on f.customer_key = c.customer_key "
    "left join core.dim_product as p on f.product_key = p.product_key",
    "rejected": "select source_table, record_key, reason from core.rejected_records",
    "customer_activity": "select activity_month, region, loyalty_tier, active_customers, "
    "interactions, purchases, interactions_per_customer "
    "from marts.customer_activity_by_region_tier",
    "top_products": "select category, region, product_id, product_name, units, revenue, "
    "interactions, product_rank from marts.top_products_by_category_region",
    "interaction_trend": "select date_day, interaction_type, interactions, "
    "active_customers, interactions_7d_avg from marts.interaction_trend_daily",
    "purchase_trend": "select purchase_month, category, orders, units, revenue "
    "from marts.purchase_trend_by_category",
    "by_age": "select age_band, interaction_type, customers, interactions "
    "from marts.interaction_by_age",
}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 9)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return value


def canonical(rows: Any) -> list[tuple[Any, ...]]:
    """Rows in an order of their own, floats to nine places."""
    return sorted((tuple(_plain(v) for v in row) for row in rows), key=repr)


def differences(engine: Engine, expected: Expected) -> dict[str, Any]:
    """Per table, the rows that are missing and those that should not be there."""
    found = {}
    for name, query in QUERIES.items():
        wanted = getattr(expected, name)
        want = canonical(wanted() if callable(wanted) else wanted)
        have = canonical(engine.run(query))
        if want != have:
            found[name] = {
                "missing": [row for row in want if row not in have],
                "unexpected": [row for row in have if row not in want],
                "rows": (len(want), len(have)),
            }
    return found


def states(engine: Engine) -> dict[str, Any]:
    """Every table's rows that the project makes, whole."""
    tables = [
        f"{schema}.{name}"
        for schema in ("core", "marts", "snapshots")
        for _, name, _ in engine.run(f"show tables in {schema}")
        if name != "build_state"
    ]
    return {table: canonical(engine.run(f"select * from {table}")) for table in tables}


def versions(engine: Engine) -> dict[str, Any]:
    """The Iceberg snapshot each fact, dimension and mart is at."""
    return {
        f"{schema}.{name}": engine.run(
            f"select snapshot_id from {schema}.{name}.refs where name = 'main'"
        )
        for schema in ("core", "marts", "snapshots")
        for _, name, _ in engine.run(f"show tables in {schema}")
    }


@pytest.mark.timeout(2700)
def test_four_builds(
    dbt: Dbt, engine: Engine, staging: Staging, tmp_path: Path
) -> None:
    """On the audit branch, published as a run does; then what plain dbt is asked."""
    for number, change in enumerate(BUILDS, start=1):
        change(staging)
        staging.write()
        # Unit tests test the models, not the data: once is enough, as a user runs them.
        left_out = [[], ["unit_test"], ["unit_test", "test"]][min(number, 3) - 1]
        # Planned as for a large shop, which takes longer, where most rules meet.
        large = ["--vars", "{small_rows: 0}"] if number == 2 else []
        kinds = (f"--exclude-resource-type={kind}" for kind in left_out)
        build_unseen(dbt, engine, *large, *kinds)
        found = differences(engine, Expected(staging))
        assert not found, f"build {number}: {found}"
        if 1 < number < len(BUILDS):
            assert_only_the_difference_is_read(dbt)

    assert_a_rerun_changes_nothing(dbt, engine)
    grown = states(engine)
    assert_what_is_written_by_hand_is_made_anew(dbt, engine, grown)
    assert_a_failed_build_is_mended(dbt, engine, staging, tmp_path / "failing")
    assert_an_edited_view_is_not_left_out(dbt, tmp_path / "edited")
    grown = states(engine)
    assert_a_backfill_mends_its_days_alone(dbt, engine, grown)
    build_unseen(dbt, engine, "--full-refresh", "--exclude-resource-type=unit_test")
    rebuilt = states(engine)
    for table, rows in grown.items():
        assert rebuilt[table] == rows, table
    assert_no_personal_data(staging, rebuilt)
    assert_an_edited_macro_rebuilds(dbt, engine, tmp_path)
    dbt.run("test", "--exclude-resource-type", "unit_test")
    assert_columns_are_described(engine)
    assert_questions_are_answered(dbt, engine)
    assert_freshness_is_that_of_the_last_ingest(dbt, engine)
    assert_history_guarded(dbt, engine)


def assert_only_the_difference_is_read(dbt: Dbt) -> None:
    """Sums over all time come from the changed days, or the builds prove less."""
    folder = dbt.target_path / "compiled" / "ecom" / "models"
    for name in (
        "core/agg_customer_age_bands",
        "marts/top_products_by_category_region",
    ):
        assert "-1 as sign" in (folder / f"{name}.sql").read_text(encoding="utf-8")


def build_unseen(dbt: Dbt, engine: Engine, *flags: str) -> None:
    """Build on a branch, which readers of the tables do not see; then publish it."""
    before = states(engine)
    dbt.run("build", "--target", "audit", *flags, ECOM_AUDIT_BRANCH=BRANCH)
    for table, rows in states(engine).items():
        assert rows == before.get(table, []), f"{table} was written to"
    for table in versions(engine):
        if engine.run(f"select 1 from {table}.refs where name = '{BRANCH}'"):
            engine.run(f"call lake.system.fast_forward('{table}', 'main', '{BRANCH}')")
            engine.run(f"alter table {table} drop branch {BRANCH}")


def assert_a_rerun_changes_nothing(dbt: Dbt, engine: Engine) -> None:
    """And a tier that is not known stays a warning where nothing is new."""
    before: list[dict[str, Any]] = []
    for _ in range(2):
        dbt.run("build", "--exclude-resource-type", "unit_test")
        warned = [r["unique_id"] for r in dbt.results() if r["status"] == "warn"]
        assert len(warned) == 1
        assert "loyalty_tier" in warned[0]
        before.append(versions(engine))
    assert before[0] == before[1], "a rerun with nothing new wrote something"


def assert_what_is_written_by_hand_is_made_anew(
    dbt: Dbt, engine: Engine, sound: dict[str, Any]
) -> None:
    """As what a run left that died after its write: no watermark tells of it."""
    engine.run("delete from core.fct_interactions where interaction_id in (1, 12)")
    engine.run("update core.dim_product set category = 'spoilt' where product_id = 1")
    engine.run("delete from marts.purchase_trend_by_category where category = 'books'")
    dbt.build()
    assert states(engine) == sound


def assert_a_failed_build_is_mended(
    dbt: Dbt, engine: Engine, staging: Staging, folder: Path
) -> None:
    """A build straight to the tables fails in a test; then its cause is taken back."""
    project = copy_of_project(folder)
    test = project / "tests" / "dbt" / "assert_nothing.sql"
    test.write_text("select * from {{ ref('fct_interactions') }} limit 1", "utf-8")
    broken = product(4, "garden", "-1.25", "03-05 10:00")
    staging.put("products", at("03-05 12:00"), broken)
    staging.write()
    said = dbt.run(
        "build", "--exclude-resource-type", "unit_test", fails=True,
        DBT_PROJECT_DIR=str(project),
    )  # fmt: skip
    assert "assert_nothing" in said
    staging.put("products", at("03-06 06:00"), {**broken, "price": Decimal("1.25")})
    staging.write()
    dbt.build()
    assert not differences(engine, Expected(staging))


def assert_an_edited_view_is_not_left_out(dbt: Dbt, folder: Path) -> None:
    """A model is not built alone by a rule that its staging view does not have yet."""
    project = copy_of_project(folder)
    view = project / "models" / "staging" / "stg_interactions.sql"
    text = view.read_text(encoding="utf-8")
    view.write_text(text.replace("unknown interaction type", "unknown type"), "utf-8")
    edited = {"DBT_PROJECT_DIR": str(project)}
    said = dbt.run("run", "-s", "fct_interactions", fails=True, **edited)
    assert "fct_interactions reads the view staging.stg_interactions" in said
    assert "Next: build the view too (-s stg_interactions fct_interactions)" in said
    dbt.run("run", "-s", "fct_interactions")


DAYS = ("--event-time-start", "2024-02-20", "--event-time-end", "2024-02-22")
WITHIN = "between timestamp '2024-02-20' and timestamp '2024-02-21 23:59:59.999999'"


def assert_a_backfill_mends_its_days_alone(
    dbt: Dbt, engine: Engine, sound: dict[str, Any]
) -> None:
    """What is spoilt in a range is put right; nothing else is written, nor the state.

    The full refresh that follows mends the rest, so that must be all that is left.
    """
    facts = "core.fct_interactions", "core.fct_order_items"
    moments = dict(zip(facts, ("occurred_at", "ordered_at")))
    marts = {
        "marts.customer_activity_by_region_tier": "activity_month = '2024-02-01'",
        "marts.purchase_trend_by_category": "purchase_month = '2024-02-01'",
        "marts.interaction_trend_daily": "date_day between '2024-02-20' and '2024-02-27'",
    }
    ranges = {f: f"{at} {WITHIN}" for f, at in moments.items()} | marts

    def parts(inside: bool) -> dict[str, Any]:
        return {
            table: canonical(
                engine.run(f"select * from {table} where {'' if inside else 'not '}({where})")
            )
            for table, where in ranges.items()
        }  # fmt: skip

    mended = parts(inside=True)
    # A row changed and one lost within; one changed in another month.
    engine.run(
        "update core.fct_interactions set interaction_type = if(interaction_id = 2, 'review', 'purchase'), "
        "occurred_at = occurred_at + interval 1 hour where interaction_id in (2, 30)"
    )
    engine.run("delete from core.fct_interactions where interaction_id = 3")
    engine.run(
        "update core.fct_order_items set quantity = 9 where order_id in (15, 20)"
    )
    engine.run("delete from core.fct_order_items where order_id = 12")
    for fact in facts:
        tell_that_it_is_ours(engine, fact)
    dbt.build()
    spoilt, untouched = parts(inside=True), parts(inside=False)
    assert all(spoilt[table] != mended[table] for table in ranges)
    all_time = {
        "core.agg_customer_age_bands", "marts.interaction_by_age",
        "marts.top_products_by_category_region",
    }  # fmt: skip
    names = "', '".join(table.split(".")[1] for table in all_time)
    marks = (
        "select * from core.build_state where input != 'itself' "
        f"and substring_index(model, '.', -1) not in ('{names}')"
    )
    state = canonical(engine.run(marks))

    build_unseen(dbt, engine, *DAYS, "--exclude-resource-type=unit_test")

    assert parts(inside=True) == mended
    assert parts(inside=False) == untouched
    assert canonical(engine.run(marks)) == state
    left = {t for t, rows in states(engine).items() if rows != sound[t]}
    assert left == {*facts, *marts, *all_time}, "planted in another month, not mended"

    before = versions(engine)
    dbt.build()
    moved = {t for t, version in versions(engine).items() if version != before[t]}
    assert moved <= {"core.build_state"}


def assert_no_personal_data(staging: Staging, tables: dict[str, Any]) -> None:
    """No cell of core and marts holds a name or an address, rejects among them."""
    personal = {row[name] for row in staging.history for name in ("full_name", "email")}
    assert len(personal) > 10
    for table, rows in tables.items():
        if not table.startswith("snapshots."):
            cells = {str(cell) for row in rows for cell in row}
            leaked = [c for c in cells if any(text in c for text in personal)]
            assert not leaked, f"{table}: {leaked}"


def assert_an_edited_macro_rebuilds(dbt: Dbt, engine: Engine, tmp_path: Path) -> None:
    """A model whose rule has changed runs though no input has, and in full."""
    bands = "select * from marts.interaction_by_age"
    ages = "--select", "agg_customer_age_bands", "interaction_by_age"
    before = canonical(engine.run(bands))
    project = copy_of_project(tmp_path)
    macro = project / "macros" / "star" / "days.sql"
    text = macro.read_text(encoding="utf-8")
    macro.write_text(text.replace("then 'unknown'", "then 'not known'"))
    output = dbt.run("build", *DAYS, fails=True, DBT_PROJECT_DIR=str(project))
    behind = "with their own text: agg_customer_age_bands, interaction_by_age. Next:"
    assert behind in output, "a backfill by two rules"
    dbt.build(*ages, DBT_PROJECT_DIR=str(project))
    edited = canonical(engine.run(bands))
    assert edited == canonical(
        tuple("not known" if cell == "unknown" else cell for cell in row)
        for row in before
    )
    assert edited != before
    dbt.build(*ages)
    assert canonical(engine.run(bands)) == before


def assert_columns_are_described(engine: Engine) -> None:
    """A reader of any client sees what a column means."""
    for schema in ("core", "marts"):
        for _, table, _ in engine.run(f"show tables in {schema}"):
            rows = engine.run(f"describe {schema}.{table}")
            # After the columns an empty row, then the partitions.
            columns = list(takewhile(lambda row: row[0], rows))
            assert len(columns) >= 4
            assert not [row[0] for row in columns if not row[2]], table


def assert_questions_are_answered(dbt: Dbt, engine: Engine) -> None:
    """The example queries run on the star as it is."""
    dbt.run("compile", "--select", "path:analyses/questions")
    folder = dbt.target_path / "compiled" / "ecom" / "analyses" / "questions"
    queries = sorted(folder.glob("*.sql"))
    assert len(queries) >= 3
    for query in queries:
        assert engine.run(query.read_text(encoding="utf-8")), query.name


def assert_freshness_is_that_of_the_last_ingest(dbt: Dbt, engine: Engine) -> None:
    """A source is as fresh as its last successful ingest, not as its newest row."""
    engine.run("create schema if not exists ops")
    engine.run("drop table if exists ops.ingest_runs")
    engine.run(
        "create table ops.ingest_runs using iceberg as select table_name, status, "
        "current_timestamp() - make_interval(0, 0, 0, 0, hours) as finished_at from values "
        "('customers', 'success', 1), ('products', 'success', 1), ('orders', 'success', 40), "
        "('orders', 'failed', 1), ('order_items', 'success', 1), ('interactions', 'success', 1) "
        "as runs(table_name, status, hours)"
    )
    dbt.run("source", "freshness")
    engine.run("drop table ops.ingest_runs")
    found = json.loads((dbt.target_path / "sources.json").read_text(encoding="utf-8"))
    status = {r["unique_id"].split(".")[-1]: r["status"] for r in found["results"]}
    assert status.pop("orders") == "warn"
    assert list(status.values()) == ["pass"] * 4


def assert_history_guarded(dbt: Dbt, engine: Engine) -> None:
    """What an earlier build had is not made anew because it is not listed."""
    lost = {"customers_snapshot": "snapshots", "interaction_by_age": "marts"}
    for name, schema in lost.items():
        engine.run(f"drop table {schema}.{name}")
        output = dbt.run("build", "--select", name, fails=True)
        assert f"{schema}.{name} was there in an earlier build" in output
        assert not engine.run(f"show tables in {schema} like '{name}'")
    dbt.build("--select", "interaction_by_age", "--full-refresh")
    assert engine.run("select 1 from marts.interaction_by_age limit 1")


def test_reporting_timezone(dbt: Dbt, engine: Engine, staging: Staging) -> None:
    """Increments in a zone, then another zone without being told to start anew."""
    zones = ["America/New_York", "America/New_York", "Asia/Tokyo"]
    for zone, change in zip(zones, BUILDS):
        change(staging)
        staging.write()
        dbt.build("--vars", f"{{reporting_timezone: {zone}}}")
        assert not differences(engine, Expected(staging, zone)), zone
