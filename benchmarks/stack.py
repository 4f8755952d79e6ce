"""How long the embedded stack takes to start, warm and cold, and what it holds idle."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from common.settings import Settings
from stack.manager import Stack

SETTLE_SECONDS = 10


def run(settings: Settings) -> dict[str, Any]:
    """Time a stack of its own; the user's is not touched.

    Returns:
        Seconds of the first start (formats and creates), of a start from `down`, of a
        warm `up`, of `down`, and idle resident MiB in all and by service.
    """
    with tempfile.TemporaryDirectory(prefix="ecom bench ") as folder:
        stack = Stack(Settings(Path(folder) / "home", None, settings.target))
        try:
            result: dict[str, Any] = {"first_start_seconds": _timed(stack.up)}
            result["down_seconds"] = _timed(stack.down)
            result["start_seconds"] = _timed(stack.up)
            result["warm_up_seconds"] = _timed(stack.up)
            time.sleep(SETTLE_SECONDS)
            memory = {s.name: _resident(s.process()) for s in stack.services}
            result["idle_mib"] = {**memory, "all": sum(memory.values())}
        finally:
            stack.down()
    return result


def _timed(action: Any) -> float:
    began = time.monotonic()
    action()
    return round(time.monotonic() - began, 2)


def _resident(process: psutil.Process | None) -> int:
    """Proportional MiB of a process and its children: shared pages count once."""
    if process is None:
        return 0
    family = [process, *process.children(recursive=True)]
    return round(sum(p.memory_full_info().pss for p in family) / 2**20)
