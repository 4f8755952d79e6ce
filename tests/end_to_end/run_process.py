"""An `ecom run` as a process of its own, cut off at a line that it prints itself."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from common.settings import PROJECT, Settings
from publish.in_home import dbt_record
from publish.journal import PUBLISHED, ROLLED_BACK, Journal
from publish.lake import MAIN, Lake, open_lake
from tests.conftest import BIN, environment
from tests.meanwhile import meanwhile


def cut_off(
    settings: Settings, line: str, *flags: str, by: signal.Signals = signal.SIGKILL
) -> tuple[int, str]:
    """Start `ecom run`, send it a signal at the first line that matches.

    Returns:
        Its exit code and what it printed.
    """
    process = subprocess.Popen(
        [str(BIN / "ecom"), "run", *flags],
        env=environment(settings), cwd=PROJECT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    printed = ""
    sent = False
    for one in process.stdout:
        printed += one
        if not sent and re.search(line, one):
            sent = True
            process.send_signal(by)
    code = process.wait()
    assert sent, f"{line!r} was never printed\n{printed[-6000:]}"
    return code, printed


@dataclass
class Watched:
    """What somebody saw who asked in a loop for every table of core and marts.

    Attributes:
        seen: table -> every snapshot that was there to read.
        answers: how often all of them were asked for.
    """

    seen: dict[str, set[int]] = field(default_factory=dict)
    answers: int = 0


@contextmanager
def a_reader(settings: Settings) -> Iterator[Watched]:
    """Read in a loop what readers get; every state must be one that was published."""
    watched = Watched()
    with open_lake(settings) as lake:
        tables = lake.tables(("core", "marts"))

        def read() -> None:
            for table, refs in lake.heads(tables).items():
                watched.seen.setdefault(table, set()).add(refs[MAIN])
            watched.answers += 1

        with meanwhile(read, pause=0.2):
            yield watched
        entries = Journal(lake).history().entries
    shown: dict[str, set[int | None]] = {}
    for entry in (e for e in entries if e.event in (PUBLISHED, ROLLED_BACK)):
        for move in entry.moves:
            shown.setdefault(move.table, set()).update({move.before, move.after})
    for table, snapshots in watched.seen.items():
        assert snapshots <= shown[table], f"{table} was read between two publishes"


def dbt_of(settings: Settings) -> bool:
    """Whether a dbt of this home is alive."""
    return dbt_record(settings).find() is not None


def shown(lake: Lake) -> dict[str, tuple[int, list[str]]]:
    """What readers can see: each table's snapshot, which never changes, and columns."""
    tables = lake.tables()
    heads = lake.heads(tables)
    described = lake.each(f"DESCRIBE QUERY SELECT * FROM {t}" for t in tables)
    return {
        table: (heads[table][MAIN], [row[0] for row in rows])
        for table, rows in zip(tables, described)
    }
