"""A run that fails shows its readers nothing, and says what failed and where."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.settings import PROJECT, Settings
from publish.lake import MAIN, Lake, restore
from tests.conftest import BIN, environment
from tests.end_to_end.run_process import shown

STAGED, MART = "staging.products", "marts.purchase_trend_by_category"
SINGULAR = "select * from {{ ref('interaction_by_age') }} where age_band = 'unknown'\n"
FAULTY_MODEL = "models/marts/top_products_by_category_region.sql"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project with a test that fails and a model that does."""
    folder = tmp_path / "a copy"
    shutil.copytree(
        PROJECT,
        folder,
        ignore=shutil.ignore_patterns(".*", "target", "logs", "*.egg-info"),
    )
    (folder / "tests" / "dbt" / "assert_every_age_is_known.sql").write_text(SINGULAR)
    model = folder / FAULTY_MODEL
    text = model.read_text(encoding="utf-8")
    assert text.count("select * from final") == 1
    model.write_text(
        text.replace(
            "select * from final",
            "select * from final where raise_error('planted in a model') is null",
        )
    )
    return folder


@pytest.fixture
def planted(lake: Lake) -> Iterator[None]:
    """A duplicate in staging that ingest did not bring, a mart that does not add up."""
    before = lake.heads([STAGED, MART])
    lake.rows(
        f"INSERT INTO {STAGED} SELECT * FROM {STAGED} ORDER BY product_id LIMIT 1"
    )
    lake.rows(f"UPDATE {MART} SET revenue = revenue + 1 WHERE category <> 'unknown'")
    yield
    lake.each(restore(table, refs[MAIN]) for table, refs in before.items())


def test_nothing_is_published_and_each_failure_is_named(
    stack_settings: Settings, lake: Lake, project: Path, planted: None
) -> None:
    before = shown(lake)
    done = subprocess.run(
        [str(BIN / "ecom"), "run"],
        env={
            **environment(stack_settings),
            "PYTHONPATH": str(project),
            "DBT_TARGET_PATH": str(project / "target"),
        },
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-6000:]
    said = done.stderr.partition("The build failed, nothing was published")[2]
    # Staging, core and marts: a duplicate, an identity, a test of one's own, a model.
    for name, row in {
        "assert_staged_rows_loaded_or_rejected": "source_table=products",
        "assert_marts_add_up": "by_category=",
        "assert_every_age_is_known": "age_band=unknown",
        "top_products_by_category_region": "planted in a model",
    }.items():
        assert name in said, said
        assert row in said, said
    assert shown(lake) == before
    assert "stays for inspection" in said
