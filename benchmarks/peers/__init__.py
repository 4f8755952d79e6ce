"""Other tools that do what ingest does, in an environment of their own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from common.errors import ServiceError
from common.progress import task
from common.settings import PROJECT

REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"
SCRIPT = Path(__file__).with_name("load.py")
PATIENCE = 3600.0
NAMES = ("connectorx", "dlt")


def environment() -> Path:
    """The interpreter of the peers' environment, made at the first call.

    Raises:
        ServiceError: a package could not be installed.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = PROJECT / ".cache" / f"peers-{digest}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    uv = Path(sys.executable).with_name("uv")
    steps = (
        [sys.executable, "-m", "venv", "--without-pip", str(folder)],
        [str(uv), "pip", "install", "--quiet", "--require-hashes",
         "--python", str(python), "--requirement", str(REQUIREMENTS)],
    )  # fmt: skip
    with task("Installing the peers into an environment of their own"):
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ServiceError(
                    f"Installing the peers of {REQUIREMENTS}: "
                    f"{(done.stderr.strip().splitlines() or ['no reason given'])[-1]}",
                    "check the network to the package index, then run again",
                )
    (folder / "complete").touch()
    return python


def measure(python: Path, name: str, dsn: str) -> float:
    """Seconds in which a peer copies `interactions` to local Parquet, imports apart.

    Raises:
        ServiceError: the peer failed; its own last line is quoted.
    """
    with tempfile.TemporaryDirectory(prefix="ecom bench ") as folder:
        with task(f"{name}: interactions to local Parquet"):
            done = subprocess.run(
                [str(python), str(SCRIPT), name, folder],
                env={
                    **os.environ,
                    "ECOM_BENCH_DSN": dsn,
                    "DLT_DATA_DIR": folder,
                    "RUNTIME__DLTHUB_TELEMETRY": "false",
                },
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason"]
            raise ServiceError(
                f"Measuring {name}: {lines[-1][:300]}",
                "run the bench again, or read benchmarks/peers/load.py",
            )
        return round(float(done.stdout.strip().splitlines()[-1]), 2)
