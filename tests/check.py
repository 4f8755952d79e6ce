"""`make check`: the static tier. Each gate is one command, the same here and in CI."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.settings import PROJECT, Settings
from stack.endpoints import dbt_environment

AT_ONCE = 2
WRITES_MANIFEST, READS_MANIFEST = "dbt parse", "conventions"
BIN = Path(sys.executable).parent
TARGET = PROJECT / "target" / "check"
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


def run(name: str) -> subprocess.CompletedProcess[str]:
    """Run one gate; its dbt artifacts are in `TARGET`."""
    program, *arguments = GATES[name]
    surroundings = {**os.environ, **dbt_environment(Settings.from_environment())}
    return subprocess.run(
        [str(BIN / program), *arguments],
        cwd=PROJECT, env={**surroundings, "DBT_TARGET_PATH": str(TARGET)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def main() -> int:
    """Run every gate; the number that failed."""

    def gate(name: str) -> tuple[str, subprocess.CompletedProcess[str], float]:
        began = time.monotonic()
        done = run(name)
        return name, done, time.monotonic() - began

    failed = []
    parsed = threading.Event()

    def in_turn(name: str) -> tuple[str, subprocess.CompletedProcess[str], float]:
        if name == READS_MANIFEST:
            parsed.wait()
        try:
            return gate(name)
        finally:
            if name == WRITES_MANIFEST:
                parsed.set()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, done, seconds in pool.map(in_turn, GATES):
            verdict = "ok" if done.returncode == 0 else "FAILED"
            print(f"{name:<16} {verdict:<7} {seconds:5.1f} s", flush=True)
            if done.returncode:
                failed.append(name)
                print(done.stdout[-4000:] + done.stderr[-4000:])
    print(f"{len(GATES) - len(failed)} passed, {len(failed)} failed")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
