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

STAGED = "staging.products"
SINGULAR = "select * from {{ ref('interaction_by_age') }} where age_band = 'unknown'\n"
FAULTY = {
    "top_products_by_category_region": (
        "select * from final",
        "select * from final where raise_error('planted in a model') is null",
    ),
    "purchase_trend_by_category": ("sum(sales.revenue)", "sum(sales.revenue + 1)"),
}
"""Model -> a text of it, and what stands there instead."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project: a test that fails, a model that does, one that is wrong."""
    folder = tmp_path / "a copy"
    shutil.copytree(
        PROJECT,
        folder,
        ignore=shutil.ignore_patterns(".*", "target", "logs", "*.egg-info"),
    )
    (folder / "tests" / "dbt" / "assert_every_age_is_known.sql").write_text(SINGULAR)
    for name, (right, wrong) in FAULTY.items():
        model = folder / "models" / "marts" / f"{name}.sql"
        text = model.read_text(encoding="utf-8")
        assert text.count(right) == 1
        model.write_text(text.replace(right, wrong), encoding="utf-8")
    return folder


@pytest.fixture
def planted(lake: Lake) -> Iterator[None]:
    """A duplicate in staging that ingest did not bring."""
    before = lake.heads([STAGED])
    lake.rows(
        f"INSERT INTO {STAGED} SELECT * FROM {STAGED} ORDER BY product_id LIMIT 1"
    )
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
