"""`make check`: the static tier. Each gate is one command, the same here and in CI."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from common.settings import PROJECT, Settings
from stack.endpoints import dbt_environment

BIN = Path(sys.executable).parent
GATES = {
    "ruff format": ["ruff", "format", "--check", "."],
    "ruff": ["ruff", "check", "."],
    "mypy": ["mypy"],
    "imports one way": ["lint-imports", "--no-cache"],
    "sqlfluff": [
        "sqlfluff",
        "lint",
        "--disable-progress-bar",
        "-q",
        "models",
        "snapshots",
        "analyses",
        "tests/dbt",
    ],
    "dbt parse": [
        "dbt",
        "--no-use-colors",
        "--warn-error",
        "parse",
        "--no-partial-parse",
    ],
    "conventions": ["python", "-m", "pytest", "-q", "tests/conventions"],
}


def main() -> int:
    """Run every gate; the number that failed."""
    environment = {**os.environ, **dbt_environment(Settings.from_environment())}
    environment["DBT_TARGET_PATH"] = str(PROJECT / "target" / "check")
    failed = []
    for name, (program, *arguments) in GATES.items():
        began = time.monotonic()
        done = subprocess.run(
            [str(BIN / program), *arguments],
            cwd=PROJECT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        verdict = "ok" if done.returncode == 0 else "FAILED"
        print(f"{name:<16} {verdict:<7} {time.monotonic() - began:5.1f} s", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout[-4000:] + done.stderr[-4000:])
    print(f"{len(GATES) - len(failed)} passed, {len(failed)} failed")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
