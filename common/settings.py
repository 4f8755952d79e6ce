"""Where things are: the project, the home of one stack, the source, the target."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from common.errors import UsageError

PROJECT = Path(__file__).resolve().parent.parent
PREFIX_VARIABLE = "ECOM_SCHEMA_PREFIX"


def schema_prefix() -> str:
    """What stands before every schema name: `ci_ab12_`, or nothing by default.

    Raises:
        UsageError: `ECOM_SCHEMA_PREFIX` is not made of letters, digits and `_`.
    """
    prefix = os.environ.get(PREFIX_VARIABLE, "")
    if not re.fullmatch(r"[A-Za-z0-9_]*", prefix):
        raise UsageError(
            f"Cannot name the schemas: {PREFIX_VARIABLE} is {prefix!r}",
            f"use letters, digits and underscores in {PREFIX_VARIABLE}, or unset it",
        )
    return prefix


@dataclass(frozen=True)
class Settings:
    """The choices a user makes by environment.

    Attributes:
        home: all state of one stack (`ECOM_HOME`, default `.ecom/` in the project).
        source_dsn: a `postgresql://` URL (`ECOM_SOURCE_DSN`), or None for the
            embedded PostgreSQL. It may hold a password: never print it.
        target: the dbt target (`ECOM_TARGET`, default `local`).
        schema_prefix: what stands before every schema name (`ECOM_SCHEMA_PREFIX`).
    """

    home: Path
    source_dsn: str | None
    target: str
    schema_prefix: str = ""

    @classmethod
    def from_environment(cls) -> Settings:
        """Read `ECOM_HOME`, `ECOM_SOURCE_DSN`, `ECOM_TARGET`, `ECOM_SCHEMA_PREFIX`.

        Raises:
            UsageError: the prefix cannot be part of a name.
        """
        home = Path(os.environ.get("ECOM_HOME") or PROJECT / ".ecom")
        return cls(
            home=home.expanduser().absolute(),
            source_dsn=os.environ.get("ECOM_SOURCE_DSN") or None,
            target=os.environ.get("ECOM_TARGET") or "local",
            schema_prefix=schema_prefix(),
        )
