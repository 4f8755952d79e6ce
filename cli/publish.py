"""`ecom run`, `publish`, `rollback`: from the source to what readers see."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from cli.output import JsonFlag, print_json
from common.progress import say
from common.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the publishing commands to `app`."""
    app.command()(run)
    app.command()(publish)
    app.command()(rollback)


def run(
    full_refresh: Annotated[
        bool,
        typer.Option(
            "--full-refresh", help="Rebuild core and marts from staging and snapshots."
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Ingest, build on an audit branch, test, publish, reconcile, docs, charts, site.

    Example: ecom run
    """
    from publish import run as running
    from publish.building import target_folder

    settings = Settings.from_environment()
    report = running.run(settings, full_refresh, lambda _: _show(settings))
    if as_json:
        print_json(asdict(report))
        return
    spent = ", ".join(
        f"{name} {seconds:.0f} s" for name, seconds in report.phases.items()
    )
    say(f"Done in {sum(report.phases.values()):.0f} s: {spent}")
    target = target_folder()
    say(f"  charts  {target / 'charts'}\n  site    {target / 'site' / 'index.html'}")
    say(f"  docs    {target / 'static_index.html'}")
    _say_where(settings)


def publish(as_json: JsonFlag = False) -> None:
    """Make the tested branch of an interrupted run what readers see.

    Example: ecom publish
    """
    from publish import run as running

    report = running.publish_tested(Settings.from_environment())
    if as_json:
        print_json(asdict(report))


def rollback() -> None:
    """Take the last publish back: core and marts are again what they were before.

    Example: ecom rollback
    """
    from publish import run as running

    taken = running.rollback(Settings.from_environment())
    say(f"Took back publish {taken.id}: {len(taken.moves)} tables")


def _show(settings: Settings) -> None:
    from publish.building import target_folder
    from viz import charts, site

    charts.draw_all(settings, target_folder() / "charts")
    site.build(settings, target_folder() / "site")


def _say_where(settings: Settings) -> None:
    from stack.endpoints import thrift_address

    host, port = thrift_address(settings)
    say(
        f"  SQL     HiveServer2 at {host}:{port}, for example marts.interaction_trend_daily"
    )


__all__: list[Any] = ["register"]
