"""The manifest: which tables are ingested and how. Every error names its line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from common.errors import UsageError

Mode = Literal["upsert", "append", "full"]
MODES = ("upsert", "append", "full")
DELETES = ("sweep", "none")
TABLE_FIELDS = {
    "name", "key", "cursor", "mode", "deletes", "split_by", "partition_by",
    "columns", "history", "lookback_seconds",
}  # fmt: skip
SIDE_FIELDS = {"source": {"schema", "connections"}, "target": {"schema"}}
TRANSFORM = re.compile(r"^(?:(years|months|days|hours)\((.+)\)|(\w+))$")
SIDES = ("history", "rejects")
DEFAULT_LOOKBACK = 600


@dataclass(frozen=True)
class TableSpec:
    """One table of the manifest.

    Attributes:
        name: the table's name in the source and in staging.
        key: the columns that identify a row, in order.
        cursor: the column that says when a row last changed; None for mode full.
        mode: `upsert`, `append` or `full`.
        sweep: whether deletes are found by comparing key sets.
        split_by: an integer column that divides parallel reads, or None.
        partition_by: an Iceberg partition transform, or None.
        columns: column -> Spark type that overrides the default.
        history: whether each captured version is kept in `<table>__history`.
        lookback_seconds: how far each read goes back; None for only as far as needed,
            and 600 where PostgreSQL's own horizon cannot be known.
        path: the manifest.
        line: where the entry begins in the manifest.
        lines: field, or overridden column, -> its line in the manifest.
    """

    name: str
    key: tuple[str, ...]
    cursor: str | None
    mode: Mode
    sweep: bool
    split_by: str | None
    partition_by: str | None
    columns: dict[str, str] = field(default_factory=dict)
    history: bool = False
    lookback_seconds: int | None = None
    path: Path = Path("the manifest")
    line: int = 0
    lines: dict[str, int] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """The table's name in staging: the metastore takes word characters only."""
        return re.sub(r"\W", "_", self.name, flags=re.ASCII)

    @property
    def partition(self) -> tuple[str, str] | None:
        """(transform, column) of `partition_by`; the transform of a bare column is ""."""
        found = TRANSFORM.match(self.partition_by or "")
        return (found[1] or "", found[2] or found[3]) if found else None

    @property
    def lookback(self) -> timedelta:
        """How far to read back where the horizon is not known."""
        given = self.lookback_seconds
        return timedelta(seconds=DEFAULT_LOOKBACK if given is None else given)

    @property
    def margin(self) -> timedelta:
        """How far to read back where it is known: for clocks of applications."""
        return timedelta(seconds=self.lookback_seconds or 0)

    def refuse(self, field_name: str, message: str, fix: str) -> UsageError:
        """An error that names the line of a field, or of a column's override."""
        line = self.lines.get(field_name, self.line)
        return UsageError(f"{self.path}:{line}: {self.name}: {message}", fix)


@dataclass(frozen=True)
class Manifest:
    """A validated manifest.

    Attributes:
        path: the file.
        source_schema: the schema of all its tables in the source.
        target_schema: where they land.
        ops_schema: where runs and comparisons are recorded.
        tables: what is ingested, in order.
        connections: how many connections may read the source at a time; None for as
            many as the engine has task slots.
    """

    path: Path
    source_schema: str
    target_schema: str
    ops_schema: str
    tables: tuple[TableSpec, ...]
    connections: int | None = None

    def select(self, names: list[str]) -> tuple[TableSpec, ...]:
        """The tables named, or all of them where none is named.

        Raises:
            UsageError: a name is not in the manifest.
        """
        known = {table.name: table for table in self.tables}
        for name in names:
            if name not in known:
                raise UsageError(
                    f"{self.path} has no table {name!r}; it has {', '.join(known)}",
                    "name one of these, or add the table to the manifest",
                )
        return tuple(known[name] for name in dict.fromkeys(names)) or self.tables


def load(path: Path, prefix: str = "") -> Manifest:
    """Read and validate a manifest.

    Args:
        path: the file.
        prefix: what stands before the name of every schema that is written to.

    Raises:
        UsageError: the file is missing, is no YAML, or says something unknown;
            the message has the line.
    """
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"Reading the manifest {path}: {getattr(error, 'strerror', 'not UTF-8')}",
            "check the path",
        ) from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise UsageError(
            f"{path}:{line}: not valid YAML: {error.problem}", "correct that line"
        ) from error
    except YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {error}", "correct it") from error
    return _Reader(path, prefix).manifest(document)


class _Reader:
    def __init__(self, path: Path, prefix: str) -> None:
        self.path, self.prefix = path, prefix

    def refuse(self, line: int, message: str, fix: str) -> UsageError:
        return UsageError(f"{self.path}:{line}: {message}", fix)

    def manifest(self, document: Any) -> Manifest:
        if not isinstance(document, CommentedMap):
            raise self.refuse(1, "the manifest is not a mapping", "see docs/ingest.md")
        self._only(document, {"version", "source", "target", "tables"})
        if document.get("version") != 1:
            raise self.refuse(
                self._line(document, "version"), "`version` must be 1",
                "write `version: 1`",
            )  # fmt: skip
        schemas = {}
        for side, default in (("source", "public"), ("target", "staging")):
            entry = document.get(side, CommentedMap())
            if not isinstance(entry, CommentedMap):
                raise self.refuse(
                    self._line(document, side), f"`{side}` must be a mapping",
                    f"write `{side}: {{schema: {default}}}`",
                )  # fmt: skip
            self._only(entry, SIDE_FIELDS[side])
            schemas[side] = self._text(entry, "schema", default)
        tables = document.get("tables")
        if not isinstance(tables, list) or not tables:
            raise self.refuse(
                self._line(document, "tables"), "`tables` must be a list of tables",
                "add at least one table",
            )  # fmt: skip
        found = [
            self._table(entry, index, tables) for index, entry in enumerate(tables)
        ]
        names = [table.name for table in found]
        for table in found:
            if names.count(table.name) > 1:
                raise self.refuse(
                    table.line, f"table {table.name!r} stands twice", "keep one of them"
                )
        taken = {
            f"{table.target}__{side}".lower(): table
            for table in found
            for side in SIDES
        }
        for table in found:
            target = table.target.lower()
            if target in taken:
                raise self.refuse(
                    table.line, f"two tables would land as {table.target!r}",
                    "rename one in the source, or ingest it into another schema",
                )  # fmt: skip
            taken[target] = table
        return Manifest(
            self.path, schemas["source"], self.prefix + schemas["target"],
            f"{self.prefix}ops", tuple(found),
            self._at_least(document.get("source", CommentedMap()), "connections", 1),
        )  # fmt: skip

    def _at_least(self, entry: CommentedMap, name: str, least: int) -> int | None:
        if name not in entry:
            return None
        found = int(self._typed(entry, name, int, least))
        if found < least:
            raise self.refuse(
                self._line(entry, name), f"`{name}` must be at least {least}",
                "correct the value, or omit it",
            )  # fmt: skip
        return found

    def _table(self, entry: Any, index: int, tables: Any) -> TableSpec:
        line = tables.lc.item(index)[0] + 1
        if not isinstance(entry, CommentedMap):
            raise self.refuse(
                line, "a table must be a mapping", "begin with `- name: ...`"
            )
        self._only(entry, TABLE_FIELDS)
        name = self._text(entry, "name", None)
        key = self._names(entry, "key")
        mode = self._choice(entry, "mode", MODES, None)
        cursor = self._text(entry, "cursor", "") or None
        if mode == "full" and cursor:
            raise self.refuse(
                self._line(entry, "cursor"), f"{name}: mode full takes no cursor",
                "omit `cursor`, or use mode upsert or append",
            )  # fmt: skip
        if mode != "full" and not cursor:
            raise self.refuse(
                line, f"{name}: mode {mode} needs a cursor",
                "name the column that says when a row changed, or use mode full",
            )  # fmt: skip
        partition_by = self._text(entry, "partition_by", "") or None
        if partition_by and not TRANSFORM.match(partition_by):
            raise self.refuse(
                self._line(entry, "partition_by"),
                f"{name}: unknown partition transform {partition_by!r}",
                "use a column, or years(), months(), days() or hours() of one",
            )
        return TableSpec(
            name=name,
            key=key,
            cursor=cursor,
            mode=mode,  # type: ignore[arg-type]
            sweep=self._choice(entry, "deletes", DELETES, "none") == "sweep",
            split_by=self._text(entry, "split_by", "") or None,
            partition_by=partition_by,
            columns=self._columns(entry),
            history=bool(self._typed(entry, "history", bool, False)),
            lookback_seconds=self._at_least(entry, "lookback_seconds", 0),
            path=self.path,
            line=line,
            lines=self._lines(entry),
        )

    def _lines(self, entry: CommentedMap) -> dict[str, int]:
        overrides = entry.get("columns") or CommentedMap()
        found = {f"columns.{n}": self._line(overrides, n) for n in overrides}
        return found | {str(name): self._line(entry, name) for name in entry}

    def _only(self, entry: CommentedMap, known: set[str]) -> None:
        for name in entry:
            if name not in known:
                raise self.refuse(
                    self._line(entry, name), f"unknown field {name!r}",
                    f"known here: {', '.join(sorted(known))}",
                )  # fmt: skip

    def _line(self, entry: CommentedMap, name: str) -> int:
        try:
            return int(entry.lc.key(name)[0]) + 1
        except (KeyError, AttributeError, TypeError):
            return int(entry.lc.line) + 1

    def _typed(self, entry: CommentedMap, name: str, kind: type, default: Any) -> Any:
        value = entry.get(name, default)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.refuse(
                self._line(entry, name), f"`{name}` must be {_ARTICLE[kind]}",
                "correct the value",
            )  # fmt: skip
        return value

    def _text(self, entry: CommentedMap, name: str, default: str | None) -> str:
        value = entry.get(name, default)
        if (
            value is None
            or not isinstance(value, str)
            or (not value and default is None)
            or "\0" in value
        ):
            raise self.refuse(
                self._line(entry, name), f"`{name}` must be a name", "write the name"
            )
        return str(value)

    def _names(self, entry: CommentedMap, name: str) -> tuple[str, ...]:
        value = entry.get(name)
        good = (
            isinstance(value, list) and value and all(isinstance(v, str) for v in value)
            and len(set(value)) == len(value)
        )  # fmt: skip
        if not good or value is None:
            raise self.refuse(
                self._line(entry, name), f"`{name}` must be a list of column names",
                f"write `{name}: [id]`",
            )  # fmt: skip
        return tuple(value)

    def _choice(
        self,
        entry: CommentedMap,
        name: str,
        known: tuple[str, ...],
        default: str | None,
    ) -> str:
        value = entry.get(name, default)
        if value not in known:
            raise self.refuse(
                self._line(entry, name), f"`{name}` is {value!r}",
                f"use one of {', '.join(known)}",
            )  # fmt: skip
        return str(value)

    def _columns(self, entry: CommentedMap) -> dict[str, str]:
        columns = self._typed(entry, "columns", dict, CommentedMap())
        for column, kind in columns.items():
            if not isinstance(kind, str):
                raise self.refuse(
                    self._line(columns, column), f"the type of {column!r} must be a name",
                    'write, for example, `amount: "decimal(38,10)"`',
                )  # fmt: skip
        return {str(column): str(kind) for column, kind in columns.items()}


_ARTICLE = {bool: "true or false", int: "a whole number", dict: "a mapping"}
