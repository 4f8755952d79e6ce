"""A class-data archive for the engine: its classes read once, then mapped, not parsed.

The first engine that finds none records what it loads and writes the archive when it
is stopped cleanly. Java refuses an archive that does not fit and starts without it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from common.settings import PROJECT

FOLDER = PROJECT / ".cache" / "classes"
KEPT = 2
RECORDING = "-XX:ArchiveClassesAtExit="


def archive(java: str, jars: Sequence[Path], options: Sequence[str]) -> Path:
    """Where the archive of this Java, these jars and options is or will be."""
    said = subprocess.run([java, "-version"], capture_output=True, check=False).stderr
    key = hashlib.sha256(said)
    for jar in jars:
        found = jar.stat()
        key.update(f"{jar}|{found.st_size}|{found.st_mtime_ns}\n".encode())
    key.update("\n".join(options).encode())
    return FOLDER / f"engine-{key.hexdigest()[:16]}.jsa"


def java_options(wanted: Path, home: Path) -> list[str]:
    """Options that use the archive, or that record it where there is none yet."""
    # What does not fit is no fault: the archive is ignored without a word.
    quiet = "-Xlog:disable", "-Xlog:all=error:stderr"
    if wanted.exists():
        return [*quiet, f"-XX:SharedArchiveFile={wanted}"]
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
    except OSError:
        return list(quiet)
    if not os.access(FOLDER, os.W_OK):  # a checkout of somebody else's
        return list(quiet)
    # Two homes may record at once: each writes a file of its own.
    mark = hashlib.sha256(str(home).encode()).hexdigest()[:8]
    return [*quiet, f"{RECORDING}{wanted.with_suffix(f'.{mark}.part')}"]


def recorded_by(process: psutil.Process) -> Path | None:
    """The file an engine will write its classes to when it ends, or None."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return None
    for word in words:
        if word.startswith(RECORDING):
            return Path(word.removeprefix(RECORDING))
    return None


def keep(partial: Path) -> None:
    """Put a finished recording in its place; all but the newest few archives go."""
    if not partial.exists():
        return
    final = partial.with_suffix("").with_suffix(".jsa")
    partial.replace(final)
    archives = sorted(FOLDER.glob("engine-*.jsa"), key=lambda one: -one.stat().st_mtime)
    for other in archives[KEPT:]:
        other.unlink(missing_ok=True)
