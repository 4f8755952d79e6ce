"""dbt as any dbt user types it, on a stack that is up."""

from __future__ import annotations

import json
import subprocess

from common.settings import PROJECT, Settings
from tests.conftest import BIN, environment


def test_dbt_works_without_a_flag(stack_settings: Settings) -> None:
    target = stack_settings.home.parent / "target of plain dbt"
    surroundings = environment(stack_settings) | {"DBT_TARGET_PATH": str(target)}
    for command in (["build"], ["test"], ["docs", "generate"]):
        ran = subprocess.run(
            [str(BIN / "dbt"), *command],
            cwd=PROJECT, env=surroundings, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr
        results = json.loads((target / "run_results.json").read_text("utf-8"))
        # Nothing failed, was skipped or warned; exposures do nothing.
        found = {one["status"] for one in results["results"]}
        assert found <= {"success", "pass", "no-op"}, command
    catalog = json.loads((target / "catalog.json").read_text("utf-8"))
    assert "model.ecom.fct_interactions" in catalog["nodes"]
    assert catalog["errors"] is None
