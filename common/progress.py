"""Progress for people: Rich bars on a terminal, plain lines elsewhere.

Everything goes to stderr, so that stdout stays free for `--json`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

console = Console(stderr=True, highlight=False, soft_wrap=True)
PLAIN_INTERVAL = 2.0


def say(message: str) -> None:
    """Print one line of what is happening, markup left as it is."""
    console.print(message, markup=False)


class Task(Protocol):
    """A piece of work under way."""

    def advance(self, amount: int = 1) -> None:
        """Say that `amount` more units are done."""

    def describe(self, text: str) -> None:
        """Say what is being done now."""


class _PlainTask:
    def __init__(self, description: str, total: int | None, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done, self._started = 0, time.monotonic()
        self._last = self._started
        say(f"{description} ...")

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last < PLAIN_INTERVAL:
            return
        self._last = now
        share = f" of {self._total:,}" if self._total else ""
        rate = self._done / max(now - self._started, 1e-9)
        say(f"{self._description}: {self._done:,}{share} {self._unit}, {rate:,.0f}/s")

    def describe(self, text: str) -> None:
        if text != self._description:
            self._description = text
            say(text)


class _RichTask:
    def __init__(self, progress: Progress, description: str, total: int | None) -> None:
        self._progress = progress
        self._id = progress.add_task(description, total=total)

    def advance(self, amount: int = 1) -> None:
        self._progress.advance(self._id, amount)

    def describe(self, text: str) -> None:
        self._progress.update(self._id, description=text)


@contextmanager
def task(
    description: str, total: int | None = None, unit: str = "rows"
) -> Iterator[Task]:
    """Show one piece of work until the block ends.

    Args:
        description: what is done, in the present tense.
        total: how many units there will be, or None where unknown.
        unit: the name of the units.
    """
    if not console.is_terminal:
        yield _PlainTask(description, total, unit)
        return
    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
    if total:
        columns += [BarColumn(), MofNCompleteColumn()]
    columns.append(TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _RichTask(progress, description, total)
