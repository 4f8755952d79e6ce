"""Where things are: the project, the home of one stack, the source, the target."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    """The choices a user makes by environment.

    Attributes:
        home: all state of one stack (`ECOM_HOME`, default `.ecom/` in the project).
        source_dsn: a `postgresql://` URL (`ECOM_SOURCE_DSN`), or None for the
            embedded PostgreSQL. It may hold a password: never print it.
        target: the dbt target (`ECOM_TARGET`, default `local`).
    """

    home: Path
    source_dsn: str | None
    target: str

    @classmethod
    def from_environment(cls) -> Settings:
        """Read `ECOM_HOME`, `ECOM_SOURCE_DSN` and `ECOM_TARGET`."""
        home = Path(os.environ.get("ECOM_HOME") or PROJECT / ".ecom")
        return cls(
            home=home.expanduser().absolute(),
            source_dsn=os.environ.get("ECOM_SOURCE_DSN") or None,
            target=os.environ.get("ECOM_TARGET") or "local",
        )
