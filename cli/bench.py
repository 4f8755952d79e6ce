"""`ecom bench`: the benchmarks of the README, each rerunnable."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from cli.output import JsonFlag, print_json
from common.errors import UsageError
from common.settings import Settings
from publish.signals import ends_politely

NAMES = ("stack", "source", "ingest", "warehouse", "publish", "viz")


def register(app: typer.Typer) -> None:
    """Add `bench` to `app`."""
    app.command()(bench)


def bench(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.")],
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            help="Measure this part alone; again for more. Parts: of warehouse, publish.",
            metavar="PART",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure on a stack of its own; ECOM_BENCH_ROWS sets the size.

    Example: ecom bench warehouse --part build --json
    """
    if name not in NAMES:
        raise UsageError(f"No benchmark {name!r}", f"use one of {', '.join(NAMES)}")
    module = import_module(f"benchmarks.{name}")
    known = getattr(module, "PARTS", ())
    unknown = [part for part in parts or () if part not in known]
    if unknown:
        raise UsageError(
            f"Benchmark {name} has no part {unknown[0]!r}",
            f"use one of {', '.join(known)}" if known else "leave --part out",
        )
    settings = Settings.from_environment()
    with ends_politely():
        result = module.run(settings, parts) if parts else module.run(settings)
    if as_json:
        print_json(result)
        return
    for key, value in result.items():
        typer.echo(f"{key:<28} {value}")
