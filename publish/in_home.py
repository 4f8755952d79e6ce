"""What publishing keeps in the home: the lock of a run, the branch that waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from common.errors import BusyError
from common.settings import Settings


@contextmanager
def one_at_a_time(settings: Settings) -> Iterator[None]:
    """Hold a home against every other command that writes to its warehouse.

    Raises:
        BusyError: another holds it; a dead owner holds nothing.
    """
    lock = FileLock(settings.home / "run.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"Another run of {settings.home} is under way",
            "wait for it to end, then run again",
        ) from error
    try:
        yield
    finally:
        lock.release()


def tested_file(settings: Settings) -> Path:
    """Names the branch that passed its tests and was not published yet."""
    return settings.home / "tested.json"
