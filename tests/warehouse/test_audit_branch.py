"""What would write past the audit branch is refused."""

from __future__ import annotations

from pathlib import Path

from tests.warehouse.conftest import Dbt, copy_of_project


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
