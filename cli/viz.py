"""Commands of the group viz: the charts and the consumer site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.settings import PROJECT, Settings


def register(app: typer.Typer) -> None:
    """Add this group's commands to `app`."""
    app.command("charts")(charts)
    app.command("site")(site)


def charts(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the files.", metavar="DIR")
    ] = PROJECT / "target" / "charts",
) -> None:
    """Draw the five charts from the marts: PNG, SVG, CSV and charts.json.

    Example: ecom charts --out /tmp/charts
    """
    # matplotlib and pandas take a second to load; `ecom --help` does not wait.
    from viz.charts import draw_all

    for result in draw_all(Settings.from_environment(), out):
        typer.echo(f"{result.name}: {result.finding}")


def site(
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Serve it on 127.0.0.1 until Ctrl-C."),
    ] = False,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the pages.", metavar="DIR")
    ] = PROJECT / "target" / "site",
) -> None:
    """Write the consumer site: charts, findings, freshness, tests, dictionary.

    Example: ecom site --serve
    """
    from viz import serve as server
    from viz.charts import draw_all
    from viz.site import build

    settings = Settings.from_environment()
    draw_all(settings, out.parent / "charts")
    typer.echo(str(build(settings, out)))
    if serve:
        server.forever(out, lambda url: typer.echo(f"Serving {url} (Ctrl-C ends)"))
