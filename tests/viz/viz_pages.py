"""What the site needs beside the charts: dbt's artifacts and a warehouse's state."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from viz import charts, sql, status

AT = "2026-11-24T21:00:00.123456Z"


def write_artifacts(target: Path) -> None:
    """A small manifest, catalog, run results and docs page, as dbt shapes them."""
    columns = {
        "age_band": {
            "name": "age_band",
            "description": "Age by `birth_date` <script>alert(1)</script>",
        }
    }
    node = {
        "unique_id": "model.ecom.interaction_by_age",
        "resource_type": "model",
        "name": "interaction_by_age",
        "alias": "interaction_by_age",
        "schema": "ci_ab12_marts",
        "config": {"materialized": "incremental"},
        "description": "One row per age band and interaction type.",
        "columns": columns,
        "depends_on": {"nodes": ["model.ecom.fct_interactions"]},
    }
    catalog = {
        "columns": {
            "age_band": {"type": "string"},
            "customers": {"type": "bigint"},
        }
    }
    results = [
        {"unique_id": "model.ecom.dim_date", "status": "success"},
        {"unique_id": "test.ecom.unique_dim.1", "status": "pass", "message": None},
        {"unique_id": "test.ecom.sums_agree.2", "status": "fail", "message": "3 rows"},
    ]
    fact = {**node, "unique_id": "model.ecom.fct_interactions",
            "name": "fct_interactions", "alias": "fct_interactions",
            "schema": "ci_ab12_core", "depends_on": {"nodes": []}}  # fmt: skip
    exposures = {f"exposure.ecom.{c.name}": {"name": c.name} for c in charts.CHARTS}
    _write(
        target / "manifest.json",
        {
            "nodes": {found["unique_id"]: found for found in (node, fact)},
            "sources": {},
            "exposures": exposures,
        },
    )
    _write(target / "catalog.json", {"nodes": {node["unique_id"]: catalog}})
    _write(
        target / "run_results.json",
        {"metadata": {"generated_at": AT}, "results": results},
    )
    (target / "static_index.html").write_text(
        "<!doctype html><html lang='en'><title>docs</title><h1>dbt docs</h1>"
        f"{node['unique_id']} {fact['unique_id']} {' '.join(exposures)}",
        encoding="utf-8",
    )


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


def seen() -> status.Status:
    """A warehouse that has run and been reconciled."""
    runs = pd.DataFrame(
        {
            "run_id": ["r2", "r1"],
            "status": ["published", "failed"],
            "finished_at": pd.to_datetime(["2026-11-24 21:00", "2026-11-23 21:00"]),
            "rows_written": [12345, 7],
        }
    )
    moment = pd.to_datetime(["2026-11-24 21:05"])
    compared = pd.DataFrame(
        {"checked_at": moment, "table_name": ["orders"], "differing_keys": [0]}
    )
    published = pd.DataFrame(
        {"publish_id": ["p1"], "happened_at": moment, "event": ["published"]}
    )
    counts = [(f"marts.{mart}", 1000 + n) for n, mart in enumerate(sql.MARTS)]
    return status.Status(
        newest_event="15 Oct 2024",
        counts=[*counts, ("core.fct_interactions", 1234567)],
        runs=status.as_log(runs),
        publishes=status.as_log(published),
        ingests=None,
        reconciliations=status.as_log(compared),
    )


def nothing_seen() -> status.Status:
    """A warehouse before its first run."""
    return status.Status(None, [], None, None, None, None)
