"""Tables that no model makes any more: kept as last published, dropped on request."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import UsageError
from common.progress import say
from common.settings import Settings
from ingest.statements import spark_literal
from publish import building
from publish.in_home import last_run, one_at_a_time
from publish.lake import Lake, open_lake, restore
from publish.run import settle
from publish.upkeep import refuse_while_one_waits


def drop(settings: Settings, tables: Sequence[str]) -> None:
    """Drop tables that no model makes any more, with all their publishes.

    Raises:
        BusyError: a run of this home is under way.
        DataError: a tested branch waits to be published, or dbt cannot read the project.
        UsageError: a model makes one of them, or it is not there; none was dropped.
    """
    with one_at_a_time(settings), open_lake(settings) as lake:
        settle(settings, lake)
        refuse_while_one_waits(settings)
        present = lake.tables()
        known = building.unmade(lake, present, building.parsed(settings))
        for table in tables:
            if table not in known:
                why = (
                    "a model makes it" if table in present else "there is no such table"
                )
                raise UsageError(
                    f"Dropping {table}: {why}; nothing was dropped",
                    f"tables that no model makes: {', '.join(known) or 'none'}",
                )
        lake.each(restore(table, None) for table in tables)
        _forget(lake, tables, present)
        last = last_run(settings)
        if last is not None:
            last.unmade = [table for table in known if table not in tables]
            last.write(settings)
        say(f"Dropped {', '.join(tables)}")


def _forget(lake: Lake, tables: Sequence[str], present: Sequence[str]) -> None:
    """Let builds know that they never were, should a model of the name come again."""
    state = building.build_state(lake)
    if state not in present:
        return
    names = [table.split(".", 1)[1] for table in tables]
    ids = [f"{kind}.ecom.{name}" for kind in ("model", "snapshot") for name in names]
    models = ", ".join(map(spark_literal, [*names, *ids]))
    lake.rows(f"DELETE FROM {state} WHERE model IN ({models})")
