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
MIB = csv_records.LONGEST_RECORD - 100


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
    "largest and least keys": (
        "products",
        f"{P_HEAD}{2**63 - 1},A,B,1,{T}\n{-(2**63)},A,B,1,{T}\n",
        2,
    ),
    "row of nearly a mebibyte": ("products", f"{P_HEAD}1,{'A' * MIB},B,1,{T}\n", 1),
    "long quoted value over lines": (
        "products",
        f'{P_HEAD}1,"{"A,b" * 100_000}\n",B,1,{T}\n2,A,B,1,{T}\n',
        2,
    ),
    "quoted carriage return": ("products", f'{P_HEAD}1,"A\rA",B,1,{T}\n', 1),
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
    "NUL character": ("products", f"{P_HEAD}1,A\x00,B,1,{T}\n", (2, "", f"1,A\\x00,B,1,{T}", "NUL")),
    "lone carriage return": ("products", f"{P_HEAD}1,A\rA,B,1,{T}\n", (2, "", f"1,A\\rA,B,1,{T}", "carriage")),
    "carriage returns for newlines": ("products", f"{P_HEAD}1,A,B,1,{T}\r2,A,B,1,{T}\n3,A,B,1,{T}\n", (2, "", f"1,A,B,1,{T}\\r2,A,B,1,{T}", "carriage")),
    "row of a mebibyte": ("products", f"{P_HEAD}1,{'A' * MIB}{'A' * 200},B,1,{T}\n2,A,B,1,{T}\n", (2, "", f"1,{'A' * 197}…", "longer")),
    "open quote for a mebibyte": ("products", f'{P_HEAD}1,"A,B,1,{T}\n' + f"2,A,B,1,{T}\n" * 40_000, (2, "", f'1,"A,B,1,{T}', "never closed")),
    "backslash N for a number": ("products", f"{P_HEAD}1,A,B,\\N,{T}\n", (2, "price", "\\N", "not an amount")),
    "NULL for a number": ("products", f"{P_HEAD}1,A,B,NULL,{T}\n", (2, "price", "NULL", "not an amount")),
    "quoted empty number": ("products", f'{P_HEAD}1,A,B,"",{T}\n', (2, "price", "", "empty")),
    "space before a time": ("products", f"{P_HEAD}1,A,B,1, {T}\n", (2, "updated_at", f" {T}", "ISO 8601")),
    "hour 24": ("orders", f"{O_HEAD}1,1,2023-01-01T24:00:00Z,paid,{T}\n", (2, "ordered_at", "2023-01-01T24:00:00Z", "no such time")),
    "second 60": ("orders", f"{O_HEAD}1,1,2016-12-31T23:59:60Z,paid,{T}\n", (2, "ordered_at", "2016-12-31T23:59:60Z", "no such time")),
    "line number zero": ("order_items", f"{L_HEAD}1,0,1,1,1,{T}\n", (2, "line_number", "0", "below 1")),
    "escape sequence": ("orders", f"{O_HEAD}1,1,{T},\x1b[31mred,{T}\n", (2, "status", "\\x1b[31mred", "not one of")),
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
    "blank first line": ("orders", "\n" + O_HEAD, DataError, "blank line"),
    "tabs": ("orders", O_HEAD.replace(",", "\t"), DataError, "commas"),
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


def test_a_gzip_bomb_and_an_endless_line_cost_little(
    tmp_path: Path,
) -> None:
    """A gigabyte without a newline, and rows after it: read flat, counted rightly."""
    path = tmp_path / "products.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(f"{P_HEAD}1,A,B,1,{T}\n".encode())
        for _ in range(125):
            file.write(b"0" * (8 << 20))
        file.write(f"\n2,A,B,1,{T}\n".encode())
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from source.csv_records import CsvFile\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "file = CsvFile(Path(sys.argv[1]))\n"
        "for one in file.records():\n"
        "    one = file.lines_of(one)\n"
        "    rows = range(one.table.num_rows)\n"
        "    print(*(one.line(n) for n in rows), *(r.line for r in one.rejects))\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base\n"
        "print(grown // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    *lines, grown = done.stdout.split()
    assert sorted(lines) == ["2", "3", "4"]
    assert int(grown) < 150


def test_one_bad_quote_leaves_the_rest_of_a_large_file_quick(tmp_path: Path) -> None:
    path = tmp_path / "products.csv"
    good = f"7,Crème brûlée,Grocery,12.50,{T}\n"
    rows = 1_000_000
    path.write_text(f'{P_HEAD}1,"never closed,B,1,{T}\n' + good * rows)
    began = time.process_time()
    file, found, rejects = CsvFile(path), 0, []
    for records in file.records():
        found += records.table.num_rows
        rejects += records.rejects
    file.close()
    assert (found, [one.line for one in rejects]) == (rows, [2])
    assert time.process_time() - began < 20


def test_links_are_followed_and_other_things_refused(
    shop: Settings, feed: Feed, counts: Counts
) -> None:
    folder = feed()
    orders = folder / "orders.csv"
    orders.rename(folder / "elsewhere")
    orders.mkdir()
    with pytest.raises(UsageError, match="folder, a pipe"):
        load_folder(shop, folder)
    orders.rmdir()
    os.mkfifo(orders)
    with pytest.raises(UsageError, match="folder, a pipe"):
        load_folder(shop, folder)
    orders.unlink()
    orders.symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"orders\.csv not found"):
        load_folder(shop, folder)
    orders.unlink()
    orders.symlink_to("elsewhere")
    load_folder(shop, folder)
    assert counts() == ALL


def test_a_file_that_may_not_be_read_is_named(feed: Feed) -> None:
    path = feed() / "orders.csv"
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(DataError, match="Permission denied"):
            CsvFile(path)
    finally:
        os.seteuid(user)


def test_tables_without_their_key_take_no_feed(
    shop: Settings, feed: Feed, query: Query
) -> None:
    """Without it PostgreSQL would take a key twice."""
    query("ALTER TABLE orders DROP CONSTRAINT orders_pkey")
    with pytest.raises(UsageError, match="ecom source init"):
        load_folder(shop, feed())


def test_the_planner_knows_what_was_loaded(
    shop: Settings, feed: Feed, query: Query
) -> None:
    load_folder(shop, feed())
    assert query(
        "SELECT reltuples FROM pg_class WHERE oid = 'interactions'::regclass"
    ) == [(2,)]


def test_what_a_spreadsheet_would_compute_is_made_harmless(
    shop: Settings, feed: Feed, tmp_path: Path
) -> None:
    values = ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", "-7.50", "+7"]
    rows = "".join(f"{n},A,B,{value},{T}\n" for n, value in enumerate(values))
    load_folder(shop, feed(products=P_HEAD + rows), tmp_path / "rejects.csv")
    with (tmp_path / "rejects.csv").open(encoding="utf-8", newline="") as file:
        written = [row["value"] for row in csv.DictReader(file)]
    assert written == [
        "'=1+1",
        "'@SUM(A1)",
        "'+cmd|' /C calc'!A0",
        "'-2+3",
        "-7.50",
        "+7",
    ]


def test_rejects_overwrite_nothing_that_matters(
    shop: Settings, feed: Feed, counts: Counts, tmp_path: Path
) -> None:
    folder = feed(products=f"{P_HEAD}1,A,B,x,{T}\n")
    before = (folder / "orders.csv").read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for wrong in (folder / "orders.csv", folder, Path("/dev/null"), pipe):
        with pytest.raises(UsageError):
            load_folder(shop, folder, wrong)
    assert (folder / "orders.csv").read_bytes() == before
    assert Path("/dev/null").is_char_device()
    assert sum(counts().values()) == 0


def test_a_full_disk_for_the_rejects_loads_nothing(
    shop: Settings, feed: Feed, counts: Counts, tmp_path: Path
) -> None:
    rows = "".join(f"{n},A,B,x,{T}\n" for n in range(5000))
    folder = feed(products=P_HEAD + rows)
    program = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from cli.main import main\n"
        "main()\n"
    )
    rejects = tmp_path / "rejects.csv"
    done = subprocess.run(
        [sys.executable, "-c", program, "source", "load-csv", str(folder),
         "--rejects", str(rejects)],
        cwd=PROJECT, capture_output=True, text=True, check=False,
        env={**os.environ, "ECOM_SOURCE_DSN": str(shop.source_dsn)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Writing the rejected rows" in done.stderr
    assert "Traceback" not in done.stderr
    assert sum(counts().values()) == 0
    assert list(tmp_path.glob("*rejects*")) == []


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


# Each row of the table in docs/source.md, and the cases or tests that hold it.
DOCUMENTED = {
    "UTF-8, with or without byte order mark": ("bom", "quoted everything"),
    "UTF-16, or a header that is not UTF-8": ("UTF-16", "Latin-1 header"),
    "a row that is not UTF-8, or holds a NUL character": ("not UTF-8", "NUL character"),
    "LF or CRLF, last line with or without": ("crlf", "no newline at the end"),
    "lone carriage returns as line ends": (
        "old line ends", "lone carriage return", "carriage returns for newlines",
        "quoted carriage return",
    ),
    "gzip": (
        "test_a_feed_may_be_gzip_and_in_any_column_order",
        "test_half_a_gzip_file_is_refused", "test_a_file_that_is_no_gzip_is_refused",
        "test_a_gzip_bomb_and_an_endless_line_cost_little",
    ),
    "no file for a table; both `.csv` and `.csv.gz`; a folder, pipe or device of the name": (
        "test_missing_files_and_folders_are_named",
        "test_links_are_followed_and_other_things_refused",
    ),
    "a link to a file": ("test_links_are_followed_and_other_things_refused",),
    "a file that may not be read": ("test_a_file_that_may_not_be_read_is_named",),
    "empty file, or a blank first line": ("empty file", "blank file", "blank first line"),
    "header alone": ("header alone", "header alone, no newline"),
    "columns in another order": ("test_a_feed_may_be_gzip_and_in_any_column_order",),
    "a column missing, unknown, twice, or spelt otherwise": (
        "missing column", "extra column", "column twice", "capital letters", "no header",
    ),
    "semicolons or tabs": ("semicolons", "tabs"),
    "blank lines": ("blank lines",),
    "too few or too many values in a row": ("too few values", "too many values"),
    "quoted values, doubled quotes, commas and newlines inside quotes": (
        "embedded newline", "embedded comma and quote", "quoted header",
        "bad row after a long value", "long quoted value over lines",
    ),
    "a quote inside an unquoted value, text after a closing quote": (
        "stray quote", "two stray quotes", "text after a quote",
    ),
    "a quote that is never closed, or not within 1 MiB": (
        "open quote", "open quote for a mebibyte",
    ),
    "a row longer than 1 MiB": ("row of a mebibyte", "row of nearly a mebibyte"),
    "empty value, quoted or not": (
        "quoted empty is empty", "empty name", "empty key", "empty time",
        "quoted empty number",
    ),
    "`NULL`, `NA`, `\\N`": (
        "the word NULL is a name", "NULL for a number", "backslash N for a number",
    ),
    "spaces": ("spaces kept", "key with a space", "space before a time"),
    "`1,50`, `£1`, `1e2`, `0x1F`, `NaN`, `1.0` for a whole number": (
        "comma in an amount", "currency sign", "exponent", "hexadecimal key",
        "not a number", "decimal key",
    ),
    "more than two decimals in money": ("three decimals", "trailing zeros"),
    "a number too large for its column; price below 0; quantity or line below 1": (
        "key too large", "amount too large", "quantity too large", "price below zero",
        "quantity zero", "line number zero",
    ),
    "the largest and the least `bigint`": ("largest and least keys",),
    "tier, status or interaction type that is not one of the contract's": (
        "unknown tier", "unknown status", "unknown type",
    ),
    "a UUID that is not 8-4-4-4-12 hexadecimal digits": (
        "no UUID", "UUID with a wrong letter", "UUID without dashes",
    ),
    "key twice in a file": ("duplicate key", "duplicate double key"),
    "key that the shop has": ("test_keys_the_shop_has_are_rejected",),
    "time without offset, or in an undeclared format": (
        "naive time", "slashed time", "bare epoch", "words for a time",
        "birth date day first",
    ),
    "31 February, day 366 of 2023, hour 24, second 60, more than microseconds": (
        "31 February", "hour 24", "second 60", "nanoseconds", "born on 30 February",
    ),
    "time before 1900 or after 2199; birth or cursor in the future": (
        "year 0023", "year 9999", "recorded in the future", "born in the future",
        "born before 1900",
    ),
}  # fmt: skip


def test_every_answer_that_is_documented_is_tested() -> None:
    text = (PROJECT / "docs" / "source.md").read_text(encoding="utf-8")
    table = text.partition("### What each kind of file gets")[2].partition("\n\n###")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert {row.split(" | ")[0].removeprefix("| ") for row in rows} == set(DOCUMENTED)
    there = {*ACCEPTED, *REJECTED, *REFUSED, *globals()}
    assert {name for names in DOCUMENTED.values() for name in names} <= there
