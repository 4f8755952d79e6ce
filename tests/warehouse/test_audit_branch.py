"""Every write honours the audit branch, and what would not is refused."""

from __future__ import annotations

from pathlib import Path

from tests.warehouse.conftest import Dbt, copy_of_project
from tests.warehouse.engine import Engine
from tests.warehouse.expected import Expected
from tests.warehouse.scenario import BUILDS
from tests.warehouse.staging import Staging
from tests.warehouse.test_four_builds import differences, states, versions

BRANCH = "audit_test"


def fast_forward(engine: Engine) -> None:
    """Publish the branch of every table that has it."""
    for table in versions(engine):
        if engine.run(f"select 1 from {table}.refs where name = '{BRANCH}'"):
            engine.run(f"call lake.system.fast_forward('{table}', 'main', '{BRANCH}')")
            engine.run(f"alter table {table} drop branch {BRANCH}")


def test_readers_see_nothing_until_published(
    dbt: Dbt, engine: Engine, staging: Staging
) -> None:
    for number, change in enumerate([*BUILDS[:3], None]):
        before = states(engine)
        flags = ["--full-refresh"] if change is None else []
        # Unit tests test the models, not the data: once is enough, as a user runs them.
        flags += ["--exclude-resource-type", "unit_test"] if number != 1 else []
        if change is not None:
            change(staging)
            staging.write()
        dbt.run("build", "--target", "audit", *flags, ECOM_AUDIT_BRANCH=BRANCH)
        after = states(engine)
        for table, rows in after.items():
            assert rows == before.get(table, []), f"build {number} wrote to {table}"
        fast_forward(engine)
        assert not differences(engine, Expected(staging))


def test_a_model_that_would_bypass_the_branch_is_refused(
    dbt: Dbt, tmp_path: Path
) -> None:
    project = copy_of_project(tmp_path)
    model = project / "models" / "marts" / "interaction_by_age.sql"
    text = model.read_text(encoding="utf-8")
    model.write_text(text.replace("config(", "config(materialized='table', "))

    output = dbt.run(
        "build",
        "--select",
        "interaction_by_age",
        fails=True,
        DBT_PROJECT_DIR=str(project),
    )

    assert "interaction_by_age would write past the audit branch" in output
