"""One real stack for the tests that share it, in a path with spaces, stopped at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from common.settings import PROJECT, Settings

BIN = Path(sys.executable).parent
# An engine that lives for minutes is done before the second compiler pays.
# One compiler alone is given 48 MiB for its code, and spends a twentieth of the engine's
# processor time on making room.
SHORT_LIVED = {
    "ECOM_ENGINE_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC "
    "-XX:ReservedCodeCacheSize=192m"
}
GROUPS = {
    "tests/warehouse": "warehouse",
    "tests/end_to_end": "shop",
    "tests/publish": "shop",
    "tests/viz/test_viz_stack.py": "shop",
    "tests/viz": "charts",
    "tests/ingest": "ingest",
    "tests/stack": "stack",
    "tests/source": "source",
}
"""The tests that share a stack or a server, the longest first: one worker each."""
SHOP = (
    "--customers", "800", "--products", "80", "--interactions", "20000",
    "--orders", "2000", "--days", "2024-06-15:2024-08-20",
)  # fmt: skip


# A shell's background jobs ignore Ctrl-C, and what they start does; not these tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


def group(nodeid: str) -> str:
    """The tests that share what this one needs; its file where nothing is shared."""
    return next((g for start, g in GROUPS.items() if nodeid.startswith(start)), nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest group begins."""
    ranks = {name: rank for rank, name in enumerate(GROUPS.values())}
    items.sort(key=lambda item: ranks.get(group(item.nodeid), len(ranks)))


class OneWorkerAGroup(LoadScopeScheduling):  # type: ignore[misc]
    """Sends a group to one worker; the plugin's own marks do nothing on pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneWorkerAGroup:
    """Share the suite among workers, where it has several."""
    return OneWorkerAGroup(config, log)


def ecom(settings: Settings, *arguments: str, code: int = 0) -> str:
    """Run `ecom` on a stack; its stdout. `code` is the exit code it must have."""
    done = subprocess.run(
        [str(BIN / "ecom"), *arguments],
        env=environment(settings),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr[-6000:]}"
    return done.stdout if code == 0 else done.stdout + done.stderr


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a command on a stack; nothing of the caller's own stack."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ECOM_", "DBT_"))}
    target = settings.home.parent / "target"
    found = {
        **kept,
        **SHORT_LIVED,
        "ECOM_HOME": str(settings.home),
        "DBT_TARGET_PATH": str(target),
    }
    if settings.source_dsn:
        found["ECOM_SOURCE_DSN"] = settings.source_dsn
    return found


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A stack whose five services run, nothing in it.

    While developing, `ECOM_TEST_HOME` names a stack that runs already.
    """
    if os.environ.get("ECOM_TEST_HOME"):
        yield Settings(Path(os.environ["ECOM_TEST_HOME"]), None, "local")
        return
    home = tmp_path_factory.mktemp("shared stack") / "home"
    settings = Settings(home=home, source_dsn=None, target="local")
    ecom(settings, "up")
    yield settings
    ecom(settings, "down", "--purge")


@pytest.fixture(scope="session")
def stack_settings(running: Settings) -> Settings:
    """The same with a generated shop, after its first `ecom run`."""
    ecom(running, "source", "init")
    ecom(running, "source", "generate", *SHOP)
    ecom(running, "run")
    return running
