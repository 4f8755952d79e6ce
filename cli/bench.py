"""`ecom bench`: the benchmarks of the README, each rerunnable."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from cli.output import JsonFlag, print_json
from common.errors import UsageError
from common.settings import Settings
from publish.signals import ends_politely

NAMES = ("stack", "source", "ingest", "warehouse", "viz")


def register(app: typer.Typer) -> None:
    """Add `bench` to `app`."""
    app.command()(bench)


def bench(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.")],
    as_json: JsonFlag = False,
) -> None:
    """Measure on a stack of its own; ECOM_BENCH_ROWS sets the size.

    Example: ecom bench stack --json
    """
    if name not in NAMES:
        raise UsageError(f"No benchmark {name!r}", f"use one of {', '.join(NAMES)}")
    with ends_politely():
        result = import_module(f"benchmarks.{name}").run(Settings.from_environment())
    if as_json:
        print_json(result)
        return
    for key, value in result.items():
        typer.echo(f"{key:<28} {value}")
