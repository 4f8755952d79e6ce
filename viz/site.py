"""The consumer site: static pages that work from a file, without a network."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt

from common.progress import say
from common.settings import Settings, schema_prefix
from viz import artifacts, charts, status
from viz.reader import Reader

TEMPLATES = Path(__file__).parent / "templates"
PAGES = ("index.html", "status.html", "dictionary.html")
DOCS = "dbt-docs.html"
_MENDS = {
    'ng-attr-xlink:href="{{ getIcon(': 'xlink:href="{{ getIcon(',
    'href="data:,"': """href="${require('./assets/favicons/favicon.ico')}\"""",
}
"""What dbt's page asks the disk for in vain, hundreds of times, and what it means."""
_PREVIEW = 60
"""Rows of a chart's data that the page itself shows; the CSV has all."""


def build(settings: Settings, out: Path) -> Path:
    """Write the site from the charts, the warehouse and dbt's artifacts.

    The charts are taken from `charts` beside `out`, and drawn where missing.

    Args:
        settings: where the stack is.
        out: the site's folder; its pages are replaced.

    Returns:
        The path of `index.html`.

    Raises:
        ServiceError: the Thrift server is unreachable.
    """
    drawn = out.parent / "charts"
    if not (drawn / charts.INDEX).exists():
        charts.draw_all(settings, drawn)
    say("Writing the site")
    with Reader(settings) as reader:
        seen = status.read(reader, schema_prefix())
    return write(out, drawn, seen, artifacts.folder())


def write(out: Path, drawn: Path, seen: status.Status, target: Path) -> Path:
    """Write the pages from what is already known; touches no service.

    Args:
        out: the site's folder.
        drawn: the folder of the charts and their `charts.json`.
        seen: the state of the warehouse.
        target: dbt's target folder; what is missing there is said on the page.
    """
    (out / "charts").mkdir(parents=True, exist_ok=True)
    pictures = [_picture(entry, drawn, out) for entry in _index(drawn)]
    relations = artifacts.dictionary(target)
    context = {
        "charts": pictures,
        "status": seen,
        "tests": artifacts.tests(target),
        "relations": relations,
        "anchors": {relation.unique_id: relation for relation in relations},
        "exposures": artifacts.exposures(target),
        "has_docs": _docs(target, out),
        "built_at": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
    }
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["grouped"] = lambda value: f"{value:,}"
    # HTML in a text is text, so the templates may take what is rendered as safe.
    markdown = MarkdownIt("commonmark", {"html": False})
    environment.filters["blocks"] = markdown.render
    environment.filters["line"] = markdown.renderInline
    for name in PAGES:
        page = environment.get_template(name).render(**context, page=name)
        charts.write_text(out / name, page)
    return out / "index.html"


def _index(drawn: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        (drawn / charts.INDEX).read_text(encoding="utf-8")
    )
    return found


def _picture(entry: dict[str, Any], drawn: Path, out: Path) -> dict[str, Any]:
    """A chart for the page: its files copied, the first of its rows at hand."""
    for name in entry["files"].values():
        shutil.copyfile(drawn / name, out / "charts" / name)
    with (drawn / entry["files"]["csv"]).open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        head = next(rows)
        preview = list(islice(rows, _PREVIEW))
    return {**entry, "head_row": head, "preview": preview}


def _docs(target: Path, out: Path) -> bool:
    """Copy dbt's one-file docs page; whether there is one."""
    page = target / "static_index.html"
    if not page.exists():
        (out / DOCS).unlink(missing_ok=True)
        return False
    content = page.read_text(encoding="utf-8")
    for ours, theirs in _MENDS.items():
        content = content.replace(theirs, ours)
    charts.write_text(out / DOCS, content)
    return True
