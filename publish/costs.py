"""What Spark spent on each model, from its own metrics, into `ops.model_runs`.

SQL cannot ask Spark for them. Every statement of dbt names its node in a comment,
which Spark's REST interface shows with each stage.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.errors import EcomError
from common.progress import say
from common.settings import Settings
from ingest.statements import spark_literal
from publish.building import target_folder
from publish.lake import Lake
from stack.home import Home

NODE = re.compile(r'"node_id": "([^"]+)"')
PATIENCE = 10
"""Seconds to wait for an answer."""


@dataclass
class SparkCost:
    """What the stages of one node took.

    Attributes:
        task_seconds: sum over its tasks.
        spill_bytes: bytes written to disk for want of memory.
    """

    task_seconds: float = 0.0
    spill_bytes: int = 0


def add_spark_costs(settings: Settings, lake: Lake, since: datetime) -> None:
    """Fill in task seconds and spill of the build that has just ended.

    They are worth having, not worth failing a run for: where Spark does not say, the
    columns stay null.

    Args:
        settings: where the stack is.
        lake: sessions on the warehouse.
        since: when the run began; stages before it are of other runs.
    """
    port = Home(settings.home).ports().get("spark_ui")
    if port is None:
        return
    try:
        costs = costs_of(_stages(port), since)
    except OSError as error:
        say(f"  Spark's metrics are not to be had: {error}")
        return
    text = (target_folder() / "build_results.json").read_text(encoding="utf-8")
    document = json.loads(text)
    ran = {
        result["unique_id"]
        for result in document["results"]
        if result["unique_id"] in costs
    }
    if not ran:
        return
    try:
        table = f"{lake.schema('ops')}.model_runs"
        lake.rows(_merge(table, document["metadata"]["invocation_id"], ran, costs))
    except EcomError as error:
        say(f"  Spark's metrics are not kept: {error.args[0]}")


def costs_of(
    stages: Iterable[Mapping[str, Any]], since: datetime
) -> dict[str, SparkCost]:
    """Node id -> cost, of Spark's stages submitted since a moment (UTC)."""
    costs: dict[str, SparkCost] = {}
    earliest = f"{since:%Y-%m-%dT%H:%M:%S}"
    for stage in stages:
        named = NODE.search(stage.get("description") or "")
        if named and (stage.get("submissionTime") or "") >= earliest:
            cost = costs.setdefault(named.group(1), SparkCost())
            cost.task_seconds += stage["executorRunTime"] / 1000
            cost.spill_bytes += stage["diskBytesSpilled"]
    return costs


def _stages(port: int) -> list[dict[str, Any]]:
    root = f"http://127.0.0.1:{port}/api/v1/applications"
    [application] = _get(root)
    stages: list[dict[str, Any]] = _get(f"{root}/{application['id']}/stages")
    return stages


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310
        return json.load(answer)


def _merge(
    table: str, invocation: str, ran: Iterable[str], costs: Mapping[str, SparkCost]
) -> str:
    rows = ", ".join(
        f"({spark_literal(node)}, cast({costs[node].task_seconds} AS double), "
        f"cast({costs[node].spill_bytes} AS bigint))"
        for node in sorted(ran)
    )
    return (
        f"MERGE INTO {table} AS kept USING (SELECT * FROM VALUES {rows} AS "
        "found(node_id, task_seconds, spill_bytes)) AS found ON kept.invocation_id = "
        f"{spark_literal(invocation)} AND kept.node_id = found.node_id WHEN MATCHED THEN "
        "UPDATE SET task_seconds = found.task_seconds, spill_bytes = found.spill_bytes"
    )
