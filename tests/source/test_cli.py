"""The commands: exit codes, output, what `make run` uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.settings import PROJECT, Settings
from stack.postgres import Postgres

Counts = Callable[[], dict[str, int]]
Feed = Callable[..., Path]
ALL = {"customers": 2, "products": 2, "orders": 1, "order_items": 2, "interactions": 2}


def ecom(
    settings: Settings, *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `ecom source ...` against a test's database."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "source", *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, "ECOM_SOURCE_DSN": str(settings.source_dsn), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_from_nothing_to_a_day_of_change(settings: Settings, counts: Counts) -> None:
    assert ecom(settings, "init").returncode == 0
    made = ecom(
        settings, "generate", "--customers", 200, "--products", 50,
        "--interactions", 3000, "--orders", 300, "--days", "2024-01-01:2024-03-31",
        "--seed", 4,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert counts()["interactions"] == 3000
    changed = ecom(settings, "change", "--rate", 0.1)
    assert changed.returncode == 0, changed.stderr
    assert "2024-04-01" in changed.stderr
    assert counts()["interactions"] > 3000


def test_load_csv_prints_one_json_document(shop: Settings, feed: Feed) -> None:
    done = ecom(shop, "load-csv", feed(), "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["rows"] == ALL
    assert document["rejected_total"] == 0
    assert document["seconds"] > 0


def test_a_refused_row_is_exit_1_and_says_where(shop: Settings, feed: Feed) -> None:
    done = ecom(shop, "load-csv", feed(products="product_id\n"))
    assert done.returncode == 1
    assert "products.csv, header: missing" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("load-csv", "nowhere"),
        ("change", "--day", "2024-02-30"),
        ("change", "--rate", "7"),
        ("generate", "--customers", "1"),
        (
            "generate", "--customers", "1", "--products", "1", "--interactions", "1",
            "--orders", "1", "--days", "2024-02-01:2024-01-01",
        ),
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_2(shop: Settings, arguments: tuple[str, ...]) -> None:
    done = ecom(shop, *arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


def test_a_dead_source_is_exit_3(settings: Settings) -> None:
    done = ecom(settings, "init", ECOM_SOURCE_DSN="postgresql://u:hush@127.0.0.1:1/x")
    assert done.returncode == 3
    assert "hush" not in done.stderr


def test_sample_leaves_a_database_of_the_users_alone(
    shop: Settings, counts: Counts
) -> None:
    done = ecom(shop, "sample")
    assert done.returncode == 0
    assert "your own database" in done.stderr
    assert sum(counts().values()) == 0


def test_sample_fills_the_embedded_shop_once(server: Postgres) -> None:
    home = Settings(home=server.home.root, source_dsn=None, target="local")
    here = {"ECOM_HOME": str(home.home), "ECOM_SOURCE_DSN": ""}
    first = ecom(home, "sample", **here)
    assert first.returncode == 0, first.stderr
    assert "200,000" in first.stdout
    second = ecom(home, "sample", **here)
    assert second.returncode == 0
    assert "left alone" in second.stderr


@pytest.mark.parametrize("name", ["init", "generate", "change", "sample", "load-csv"])
def test_every_command_has_an_example(settings: Settings, name: str) -> None:
    assert "Example: ecom source" in ecom(settings, name, "--help").stdout
