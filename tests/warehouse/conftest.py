"""A stack of its own for the warehouse's tests, and dbt against it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.settings import PROJECT
from tests.conftest import SHORT_LIVED
from tests.warehouse.engine import Engine
from tests.warehouse.staging import Staging

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Dbt:
    """dbt on the stack under test."""

    home: Path
    target_path: Path
    port: int

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a dbt run."""
        return {
            **os.environ,
            "ECOM_HOME": str(self.home),
            "ECOM_THRIFT_HOST": "127.0.0.1",
            "ECOM_THRIFT_PORT": str(self.port),
            "DBT_PROFILES_DIR": str(PROJECT / "profiles"),
            "DBT_PROJECT_DIR": str(PROJECT),
            "DBT_TARGET_PATH": str(self.target_path),
            "DBT_LOG_PATH": str(self.target_path / "logs"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            **more,
        }

    def run(self, *arguments: str, fails: bool = False, **environment: str) -> str:
        """Run dbt; its output. `fails` says what the exit code has to be."""
        done = subprocess.run(
            [str(BIN / "dbt"), "--no-use-colors", *arguments],
            env=self.environment(**environment),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert bool(done.returncode) == fails, output[-8000:]
        return output

    def build(self, *arguments: str, **environment: str) -> str:
        """Build snapshots and models, without their tests."""
        kinds = ["--exclude-resource-type", "test", "unit_test"]
        return self.run("build", *kinds, *arguments, fails=False, **environment)

    def results(self) -> list[dict[str, Any]]:
        """The results of the last run."""
        text = (self.target_path / "run_results.json").read_text(encoding="utf-8")
        found: list[dict[str, Any]] = json.loads(text)["results"]
        return found


def ecom(home: Path, *arguments: str) -> None:
    """Run `ecom` on a home; it has to succeed."""
    done = subprocess.run(
        [str(BIN / "ecom"), *arguments],
        env={**os.environ, **SHORT_LIVED, "ECOM_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def copy_of_project(folder: Path) -> Path:
    """A copy of what dbt reads, to be edited."""
    project = folder / "a project"
    for kept in ("models", "macros", "snapshots", "analyses", "profiles", "tests/dbt"):
        shutil.copytree(PROJECT / kept, project / kept)
    shutil.copy(PROJECT / "dbt_project.yml", project)
    return project


@pytest.fixture(scope="session")
def dbt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dbt]:
    """dbt on a stack of its own, in a path with a space.

    While developing, `ECOM_TEST_HOME` names a stack that runs already: its staged
    tables and its warehouse are replaced.
    """
    running = os.environ.get("ECOM_TEST_HOME")
    home = Path(running) if running else tmp_path_factory.mktemp("warehouse stack")
    ecom(home, "up")
    try:
        ports = json.loads((home / "ports.json").read_text(encoding="utf-8"))
        yield Dbt(home, tmp_path_factory.mktemp("dbt target"), ports["thrift"])
    finally:
        if not running:
            ecom(home, "down", "--purge", "--yes")


@pytest.fixture
def engine(dbt: Dbt) -> Iterator[Engine]:
    """A reader's connection."""
    connection = Engine("127.0.0.1", dbt.port)
    yield connection
    connection.close()


SCHEMAS = ("core", "marts", "snapshots")


@pytest.fixture
def staging(engine: Engine) -> Staging:
    """Empty staged tables and no warehouse."""
    for schema in SCHEMAS:
        engine.run(f"create schema if not exists {schema}")
        for _, name, _ in engine.run(f"show tables in {schema}"):
            engine.run(f"drop table {schema}.{name} purge")
    fresh = Staging(engine)
    fresh.create()
    return fresh
