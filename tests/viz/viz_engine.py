"""Runs the five analyses over made-up marts on a real Spark, in a process apart.

`python -m tests.viz.viz_engine OUT` pickles `{case: {chart: rows}}` and, under
`marts`, the marts that the rows came from.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from tests.viz import viz_marts
from viz import sql

NAMES = (
    "customer_activity",
    "top_products",
    "interaction_trend",
    "purchase_trends",
    "age_interaction",
)
LONG = "a_very_long_name_that_does_not_end"


def cases() -> dict[str, viz_marts.Marts]:
    """Marts from none to far too many, and with names that break naive code."""
    sample = viz_marts.make()
    return {
        "sample": sample,
        "sixty": viz_marts.make(
            regions=[f"Region {n:02}" for n in range(60)],
            tiers=[f"tier {n}" for n in range(9)],
            categories=[f"Category {n}" for n in range(25)],
        ),
        "one": viz_marts.make(
            regions=["Everywhere"],
            tiers=["bronze"],
            categories=["All"],
            products=1,
            first=date(2024, 2, 29),
            last=date(2024, 2, 29),
        ),
        "decade": viz_marts.make(
            first=date(2014, 1, 1), last=date(2023, 12, 31), scale=400
        ),
        "unicode": viz_marts.make(
            regions=[
                "Côte d’Ivoire",
                "日本",
                "$x_1$ & <b>",
                "العربية",
                "😀 " * 20,
                "a\nb",
            ],
            categories=["Ünïcode $5_6$", "中文", "Ελληνικά", "x" * 90],
            product_name="{category} “№{number}” $\\frac{{1}}{{2}}$ 日本 " + LONG,
        ),
        "tiny": viz_marts.make(
            first=date(2024, 1, 30), last=date(2024, 2, 4), scale=0.002, products=2
        ),
        "zero": {name: viz_marts.zeroed(frame) for name, frame in sample.items()},
        "empty": {name: frame.iloc[:0] for name, frame in sample.items()},
    }


def main(out: Path) -> None:
    """Query every case and pickle the rows."""
    made = cases()
    rows: dict[str, Any] = {"marts": made}
    with tempfile.TemporaryDirectory() as scratch:
        session = _session(scratch)
        # Parquet: Spark takes pandas' own columns row by row, which is slow.
        for case, marts in made.items():
            for name, frame in marts.items():
                path = f"{scratch}/{case}-{name}.parquet"
                frame.to_parquet(path, index=False, schema=_types(made, name))
                session.read.parquet(path).createOrReplaceTempView(f"marts_{name}")
            rows[case] = {name: _rows(session, name) for name in NAMES}
        session.stop()
    out.write_bytes(pickle.dumps(rows))


def _types(made: dict[str, viz_marts.Marts], name: str) -> pa.Schema:
    """The sample's types, which an empty frame has not."""
    return pa.Schema.from_pandas(made["sample"][name], preserve_index=False)


def _rows(session: Any, name: str) -> pd.DataFrame:
    found = session.sql(sql.render(name, "").replace("marts.", "marts_"))
    return pd.DataFrame([tuple(row) for row in found.collect()], columns=found.columns)


def _session(scratch: str) -> Any:
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.warehouse.dir": scratch,
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "768m",
    }
    builder = SparkSession.builder.master("local[2]").appName("viz tests")
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


if __name__ == "__main__":
    main(Path(sys.argv[1]))
