"""The charts' SQL: one source of truth, one mart each, bounded whatever comes."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from common.errors import UsageError
from common.settings import PREFIX_VARIABLE, PROJECT, schema_prefix
from viz import sql
from viz.charts import CHARTS
from viz.reader import ROW_LIMIT

NAMES = [chart.name for chart in CHARTS]


def _exposures() -> dict[str, dict[str, Any]]:
    text = (PROJECT / "models" / "exposures.yml").read_text(encoding="utf-8")
    return {entry["name"]: entry for entry in yaml.safe_load(text)["exposures"]}


def _read(text: str) -> set[str]:
    """Every relation that a rendered query reads and does not define itself."""
    bare = re.sub(r"--[^\n]*", "", text)
    own = set(re.findall(r"(?:with|,)\s+(\w+)\s+as\s*\(", bare))
    return set(re.findall(r"\b(?:from|join)\s+([\w.`]+)", bare)) - own


def test_there_is_an_exposure_a_chart_and_an_analysis_each() -> None:
    files = {path.stem for path in sql.FOLDER.glob("*.sql")}
    assert set(_exposures()) == set(NAMES) == files


@pytest.mark.parametrize("chart", CHARTS, ids=NAMES)
def test_a_chart_reads_only_the_mart_its_exposure_names(chart: Any) -> None:
    named = [
        re.fullmatch(r"ref\('(\w+)'\)", entry)
        for entry in _exposures()[chart.name]["depends_on"]
    ]
    assert [found.group(1) for found in named if found] == [chart.mart]
    assert sql.refs(sql.source_text(chart.name)) == [chart.mart]
    assert _read(chart.query("ci_ab12_")) == {f"ci_ab12_marts.{chart.mart}"}


def test_a_relation_outside_the_exposure_is_noticed() -> None:
    sneaky = "with a as (select * from marts.x) select * from a join core.dim_date"
    assert _read(sneaky) == {"marts.x", "core.dim_date"}


def test_the_prefix_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX_VARIABLE, "dev_ada_")
    assert schema_prefix() == "dev_ada_"
    monkeypatch.delenv(PREFIX_VARIABLE)
    assert schema_prefix() == ""


def test_a_prefix_that_is_no_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX_VARIABLE, "x; drop table y")
    with pytest.raises(UsageError, match="ECOM_SCHEMA_PREFIX"):
        schema_prefix()


def test_a_ref_to_something_else_than_a_mart_is_refused() -> None:
    with pytest.raises(UsageError, match="not a mart"):
        sql.relation("dim_customer", "")


def test_an_unknown_analysis_is_refused() -> None:
    with pytest.raises(UsageError, match="no analysis nothing"):
        sql.source_text("nothing")


@pytest.mark.parametrize("name", NAMES)
def test_few_rows_leave_the_engine(
    name: str, rows: dict[str, dict[str, pd.DataFrame]]
) -> None:
    for case, found in rows.items():
        assert len(found[name]) < ROW_LIMIT, case
    assert rows["empty"][name].empty


def test_large_marts_are_folded_in_the_engine(
    rows: dict[str, dict[str, pd.DataFrame]],
) -> None:
    found = rows["sixty"]
    assert found["customer_activity"]["region"].nunique() == 12
    assert found["customer_activity"]["regions"].max() == 48
    assert found["purchase_trends"]["category"].nunique() == 7
    assert len(found["top_products"]) == 6 * (5 + 1) * 3


@pytest.mark.parametrize(
    ("case", "grain"),
    [("one", "day"), ("sample", "day"), ("decade", "week")],
)
def test_a_longer_history_has_longer_periods(
    case: str, grain: str, rows: dict[str, dict[str, pd.DataFrame]]
) -> None:
    assert set(rows[case]["interaction_trend"]["grain"]) == {grain}


def test_viz_knows_nothing_of_ingest() -> None:
    for path in Path(PROJECT / "viz").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not any(n.split(".")[0] in {"ingest", "source"} for n in names), path
