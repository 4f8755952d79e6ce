"""`ecom maintain`: upkeep of the lake's tables."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from cli.output import JsonFlag, print_json
from common.errors import UsageError
from common.progress import say
from common.settings import Settings


def register(app: typer.Typer) -> None:
    """Add `maintain` to `app`."""
    app.command()(maintain)


def maintain(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            "--drop", help="Only drop a table that no model makes.", metavar="TABLE"
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Drop without asking.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compact small files, expire old snapshots, remove orphan files, by policy.

    Policies are in dbt's `meta.upkeep`. What `ecom rollback` and `ecom ingest` need
    stays, and the next build has nothing more to do for it. `ecom status` names tables
    that no model makes any more; `--drop` drops one of them, after asking.

    Example: ecom maintain --dry-run
    """
    from publish import removed, upkeep

    if drop:
        named = ", ".join(drop)
        if not yes and not sys.stdin.isatty():
            raise UsageError(
                f"Dropping {named}: nobody is there to ask",
                "add --yes to drop for good",
            )
        if not yes:
            typer.confirm(f"Drop {named} for good?", abort=True, err=True)
        removed.drop(Settings.from_environment(), drop)
        return
    done = upkeep.maintain(Settings.from_environment(), dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "tables": [asdict(one) for one in done]})
        return
    say(
        f"{'Would do' if dry_run else 'Done'}: {sum(o.files_compacted for o in done)} files "
        f"compacted, {sum(o.snapshots_expired for o in done)} snapshots expired, "
        f"{sum(o.orphans_removed for o in done)} orphan files removed, in {len(done)} tables"
    )
