"""`ecom source`: the shop's schema, its data, a day of change, the CSV door."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import JsonFlag, print_json
from common.progress import say
from common.settings import Settings

group = typer.Typer(
    name="source",
    help="Makes and fills the shop in the source database.\n\n"
    "Example: ecom source sample",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same data.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands to `app`."""
    group.command("init")(init)
    group.command("generate")(generate)
    group.command("change")(change)
    group.command("sample")(sample)
    group.command("load-csv")(load_csv)
    app.add_typer(group)


def init(
    reader: Annotated[
        str | None,
        typer.Option(
            "--reader",
            metavar="ROLE",
            help="Also make this login role for ingest; it only reads.",
        ),
    ] = None,
) -> None:
    """Make what is missing of the shop's tables, indexes, triggers and grants.

    Example: ecom source init
    """
    from source import schema

    schema.report(schema.init(Settings.from_environment(), reader))


def generate(
    customers: Annotated[int, typer.Option("--customers", help="Rows of customers.")],
    products: Annotated[int, typer.Option("--products", help="Rows of products.")],
    interactions: Annotated[
        int, typer.Option("--interactions", help="Rows of interactions.")
    ],
    orders: Annotated[int, typer.Option("--orders", help="Rows of orders.")],
    days: Annotated[
        str,
        typer.Option("--days", metavar="A:B", help="First and last day, inclusive."),
    ] = "2023-01-01:2024-10-15",
    seed: Seed = 1,
    replace: Annotated[
        bool, typer.Option("--replace", help="Throw away the rows the shop holds.")
    ] = False,
) -> None:
    """Fill an empty shop with believable data; the tables are made where missing.

    Example: ecom source generate --customers 5000 --products 500
    --interactions 200000 --orders 6000
    """
    from source.generate import Size
    from source.generate import generate as fill
    from source.timeline import parse_days

    size = Size(customers, products, interactions, orders, parse_days(days), seed)
    say_rows(fill(Settings.from_environment(), size, replace))


def change(
    day: Annotated[
        str | None,
        typer.Option(
            "--day", metavar="D", help="The day told; default the one after the last."
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="R",
            help="Share of the rows a day adds or changes, 0 to 1; default a day like "
            "those before it.",
        ),
    ] = None,
    seed: Seed = 1,
) -> None:
    """Let the shop live one more day: new rows, updates, moves, late events, deletes.

    Example: ecom source change --day 2024-10-16
    """
    from source.change import change as live
    from source.timeline import parse_day

    done = live(
        Settings.from_environment(), parse_day(day) if day else None, rate, seed
    )
    say(f"Day {done.day}:")
    for what, count in done.counts.items():
        typer.echo(f"{what:<24} {count:>12,}")


def sample() -> None:
    """Fill the embedded shop with a small sample when it is empty; else leave it.

    Example: ecom source sample
    """
    from source.sample import sample as fill

    counts = fill(Settings.from_environment())
    if counts:
        say_rows(counts)


def load_csv(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with the CSV files.")
    ],
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            metavar="FILE",
            help="Write rejected rows here and load the rest.",
        ),
    ] = None,
    restamp: Annotated[
        bool,
        typer.Option(
            "--restamp",
            help="Set updated_at and recorded_at to now, so that the next ingest sees "
            "the rows whatever the files say.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Load customers, products, orders, order_items and interactions: all or nothing.

    Example: ecom source load-csv feeds/2024-10-15 --rejects rejects.csv
    """
    from source.csv_load import load_folder

    done = load_folder(Settings.from_environment(), folder, rejects, restamp)
    if as_json:
        print_json(
            {
                "rows": done.rows,
                "rejected": done.rejected,
                "rejected_total": sum(done.rejected.values()),
                "seconds": round(done.seconds, 3),
            }
        )
        return
    say_rows(done.rows)
    if rejects is not None:
        say(f"{sum(done.rejected.values()):,} rows rejected, see {rejects}")


def say_rows(counts: dict[str, int]) -> None:
    """Print rows for each table, one a line."""
    for name, count in counts.items():
        typer.echo(f"{name:<14} {count:>14,}")
