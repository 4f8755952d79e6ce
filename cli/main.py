"""Entry point of `ecom`: gathers the groups, turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cli import bench, ingest, publish, source, stack, viz
from common.errors import EcomError
from common.progress import console, say

app = typer.Typer(
    name="ecom",
    help="Takes a shop's data from PostgreSQL to a tested star schema and charts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
) -> None:
    if debug:
        os.environ["ECOM_DEBUG"] = "1"


stack.register(app)
source.register(app)
ingest.register(app)
publish.register(app)
viz.register(app)
bench.register(app)


def main() -> None:
    """Run `ecom`; exit 0 done, 1 data or check, 2 usage, 3 service unreachable."""
    try:
        app()
    except EcomError as error:
        if os.environ.get("ECOM_DEBUG"):
            console.print_exception()
        say(f"Error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("Interrupted.")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if os.environ.get("ECOM_DEBUG"):
            raise
        say(f"Error: unexpected {type(error).__name__}: {error}")
        say("  Next: run again as `ecom --debug ...` and report what it shows.")
        sys.exit(1)


if __name__ == "__main__":
    main()
