"""Publishing, rollback and recovery on tables made by hand: no build, real engine.

Each test has schemas of its own by a prefix, so that all share one stack.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from common.errors import DataError
from common.settings import Settings
from publish import journal, moving, upkeep
from publish.journal import Entry, Journal, Move
from publish.lake import MAIN, Lake, fast_forward, open_lake
from publish.moving import discard, publish_branch, recover, roll_back, shown_snapshots

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
        branch = self.build(number, *tables)
        return publish_branch(self.lake, branch, f"p{number}", base)

    def seen(self) -> list[int | None]:
        """What a reader finds in each table; None where it is empty or not there."""
        present = set(self.lake.tables())
        return [
            (self.lake.rows(f"SELECT max(n) FROM {t}")[0][0] if t in present else None)
            for t in self.tables
        ]

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
    over = threading.Event()

    def read() -> None:
        with open_lake(shop.settings) as own:
            while not over.wait(0.01):
                rows = own.rows(f"SELECT count(*), min(n), max(n) FROM {shop.dim}")
                if rows[0][1] != rows[0][2] or not rows[0][0]:
                    torn.append(rows)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield torn
    finally:
        over.set()
        reader.join()


def cut_off(shop: Shop, number: int, *moved: str) -> Entry:
    """A publish that died when only `moved` had moved."""
    heads = shop.lake.heads(shop.lake.tables())
    branch = f"audit_b{number}"
    entry = Entry(
        f"p{number}", branch, f"p{number}", Journal(shop.lake).history().shown,
        tuple(Move(t, refs.get(MAIN), refs[branch]) for t, refs in heads.items()),
    )  # fmt: skip
    Journal(shop.lake).intend(entry)
    shop.lake.each(fast_forward(table, branch) for table in moved)
    return entry


def test_a_publish_shows_all_tables_and_a_rollback_takes_them_back(shop: Shop) -> None:
    shop.build(1)
    assert shop.seen() == [None] * 4, "a branch was read by readers"
    first = publish_branch(shop.lake, "audit_b1", "p1", {})
    assert (first.tables, shop.seen()) == (4, [1] * 4)
    assert first.mixed_window_seconds > 0
    assert shop.refs() == {MAIN}

    with pytest.raises(DataError, match="no publish before this one"):
        roll_back(shop.lake, "r0")

    again = publish_branch(shop.lake, "audit_b0", "p0", shown_snapshots(shop.lake))
    assert again.tables == 0, "nothing new is no publish"

    with a_reader(shop) as torn:
        shop.publish(2, shop.kept, shop.state, shop.dim)
        shop.publish(3)
    assert not torn, "a reader saw a table half written"
    assert [e.id for e in Journal(shop.lake).history().kept] == ["p3", "p2", "p1"]
    assert roll_back(shop.lake, "r1")[0] == "p2"
    # Snapshots hold what nothing else does, so they stay.
    assert shop.seen() == [3, 2, 2, 1]
    assert roll_back(shop.lake, "r2")[0] == "p1"
    assert shop.seen() == [3, 1, 1, 1]
    assert [e.id for e in Journal(shop.lake).history().kept] == ["p1"]

    # What was rolled back is built again on what readers see now.
    shop.publish(4)
    shop.publish(5)
    assert (shop.seen(), shop.refs()) == ([5] * 4, {MAIN})
    assert [e.id for e in Journal(shop.lake).history().kept] == ["p5", "p4", "p1"]
    with pytest.raises(DataError, match="no earlier publish p3"):
        roll_back(shop.lake, "r3", "p3")
    assert roll_back(shop.lake, "r4", "p1")[0] == "p1"
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
    publish_branch(shop.lake, "audit_b2", "p2", base)
    assert shop.lake.rows(f"SELECT * FROM {shop.dim}") == [(2, "red")]

    roll_back(shop.lake, "r1")
    assert shop.lake.table(f"SELECT * FROM {shop.dim}") == (["n"], [(1,)])
    assert new not in shop.lake.tables()

    # The same change comes again with the next run, and stays when later ones go.
    base = shown_snapshots(shop.lake)
    shop.make(new)
    shop.lake.rows(f"ALTER TABLE {shop.dim} ADD COLUMNS (colour string)")
    with shop.on_branch("audit_b3"):
        shop.lake.rows(f"INSERT OVERWRITE {shop.dim} VALUES (3, 'green')")
        shop.lake.rows(f"INSERT INTO {new} VALUES (3)")
    publish_branch(shop.lake, "audit_b3", "p3", base)
    shop.publish(4, shop.mart, new)
    roll_back(shop.lake, "r2")
    assert shop.lake.rows(f"SELECT * FROM {shop.dim}") == [(3, "green")]
    assert shop.lake.rows(f"SELECT * FROM {new}") == [(3,)]
    roll_back(shop.lake, "r3")
    assert new not in shop.lake.tables()


def test_a_publish_cut_off_between_tables_is_completed(shop: Shop) -> None:
    shop.publish(1)
    shop.build(2)
    cut_off(shop, 2, shop.dim)
    assert shop.seen() == [1, 1, 2, 1]
    done = recover(shop.lake)
    assert done is not None
    assert (done.id, done.tables) == ("p2", 4)
    assert done.mixed_window_seconds > 0
    assert shop.seen() == [2] * 4
    assert recover(shop.lake) is None
    assert Journal(shop.lake).history().shown == "p2"


def test_a_publish_that_cannot_be_completed_is_undone(shop: Shop) -> None:
    shop.publish(1)
    shop.build(2)
    cut_off(shop, 2, shop.dim)
    shop.lake.rows(f"INSERT OVERWRITE {shop.mart} VALUES (99)")  # a plain dbt build
    assert recover(shop.lake) is None
    assert shop.seen() == [1, 1, 1, 99]
    history = Journal(shop.lake).history()
    assert (history.entries[0].event, history.shown) == (journal.UNDONE, "p1")

    # The same write, seen before anything has moved.
    base = shown_snapshots(shop.lake)
    shop.build(3, shop.dim)
    shop.lake.rows(f"INSERT OVERWRITE {shop.mart} VALUES (98)")
    with pytest.raises(DataError, match="mart changed since the branch was begun"):
        publish_branch(shop.lake, "audit_b3", "p3", base)
    assert shop.seen() == [1, 1, 1, 98]


def test_a_rollback_cut_off_between_tables_is_completed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish(1)
    shop.publish(2)
    carry_out = moving._carry_out

    def dies(lake: Lake, entry: Entry) -> float:
        carry_out(lake, replace(entry, moves=entry.moves[:1]))
        raise KeyboardInterrupt

    monkeypatch.setattr(moving, "_carry_out", dies)
    with pytest.raises(KeyboardInterrupt):
        roll_back(shop.lake, "r1")
    assert len(set(shop.seen()[1:])) == 2, "not mixed"
    monkeypatch.undo()
    assert recover(shop.lake) is not None
    assert shop.seen() == [2, 1, 1, 1]
    assert Journal(shop.lake).history().shown == "p1"


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
    shop.lake.rows(
        f"CALL lake.system.expire_snapshots(table => '{shop.mart}', "
        "older_than => now(), retain_last => 1)"
    )
    with pytest.raises(DataError, match="mart has expired"):
        roll_back(shop.lake, "r1")
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
    roll_back(shop.lake, "r1")
    assert shop.seen() == [4, 1, 3, 1]
