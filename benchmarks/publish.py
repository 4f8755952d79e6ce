"""Publishing: its seconds, its mixed window, what the branch costs, runs in a row."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.warehouse import EDGE, Shop, own_shop
from common.errors import DataError
from common.progress import say
from common.settings import Settings
from publish import building, moving
from publish.journal import Journal
from publish.lake import MAIN, Lake, open_lake
from source import change

DEFAULT_ROWS = 100_000
RUNS = 20
TURNS = 4
PUBLISHES = 5
PARTS = ("moves", "branch", "runs")


def run(settings: Settings, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Measure on a stack of its own.

    `ECOM_BENCH_ROWS` sets the interactions (default 100,000), `ECOM_BENCH_RUNS` the
    runs in a row (default 20), `ECOM_BENCH_TURNS` how often direct builds and builds
    on a branch take turns (default 4; an even number is fair to both).

    Args:
        settings: whose stack is left alone.
        parts: some of `PARTS`; none means all.

    Returns:
        Seconds of publishing all tables and of the time in which a reader could see,
        or saw, new and old tables mixed; builds on a branch by direct ones, with and
        without the publish; a row of seconds for each of the runs, and the last five
        by the first five.
    """
    rows = int(os.environ.get("ECOM_BENCH_ROWS", DEFAULT_ROWS))
    with own_shop(settings, rows) as shop:
        measures = {
            "moves": lambda: _publishes(shop),
            "branch": lambda: _branch_cost(shop),
            "runs": lambda: _runs_in_a_row(shop),
        }
        say("The first run")
        found = told({"first_run_seconds": _ecom_run(shop)["all"]})
        for part in PARTS:
            if not parts or part in parts:
                say(f"== {part}")
                found |= told(measures[part]())
    return {"interactions": rows, **found}


def told(found: dict[str, Any]) -> dict[str, Any]:
    """The same, said at once: a long benchmark that dies has told what it knew."""
    for name, value in found.items():
        say(f"  {name}: {value}")
    return found


# --- publishing all tables, with and without a reader


def _publishes(shop: Shop) -> dict[str, Any]:
    """Publish all tables some times; every other time somebody reads meanwhile."""
    alone: list[tuple[float, moving.Moved]] = []
    watched: list[tuple[float, moving.Moved]] = []
    seen: list[Seen] = []
    with open_lake(shop.settings) as lake:
        for number in range(2 * PUBLISHES):
            branch = f"{moving.BRANCH_PREFIX}bench{number}"
            base = moving.shown_snapshots(lake)
            _touch(lake, list(base), branch)
            if number % 2:
                with a_reader(shop.settings, base) as reader:
                    watched.append(_publish(lake, branch, base))
                seen.append(reader)
            else:
                alone.append(_publish(lake, branch, base))
    return {
        "tables_published": alone[-1][1].tables,
        "publish_seconds": _median(seconds for seconds, _ in alone),
        "mixed_window_seconds": _median(m.mixed_window_seconds for _, m in alone),
        "publish_while_read_seconds": _median(seconds for seconds, _ in watched),
        "mixed_window_while_read_seconds": _median(
            m.mixed_window_seconds for _, m in watched
        ),
        "reader_saw_mixed_seconds": _median(one.mixed_seconds for one in seen),
        "reader_answer_seconds": _median(one.answer_seconds for one in seen),
    }


def _touch(lake: Lake, tables: list[str], branch: str) -> None:
    """Give every table a snapshot without a row on a branch: what moves is the same."""
    lake.each(f"ALTER TABLE {table} CREATE BRANCH `{branch}`" for table in tables)
    lake.each(
        f"INSERT INTO {table}.`branch_{branch}` SELECT * FROM {table} LIMIT 0"
        for table in tables
    )


def _publish(
    lake: Lake, branch: str, base: Mapping[str, int]
) -> tuple[float, moving.Moved]:
    ledger = Journal(lake)
    ledger.prepare()
    ledger.claim(branch)
    past = ledger.history()
    began = time.monotonic()
    moved = moving.publish_branch(lake, branch, branch, base, past)
    seconds = round(time.monotonic() - began, 2)
    say(f"  {moved.tables} tables in {seconds} s, {moved.mixed_window_seconds} s mixed")
    return seconds, moved


@dataclass
class Seen:
    """What a reader saw of a publish, who asks for all tables again and again.

    Attributes:
        answers: start and end of each query, and how many tables it saw new.
        tables: how many it asks for.
    """

    tables: int
    answers: list[tuple[float, float, int]] = field(default_factory=list)

    @property
    def mixed_seconds(self) -> float:
        """From the start of the first answer with a mix to the end of the last."""
        mixed = [a for a in self.answers if 0 < a[2] < self.tables]
        return mixed[-1][1] - mixed[0][0] if mixed else 0.0

    @property
    def answer_seconds(self) -> float:
        """How long an answer takes."""
        return statistics.median(end - began for began, end, _ in self.answers)


@contextmanager
def a_reader(settings: Settings, base: Mapping[str, int]) -> Iterator[Seen]:
    """Somebody who asks in a loop which state of core and marts can be read."""
    tables = [
        table
        for table in base
        if table.startswith(("core.", "marts.")) and table != "core.build_state"
    ]
    seen, over, ready = Seen(len(tables)), threading.Event(), threading.Event()

    def read() -> None:
        with open_lake(settings) as lake:
            while not over.is_set():
                began = time.monotonic()
                heads = lake.heads(tables)
                new = sum(heads[table][MAIN] != base[table] for table in tables)
                seen.answers.append((began, time.monotonic(), new))
                ready.set()

    thread = threading.Thread(target=read)
    thread.start()
    ready.wait()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


# --- builds on a branch by direct builds


def _branch_cost(shop: Shop) -> dict[str, Any]:
    """Both kinds of build by turns, of everything and of a small change."""
    turns = int(os.environ.get("ECOM_BENCH_TURNS", TURNS))
    parse = ["--quiet", "parse", "--target", "local"]
    building.dbt(shop.settings, parse, {"DBT_TARGET_PATH": str(shop.folder)})
    found: dict[str, Any] = {}
    for name, prepare, scope in (
        ("full_refresh", lambda: None, building.Scope(full_refresh=True)),
        ("small_change", lambda: _small_change(shop), building.Scope()),
    ):
        direct, branch, published = _by_turns(shop, turns, prepare, scope)
        found |= {
            f"{name}_direct_seconds": direct,
            f"{name}_on_branch_seconds": branch,
            f"{name}_branch_over_direct": round(branch / direct, 3),
            f"{name}_published_over_direct": round(published / direct, 3),
        }
    return found


def _by_turns(
    shop: Shop, turns: int, prepare: Callable[[], None], scope: building.Scope
) -> tuple[float, float, float]:
    """Mean seconds: direct, on a branch, on a branch with its publish."""
    direct: list[float] = []
    branch: list[float] = []
    published: list[float] = []
    for turn in range(turns + 1):
        # Who begins changes: what goes on getting faster or slower favours neither.
        for on_branch in (False, True) if turn % 2 else (True, False):
            prepare()
            if on_branch:
                built, moved = _build_and_publish(shop, scope)
                branch.append(built)
                published.append(built + moved)
            else:
                direct.append(shop.build(*scope.arguments()))
    # The first of each warmed the engine up.
    return _mean(direct[1:]), _mean(branch[1:]), _mean(published[1:])


def _build_and_publish(shop: Shop, scope: building.Scope) -> tuple[float, float]:
    branch = f"{moving.BRANCH_PREFIX}bench_{time.monotonic_ns()}"
    with open_lake(shop.settings) as lake:
        base = moving.discard(lake)
        began = time.monotonic()
        outcome = building.build(shop.settings, branch, scope)
        built = round(time.monotonic() - began, 2)
        if not outcome.succeeded:
            raise DataError("A build of the benchmark failed", "read its message above")
        say(f"  built on a branch in {built:.0f} s")
        moved, _ = _publish(lake, branch, base)
    return built, moved


def _small_change(shop: Shop) -> None:
    """A natural day, brought to staging."""
    change.change(shop.settings, None, None, 1)
    shop.ingest()


# --- runs in a row


def _runs_in_a_row(shop: Shop) -> dict[str, Any]:
    """`ecom run` as a user says it, a natural day before each."""
    runs = int(os.environ.get("ECOM_BENCH_RUNS", RUNS))
    told_rows = []
    for number in range(runs):
        change.change(shop.settings, None, None, number)
        told_rows.append(_ecom_run(shop))
        say(f"  run {number + 1} of {runs}: {told_rows[-1]}")
    first = _median(row["all"] for row in told_rows[:EDGE])
    last = _median(row["all"] for row in told_rows[-EDGE:])
    return {
        "runs": told_rows,
        "first_runs_seconds": first,
        "last_runs_seconds": last,
        "last_runs_over_first": round(last / first, 3),
    }


def _ecom_run(shop: Shop) -> dict[str, float]:
    """Seconds of one `ecom run` and of its phases; its mixed window."""
    began = time.monotonic()
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ecom")), "run", "--json"],
        env={**os.environ, "ECOM_HOME": str(shop.settings.home)},
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    seconds = round(time.monotonic() - began, 1)
    if done.returncode:
        raise DataError("A run of the benchmark failed", "read its message above")
    report = json.loads(done.stdout)
    mixed = report["mixed_window_seconds"]
    return {"all": seconds, **report["phases"], "mixed_window": mixed}


def _mean(values: list[float]) -> float:
    return round(statistics.mean(values), 2)


def _median(values: Any) -> float:
    return round(float(statistics.median(values)), 2)
