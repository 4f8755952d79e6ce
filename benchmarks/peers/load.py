"""One peer copies `interactions` to a Parquet folder; prints the seconds it took.

Run by a peer's own interpreter: `load.py PEER FOLDER`, the address of the source in
ECOM_BENCH_DSN. Imports are not counted, as the start of our engine is not.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

TABLE = "interactions"
KEY = "interaction_id"


def connectorx(dsn: str, folder: Path) -> float:
    """ConnectorX by key ranges, one a core, into one Parquet file."""
    import connectorx
    import pyarrow.parquet

    began = time.monotonic()
    found = connectorx.read_sql(
        dsn,
        f"SELECT * FROM {TABLE}",
        partition_on=KEY,
        partition_num=os.cpu_count() or 2,
        return_type="arrow",
    )
    pyarrow.parquet.write_table(found, folder / "interactions.parquet")
    return time.monotonic() - began


def dlt(dsn: str, folder: Path) -> float:
    """dlt's `sql_table` with its pyarrow backend into local Parquet files."""
    import dlt as tool
    from dlt.destinations import filesystem
    from dlt.sources.sql_database import sql_table

    began = time.monotonic()
    pipeline = tool.pipeline(
        "bench",
        pipelines_dir=str(folder / "state"),
        destination=filesystem(bucket_url=(folder / "out").as_uri()),
        dataset_name="bench",
    )
    rows = sql_table(
        credentials=dsn.replace("postgresql:", "postgresql+psycopg2:", 1),
        table=TABLE,
        backend="pyarrow",
        chunk_size=100_000,
    )
    pipeline.run(rows, loader_file_format="parquet")
    return time.monotonic() - began


PEERS: dict[str, Callable[[str, Path], float]] = {
    "connectorx": connectorx,
    "dlt": dlt,
}

if __name__ == "__main__":
    print(PEERS[sys.argv[1]](os.environ["ECOM_BENCH_DSN"], Path(sys.argv[2])))
