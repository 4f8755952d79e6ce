"""Rows of CSV files that were refused: kept for the user, or the end of the load."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path
from typing import TextIO

from common.errors import DataError, UsageError
from source.csv_records import Reject
from source.tables import Table

DOING = "Loading the CSV files"
SHOWN = 10


class RejectLog:
    """Collects rejected rows: all of them in a file, or the first ten.

    Args:
        path: the file to write, or None to refuse every reject.
    """

    HEADER = ("file", "line", "column", "value", "reason")

    def __init__(self, path: Path | None) -> None:
        self.path, self.counts = path, Counter[str]()
        self.first: list[Reject] = []
        self._partial = path.with_name(f".{path.name}.{os.getpid()}") if path else None
        self._file: TextIO | None = None
        if self._partial is not None:
            try:
                self._file = self._partial.open("w", encoding="utf-8", newline="")
            except OSError as error:
                raise UsageError(
                    f"Opening {path} for the rejected rows: {error.strerror}",
                    "name a file in a folder that exists and can be written",
                ) from None
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
            csv.writer(self._file).writerow(
                (reject.file, reject.line, reject.column, reject.value, reject.reason)
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
        """Put the file in its place."""
        if self._file and self._partial and self.path:
            self._file.close()
            self._partial.replace(self.path)

    def drop(self) -> None:
        """Remove what was written."""
        if self._file and self._partial:
            self._file.close()
            self._partial.unlink(missing_ok=True)
