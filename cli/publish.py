"""`ecom run`, `publish`, `rollback`: from the source to what readers see."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Any

import typer

from cli.output import JsonFlag, print_json
from common.errors import UsageError
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
    event_time_start: Annotated[
        datetime | None,
        typer.Option(
            help="Backfill: work these days' facts and marts out anew from staging, "
            "nothing else, and ingest nothing. The first day (UTC).",
            formats=["%Y-%m-%d"],
        ),
    ] = None,
    event_time_end: Annotated[
        datetime | None,
        typer.Option(help="The day after the last.", formats=["%Y-%m-%d"]),
    ] = None,
    hold: Annotated[
        bool,
        typer.Option(
            "--hold", help="End after the tests: the branch waits for `ecom publish`."
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Ingest, build on an audit branch, test, publish, reconcile, docs, charts, site.

    Example: ecom run
    """
    from publish import run as running
    from publish import shown
    from publish.building import Scope, target_folder

    settings = Settings.from_environment()
    scope = Scope(full_refresh, _days(event_time_start, event_time_end, full_refresh))
    report = running.run(settings, scope, _Showing(settings), not hold)
    if as_json:
        print_json(asdict(report))
        return
    spent = ", ".join(
        f"{name} {seconds:.0f} s" for name, seconds in report.phases.items()
    )
    say(f"Done in {sum(report.phases.values()):.0f} s: {spent}")
    if hold:
        say(f"  Next: `ecom publish` shows branch {report.branch} to readers")
        return
    target = target_folder()
    say(f"  charts  {target / 'charts'}\n  site    {target / 'site' / 'index.html'}")
    say(f"  docs    {target / shown.DOCS}")
    _say_where(settings)


def _days(
    start: datetime | None, end: datetime | None, full_refresh: bool
) -> tuple[date, date] | None:
    """The days of a backfill, if one is asked for.

    Raises:
        UsageError: half a range, an empty one, or a full refresh beside it.
    """
    if start is None and end is None:
        return None
    if start is None or end is None or start >= end or full_refresh:
        raise UsageError(
            "A backfill needs a first day, a later day before which it ends, and no "
            "--full-refresh",
            "say for instance --event-time-start 2024-03-01 --event-time-end 2024-03-08",
        )
    return start.date(), end.date()


def publish(as_json: JsonFlag = False) -> None:
    """Make the tested branch of `ecom run --hold`, or of a run cut off, what readers see.

    Example: ecom publish
    """
    from publish import run as running

    report = running.publish_tested(Settings.from_environment())
    if as_json:
        print_json(asdict(report))


def rollback(
    to: Annotated[
        str | None,
        typer.Option("--to", help="A publish of the list.", metavar="PUBLISH"),
    ] = None,
    listed: Annotated[
        bool,
        typer.Option("--list", help="List the publishes kept; change nothing."),
    ] = False,
) -> None:
    """Take the last publish back: core and marts are again what they were before.

    Said again, it takes the one before back too; the next `ecom run` publishes the
    present source again.

    Example: ecom rollback --list
    """
    from publish import run as running

    settings = Settings.from_environment()
    if listed:
        for number, one in enumerate(running.publishes(settings)):
            seen = "  what readers see" if not number else ""
            changed = f"{len(one.changes)} tables changed"
            typer.echo(f"{one.id:<24} {one.started_at} UTC  {changed}{seen}")
        return
    shows, moved = running.rollback(settings, to)
    say(
        f"Readers see publish {shows} again: {moved.tables} tables changed, mixed for "
        f"{moved.mixed_window_seconds:.2f} s"
    )
    say("  Next: `ecom site` shows it in charts; `ecom run` publishes the present anew")


class _Showing:
    """The charts and the site in dbt's target folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def draw(self) -> None:
        from publish.building import target_folder
        from viz import charts

        charts.draw_all(self._settings, target_folder() / "charts")

    def is_drawn(self) -> bool:
        from publish.building import target_folder
        from viz import charts

        return charts.are_drawn(target_folder() / "charts")

    def write_site(self) -> None:
        from publish.building import target_folder
        from viz import site

        site.build(self._settings, target_folder() / "site")


def _say_where(settings: Settings) -> None:
    from stack.endpoints import thrift_address

    host, port = thrift_address(settings)
    say(
        f"  SQL     HiveServer2 at {host}:{port}, for example marts.interaction_trend_daily"
    )


__all__: list[Any] = ["register"]
