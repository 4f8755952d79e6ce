"""Upkeep of the lake: compaction, expiry of snapshots, removal of orphan files.

What a table gets is its policy, declared in dbt's `meta.upkeep`; tables dbt does not
know get their schema's. Three things must survive it:

- the last publishes: no snapshot that one of them names, nor a younger one, expires;
- ingest's watermark, which is in the summary of a staging snapshot: the same;
- what the next build need not do again: a compaction changes a table's version and
  its files but no row, so `build_state`, which remembers both, is told of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from common.errors import DataError, UsageError
from common.progress import say
from common.settings import Settings
from ingest.engine import PROPERTY
from ingest.statements import spark_literal
from publish import building
from publish.in_home import last_run, one_at_a_time
from publish.journal import Journal
from publish.lake import Lake, open_lake, quoted
from publish.run import settle
from stack.thrift import CATALOG

SCHEMAS = ("staging", "snapshots", "core", "marts", "ops")
LEAST_FILES = 2
# As the macro `partition_day` has it.
PARTITION_DAY = (
    "coalesce(nullif(regexp_extract(to_json(partition), '[0-9]{4}-[0-9]{2}-[0-9]{2}', 0), ''), "
    "date_format(add_months(date '1970-01-01', "
    "cast(regexp_extract(to_json(partition), ':(-?[0-9]+)', 1) AS int)), 'yyyy-MM'))"
)


@dataclass(frozen=True)
class Policy:
    """What a table gets.

    Attributes:
        compact_from_files: files of one partition that are rewritten as one, from
            this many on.
        rewrite_manifests_from: manifests that are rewritten, from this many on.
        keep_days: age in days from which snapshots expire.
        orphan_days: age in days from which a file that no snapshot knows is removed;
            at least 1, since a younger one may belong to a write under way.
    """

    compact_from_files: int = 5
    rewrite_manifests_from: int = 50
    keep_days: float = 7
    orphan_days: float = 3

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], where: str) -> Policy:
        """A policy as `meta.upkeep` has it.

        Raises:
            UsageError: an unknown field, or a value out of range.
        """
        unknown = set(meta) - set(cls.__dataclass_fields__)
        if unknown:
            raise UsageError(
                f"Reading the upkeep policy of {where}: unknown {', '.join(sorted(unknown))}",
                f"use {', '.join(cls.__dataclass_fields__)} in `meta.upkeep`",
            )
        policy = cls(**meta)
        if (
            policy.compact_from_files < LEAST_FILES
            or policy.keep_days < 0
            or policy.orphan_days < 1
        ):
            raise UsageError(
                f"Reading the upkeep policy of {where}: {policy} is out of range",
                "compact from 2 files on, keep 0 days or more, orphans 1 day or more",
            )
        return policy


@dataclass
class Upkeep:
    """What was done to a table, or, in a dry run, what would be."""

    table: str
    files: int = 0
    files_compacted: int = 0
    files_written: int = 0
    manifests_rewritten: int = 0
    snapshots_expired: int = 0
    files_deleted: int = 0
    orphans_removed: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def maintain(settings: Settings, dry_run: bool) -> list[Upkeep]:
    """Look after every table of the warehouse's schemas.

    Raises:
        BusyError: a run of this home is under way.
        DataError: a tested branch waits to be published.
        UsageError: a policy that cannot be used.
    """
    with one_at_a_time(settings), open_lake(settings) as lake:
        settle(settings, lake)
        refuse_while_one_waits(settings)
        policies = read_policies(settings)
        needed = _needed_since(lake)
        done = []
        for table in lake.tables(SCHEMAS):
            policy = (
                policies.get(table) or policies.get(table.split(".")[0]) or Policy()
            )
            done.append(_look_after(lake, table, policy, needed.get(table), dry_run))
            say(f"  {describe(done[-1], dry_run)}")
    return done


def refuse_while_one_waits(settings: Settings) -> None:
    """Refuse to change tables under a branch that waits to be published.

    Raises:
        DataError: one does.
    """
    last = last_run(settings)
    if last is not None and last.tested:
        raise DataError(
            "Upkeep: a tested branch waits, and could not be published after it",
            "run `ecom publish`, or `ecom run` to build anew",
        )


def read_policies(settings: Settings) -> dict[str, Policy]:
    """Table, or schema for tables dbt does not know, -> policy.

    Raises:
        DataError: dbt cannot parse the project.
    """
    return policies_of(building.parsed(settings))


def policies_of(manifest: Mapping[str, Any]) -> dict[str, Policy]:
    """The policies in dbt's manifest; a schema's is that of its source."""
    found: dict[str, Policy] = {}
    for node in manifest["sources"].values():
        meta = node["source_meta"].get("upkeep")
        if meta:
            found[node["schema"]] = Policy.from_meta(meta, node["schema"])
    for node in [*manifest["sources"].values(), *manifest["nodes"].values()]:
        meta = node.get("config", {}).get("meta", {}).get("upkeep")
        if meta and node["resource_type"] in ("source", "model", "snapshot"):
            name = node.get("identifier") or node["alias"]
            table = f"{node['schema']}.{name}"
            found[table] = Policy.from_meta(meta, table)
    return found


def describe(one: Upkeep, dry_run: bool) -> str:
    """One line on a table."""
    verb = "would be" if dry_run else "were"
    return (
        f"{one.table}: of {one.files} files {one.files_compacted} {verb} compacted, "
        f"{one.snapshots_expired} snapshots expired, {one.orphans_removed} orphan files "
        f"removed, {one.seconds:.1f} s"
    )


# --- one table


def _look_after(
    lake: Lake, table: str, policy: Policy, needed: datetime | None, dry_run: bool
) -> Upkeep:
    began = time.monotonic()
    done = Upkeep(table)
    _count_small_files(lake, policy, done)
    if dry_run:
        done.snapshots_expired = _to_expire(lake, table, _cutoff(policy, needed))
    else:
        _compact(lake, policy, done)
        _expire(lake, table, _cutoff(policy, needed), done)
    done.orphans_removed = _remove_orphans(lake, table, policy, dry_run)
    done.seconds = round(time.monotonic() - began, 1)
    return done


def _count_small_files(lake: Lake, policy: Policy, done: Upkeep) -> None:
    """Files in all, and those of partitions with enough small ones to rewrite."""
    # Iceberg rewrites files under three quarters of its target size of 512 MB.
    [(files, small)] = lake.rows(
        "SELECT coalesce(sum(files), 0), coalesce(sum(if(small >= "
        f"{policy.compact_from_files}, small, 0)), 0) FROM (SELECT count(*) AS files, "
        "count_if(file_size_in_bytes < 384 * 1024 * 1024) AS small "
        f"FROM {quoted(done.table)}.files{_grouped(lake, done.table)})"
    )
    done.files, done.files_compacted = int(files), int(small)


def _grouped(lake: Lake, table: str) -> str:
    """The clause that groups files by partition, where there are any."""
    columns = lake.rows(f"DESCRIBE TABLE {quoted(table)}.files")
    return " GROUP BY partition" if any(c[0] == "partition" for c in columns) else ""


def _compact(lake: Lake, policy: Policy, done: Upkeep) -> None:
    """Rewrite small files, files with deletes, and manifests; tell the build's state."""
    table = done.table
    before = state_of(lake, table)
    written = 0
    rewritten = 0
    if done.files_compacted or _has_deletes(lake, table):
        [row] = lake.rows(
            f"CALL {CATALOG}.system.rewrite_data_files(table => {spark_literal(table)}, "
            f"options => map('min-input-files', '{policy.compact_from_files}', "
            "'delete-file-threshold', '1', 'remove-dangling-deletes', 'true'))"
        )
        rewritten, written = int(row[0]), int(row[1])
    done.files_compacted, done.files_written = rewritten, written
    [(manifests,)] = lake.rows(f"SELECT count(*) FROM {quoted(table)}.manifests")
    if manifests >= policy.rewrite_manifests_from:
        [row] = lake.rows(
            f"CALL {CATALOG}.system.rewrite_manifests({spark_literal(table)})"
        )
        done.manifests_rewritten = int(row[0])
    after = state_of(lake, table)
    if after != before and only_replaced(lake, table, before):
        _tell_build_state(lake, table, before, after)


def _has_deletes(lake: Lake, table: str) -> bool:
    return bool(lake.rows(f"SELECT 1 FROM {quoted(table)}.delete_files LIMIT 1"))


def _cutoff(policy: Policy, needed: datetime | None) -> datetime:
    """Snapshots older than this expire."""
    aged = datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(policy.keep_days)
    return min(aged, needed) if needed else aged


def _expire(lake: Lake, table: str, cutoff: datetime, done: Upkeep) -> None:
    done.snapshots_expired = _to_expire(lake, table, cutoff)
    if not done.snapshots_expired:
        return
    [(before,)] = lake.rows(f"SELECT count(*) FROM {quoted(table)}.snapshots")
    [row] = lake.rows(
        f"CALL {CATALOG}.system.expire_snapshots(table => {spark_literal(table)}, "
        f"older_than => timestamp '{cutoff:%Y-%m-%d %H:%M:%S.%f}', retain_last => 1)"
    )
    [(after,)] = lake.rows(f"SELECT count(*) FROM {quoted(table)}.snapshots")
    done.snapshots_expired = int(before) - int(after)
    done.files_deleted = sum(int(number) for number in row)


def _to_expire(lake: Lake, table: str, cutoff: datetime) -> int:
    [(count,)] = lake.rows(
        f"SELECT count(*) FROM {quoted(table)}.snapshots WHERE committed_at < "
        f"timestamp '{cutoff:%Y-%m-%d %H:%M:%S.%f}' AND snapshot_id NOT IN "
        f"(SELECT snapshot_id FROM {quoted(table)}.refs)"
    )
    return int(count)


def _remove_orphans(lake: Lake, table: str, policy: Policy, dry_run: bool) -> int:
    cutoff = datetime.now(timezone.utc) - timedelta(policy.orphan_days)
    rows = lake.rows(
        f"CALL {CATALOG}.system.remove_orphan_files(table => {spark_literal(table)}, "
        f"older_than => timestamp '{cutoff:%Y-%m-%d %H:%M:%S}', "
        f"dry_run => {str(dry_run).lower()})"
    )
    return len(rows)


# --- what must survive


def _needed_since(lake: Lake) -> dict[str, datetime]:
    """Table -> when the oldest snapshot was committed that somebody still needs."""
    wanted: dict[str, list[str]] = {}
    for publish in Journal(lake).history().kept:
        for move in publish.moves:
            ids = [str(i) for i in (move.before, move.after) if i is not None]
            wanted.setdefault(move.table, []).extend(ids)
    parts = []
    for table in lake.tables(SCHEMAS):
        named = ", ".join(wanted.get(table, [])) or "-1"
        parts.append(
            f"SELECT {spark_literal(table)} AS t, cast(least(min(if(snapshot_id IN ({named}), "
            f"committed_at, null)), max(if(summary[{spark_literal(PROPERTY)}] IS NOT NULL, "
            f"committed_at, null))) AS timestamp) AS at FROM {quoted(table)}.snapshots"
        )
    rows = lake.rows(" UNION ALL ".join(parts)) if parts else []
    return {table: at for table, at in rows if at is not None}


@dataclass(frozen=True)
class State:
    """What `build_state` remembers of a table: its version and its days' files."""

    version: str
    days: Mapping[str, str]


def state_of(lake: Lake, table: str) -> State:
    rows = lake.rows(
        f"SELECT snapshot_id FROM {quoted(table)}.refs WHERE name = 'main'"
    )
    return State(str(rows[0][0]) if rows else "", days_of(lake, table))


def days_of(lake: Lake, table: str) -> dict[str, str]:
    """Day -> digest of its files, as the macro `_days_state` has them."""
    if not table.startswith(f"{lake.schema('core')}.fct_"):
        return {}
    rows = lake.rows(
        f"SELECT {PARTITION_DAY}, "
        "substr(md5(array_join(array_sort(collect_list(file_path)), ',')), 1, 8) "
        f"FROM {quoted(table)}.files GROUP BY 1"
    )
    return {str(day): str(digest) for day, digest in rows}


def only_replaced(lake: Lake, table: str, before: State) -> bool:
    """Whether nothing but compactions came after a version: a write that came between,
    such as an ingest's, has yet to be built."""
    if not before.version:
        return False
    [(others,)] = lake.rows(
        f"SELECT count_if(operation != 'replace') FROM {quoted(table)}.snapshots "
        f"WHERE committed_at > (SELECT committed_at FROM {quoted(table)}.snapshots "
        f"WHERE snapshot_id = {before.version})"
    )
    return int(others) == 0


def _tell_build_state(lake: Lake, table: str, before: State, after: State) -> None:
    """Let `build_state` know the compacted table by its new version and files."""
    state = building.build_state(lake)
    if state not in lake.tables(("core",)):
        return
    lake.rows(
        f"UPDATE {state} SET mark = replace(mark, '{before.version}', '{after.version}') "
        f"WHERE mark LIKE '%{before.version}%'"
    )
    changed = {
        d: x for d, x in after.days.items() if before.days.get(d) not in (None, x)
    }
    if not changed:
        return
    name = table.split(".")[1]
    for model, mark in lake.rows(
        f"SELECT model, mark FROM {state} WHERE input = {spark_literal(name)}"
    ):
        moved = move_days(mark or "", before.days, changed)
        if moved != mark:
            lake.rows(
                f"UPDATE {state} SET mark = {spark_literal(moved)} WHERE model = "
                f"{spark_literal(model)} AND input = {spark_literal(name)}"
            )


def move_days(mark: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """A mark of days with the digests of compacted days brought up to date.

    A day whose digest is not the one before the compaction has not been read yet and
    keeps it, so that the next build reads it.
    """
    entries = []
    for entry in mark.split(" "):
        day, _, digest = entry.partition(":")
        known = day in after and before.get(day) == digest
        entries.append(f"{day}:{after[day]}" if known else entry)
    return " ".join(entries)


__all__: Sequence[str] = ["Policy", "Upkeep", "describe", "maintain"]
