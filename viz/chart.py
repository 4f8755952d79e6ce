"""What one chart is: its question, its mart, and what its three steps pass on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from viz import sql
from viz.layout import Sheet


@dataclass(frozen=True)
class Shaped:
    """The numbers of a chart and what they say.

    Attributes:
        table: the values that are drawn, one row a mark; the chart's CSV.
        finding: the chart's headline, one sentence with numbers from the data.
        note: the reach of the data and what was left out or folded.
        alt: what the picture shows, for those who do not see it.
        extra: figures that the drawing needs beside the table.
    """

    table: pd.DataFrame
    finding: str
    note: str
    alt: str
    extra: dict[str, Any]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return self.table.empty


@dataclass(frozen=True)
class Chart:
    """One analysis: query, shape, draw.

    Attributes:
        name: its file, its dbt analysis and its dbt exposure.
        title: the question it answers.
        mart: the one mart it reads.
        shape: the query's rows to what is drawn; pure.
        draw: what is drawn to a figure; pure.
    """

    name: str
    title: str
    mart: str
    shape: Callable[[pd.DataFrame], Shaped]
    draw: Callable[[Shaped], Sheet]

    def query(self, prefix: str) -> str:
        """The SQL that reads the mart, schemas prefixed by `prefix`."""
        return sql.render(self.name, prefix)


def empty(title: str, mart: str, columns: list[str]) -> Shaped:
    """What a chart shows before there is any data."""
    return Shaped(
        table=pd.DataFrame(columns=columns),
        finding="No data yet",
        note=f"marts.{mart} has no rows.",
        alt=f"{title}: no data yet, the mart has no rows.",
        extra={},
    )
