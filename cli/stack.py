"""`ecom up`, `down`, `status`: the embedded stack."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from cli.output import JsonFlag, print_json
from common.progress import say
from common.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the stack's commands to `app`."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(doctor)


def up(
    new_ports: Annotated[
        bool,
        typer.Option("--new-ports", help="Stop first and choose free ports anew."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Start the embedded stack; what already runs is left alone.

    Example: ecom up
    """
    from stack.manager import Stack

    stack = Stack(Settings.from_environment())
    stack.up(new_ports)
    if as_json:
        print_json({name: asdict(found) for name, found in stack.status().items()})


def down(
    purge: Annotated[
        bool,
        typer.Option(
            "--purge", help="Remove all state of this home; on a terminal after asking."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Purge without asking.")] = False,
) -> None:
    """Stop the embedded stack's own processes, HDFS last.

    Example: ecom down
    """
    from stack.manager import Stack, demand_purgeable

    settings = Settings.from_environment()
    if purge:
        demand_purgeable(settings.home)
    if purge and not settings.home.exists():
        say(f"There is nothing at {settings.home}")
        return
    if purge and not yes and sys.stdin.isatty():
        typer.confirm(f"Remove everything in {settings.home}?", abort=True, err=True)
    stack = Stack(settings)
    stopped = stack.down()
    say(f"Stopped {', '.join(stopped)}" if stopped else "Nothing was running")
    if purge:
        stack.purge()
        say(f"Removed {settings.home}")


def status(as_json: JsonFlag = False) -> None:
    """Show the five services, and what the newest run has left.

    Example: ecom status --json
    """
    from publish.in_home import describe
    from stack.manager import Stack

    settings = Settings.from_environment()
    found = Stack(settings).status()
    if as_json:
        print_json({name: asdict(one) for name, one in found.items()})
        return
    for name, one in found.items():
        where = f"{one.host}:{one.port}" if one.port else "-"
        typer.echo(f"{name:<10} {one.state:<10} {where:<17} {one.pid or '-'}")
    for line in describe(settings):
        typer.echo(line)


def doctor(as_json: JsonFlag = False) -> None:
    """Find what is wrong and print the fix; exit 1 if anything is.

    Example: ecom doctor
    """
    from stack.doctor import examine

    findings = examine(Settings.from_environment())
    if as_json:
        print_json([asdict(one) for one in findings])
    else:
        for one in findings:
            typer.echo(
                f"{'ok  ' if one.healthy else 'WRONG'} {one.check}: {one.detail}"
            )
            if one.fix:
                typer.echo(f"      fix: {one.fix}")
    if any(not one.healthy for one in findings):
        raise typer.Exit(1)
