"""Spark's own metrics, by model."""

from __future__ import annotations

from datetime import datetime

from publish.costs import SparkCost, costs_of


def stage(node: str, at: str, milliseconds: int, spilled: int = 0) -> dict[str, object]:
    """A stage as Spark's REST interface gives it."""
    comment = f'/* {{"app": "dbt", "node_id": "{node}"}} */ select 1' if node else None
    return {
        "description": comment,
        "submissionTime": at,
        "executorRunTime": milliseconds,
        "diskBytesSpilled": spilled,
    }


def test_stages_are_summed_by_node_of_this_run_alone() -> None:
    stages = [
        stage("model.ecom.dim_date", "2026-01-02T03:04:05.100GMT", 1500, 10),
        stage("model.ecom.dim_date", "2026-01-02T03:04:06.100GMT", 500, 5),
        stage("model.ecom.dim_date", "2026-01-02T03:00:00.000GMT", 9000, 9),
        stage("", "2026-01-02T03:04:06.100GMT", 700),
    ]
    found = costs_of(stages, datetime(2026, 1, 2, 3, 4, 0))
    assert found == {"model.ecom.dim_date": SparkCost(2.0, 15)}
