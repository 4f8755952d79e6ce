"""One JSON document on stdout for `--json`; everything else goes to stderr."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

JsonFlag = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, logs on stderr.")
]


def print_json(document: Any) -> None:
    """Write `document` to stdout; dates and decimals become strings."""
    json.dump(document, sys.stdout, indent=2, default=str, ensure_ascii=False)
    sys.stdout.write("\n")
