"""One scan asks a table's tests, and misses nothing that each by itself would find."""

from __future__ import annotations

from tests.warehouse.conftest import Dbt
from tests.warehouse.engine import Engine, tell_that_it_is_ours
from tests.warehouse.scenario import BUILDS
from tests.warehouse.staging import Staging

UNIQUE = "unique_fct_interactions_interaction_id"
PRODUCT = "relationships_fct_interactions_product_key"


def messages(dbt: Dbt) -> dict[str, tuple[str, str]]:
    """Test name -> status and message of the last run."""
    return {
        r["unique_id"].split(".")[2]: (r["status"], str(r["adapter_response"].get("_message")))
        for r in dbt.results()
        if r["unique_id"].startswith("test.")
    }  # fmt: skip


def failed(dbt: Dbt) -> list[str]:
    """Names of the tests that failed in the last run."""
    return [name for name, (status, _) in messages(dbt).items() if status == "fail"]


BUILD = (
    "build", "--select", "+fct_interactions", "--indirect-selection", "cautious",
    "--exclude-resource-type", "unit_test",
)  # fmt: skip


def test_tests_share_a_scan_and_find_what_is_planted(
    dbt: Dbt, engine: Engine, staging: Staging
) -> None:
    BUILDS[0](staging)
    staging.write()
    dbt.run(*BUILD)
    assert messages(dbt)[UNIQUE] == ("pass", "asked with its table")
    _assert_costs_are_recorded(dbt, engine)
    BUILDS[1](staging)
    staging.write()
    dbt.run(*BUILD)
    assert messages(dbt)[UNIQUE] == ("pass", "asked with its table")

    # On days that the next build does not touch: a key that is there already, and a
    # key that no dimension has.
    columns = [row[0] for row in engine.run("describe core.fct_interactions")][:10]
    values = ["timestamp '2024-01-05'" if c == "occurred_at" else c for c in columns]
    engine.run(
        f"insert into core.fct_interactions select {', '.join(values)} "
        "from core.fct_interactions where interaction_id = 1"
    )
    engine.run(
        "update core.fct_interactions set product_key = 'lost' where interaction_id = 5"
    )
    # Else the fact would be built anew.
    tell_that_it_is_ours(engine, "core.fct_interactions")
    BUILDS[2](staging)
    staging.write()
    dbt.run(*BUILD, fails=True)
    assert any(name.startswith(UNIQUE) for name in failed(dbt))
    assert any(name.startswith(PRODUCT) for name in failed(dbt))
    _assert_versions_are_watched(dbt, engine)


def _assert_versions_are_watched(dbt: Dbt, engine: Engine) -> None:
    """Each way in which versions may fail to meet is told apart."""
    changes = {
        "gap": "valid_to = valid_to - interval 1 second where customer_id = 2 and not is_current",
        "overlap": "valid_to = valid_to + interval 1 second where customer_id = 1 and not is_current",
        "no length": "valid_to = valid_from where customer_id = 4",
        "starts late": "valid_from = timestamp '1900-01-02' where customer_id = 12",
        "ends": "valid_to = timestamp '2999-01-01' where customer_id = 13 and is_current",
        "current": "is_current = false where customer_id = 18",
    }
    for change in changes.values():
        engine.run(f"update core.dim_customer set {change}")
    engine.run("delete from core.dim_product where product_id = -1")
    dbt.run("test", "--select", "dim_customer", "dim_product", fails=True)
    assert any(name.startswith("one_member_dim_product") for name in failed(dbt))
    [name] = [n for n in failed(dbt) if n.startswith("versions_meet_dim_customer")]
    [compiled] = (dbt.target_path / "compiled").rglob(f"{name}*.sql")
    query = compiled.read_text(encoding="utf-8")
    found = {fault for (fault,) in engine.run(f"select fault from ({query})")}
    assert found == set(changes)


def _assert_costs_are_recorded(dbt: Dbt, engine: Engine) -> None:
    runs = engine.run(
        "select node_id, status, rows_added, table_rows from ops.model_runs where "
        "started_at = (select max(started_at) from ops.model_runs)"
    )
    costs = {row[0]: row[1:] for row in runs}
    rows = engine.run("select count(*) from core.fct_interactions")[0][0]
    assert costs["model.ecom.fct_interactions"] == ("success", rows, rows)
    assert not any(UNIQUE in name for name in costs), "it ran no statement"

    # What only warned is asked again.
    others = (
        "select count(*) from ops.model_runs where node_id not like '%loyalty_tier%'"
    )
    recorded = engine.run(others)
    dbt.run(*BUILD)
    assert engine.run(others) == recorded
