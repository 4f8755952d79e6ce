"""The sample shop that `make run` shows."""

from __future__ import annotations

from common.progress import say
from common.settings import Settings
from source import schema
from source.database import transaction
from source.generate import Size, generate

SAMPLE = Size(customers=5_000, products=500, interactions=200_000, orders=6_000)


def sample(settings: Settings) -> dict[str, int]:
    """Fill the embedded shop when it is empty; a database of the user's is left alone.

    Returns:
        Rows for each table generated; empty when nothing was done.
    """
    if settings.source_dsn:
        say("ECOM_SOURCE_DSN names your own database: no sample data is put there")
        return {}
    schema.report(schema.init(settings))
    with transaction(settings, "Looking at the shop") as connection:
        empty = schema.is_empty(connection.cursor())
    if not empty:
        say("The shop holds rows already: they are left alone")
        return {}
    return generate(settings, SAMPLE)
