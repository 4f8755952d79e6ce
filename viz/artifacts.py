"""What dbt leaves in `target/`: test results, descriptions, the docs page."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.settings import PROJECT

_SHOWN = ("marts", "core", "snapshots", "staging")
_BAD = {"fail", "error", "runtime error", "warn"}


@dataclass(frozen=True)
class Tests:
    """The data tests of the last build.

    Attributes:
        counts: how many tests by outcome (`pass`, `warn`, `fail`, `error`,
            `skipped`).
        at: when, ISO 8601 in UTC.
        failures: name, outcome and message of each test that did not pass.
        every: name and outcome of all tests, by name.
    """

    counts: dict[str, int]
    at: str
    failures: list[tuple[str, str, str]]
    every: list[tuple[str, str]]

    @property
    def total(self) -> int:
        """How many tests ran."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Column:
    """A column as the data dictionary shows it."""

    name: str
    type: str
    description: str


@dataclass(frozen=True)
class Relation:
    """A relation as the data dictionary shows it."""

    name: str
    layer: str
    kind: str
    description: str
    columns: list[Column]
    depends_on: list[str]
    unique_id: str

    @property
    def anchor(self) -> str:
        """Its id on the page."""
        return f"{self.layer}-{self.name}"

    @property
    def docs(self) -> str:
        """Its place in the dbt docs page, with columns and lineage."""
        return f"#!/{self.unique_id.split('.')[0]}/{self.unique_id}"


def folder() -> Path:
    """Where dbt writes: `DBT_TARGET_PATH`, or `target/` of the project."""
    path = Path(os.environ.get("DBT_TARGET_PATH") or "target")
    return path if path.is_absolute() else PROJECT / path


def read(path: Path) -> dict[str, Any] | None:
    """A JSON artifact, or None where it is missing or half written."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def tests(target: Path) -> Tests | None:
    """The tests of the last build, or None where none is recorded.

    `dbt docs generate` writes `run_results.json` too, without a test in it; where
    a run kept its own as `build_results.json`, that one counts.
    """
    for name in ("build_results.json", "run_results.json"):
        found = _tests(read(target / name))
        if found:
            return found
    return None


def _tests(found: dict[str, Any] | None) -> Tests | None:
    results = [
        result
        for result in (found or {}).get("results", [])
        if str(result.get("unique_id", "")).startswith(("test.", "unit_test."))
        and result.get("status") != "success"
    ]
    if not found or not results:
        return None
    failures = [
        (
            result["unique_id"].split(".")[2],
            str(result["status"]),
            str(result.get("message") or "").strip(),
        )
        for result in results
        if result["status"] in _BAD
    ]
    return Tests(
        counts=dict(Counter(str(result["status"]) for result in results)),
        at=str(found.get("metadata", {}).get("generated_at", ""))[:19] + "Z",
        failures=sorted(failures),
        every=sorted((r["unique_id"].split(".")[2], str(r["status"])) for r in results),
    )


def dictionary(target: Path) -> list[Relation]:
    """Every relation a reader may meet, marts first; empty before the first build."""
    manifest = read(target / "manifest.json")
    if manifest is None:
        return []
    types = _types(read(target / "catalog.json"))
    nodes = [*manifest.get("nodes", {}).values(), *manifest.get("sources", {}).values()]
    found = [
        _relation(node, types.get(node["unique_id"], {}))
        for node in nodes
        if node.get("resource_type") in {"model", "snapshot", "seed", "source"}
        and node.get("config", {}).get("materialized") != "ephemeral"
    ]
    return sorted(
        (relation for relation in found if relation.layer in _SHOWN),
        key=lambda relation: (_SHOWN.index(relation.layer), relation.name),
    )


def exposures(target: Path) -> dict[str, str]:
    """The place of each chart in the dbt docs page, by the chart's name."""
    manifest = read(target / "manifest.json") or {}
    return {
        str(node["name"]): f"#!/exposure/{key}"
        for key, node in manifest.get("exposures", {}).items()
    }


def _types(catalog: dict[str, Any] | None) -> dict[str, dict[str, str]]:
    if catalog is None:
        return {}
    entries = {**catalog.get("nodes", {}), **catalog.get("sources", {})}
    return {
        key: {name: column["type"] for name, column in entry["columns"].items()}
        for key, entry in entries.items()
    }


def _relation(node: dict[str, Any], types: dict[str, str]) -> Relation:
    columns = node.get("columns", {})
    names = list(dict.fromkeys([*types, *columns]))
    known = {name: columns.get(name, {}) for name in names}
    return Relation(
        name=str(node.get("alias") or node.get("identifier") or node["name"]),
        layer=_layer(str(node.get("schema", ""))),
        kind=str(node.get("config", {}).get("materialized") or node["resource_type"]),
        description=str(node.get("description") or "").strip(),
        columns=[
            Column(
                name=name,
                type=str(types.get(name) or column.get("data_type") or ""),
                description=str(column.get("description") or "").strip(),
            )
            for name, column in known.items()
        ],
        depends_on=list(node.get("depends_on", {}).get("nodes", [])),
        unique_id=str(node["unique_id"]),
    )


def _layer(schema: str) -> str:
    """The layer of a schema, whatever stands before it: `ci_ab12_core` is core."""
    return next((layer for layer in _SHOWN if schema.endswith(layer)), schema)
