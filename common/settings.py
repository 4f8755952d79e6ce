"""Where things are: the project, the home of one stack, the source, the target."""

from __future__ import annotations

import functools
import getpass
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from common.errors import UsageError

PROJECT = Path(__file__).resolve().parent.parent
PREFIX_VARIABLE = "ECOM_SCHEMA_PREFIX"
DEFAULT_TARGET = "local"
UNKNOWN_COMMIT = "unknown"


@functools.cache
def git_commit() -> str:
    """The commit of the project, `-dirty` where files differ from it, or `unknown`."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() if done.returncode == 0 else UNKNOWN_COMMIT


def schema_prefix(target: str | None = None) -> str:
    """What stands before every schema name: nothing, unless the target or
    `ECOM_SCHEMA_PREFIX` says so.

    Args:
        target: the dbt target, default `ECOM_TARGET`. `dev` has `dev_<user>_`, `ci` has
            `ci_<commit>_`.

    Raises:
        UsageError: the prefix is not made of letters, digits and `_`.
    """
    prefix = os.environ.get(PREFIX_VARIABLE)
    if prefix is None:
        prefix = _prefix_of(_target(target))
    if not re.fullmatch(r"[A-Za-z0-9_]*", prefix):
        raise UsageError(
            f"Cannot name the schemas: {PREFIX_VARIABLE} is {prefix!r}",
            f"use letters, digits and underscores in {PREFIX_VARIABLE}, or unset it",
        )
    return prefix


def _target(named: str | None) -> str:
    return named or os.environ.get("ECOM_TARGET") or DEFAULT_TARGET


def _prefix_of(target: str) -> str:
    if target == "dev":
        return f"dev_{re.sub('[^a-z0-9]', '_', getpass.getuser().lower())}_"
    if target == "ci":
        commit = git_commit()
        if commit == UNKNOWN_COMMIT:
            raise UsageError(
                "Cannot name the schemas of target ci: the project is no git checkout",
                f"set {PREFIX_VARIABLE}, as in ci_ab12_",
            )
        return f"ci_{commit[:8]}_"
    return ""


@dataclass(frozen=True)
class Settings:
    """The choices a user makes by environment.

    Attributes:
        home: all state of one stack (`ECOM_HOME`, default `.ecom/` in the project).
        source_dsn: a `postgresql://` URL (`ECOM_SOURCE_DSN`), or None for the
            embedded PostgreSQL. It may hold a password: never print it.
        target: the dbt target (`ECOM_TARGET`, default `local`).
        schema_prefix: what stands before every schema name (`ECOM_SCHEMA_PREFIX`, or
            the target's).
    """

    home: Path
    source_dsn: str | None
    target: str
    schema_prefix: str = ""

    @classmethod
    def from_environment(cls, target: str | None = None) -> Settings:
        """Read `ECOM_HOME`, `ECOM_SOURCE_DSN`, `ECOM_TARGET`, `ECOM_SCHEMA_PREFIX`.

        Args:
            target: a dbt target that was named otherwise.

        Raises:
            UsageError: the prefix cannot be part of a name.
        """
        chosen = _target(target)
        home = Path(os.environ.get("ECOM_HOME") or PROJECT / ".ecom")
        return cls(
            home=home.expanduser().absolute(),
            source_dsn=os.environ.get("ECOM_SOURCE_DSN") or None,
            target=chosen,
            schema_prefix=schema_prefix(chosen),
        )
