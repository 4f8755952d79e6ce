"""All five charts to files: PNG, SVG, dark SVG, CSV, and `charts.json`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from common.progress import say, task
from common.settings import Settings, schema_prefix
from viz import (
    age_interaction,
    customer_activity,
    interaction_trend,
    purchase_trends,
    style,
    top_products,
)
from viz.chart import Chart, Shaped
from viz.reader import Reader
from viz.sql import relation

CHARTS: tuple[Chart, ...] = (
    customer_activity.CHART,
    top_products.CHART,
    interaction_trend.CHART,
    purchase_trends.CHART,
    age_interaction.CHART,
)
INDEX = "charts.json"
_READERS = 2
"""Queries at a time: the engine works on one while Python fetches another."""


@dataclass(frozen=True)
class ChartResult:
    """One chart as it was written.

    Attributes:
        name: its file name without the ending, and its dbt exposure.
        title: the question it answers.
        finding: its headline.
        note: reach of the data, and what was left out.
        alt: what the picture shows, for those who do not see it.
        mart: the relation it was drawn from.
        built_at: when that relation last changed, ISO 8601 in UTC, or None where
            the engine does not say.
        rows: rows drawn.
        width, height: of the PNG, in pixels.
        head, foot: how much of the height words take, above and below the drawing.
        files: file names by kind: `png`, `svg`, `dark`, `csv`.
    """

    name: str
    title: str
    finding: str
    note: str
    alt: str
    mart: str
    built_at: str | None
    rows: int
    width: int
    height: int
    head: int
    foot: int
    files: dict[str, str]


def draw_all(settings: Settings, out: Path) -> list[ChartResult]:
    """Read the marts and write all five charts.

    Args:
        settings: where the stack is.
        out: the folder to write to; made where it is missing.

    Returns:
        What was written, in the order of `CHARTS`; also in `out/charts.json`.

    Raises:
        ServiceError: the Thrift server is unreachable.
        DataError: a mart is not there, or a query fails.
    """
    made: list[tuple[ChartResult, dict[str, bytes]]] = []
    with task("Drawing the charts", total=len(CHARTS), unit="charts") as progress:
        for chart, frame, built_at in fetched(settings):
            shaped = chart.shape(frame)
            made.append(drawn(chart, shaped, built_at))
            progress.advance()
            progress.describe(f"Drew {chart.name}")
    # Nothing is written before all are drawn: a folder is of one moment.
    write_all(made, out)
    say(f"Charts: {out}")
    return [result for result, _ in made]


def are_drawn(out: Path) -> bool:
    """Whether a folder has every file of the charts that it speaks of."""
    try:
        index = json.loads((out / INDEX).read_text(encoding="utf-8"))
        names = [name for entry in index for name in entry["files"].values()]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(names) and all((out / name).is_file() for name in names)


def write_all(made: list[tuple[ChartResult, dict[str, bytes]]], out: Path) -> None:
    """Write drawn charts and then `charts.json`, which names them."""
    out.mkdir(parents=True, exist_ok=True)
    for _, files in made:
        for name, content in files.items():
            write_bytes(out / name, content)
    index = [asdict(result) for result, _ in made]
    write_text(out / INDEX, json.dumps(index, indent=2, ensure_ascii=False) + "\n")


def fetched(
    settings: Settings,
) -> Iterator[tuple[Chart, pd.DataFrame, str | None]]:
    """Each chart with its rows and the time of its mart, in the order of `CHARTS`."""
    with ThreadPoolExecutor(_READERS, thread_name_prefix="chart") as pool:
        pending: list[Future[tuple[pd.DataFrame, str | None]]] = [
            pool.submit(_fetch, settings, chart) for chart in CHARTS
        ]
        try:
            for chart, future in zip(CHARTS, pending, strict=True):
                yield chart, *future.result()
        finally:
            for future in pending:
                future.cancel()


def _fetch(settings: Settings, chart: Chart) -> tuple[pd.DataFrame, str | None]:
    prefix = schema_prefix()
    with Reader(settings) as reader:
        return reader.rows(chart.query(prefix)), changed_at(reader, chart, prefix)


def changed_at(reader: Reader, chart: Chart, prefix: str) -> str | None:
    """When readers last saw the mart change, from Iceberg's own history."""
    found = reader.rows_or_none(
        "select max(made_current_at) as changed_at "
        f"from {relation(chart.mart, prefix)}.history"
    )
    if found is None or found.empty or pd.isna(found["changed_at"].iloc[0]):
        return None
    stamp = pd.Timestamp(found["changed_at"].iloc[0]).floor("s")
    return f"{stamp.isoformat()}Z"


def drawn(
    chart: Chart, shaped: Shaped, built_at: str | None = None
) -> tuple[ChartResult, dict[str, bytes]]:
    """Draw one chart: what it says, and its four files by name.

    The same data give the same bytes.
    """
    figure = chart.draw(shaped)
    svg = svg_text(figure)
    files = {
        "png": f"{chart.name}.png",
        "svg": f"{chart.name}.svg",
        "dark": f"{chart.name}-dark.svg",
        "csv": f"{chart.name}.csv",
    }
    contents = {
        files["png"]: png_bytes(figure),
        files["svg"]: svg.encode("utf-8"),
        files["dark"]: style.darken(svg).encode("utf-8"),
        files["csv"]: csv_text(shaped.table).encode("utf-8"),
    }
    width, height, head, foot = (
        round(inches * style.PNG_DPI)
        for inches in (*figure.get_size_inches(), figure.head, figure.foot)
    )
    result = ChartResult(
        name=chart.name,
        title=chart.title,
        finding=shaped.finding,
        note=shaped.note,
        alt=shaped.alt,
        mart=relation(chart.mart, schema_prefix()),
        built_at=built_at,
        rows=len(shaped.table),
        width=width,
        height=height,
        head=head,
        foot=foot,
        files=files,
    )
    return result, contents


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG, without a date or a version in it."""
    target = io.BytesIO()
    with style.applied():
        figure.savefig(
            target, format="png", dpi=style.PNG_DPI, metadata={"Software": None}
        )
    return target.getvalue()


def svg_text(figure: Figure) -> str:
    """The figure as SVG, without a date in it, ids the same each time."""
    target = io.StringIO()
    nothing: dict[str, Any] = {"Date": None, "Creator": None}
    with style.applied():
        figure.savefig(target, format="svg", metadata=nothing)
    return target.getvalue()


def csv_text(table: pd.DataFrame) -> str:
    """The drawn values as CSV: whole numbers without a point, `.` else."""
    plain = table.copy()
    for name in plain.columns:
        column = plain[name]
        if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
            plain[name] = column.astype("Int64")
    return plain.to_csv(index=False, lineterminator="\n", date_format="%Y-%m-%d")


def write_text(path: Path, content: str) -> None:
    """Replace a file at once, in UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file at once: readers see the old or the new one, never half."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content)
    partial.replace(path)
