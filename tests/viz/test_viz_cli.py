"""`ecom charts` and `ecom site` at the command line, without a stack."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import ServiceError
from common.settings import PROJECT, Settings
from stack.home import Home
from viz.reader import Reader


def _ecom(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env={**os.environ, "ECOM_HOME": str(home)},
        timeout=120,
    )


@pytest.mark.parametrize("command", ["charts", "site"])
def test_without_a_stack_it_says_what_to_do(command: str, tmp_path: Path) -> None:
    out = tmp_path / "out here" / command
    done = _ecom(tmp_path / "no home", command, "--out", str(out))
    assert done.returncode == 3
    assert "run `ecom up`" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["charts", "site"])
def test_help_has_an_example_and_is_fast(command: str, tmp_path: Path) -> None:
    began = time.monotonic()
    done = _ecom(tmp_path, command, "--help")
    assert time.monotonic() - began < 3
    assert done.returncode == 0
    assert f"Example: ecom {command}" in done.stdout


def test_help_does_not_load_the_drawing_libraries() -> None:
    program = "import sys, cli.main; print({'pandas', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
    )
    assert done.stdout.strip() == "set()"


def test_a_server_that_is_gone_is_unreachable(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = Home(tmp_path / "home")
    home.write_private(home.root / "ports.json", f'{{"thrift": {port}}}')
    settings = Settings(home=home.root, source_dsn=None, target="local")
    with pytest.raises(ServiceError, match=f"127.0.0.1:{port}") as caught:
        Reader(settings)
    assert caught.value.exit_code == 3
    assert "ecom up" in caught.value.fix
