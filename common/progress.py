"""Progress for people: Rich bars on a terminal, plain lines elsewhere.

Everything goes to stderr, so that stdout stays free for `--json`. A task that is under
way is never silent for longer than two seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Task as Bar
from rich.text import Text

console = Console(stderr=True, highlight=False, soft_wrap=True)
PLAIN_INTERVAL = 2.0
LOOK_EVERY = 0.25


class _Clock:
    """When the last line was printed, by whomever."""

    last = time.monotonic()


def say(message: str) -> None:
    """Print one line of what is happening, markup left as it is."""
    _Clock.last = time.monotonic()
    console.print(message, markup=False)


class Task(Protocol):
    """A piece of work under way."""

    def advance(self, amount: int = 1) -> None:
        """Say that `amount` more units are done."""

    def expect(self, total: int) -> None:
        """Say how many units there will be, where that was not known at first."""

    def describe(self, text: str) -> None:
        """Say what is being done now."""


@contextmanager
def task(
    description: str, total: int | None = None, unit: str = "rows"
) -> Iterator[Task]:
    """Show one piece of work until the block ends; several may be shown at once.

    Args:
        description: what is done, in the present tense.
        total: how many units there will be, or None where unknown.
        unit: the name of the units.
    """
    shown = _bar if console.is_terminal else _lines
    with shown(description, total, unit) as one:
        yield one


class _PlainTask:
    def __init__(self, description: str, total: int | None, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done, self._started = 0, time.monotonic()
        self._lock = threading.Lock()
        say(f"{description} ...")

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self._done += amount

    def expect(self, total: int) -> None:
        self._total = total

    def describe(self, text: str) -> None:
        if text != self._description:
            self._description = text
            say(text)

    def remind(self, over: threading.Event) -> None:
        """Print where the work is whenever nothing was printed for a while."""
        while not over.wait(LOOK_EVERY):
            if time.monotonic() - _Clock.last > PLAIN_INTERVAL - LOOK_EVERY:
                say(self._state())

    def _state(self) -> str:
        seconds = time.monotonic() - self._started
        if not self._done:
            return f"{self._description}: {seconds:.0f} s"
        share = f" of {self._total:,}" if self._total else ""
        rate = self._done / max(seconds, 1e-9)
        speed = f"{rate:,.0f}" if rate > 1 else f"{rate:.2f}"
        return (
            f"{self._description}: {self._done:,}{share} {self._unit}, "
            f"{speed}/s, {seconds:.0f} s"
        )


@contextmanager
def _lines(description: str, total: int | None, unit: str) -> Iterator[Task]:
    one, over = _PlainTask(description, total, unit), threading.Event()
    reminder = threading.Thread(target=one.remind, args=(over,), daemon=True)
    reminder.start()
    try:
        yield one
    finally:
        over.set()
        reminder.join()


class _Counts(ProgressColumn):
    """Units done, of how many, and how many a second."""

    def render(self, task: Bar) -> Text:
        if not task.completed:
            return Text("")
        share = f" of {task.total:,.0f}" if task.total else ""
        speed = f", {task.speed:,.0f}/s" if task.speed else ""
        return Text(f"{task.completed:,.0f}{share} {task.fields['unit']}{speed}")


class _Screen:
    """The one live display of a terminal, shared by all tasks under way."""

    lock = threading.Lock()
    progress: Progress | None = None
    users = 0


class _RichTask:
    def __init__(self, progress: Progress, number: TaskID) -> None:
        self._progress, self._id = progress, number

    def advance(self, amount: int = 1) -> None:
        self._progress.advance(self._id, amount)

    def expect(self, total: int) -> None:
        self._progress.update(self._id, total=total)

    def describe(self, text: str) -> None:
        self._progress.update(self._id, description=text)


@contextmanager
def _bar(description: str, total: int | None, unit: str) -> Iterator[Task]:
    progress = _enter_screen()
    number = progress.add_task(description, total=total, unit=unit)
    try:
        yield _RichTask(progress, number)
    finally:
        progress.remove_task(number)
        _leave_screen()


def _enter_screen() -> Progress:
    with _Screen.lock:
        if _Screen.progress is None:
            columns = (
                SpinnerColumn(), TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24), _Counts(), TimeElapsedColumn(),
            )  # fmt: skip
            _Screen.progress = Progress(*columns, console=console, transient=True)
            _Screen.progress.start()
        _Screen.users += 1
        return _Screen.progress


def _leave_screen() -> None:
    with _Screen.lock:
        _Screen.users -= 1
        if not _Screen.users and _Screen.progress is not None:
            _Screen.progress.stop()
            _Screen.progress = None
