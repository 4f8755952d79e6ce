"""`dbt` in this environment: dbt itself, told where the stack of `ECOM_HOME` is."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from common.settings import Settings
from stack.endpoints import dbt_environment


def main() -> None:
    """Run dbt with profiles, Thrift address and telemetry set by environment."""
    settings = Settings.from_environment(target_named(sys.argv[1:]))
    os.environ.update(dbt_environment(settings))
    from dbt.cli.main import cli

    cli()


def target_named(arguments: Sequence[str]) -> str | None:
    """The target that dbt's own arguments or `DBT_TARGET` name, if any."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in ("--target", "-t"):
            return value if equals else next(iter(arguments[place + 1 :]), None)
    return os.environ.get("DBT_TARGET")
