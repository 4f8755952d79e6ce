"""`dbt` in this environment: dbt itself, told where the stack of `ECOM_HOME` is."""

from __future__ import annotations

import os

from common.settings import Settings
from stack.endpoints import dbt_environment


def main() -> None:
    """Run dbt with profiles, Thrift address and telemetry set by environment."""
    os.environ.update(dbt_environment(Settings.from_environment()))
    from dbt.cli.main import cli

    cli()
