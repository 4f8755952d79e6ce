"""`ecom ingest` and `ecom reconcile`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import JsonFlag, print_json
from common.progress import say
from common.settings import Settings

Tables = Annotated[list[str] | None, typer.Argument(help="Tables; none means all.")]
ManifestOption = Annotated[
    Path | None,
    typer.Option(
        "--manifest", help="Manifest of the tables; default ingest/tables.yml."
    ),
]


def register(app: typer.Typer) -> None:
    """Add ingest's commands to `app`."""
    app.command()(ingest)
    app.command()(reconcile)


def ingest(
    tables: Tables = None,
    manifest: ManifestOption = None,
    full: Annotated[bool, typer.Option("--full", help="Read every row anew.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan; move nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring source tables up to date in staging.

    Example: ecom ingest customers orders
    """
    from ingest import manifest as manifests
    from ingest import run
    from stack.hdfs_access import demand_writable

    settings = Settings.from_environment()
    wanted = manifests.load(manifest or run.DEFAULT_MANIFEST, settings.schema_prefix)
    wanted.select(tables or [])
    endpoints = _endpoints(settings)
    if dry_run:
        _print_plan(run.plan(endpoints, wanted, tables or [], full), as_json)
        return
    demand_writable(settings, run.folders(wanted, tables or []))
    try:
        results = run.ingest(endpoints, wanted, tables or [], full)
    except run.TablesError as failure:
        print_results(failure.results)
        raise
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        print_results(results)


def reconcile(
    tables: Tables = None, manifest: ManifestOption = None, as_json: JsonFlag = False
) -> None:
    """Compare source and staging: counts, key sets, checksums; exit 1 if they differ.

    Example: ecom reconcile --json
    """
    from ingest import manifest as manifests
    from ingest import reconcile as reconciling
    from ingest import run

    settings = Settings.from_environment()
    wanted = manifests.load(manifest or run.DEFAULT_MANIFEST, settings.schema_prefix)
    found = reconciling.reconcile(_endpoints(settings), wanted, tables or [])
    if as_json:
        print_json([one.document() for one in found])
    else:
        for one in found:
            typer.echo(one.describe())
    if any(not one.agrees for one in found):
        raise typer.Exit(1)


def _endpoints(settings: Settings) -> Any:
    from publish.run import ingest_endpoints

    return ingest_endpoints(settings)


def print_results(results: list[Any]) -> None:
    """One table of what an ingest did."""
    counts = ["read", "inserted", "updated", "deleted", "rejected"]
    header = f"{'table':<16}" + "".join(f"{name:>12}" for name in counts)
    say(f"{header}{'MB':>9}{'seconds':>9}  next read from (UTC)")
    for one in results:
        numbers = "".join(f"{getattr(one, f'rows_{name}'):>12,}" for name in counts)
        mark = (one.watermark or "the beginning")[:19].replace("T", " ")
        megabytes = one.bytes_written / 1e6
        say(f"{one.table:<16}{numbers}{megabytes:>9,.1f}{one.seconds:>9.1f}  {mark}")
    for one in results:
        for note in one.notes:
            say(f"  {one.table}: {note}")


def describe_split(ranges: list[str], reads: int) -> str:
    """How a table is read, for people; only the first of its ranges is shown."""
    if not ranges:
        return "one read"
    at_once = f", {reads} at a time" if reads < len(ranges) else ""
    return f"{len(ranges)} ranges{at_once}, the first {ranges[0]}"


def _print_plan(plans: list[Any], as_json: bool) -> None:
    rows = [
        {
            "table": plan.spec.name,
            "mode": plan.spec.mode,
            "from": plan.lower,
            "next_from": plan.watermark.lower,
            "estimated_rows": plan.estimated_rows,
            "parallel_reads": plan.split.tasks,
            "ranges": list(plan.split.ranges),
            "sql": plan.query,
        }
        for plan in plans
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        typer.echo(
            f"{row['table']} ({row['mode']}): from {row['from'] or 'the beginning'}, "
            f"about {row['estimated_rows']:,} rows in the table, "
            f"{describe_split(row['ranges'], row['parallel_reads'])}"
        )
        typer.echo(f"  {row['sql']}")
