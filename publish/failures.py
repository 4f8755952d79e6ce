"""Says which models and tests failed, with a few of a test's rows from the branch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from common.errors import DataError
from publish.building import BuildOutcome
from publish.lake import Lake

SAMPLE_ROWS = 5
SAMPLED_TESTS = 10
PERSONAL = ("full_name", "email")
MASK = "(personal)"
_MENTIONED = re.compile(rf"\b({'|'.join(PERSONAL)})\b", re.IGNORECASE)


def build_error(lake: Lake, branch: str, outcome: BuildOutcome) -> DataError:
    """The error of a build that failed: each failing node, and why."""
    lines: list[str] = []
    sampled = 0
    for failure in outcome.failures:
        name = failure["unique_id"].split(".", 2)[-1]
        message = " ".join(str(failure.get("message") or "").split())[:300]
        lines.append(f"  {name}: {message}")
        query = failure.get("compiled_code")
        if failure["status"] == "fail" and query and sampled < SAMPLED_TESTS:
            sampled += 1
            lines += _samples(lake, branch, query)
    return DataError(
        "The build failed, nothing was published:\n"
        + ("\n".join(lines) or "  dbt says why above"),
        f"mend what is named and run again; branch {branch} stays for inspection "
        f"until then (`set spark.wap.branch={branch}` in a SQL session)",
    )


def _samples(lake: Lake, branch: str, query: str) -> list[str]:
    """A few of a failed test's rows, read from the branch."""
    text = query.strip().rstrip(";")
    try:
        lake.rows(f"SET spark.wap.branch={branch}")
        names, rows = lake.table(f"SELECT * FROM (\n{text}\n) LIMIT {SAMPLE_ROWS}")
    except DataError as error:
        return [f"    (its rows cannot be shown: {str(error).splitlines()[0]})"]
    finally:
        lake.rows("RESET spark.wap.branch")
    return [f"    {line}" for line in masked(query, names, rows)]


def masked(
    query: str, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[str]:
    """Rows as `column=value` without personal data.

    A personal column leaves a query under its own name, or under another when the
    query mentions it: then no text of that query is shown.
    """
    mentioned = bool(_MENTIONED.search(query))
    harmless = (int, float, bool, Decimal, type(None))
    lines = []
    for row in rows:
        cells = []
        for name, value in zip(names, row):
            secret = name.lower() in PERSONAL or (
                mentioned and not isinstance(value, harmless)
            )
            cells.append(f"{name}={MASK if secret else value}")
        lines.append(", ".join(cells))
    return lines
