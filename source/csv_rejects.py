"""Rows of CSV files that were refused: kept for the user, or the end of the load."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from common.errors import DataError, UsageError
from source.csv_records import Reject
from source.tables import Table

DOING = "Loading the CSV files"
SHOWN = 10
FORMULA = ("=", "+", "-", "@")
NUMBER = re.compile(r"[+-]?[0-9][0-9.]*")


class RejectLog:
    """Collects rejected rows: all of them in a file, or the first ten.

    Args:
        path: the file to write, or None to refuse every reject.
    """

    HEADER = ("file", "line", "column", "value", "reason")

    def __init__(self, path: Path | None) -> None:
        self.path, self.counts = path, Counter[str]()
        self.first: list[Reject] = []
        self._kept = False
        self._partial = path.with_name(f".{path.name}.{os.getpid()}") if path else None
        self._file: TextIO | None = None
        if path is not None and self._partial is not None:
            if path.exists() and not path.is_file():
                raise _unwritable(path, "it is there and is no file")
            try:
                self._file = self._partial.open("w", encoding="utf-8", newline="")
            except OSError as error:
                raise _unwritable(path, error.strerror) from None
            csv.writer(self._file).writerow(self.HEADER)

    @property
    def accepts(self) -> bool:
        """Whether rows may be rejected."""
        return self._file is not None

    def mark(self) -> tuple[Counter[str], int, list[Reject]]:
        """Where the log is, to come back to."""
        place = self._file.tell() if self._file else 0
        return Counter(self.counts), place, list(self.first)

    def back_to(self, mark: tuple[Counter[str], int, list[Reject]]) -> None:
        """Forget what came after the mark."""
        self.counts, place, self.first = mark
        if self._file:
            self._file.seek(place)
            self._file.truncate()

    def add(self, table: Table, reject: Reject) -> None:
        """Note one rejected row."""
        self.counts[table.name] += 1
        if len(self.first) < SHOWN:
            self.first.append(reject)
        if self._file:
            value = harmless(reject.value)
            with self._written():
                csv.writer(self._file).writerow(
                    (reject.file, reject.line, reject.column, value, reject.reason)
                )

    def refuse(self) -> None:
        """End the load where a row was rejected and none may be.

        Raises:
            DataError: naming the first ten.
        """
        if self.accepts or not self.counts:
            return
        lines = [
            f"  {one.file}:{one.line}"
            + (f" {one.column} {one.value!r}" if one.column else f" {one.value!r}")
            + f": {one.reason}"
            for one in self.first
        ]
        total = sum(self.counts.values())
        head = "the first ten of them:" if total > SHOWN else "namely:"
        raise DataError(
            f"{DOING}: {total:,} rows are refused so far, nothing is loaded; {head}\n"
            + "\n".join(lines),
            "correct the files, declare formats in formats.yml, or load the rest with "
            "`--rejects FILE`",
        )

    def keep(self) -> None:
        """Put the file in its place, before the rows are committed: a crash between
        the two may leave a list of rows never loaded, but loses no list."""
        if self._file and self._partial and self.path:
            with self._written():
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._partial.replace(self.path)
            self._kept = True

    def drop(self) -> None:
        """Remove what was written."""
        if self._file and self._partial and self.path:
            # What cannot be flushed to a full disk is not wanted any more.
            with suppress(OSError):
                self._file.close()
            self._partial.unlink(missing_ok=True)
            if self._kept:
                self.path.unlink(missing_ok=True)

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(
                f"Writing the rejected rows to {self.path}: {error.strerror}",
                "make room, or name a file elsewhere; nothing is loaded",
            ) from None


def harmless(value: str) -> str:
    """The value with an apostrophe before what a spreadsheet would compute."""
    if value.startswith(FORMULA) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def _unwritable(path: Path, why: str | None) -> UsageError:
    return UsageError(
        f"Opening {path} for the rejected rows: {why}",
        "name a file in a folder that exists and can be written",
    )
