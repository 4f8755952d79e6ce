"""The walkthroughs of CONTRIBUTING.md, followed to the letter in a copy of the project."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from common.settings import PROJECT, Settings
from publish.lake import open_lake
from stack.endpoints import source_dsn
from tests.conftest import BIN, environment

PAGES = PROJECT / "docs" / "walkthroughs"
# A sentence that says where a block goes, or nothing for commands and for SQL that is run.
BLOCK = re.compile(
    r"(?:^(?P<how>New file|Add to the end of|In) `(?P<file>[^`\n]+)`"
    r"(?:, below the line `(?P<line>[^`\n]+)`)?:\n\n)?"
    r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LEFTOVERS = (
    "DROP VIEW IF EXISTS staging.stg_returns",
    "DROP TABLE IF EXISTS staging.returns",
    "DROP TABLE IF EXISTS staging.returns__rejects",
    "DROP TABLE IF EXISTS marts.revenue_by_weekday",
)


@dataclass
class Copy:
    """A copy of the project beside the stack it works on."""

    folder: Path
    settings: Settings

    def follow(self, page: str) -> list[str]:
        """Do what a page says, block by block; what its commands printed."""
        said = []
        blocks = list(BLOCK.finditer((PAGES / page).read_text(encoding="utf-8")))
        for block in blocks:
            if block["file"]:
                self._edit(block)
            elif block["kind"] == "sql":
                in_source(self.settings, block["text"])
            else:
                assert block["kind"] == "bash", block.group()
                said += [self.run(*shlex.split(x)) for x in block["text"].splitlines()]
        return said

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of the environment in the copy; what it printed."""
        done = subprocess.run(
            [str(BIN / program), *arguments],
            cwd=self.folder,
            env={
                **environment(self.settings),
                "PYTHONPATH": str(self.folder),
                "DBT_TARGET_PATH": str(self.folder / "target"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"{program} {arguments}\n{printed[-6000:]}"
        return printed

    def _edit(self, block: re.Match[str]) -> None:
        path = self.folder / block["file"]
        if block["how"] == "New file":
            assert not path.exists(), path
            path.write_text(block["text"], encoding="utf-8")
            return
        text = path.read_text(encoding="utf-8")
        if block["line"]:
            place = f"\n{block['line']}\n"
            assert text.count(place) == 1, f"{path.name}: {place}"
            text = text.replace(place, place + block["text"])
        else:
            text += block["text"]
        path.write_text(text, encoding="utf-8")


def in_source(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement in the source as its owner; its rows."""
    connection = psycopg2.connect(source_dsn(settings, "owner"))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


@pytest.fixture(scope="module")
def copy(
    stack_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Copy]:
    """The project's files as git sees them; what the pages make is gone at the end."""
    folder = tmp_path_factory.mktemp("walk through") / "project"
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        git, cwd=PROJECT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.splitlines()):
        if (PROJECT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
    # The conventions look at the files that git would commit.
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    yield Copy(folder, stack_settings)
    in_source(stack_settings, "DROP TABLE IF EXISTS returns")
    with open_lake(stack_settings) as lake:
        lake.each(LEFTOVERS)


def test_add_a_table(copy: Copy) -> None:
    plan, *_ = copy.follow("add_a_table.md")
    assert "returns" in plan
    with open_lake(copy.settings) as lake:
        assert lake.rows(
            "SELECT return_id, reason, reject_reason FROM staging.stg_returns ORDER BY 1"
        ) == [
            (1, "too small", None),
            (2, "broken", None),
            (3, "too small", "impossible returned_at"),
        ]


def test_add_a_model(copy: Copy) -> None:
    first, second = copy.follow("add_a_model.md")
    assert "ERROR=0" in first
    assert "unchanged" in second
    with open_lake(copy.settings) as lake:
        found = lake.rows(
            "SELECT day_of_week, orders, units, revenue FROM marts.revenue_by_weekday "
            "ORDER BY 1"
        )
        assert found == lake.rows(
            "SELECT d.day_of_week, count(DISTINCT order_id), sum(quantity), sum(revenue) "
            "FROM core.fct_order_items JOIN core.dim_date d USING (date_key) "
            "WHERE status NOT IN ('cancelled', 'returned') GROUP BY 1 ORDER BY 1"
        )
    assert len(found) == 7


def test_add_a_chart(copy: Copy) -> None:
    """Runs after the model's page, whose mart it draws."""
    copy.follow("add_a_chart.md")
    charts = copy.folder / "target" / "charts"
    values = (charts / "revenue_by_weekday.csv").read_text(encoding="utf-8")
    assert values.startswith("day_name,revenue,share\nMonday,")
    assert values.count("\n") == 8
    assert (charts / "revenue_by_weekday.png").read_bytes()[1:4] == b"PNG"
    assert "of the revenue" in (charts / "charts.json").read_text(encoding="utf-8")


def test_what_the_pages_made_passes_the_gates(copy: Copy) -> None:
    """Format, types, SQL style, `dbt parse --warn-error`, conventions."""
    assert "0 failed" in copy.run(Path(sys.executable).name, "-m", "tests.check")
