"""The CSV door: five files or nothing, and an answer to every broken one."""

from __future__ import annotations

import csv
import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from common.errors import DataError, EcomError, UsageError
from common.settings import PROJECT, Settings
from source import csv_records
from source.csv_load import load_folder
from source.csv_records import CsvFile
from tests.source.conftest import GOOD

Query = Callable[..., list[tuple[Any, ...]]]
Counts = Callable[[], dict[str, int]]
Feed = Callable[..., Path]
ALL = {"customers": 2, "products": 2, "orders": 1, "order_items": 2, "interactions": 2}
P_HEAD = "product_id,product_name,category,price,updated_at\n"
O_HEAD = "order_id,customer_id,ordered_at,status,updated_at\n"
I_HEAD = GOOD["interactions"].partition("\n")[0] + "\n"
C_HEAD = GOOD["customers"].partition("\n")[0] + "\n"
L_HEAD = GOOD["order_items"].partition("\n")[0] + "\n"
T = "2023-01-01T00:00:00Z"
S = "123e4567-e89b-12d3-a456-426614174000"


def test_a_good_feed_arrives_exactly(shop: Settings, feed: Feed, query: Query) -> None:
    done = load_folder(shop, feed())
    assert done.rows == ALL
    assert sum(done.rejected.values()) == 0
    assert query(
        "SELECT full_name, birth_date::text, signup_at::text, updated_at::text "
        "FROM customers ORDER BY 1"
    ) == [
        ("O'Brien, \"Bob\"", None, "2023-01-31 22:00:00+00", "2023-02-01 00:00:00+00"),
        ("Zoë Müller", "1990-02-28", "2023-01-05 10:00:00+00", "2023-01-05 10:00:00.123456+00"),
    ]  # fmt: skip
    assert query("SELECT product_name, price::text FROM products ORDER BY product_id") == [
        ("Crème brûlée", "12.50"), ("Two\nlines", "0.00"),
    ]  # fmt: skip
    assert query(
        "SELECT product_id, session_id::text FROM interactions WHERE interaction_id = 1001"
    ) == [(None, "123e4567-e89b-12d3-a456-426614174001")]


def test_a_feed_may_be_gzip_and_in_any_column_order(
    shop: Settings, feed: Feed, counts: Counts
) -> None:
    folder = feed(orders="status,order_id,updated_at,ordered_at,customer_id\n"
                  f"paid,7,{T},{T},1\n")  # fmt: skip
    plain = folder / "customers.csv"
    (folder / "customers.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    load_folder(shop, folder)
    assert counts() == ALL


ACCEPTED = {
    "bom": ("products", b"\xef\xbb\xbf" + f"{P_HEAD}1,A,B,1,{T}\n".encode(), 1),
    "crlf": (
        "products",
        f"{P_HEAD}1,A,B,1,{T}\n2,B,B,1,{T}\n".replace("\n", "\r\n"),
        2,
    ),
    "no newline at the end": ("products", f"{P_HEAD}1,A,B,1,{T}", 1),
    "header alone": ("products", P_HEAD, 0),
    "header alone, no newline": ("products", P_HEAD.strip(), 0),
    "blank lines": ("products", f"{P_HEAD}\n1,A,B,1,{T}\n\n\n2,A,B,1,{T}\n\n", 2),
    "quoted everything": ("products", f'{P_HEAD}"1","A","B","1.5","{T}"\n', 1),
    "quoted header": ("products", f'"product_id",{P_HEAD[11:]}1,A,B,1,{T}\n', 1),
    "embedded newline": (
        "products",
        f'{P_HEAD}1,"A\nA\r\nA",B,1,{T}\n2,B,B,1,{T}\n',
        2,
    ),
    "embedded comma and quote": ("products", f'{P_HEAD}1,"A, ""x""",B,1,{T}\n', 1),
    "spaces kept": ("products", f"{P_HEAD}1, A ,B,1,{T}\n", 1),
    "trailing zeros": ("products", f"{P_HEAD}1,A,B,1.5000,{T}\n", 1),
    "largest amount": ("products", f"{P_HEAD}1,A,B,9999999999.99,{T}\n", 1),
    "orphans": ("orders", f"{O_HEAD}1,999999,{T},paid,{T}\n", 1),
    "quoted empty is empty": ("customers", f'{C_HEAD}1,A,a,"",R,gold,{T},{T}\n', 1),
    "leap day": ("customers", f"{C_HEAD}1,A,a,2000-02-29,R,gold,{T},{T}\n", 1),
    "the word NULL is a name": ("products", f"{P_HEAD}1,NULL,NA,1,{T}\n", 1),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str, shop: Settings, feed: Feed, counts: Counts) -> None:
    table, text, rows = ACCEPTED[name]
    load_folder(shop, feed(**{table: text}))
    assert counts()[table] == rows


# name: table, file, and the reject expected: line, column, value, part of the reason.
REJECTED: dict[str, tuple[str, Any, tuple[int, str, str, str]]] = {
    "31 February": ("orders", f"{O_HEAD}1,1,2023-02-31T00:00:00Z,paid,{T}\n", (2, "ordered_at", "2023-02-31T00:00:00Z", "no such time")),
    "naive time": ("orders", f"{O_HEAD}1,1,2023-02-01T00:00:00,paid,{T}\n", (2, "ordered_at", "2023-02-01T00:00:00", "without offset")),
    "slashed time": ("orders", f"{O_HEAD}1,1,01/02/2023 10:00,paid,{T}\n", (2, "ordered_at", "01/02/2023 10:00", "not declared")),
    "bare epoch": ("orders", f"{O_HEAD}1,1,1700000000,paid,{T}\n", (2, "ordered_at", "1700000000", "epoch_s")),
    "words for a time": ("orders", f"{O_HEAD}1,1,yesterday,paid,{T}\n", (2, "ordered_at", "yesterday", "ISO 8601")),
    "nanoseconds": ("orders", f"{O_HEAD}1,1,2023-01-01T00:00:00.123456789Z,paid,{T}\n", (2, "ordered_at", "2023-01-01T00:00:00.123456789Z", "")),
    "year 0023": ("orders", f"{O_HEAD}1,1,0023-01-01T00:00:00Z,paid,{T}\n", (2, "ordered_at", "0023-01-01T00:00:00Z", "before 1900")),
    "year 9999": ("orders", f"{O_HEAD}1,1,9999-12-31T00:00:00Z,paid,{T}\n", (2, "ordered_at", "9999-12-31T00:00:00Z", "after 2199")),
    "recorded in the future": ("orders", f"{O_HEAD}1,1,{T},paid,2150-01-01T00:00:00Z\n", (2, "updated_at", "2150-01-01T00:00:00Z", "future")),
    "empty time": ("orders", f"{O_HEAD}1,1,,paid,{T}\n", (2, "ordered_at", "", "empty")),
    "unknown status": ("orders", f"{O_HEAD}1,1,{T},Paid,{T}\n", (2, "status", "Paid", "not one of")),
    "empty key": ("orders", f"{O_HEAD},1,{T},paid,{T}\n", (2, "order_id", "", "empty")),
    "word for a key": ("orders", f"{O_HEAD}A1,1,{T},paid,{T}\n", (2, "order_id", "A1", "whole number")),
    "decimal key": ("orders", f"{O_HEAD}1.0,1,{T},paid,{T}\n", (2, "order_id", "1.0", "whole number")),
    "hexadecimal key": ("orders", f"{O_HEAD}0x1F,1,{T},paid,{T}\n", (2, "order_id", "0x1F", "whole number")),
    "key with a space": ("orders", f"{O_HEAD} 7,1,{T},paid,{T}\n", (2, "order_id", " 7", "whole number")),
    "key too large": ("orders", f"{O_HEAD}9223372036854775808,1,{T},paid,{T}\n", (2, "order_id", "9223372036854775808", "too large")),
    "duplicate key": ("orders", f"{O_HEAD}1,1,{T},paid,{T}\n2,1,{T},paid,{T}\n1,2,{T},paid,{T}\n", (4, "order_id", "1", "key of line 2")),
    "duplicate double key": ("order_items", f"{L_HEAD}1,1,1,1,1,{T}\n1,2,1,1,1,{T}\n1,2,9,1,1,{T}\n", (4, "order_id|line_number", "1|2", "key of line 3")),
    "too few values": ("orders", f"{O_HEAD}1,1,{T},paid\n", (2, "", f"1,1,{T},paid", "4 values")),
    "too many values": ("orders", f"{O_HEAD}1,1,{T},paid,{T},x\n", (2, "", f"1,1,{T},paid,{T},x", "6 values")),
    "stray quote": ("products", f'{P_HEAD}1,5" pipe,B,1,{T}\n2,A,B,1,{T}\n', (2, "", f'1,5" pipe,B,1,{T}', "quotes")),
    "two stray quotes": ("products", f'{P_HEAD}1,5" pipe,B,1,{T}\n2,6" pipe,B,1,{T}\n', (2, "", f'1,5" pipe,B,1,{T}', "quotes")),
    "text after a quote": ("products", f'{P_HEAD}1,"A"B,B,1,{T}\n', (2, "", f'1,"A"B,B,1,{T}', "quotes")),
    "open quote": ("products", f'{P_HEAD}1,"A,B,1,{T}\n2,A,B,1,{T}\n', (2, "", f'1,"A,B,1,{T}', "never closed")),
    "not UTF-8": ("products", f"{P_HEAD}1,A,B,1,{T}\n".encode() + b"2,Cr\xe8me,B,1,2023-01-01T00:00:00Z\n", (3, "", f"2,Cr\ufffdme,B,1,{T}", "UTF-8")),
    "NUL character": ("products", f"{P_HEAD}1,A\x00,B,1,{T}\n", (2, "", f"1,A\\0,B,1,{T}", "NUL")),
    "lone carriage return": ("products", f"{P_HEAD}1,A\rA,B,1,{T}\n", (2, "", f"1,A\\rA,B,1,{T}", "carriage")),
    "price below zero": ("products", f"{P_HEAD}1,A,B,-0.01,{T}\n", (2, "price", "-0.01", "below 0")),
    "three decimals": ("products", f"{P_HEAD}1,A,B,1.005,{T}\n", (2, "price", "1.005", "more than two decimals")),
    "amount too large": ("products", f"{P_HEAD}1,A,B,10000000000,{T}\n", (2, "price", "10000000000", "too large")),
    "comma in an amount": ("products", f'{P_HEAD}1,A,B,"1,50",{T}\n', (2, "price", "1,50", "not an amount")),
    "currency sign": ("products", f"{P_HEAD}1,A,B,£1,{T}\n", (2, "price", "£1", "not an amount")),
    "exponent": ("products", f"{P_HEAD}1,A,B,1e2,{T}\n", (2, "price", "1e2", "not an amount")),
    "not a number": ("products", f"{P_HEAD}1,A,B,NaN,{T}\n", (2, "price", "NaN", "not an amount")),
    "empty name": ("products", f"{P_HEAD}1,,B,1,{T}\n", (2, "product_name", "", "empty")),
    "quantity zero": ("order_items", f"{L_HEAD}1,1,1,0,1,{T}\n", (2, "quantity", "0", "below 1")),
    "quantity too large": ("order_items", f"{L_HEAD}1,1,1,2147483648,1,{T}\n", (2, "quantity", "2147483648", "too large")),
    "unknown tier": ("customers", f"{C_HEAD}1,A,a,,R,iron,{T},{T}\n", (2, "loyalty_tier", "iron", "not one of")),
    "born on 30 February": ("customers", f"{C_HEAD}1,A,a,1990-02-30,R,gold,{T},{T}\n", (2, "birth_date", "1990-02-30", "no such day")),
    "born in the future": ("customers", f"{C_HEAD}1,A,a,2190-01-01,R,gold,{T},{T}\n", (2, "birth_date", "2190-01-01", "future")),
    "born before 1900": ("customers", f"{C_HEAD}1,A,a,1066-10-14,R,gold,{T},{T}\n", (2, "birth_date", "1066-10-14", "before 1900")),
    "birth date day first": ("customers", f"{C_HEAD}1,A,a,28/02/1990,R,gold,{T},{T}\n", (2, "birth_date", "28/02/1990", "YYYY-MM-DD")),
    "unknown type": ("interactions", f"{I_HEAD}1,1,1,stare,{T},{S},m,{T}\n", (2, "interaction_type", "stare", "not one of")),
    "no UUID": ("interactions", f"{I_HEAD}1,1,1,view,{T},123,m,{T}\n", (2, "session_id", "123", "not a UUID")),
    "UUID with a wrong letter": ("interactions", f"{I_HEAD}1,1,1,view,{T},{S[:-1]}g,m,{T}\n", (2, "session_id", S[:-1] + "g", "not a UUID")),
    "UUID without dashes": ("interactions", f"{I_HEAD}1,1,1,view,{T},{S.replace('-', '0')},m,{T}\n", (2, "session_id", S.replace("-", "0"), "not a UUID")),
    "bad row after a long value": ("products", f'{P_HEAD}1,"A\n\n\nA",B,1,{T}\n2,A,B,x,{T}\n', (6, "price", "x", "not an amount")),
}  # fmt: skip


@pytest.mark.parametrize("name", REJECTED)
def test_rejected(
    name: str, shop: Settings, feed: Feed, counts: Counts, tmp_path: Path
) -> None:
    """Without --rejects nothing is loaded; with it, the reject is written and the
    rest loaded."""
    table, text, (line, column, value, why) = REJECTED[name]
    folder = feed(**{table: text})
    with pytest.raises(DataError) as caught:
        load_folder(shop, folder)
    assert f"{table}.csv:{line}" in str(caught.value)
    assert sum(counts().values()) == 0
    rejects = tmp_path / "rejects.csv"
    done = load_folder(shop, folder, rejects)
    with rejects.open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert done.rejected[table] == len(written) == sum(done.rejected.values())
    first = written[0]
    assert (first["file"], int(first["line"]), first["column"], first["value"]) == (
        f"{table}.csv", line, column, value,
    )  # fmt: skip
    assert why in first["reason"]
    assert counts() == done.rows
    given_rows = sum(1 for row in _text(text).split("\n") if row) - 1
    if '"' not in _text(text):
        assert done.rows[table] + done.rejected[table] == given_rows


def _text(data: str | bytes) -> str:
    return data if isinstance(data, str) else data.decode("utf-8", "replace")


REFUSED = {
    "empty file": ("orders", "", DataError, "empty"),
    "blank file": ("orders", "\n \n", DataError, "empty"),
    "missing column": ("orders", O_HEAD.replace("status,", ""), DataError, "missing: status"),
    "extra column": ("orders", O_HEAD.replace("status", "status,note"), DataError, "unknown: note"),
    "column twice": ("orders", O_HEAD.replace("status", "status,status"), DataError, "twice: status"),
    "capital letters": ("orders", O_HEAD.upper(), DataError, "missing: order_id"),
    "semicolons": ("orders", O_HEAD.replace(",", ";"), DataError, "commas"),
    "no header": ("orders", f"1,1,{T},paid,{T}\n", DataError, "missing"),
    "UTF-16": ("orders", O_HEAD.encode("utf-16"), DataError, "UTF-16"),
    "old line ends": ("orders", O_HEAD.replace("\n", "\r") + f"1,1,{T},paid,{T}\r", DataError, "carriage return"),
    "Latin-1 header": ("orders", O_HEAD.replace("status", "st\xe4tus").encode("latin-1"), DataError, "UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(
    name: str, shop: Settings, feed: Feed, counts: Counts, tmp_path: Path
) -> None:
    """Whole files that make no sense load nothing, with --rejects or without."""
    table, text, kind, says = REFUSED[name]
    folder = feed(**{table: text})
    for rejects in (None, tmp_path / "rejects.csv"):
        with pytest.raises(kind) as caught:
            load_folder(shop, folder, rejects)
        assert says in str(caught.value)
    assert sum(counts().values()) == 0
    assert list(tmp_path.glob("*rejects*")) == []


def test_half_a_gzip_file_is_refused(
    shop: Settings, feed: Feed, counts: Counts
) -> None:
    folder = feed()
    whole = gzip.compress(GOOD["interactions"].encode())
    (folder / "interactions.csv").unlink()
    (folder / "interactions.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a whole gzip file"):
        load_folder(shop, folder)
    assert sum(counts().values()) == 0


def test_a_file_that_is_no_gzip_is_refused(shop: Settings, feed: Feed) -> None:
    folder = feed()
    (folder / "orders.csv").rename(folder / "orders.csv.gz")
    with pytest.raises(DataError, match="not a whole gzip file"):
        load_folder(shop, folder)


def test_missing_files_and_folders_are_named(shop: Settings, feed: Feed) -> None:
    folder = feed()
    (folder / "orders.csv").unlink()
    with pytest.raises(UsageError, match=r"orders\.csv not found"):
        load_folder(shop, folder)
    with pytest.raises(UsageError, match="no folder"):
        load_folder(shop, folder / "nowhere")
    feed()
    (folder / "orders.csv.gz").write_bytes(b"")
    with pytest.raises(UsageError, match="both"):
        load_folder(shop, folder)


def test_a_rejects_file_that_cannot_be_written(shop: Settings, feed: Feed) -> None:
    with pytest.raises(UsageError, match="rejected rows"):
        load_folder(shop, feed(), Path("/nowhere/at/all.csv"))


def test_the_first_ten_rejects_are_shown(shop: Settings, feed: Feed) -> None:
    rows = "".join(f"{n},A,B,x,{T}\n" for n in range(30))
    with pytest.raises(DataError) as caught:
        load_folder(shop, feed(products=P_HEAD + rows))
    message = str(caught.value)
    assert "30 rows" in message
    assert message.count("products.csv:") == 10
    assert "--rejects" in message


def test_declared_formats_load(shop: Settings, feed: Feed, query: Query) -> None:
    folder = feed(
        orders=f"{O_HEAD}1,1,26/03/2023 02:30,paid,1679793000\n",
        interactions=f"{I_HEAD}1,1,,view,1679793000123,{S},m,{T}\n",
    )
    (folder / "formats.yml").write_text(
        "orders:\n"
        "  ordered_at: {formats: ['%d/%m/%Y %H:%M'], timezone: Europe/London}\n"
        "  updated_at: [epoch_s]\n"
        "interactions: {occurred_at: [epoch_ms]}\n"
    )
    load_folder(shop, folder)
    assert query("SELECT ordered_at::text, updated_at::text FROM orders") == [
        ("2023-03-26 01:30:00+00", "2023-03-26 01:10:00+00")
    ]
    assert query("SELECT occurred_at::text FROM interactions") == [
        ("2023-03-26 01:10:00.123+00",)
    ]


def test_the_skipped_and_the_double_hour_are_rejected(
    shop: Settings, feed: Feed, tmp_path: Path
) -> None:
    folder = feed(
        orders=f"{O_HEAD}1,1,26/03/2023 01:30,paid,{T}\n2,1,29/10/2023 01:30,paid,{T}\n"
        f"3,1,31/02/2023 01:30,paid,{T}\n"
    )
    (folder / "formats.yml").write_text(
        "timezone: Europe/London\norders: {ordered_at: ['%d/%m/%Y %H:%M']}\n"
    )
    done = load_folder(shop, folder, tmp_path / "rejects.csv")
    assert (done.rows["orders"], done.rejected["orders"]) == (0, 3)
    reasons = [
        row["reason"] for row in csv.DictReader((tmp_path / "rejects.csv").open())
    ]
    assert "skipped" in reasons[0]
    assert "ambiguous" in reasons[1]
    assert "no such time" in reasons[2]


def test_keys_the_shop_has_are_rejected(
    shop: Settings, feed: Feed, counts: Counts, tmp_path: Path, query: Query
) -> None:
    load_folder(shop, feed())
    folder = feed(orders=f"{O_HEAD}100,2,{T},placed,{T}\n101,2,{T},placed,{T}\n")
    with pytest.raises(DataError, match="the shop has this key already"):
        load_folder(shop, folder)
    done = load_folder(shop, folder, tmp_path / "rejects.csv")
    assert done.rows["orders"] == 1
    assert done.rejected == {**ALL, "orders": 1}
    assert counts() == {**ALL, "orders": 2}
    assert query("SELECT status FROM orders WHERE order_id = 100") == [("paid",)]


def test_a_late_feed_is_restamped_on_request(
    shop: Settings, feed: Feed, query: Query, capsys: pytest.CaptureFixture[str]
) -> None:
    load_folder(shop, feed())
    empty = {name: GOOD[name].partition("\n")[0] + "\n" for name in ALL}
    late = {**empty, "orders": f"{O_HEAD}101,2,{T},placed,{T}\n"}
    load_folder(shop, feed(**late))
    assert "ecom ingest orders --full" in capsys.readouterr().err
    late["orders"] = f"{O_HEAD}102,2,{T},placed,{T}\n"
    load_folder(shop, feed(**late), restamp=True)
    assert query(
        "SELECT now() - updated_at < '1 minute' FROM orders WHERE order_id = 102"
    ) == [(True,)]


def test_a_shop_with_endless_times_takes_a_feed(
    shop: Settings, feed: Feed, query: Query
) -> None:
    query("INSERT INTO products VALUES (77, 'A', 'B', 1, 'infinity')")
    assert load_folder(shop, feed()).rows == ALL


def test_the_last_file_failing_takes_the_first_back(
    shop: Settings, feed: Feed, counts: Counts
) -> None:
    with pytest.raises(DataError):
        load_folder(shop, feed(interactions=I_HEAD + "x\n"))
    assert sum(counts().values()) == 0


def test_before_init_the_fix_is_named(settings: Settings, feed: Feed) -> None:
    with pytest.raises(UsageError, match="ecom source init"):
        load_folder(settings, feed())


def test_kill_9_leaves_the_shop_as_it_was(
    shop: Settings, feed: Feed, counts: Counts, query: Query
) -> None:
    load_folder(shop, feed())
    before = counts()
    many = "".join(f"{n},1,,view,{T},{S},m,{T}\n" for n in range(10_000, 900_000))
    empty = {name: GOOD[name].partition("\n")[0] + "\n" for name in ALL}
    folder = feed(**{**empty, "interactions": I_HEAD + many})
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "source", "load-csv", str(folder)],
        cwd=PROJECT,
        env={**os.environ, "ECOM_SOURCE_DSN": str(shop.source_dsn)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(400):
            if query(
                "SELECT count(*) FROM pg_stat_progress_copy WHERE tuples_processed > 0"
            )[0][0]:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("the load never began")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert counts() == before


# Text that CSV must carry whole; PostgreSQL's text has no NUL, and a lone carriage
# return is allowed inside quotes only.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@effort(deadline=None, max_examples=150)
@given(rows=st.lists(st.tuples(CELLS, CELLS), max_size=30), chunk=st.integers(1, 200))
def test_any_well_formed_csv_comes_back_with_its_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], chunk: int
) -> None:
    path = tmp_path_factory.mktemp("csv") / "any.csv"
    expected, lines, text = [], [], "a,b\n"
    for left, right in rows:
        lines.append(text.count("\n") + 1)
        text += (
            ",".join('"' + cell.replace('"', '""') + '"' for cell in (left, right))
            + "\n"
        )
        expected.append((left or None, right or None))
    path.write_bytes(text.encode())
    size, csv_records.CHUNK = csv_records.CHUNK, chunk
    try:
        file = CsvFile(path)
        found, found_lines = [], []
        for records in file.records():
            placed = file.lines_of(records)
            assert placed.rejects == []
            found += list(
                zip(*(placed.table[name].to_pylist() for name in "ab"), strict=True)
            )
            found_lines += [placed.line(n) for n in range(placed.table.num_rows)]
        file.close()
    finally:
        csv_records.CHUNK = size
    assert found == expected
    assert found_lines == lines


@effort(deadline=None, max_examples=150)
@given(
    data=st.binary(max_size=300) | st.text('ab,"\n\r1', max_size=120).map(str.encode),
    chunk=st.integers(1, 64),
)
def test_no_bytes_break_the_reader(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, chunk: int
) -> None:
    """Every line ends up in a row, a reject or an error that names the file."""
    path = tmp_path_factory.mktemp("csv") / "any.csv"
    path.write_bytes(b"a,b\n" + data)
    size, csv_records.CHUNK = csv_records.CHUNK, chunk
    try:
        file = CsvFile(path)
        for records in file.records():
            placed = file.lines_of(records)
            assert placed.table.num_columns == 2
        file.close()
    except EcomError:
        return
    finally:
        csv_records.CHUNK = size
