"""What staging's key ranges counted at a snapshot, kept so that it is not counted twice.

A snapshot never changes, so neither do its counts: a file that is lost or older costs one
scan of the keys, never a wrong answer.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ingest.sweep import Counts


class Remembered:
    """The counts of one table, in one file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def recall(self, snapshot: int | None, statement: str) -> Counts | None:
        """The counts that `statement` gave at a snapshot, or None."""
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            if (found["snapshot"], found["statement"]) != (snapshot, statement):
                return None
            return {int(b): (int(n), int(s), int(t)) for b, n, s, t in found["counts"]}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, snapshot: int, statement: str, counts: Counts) -> None:
        """Remember these counts in place of those before."""
        found = {
            "snapshot": snapshot,
            "statement": statement,
            "counts": [[b, *numbers] for b, numbers in counts.items()],
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.file.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(found), encoding="utf-8")
        fresh.replace(self.file)
