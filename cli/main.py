"""Entry point of `ecom`: gathers the groups, turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from cli import bench, ingest, maintain, publish, source, stack, viz
from cli.output import print_json
from common.errors import EcomError, UsageError
from common.progress import console, say

DEBUG = "--debug"

app = typer.Typer(
    name="ecom",
    help="Takes a shop's data from PostgreSQL to a tested star schema and charts.\n\n"
    "Example: ecom up, then ecom source sample, then ecom run",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    debug: Annotated[
        bool,
        typer.Option(DEBUG, help="Show the traceback of an error; may stand anywhere."),
    ] = False,
) -> None:
    """What holds for every command; `main` has taken it from wherever it stood."""


stack.register(app)
source.register(app)
ingest.register(app)
publish.register(app)
maintain.register(app)
viz.register(app)
bench.register(app)


def main() -> None:
    """Run `ecom`; exit 0 done, 1 data or check, 2 usage, 3 service unreachable."""
    if DEBUG in sys.argv:
        os.environ["ECOM_DEBUG"] = "1"
        sys.argv = [argument for argument in sys.argv if argument != DEBUG]
    try:
        app()
    except SystemExit as stop:
        if stop.code == UsageError.exit_code:
            _print_error(
                f"Wrong usage of `{' '.join(['ecom', *sys.argv[1:]])}`",
                "read the message on stderr, or add --help",
                UsageError.exit_code,
            )
        raise
    except EcomError as error:
        if os.environ.get("ECOM_DEBUG"):
            console.print_exception()
        say(f"Error: {error}")
        _print_error(str(error.args[0]), error.fix, error.exit_code, error.details)
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
        fix = "run again as `ecom --debug ...` and report what it shows"
        say(f"  Next: {fix}.")
        _print_error(f"unexpected {type(error).__name__}: {error}", fix, 1)
        sys.exit(1)


def _print_error(
    message: str, fix: str, exit_code: int, details: dict[str, Any] | None = None
) -> None:
    """Where a document was asked for, stdout gets one also when the command fails."""
    if "--json" in sys.argv:
        known = {"error": message, "fix": fix, "exit_code": exit_code}
        print_json(known | (details or {}))


if __name__ == "__main__":
    main()
