"""`ecom maintain`: upkeep of the lake's tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cli.output import JsonFlag, print_json
from common.progress import say
from common.settings import Settings


def register(app: typer.Typer) -> None:
    """Add `maintain` to `app`."""
    app.command()(maintain)


def maintain(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compact small files, expire old snapshots, remove orphan files, by policy.

    Policies are in dbt's `meta.upkeep`. What `ecom rollback` and `ecom ingest` need
    stays, and the next build has nothing more to do for it.

    Example: ecom maintain --dry-run
    """
    from publish import upkeep

    done = upkeep.maintain(Settings.from_environment(), dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "tables": [asdict(one) for one in done]})
        return
    verb = "Would compact" if dry_run else "Compacted"
    say(
        f"{verb} {sum(one.files_compacted for one in done)} files, expire(d) "
        f"{sum(one.snapshots_expired for one in done)} snapshots, remove(d) "
        f"{sum(one.orphans_removed for one in done)} orphan files of {len(done)} tables"
    )
