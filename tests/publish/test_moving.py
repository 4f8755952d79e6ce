"""Publishing, rollback and recovery on tables made by hand: no build, real engine.

Each test has schemas of its own by a prefix, so that all share one stack.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from common.errors import DataError, ServiceError
from common.settings import Settings
from publish import journal, moving, upkeep
from publish.journal import Entry, History, Journal, Move
from publish.lake import MAIN, Lake, fast_forward, open_lake
from publish.moving import discard, publish_branch, recover, roll_back, shown_snapshots
from tests.meanwhile import meanwhile

PROPERTIES = "USING iceberg TBLPROPERTIES ('write.wap.enabled' = 'true')"


class Shop:
    """A warehouse of four small tables under a prefix of its own."""

    def __init__(self, settings: Settings, lake: Lake) -> None:
        self.settings, self.lake = settings, lake
        self.kept = lake.schema("snapshots") + ".kept"
        self.state = lake.schema("core") + ".build_state"
        self.dim = lake.schema("core") + ".dim"
        self.mart = lake.schema("marts") + ".mart"
        for schema in ("snapshots", "core", "marts"):
            lake.rows(f"CREATE NAMESPACE {lake.schema(schema)}")
        self.tables = [self.kept, self.state, self.dim, self.mart]
        for table in self.tables:
            self.make(table, "n int, mark string" if table == self.state else "n int")
        Journal(lake).prepare()

    def make(self, table: str, columns: str = "n int") -> None:
        self.lake.rows(f"CREATE TABLE {table} ({columns}) {PROPERTIES}")

    @contextmanager
    def on_branch(self, branch: str) -> Iterator[None]:
        self.lake.rows(f"SET spark.wap.branch={branch}")
        try:
            yield
        finally:
            self.lake.rows("RESET spark.wap.branch")

    def build(self, number: int, *tables: str) -> str:
        """Write `number` to every table, or to those given, on a branch; its name."""
        branch = f"audit_b{number}"
        with self.on_branch(branch):
            for table in tables or self.tables:
                self.lake.rows(f"INSERT OVERWRITE {table} (n) VALUES ({number})")
        return branch

    def publish(self, number: int, *tables: str) -> moving.Moved:
        base = shown_snapshots(self.lake)
        self.build(number, *tables)
        return self.show(number, base)

    def show(self, number: int, base: Mapping[str, int]) -> moving.Moved:
        """Publish what was built on the branch of a number."""
        return publish_branch(
            self.lake, f"audit_b{number}", f"p{number}", base, self.past()
        )

    def past(self) -> History:
        return Journal(self.lake).history()

    def back(self, name: str | None = None) -> str:
        """Roll back; the publish that readers see then."""
        return roll_back(self.lake, uuid.uuid4().hex, self.past(), name)[0]

    def settle(self) -> moving.Moved | None:
        return recover(self.lake, self.past())

    def seen(self) -> list[int | None]:
        """What a reader finds in each table; None where it is empty or not there."""
        present = set(self.lake.tables())
        return [
            (self.lake.rows(f"SELECT max(n) FROM {t}")[0][0] if t in present else None)
            for t in self.tables
        ]

    def expire(self, table: str) -> None:
        """Let go of every snapshot but the one shown."""
        self.lake.rows(
            f"CALL lake.system.expire_snapshots(table => '{table}', "
            "older_than => now(), retain_last => 1)"
        )

    def refs(self) -> set[str]:
        heads = self.lake.heads(self.lake.tables())
        return {name for refs in heads.values() for name in refs}


@pytest.fixture
def shop(running: Settings) -> Iterator[Shop]:
    settings = replace(running, schema_prefix=f"t{uuid.uuid4().hex[:8]}_")
    with open_lake(settings) as lake:
        yield Shop(settings, lake)


@contextmanager
def a_reader(shop: Shop) -> Iterator[list[object]]:
    """Somebody who reads a table in a loop; what was torn."""
    torn: list[object] = []
    with open_lake(shop.settings) as own:

        def read() -> None:
            rows = own.rows(f"SELECT count(*), min(n), max(n) FROM {shop.dim}")
            if rows[0][1] != rows[0][2] or not rows[0][0]:
                torn.append(rows)

        with meanwhile(read, pause=0.01):
            yield torn


def cut_off(shop: Shop, number: int, *moved: str) -> Entry:
    """A publish that died when only `moved` had moved."""
    heads = shop.lake.heads(shop.lake.tables())
    branch = f"audit_b{number}"
    moves = [Move(t, refs.get(MAIN), refs[branch]) for t, refs in heads.items()]
    entry = shop.past().next(f"p{number}", branch, f"p{number}", moves)
    Journal(shop.lake).intend(entry)
    shop.lake.each(fast_forward(table, branch) for table in moved)
    return entry


def test_a_publish_shows_all_tables_and_a_rollback_takes_them_back(shop: Shop) -> None:
    shop.build(1)
    assert shop.seen() == [None] * 4, "a branch was read by readers"
    first = shop.show(1, {})
    assert (first.tables, shop.seen()) == (4, [1] * 4)
    assert first.mixed_window_seconds > 0
    assert shop.refs() == {MAIN}

    with pytest.raises(DataError, match="no publish before this one"):
        shop.back()

    again = shop.show(0, shown_snapshots(shop.lake))
    assert again.tables == 0, "nothing new is no publish"

    with a_reader(shop) as torn:
        shop.publish(2, shop.kept, shop.state, shop.dim)
        shop.publish(3)
    assert not torn, "a reader saw a table half written"
    assert [e.id for e in shop.past().kept] == ["p3", "p2", "p1"]
    assert shop.back() == "p2"
    # Snapshots hold what nothing else does, so they stay.
    assert shop.seen() == [3, 2, 2, 1]
    assert shop.back() == "p1"
    assert shop.seen() == [3, 1, 1, 1]
    assert [e.id for e in shop.past().kept] == ["p1"]

    # What was rolled back is built again on what readers see now.
    shop.publish(4)
    shop.publish(5)
    assert (shop.seen(), shop.refs()) == ([5] * 4, {MAIN})
    assert [e.id for e in shop.past().kept] == ["p5", "p4", "p1"]
    with pytest.raises(DataError, match="no earlier publish p3"):
        shop.back("p3")
    assert shop.back("p1") == "p1"
    assert shop.seen() == [5, 1, 1, 1]


def test_new_columns_and_tables_are_gone_again_after_a_rollback(shop: Shop) -> None:
    shop.publish(1)
    new = shop.lake.schema("marts") + ".new"
    base = shown_snapshots(shop.lake)
    shop.make(new)
    shop.lake.rows(f"ALTER TABLE {shop.dim} ADD COLUMNS (colour string)")
    with shop.on_branch("audit_b2"):
        shop.lake.rows(f"INSERT OVERWRITE {shop.dim} VALUES (2, 'red')")
        shop.lake.rows(f"INSERT INTO {new} VALUES (2)")
    shop.show(2, base)
    assert shop.lake.rows(f"SELECT * FROM {shop.dim}") == [(2, "red")]

    shop.back()
    assert shop.lake.table(f"SELECT * FROM {shop.dim}") == (["n"], [(1,)])
    assert new not in shop.lake.tables()

    # The same change comes again with the next run, and stays when later ones go.
    base = shown_snapshots(shop.lake)
    shop.make(new)
    shop.lake.rows(f"ALTER TABLE {shop.dim} ADD COLUMNS (colour string)")
    with shop.on_branch("audit_b3"):
        shop.lake.rows(f"INSERT OVERWRITE {shop.dim} VALUES (3, 'green')")
        shop.lake.rows(f"INSERT INTO {new} VALUES (3)")
    shop.show(3, base)
    shop.publish(4, shop.mart, new)
    shop.back()
    assert shop.lake.rows(f"SELECT * FROM {shop.dim}") == [(3, "green")]
    assert shop.lake.rows(f"SELECT * FROM {new}") == [(3,)]
    shop.back()
    assert new not in shop.lake.tables()


def test_a_publish_cut_off_between_tables_is_completed(shop: Shop) -> None:
    shop.publish(1)
    shop.build(2)
    cut_off(shop, 2, shop.dim)
    assert shop.seen() == [1, 1, 2, 1]
    done = shop.settle()
    assert done is not None
    assert (done.id, done.tables) == ("p2", 4)
    assert done.mixed_window_seconds > 0
    assert shop.seen() == [2] * 4
    assert shop.settle() is None
    assert shop.past().shown == "p2"


def test_the_journal_goes_by_numbers_and_waits_for_what_it_could_not_write(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish(1)
    # The clock was a day ahead, and has been set right.
    shop.lake.rows(
        f"UPDATE {shop.lake.schema('ops')}.publishes SET started_at = now() + interval 1 day"
    )
    base = shown_snapshots(shop.lake)
    shop.build(2)
    # A full disk, say: all has moved, and its last line cannot be written.
    monkeypatch.setattr(
        Journal, "recording", lambda *_: "INSERT INTO nowhere VALUES (1)"
    )
    assert shop.show(2, base).tables == 4
    monkeypatch.undo()
    assert shop.seen() == [2] * 4
    assert shop.past().unfinished is not None
    assert shop.settle() is not None
    assert shop.past().shown == "p2"
    assert shop.back() == "p1"
    assert shop.seen() == [2, 1, 1, 1]


def test_a_publish_that_cannot_be_completed_is_undone(shop: Shop) -> None:
    shop.publish(1)
    shop.build(2)
    cut_off(shop, 2, shop.dim)
    shop.lake.rows(f"INSERT OVERWRITE {shop.mart} VALUES (99)")  # a plain dbt build
    assert shop.settle() is None
    assert shop.seen() == [1, 1, 1, 99]
    history = shop.past()
    assert (history.entries[0].event, history.shown) == (journal.UNDONE, "p1")

    # Nor can it be undone where a table's former snapshot is gone: it is said each time.
    shop.build(4)
    cut_off(shop, 4, shop.dim)
    shop.expire(shop.dim)
    shop.lake.rows(f"INSERT OVERWRITE {shop.mart} VALUES (99)")
    with pytest.raises(ServiceError, match="could be neither completed"):
        shop.settle()
    assert shop.past().unfinished is not None
    Journal(shop.lake).record(shop.past().entries[0], journal.UNDONE)

    # The same write, seen before anything has moved.
    base = shown_snapshots(shop.lake)
    shop.build(3, shop.dim)
    shop.lake.rows(f"INSERT OVERWRITE {shop.mart} VALUES (98)")
    with pytest.raises(DataError, match="mart changed since the run began"):
        shop.show(3, base)
    # A run of another home has begun, and taken this branch for a leftover.
    Journal(shop.lake).claim("audit_of_another_home")
    with pytest.raises(DataError, match="a run of another home has begun since"):
        shop.show(3, shown_snapshots(shop.lake))
    assert shop.seen() == [1, 1, 4, 98]


def test_a_rollback_cut_off_between_tables_is_completed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish(1)
    shop.publish(2)
    move = moving._move

    def dies(lake: Lake, entry: Entry, heads: Any) -> float:
        move(lake, replace(entry, moves=entry.moves[:1]), heads)
        raise KeyboardInterrupt

    monkeypatch.setattr(moving, "_move", dies)
    with pytest.raises(KeyboardInterrupt):
        shop.back()
    assert len(set(shop.seen()[1:])) == 2, "not mixed"
    monkeypatch.undo()
    assert shop.settle() is not None
    assert shop.seen() == [2, 1, 1, 1]
    assert shop.past().shown == "p1"

    # Where one of the old snapshots went meanwhile, all tables stay as they were.
    shop.publish(3)
    monkeypatch.setattr(moving, "_move", dies)
    with pytest.raises(KeyboardInterrupt):
        shop.back()
    monkeypatch.undo()
    shop.expire(shop.mart)
    assert shop.settle() is None
    assert shop.seen() == [3] * 4
    assert shop.past().shown == "p3"


def test_what_a_failed_run_left_is_not_seen_and_goes(shop: Shop) -> None:
    shop.publish(1)
    shop.build(2)
    with shop.on_branch("audit"):  # `dbt build --target audit` said by hand
        shop.lake.rows(f"INSERT INTO {shop.dim} VALUES (3)")
    new = shop.lake.schema("core") + ".new"
    shop.make(new)
    shop.build(4, new)
    shop.lake.rows(f"ALTER TABLE {shop.mart} ADD COLUMNS (colour string)")
    assert shop.seen() == [1] * 4
    discard(shop.lake)
    assert shop.refs() == {MAIN}
    assert new not in shop.lake.tables()
    assert shop.lake.table(f"SELECT * FROM {shop.mart}") == (["n"], [(1,)])


def test_an_expired_snapshot_is_said_before_anything_moves(shop: Shop) -> None:
    shop.publish(1)
    shop.publish(2)
    shop.expire(shop.mart)
    with pytest.raises(DataError, match="mart has expired"):
        shop.back()
    assert shop.seen() == [2] * 4


def test_upkeep_keeps_every_snapshot_that_a_rollback_needs(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish(1)
    # Twice between two publishes: the first of them nobody can be returned to.
    for number in (2, 3):
        shop.lake.rows(f"INSERT OVERWRITE {shop.dim} VALUES ({number})")
    shop.publish(4)
    monkeypatch.setattr(journal, "KEPT", 1)
    eager = upkeep.Policy(compact_from_files=2, keep_days=0)
    monkeypatch.setattr(
        upkeep, "read_policies",
        lambda _: dict.fromkeys(map(shop.lake.schema, upkeep.SCHEMAS), eager),
    )  # fmt: skip
    done = {one.table: one for one in upkeep.maintain(shop.settings, dry_run=False)}
    assert done[shop.dim].snapshots_expired >= 2
    shop.back()
    assert shop.seen() == [4, 1, 3, 1]
