"""CSV files as records with their line numbers, fast where the file is plain.

A file is cut into chunks at the ends of records. A chunk that is well formed is
parsed by Arrow; any other is read record by record, so that each bad one is
found, named and left out without harm to its neighbours.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from common.errors import DataError
from source.arrow import array, compute

CHUNK = 8 << 20
LONGEST_RECORD = 1 << 20
LONGEST_SHOWN = 200
QUOTE, COMMA, NEWLINE, RETURN = b'",\n\r'
BOM = b"\xef\xbb\xbf"
OTHER_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}

_INSIDE = rb'[^"]*(?:""[^"]*)*'
_FIELD = rb'(?:"' + _INSIDE + rb'"|[^",\r\n]*)'
_MORE = rb"(?:," + _FIELD + rb")*"
RECORD = re.compile(_FIELD + _MORE + rb"(?:\r?\n)?")
OPEN_RECORD = re.compile(rb"(?:" + _FIELD + rb',)*"' + _INSIDE)
# A later line of a record whose quote is open: it closes it, or leaves one open.
REST = re.compile(_INSIDE + rb'"' + _MORE + rb"(?:\r?\n)?")
OPEN_REST = re.compile(_INSIDE + rb'(?:"' + _MORE + rb',"' + _INSIDE + rb")?")
OPEN, UNCLOSED, BROKEN = 0, -1, -2

BROKEN_QUOTES = "quotes or carriage returns inside an unquoted value"
NEVER_CLOSED = "a quote is never closed, or not within 1 MiB"
TOO_LONG = "longer than 1 MiB"


@dataclass(frozen=True)
class Reject:
    """One row that is not loaded: where it is, and why.

    Attributes:
        file: name of the CSV file.
        line: first line of the row, the header being line 1.
        column: the column at fault, or empty where the whole row is.
        value: what stood there, cut to a readable length.
        reason: why it is refused.
    """

    file: str
    line: int
    column: str
    value: str
    reason: str


@dataclass
class Records:
    """Some records of one file.

    Attributes:
        table: one string column for each of the header's, empty values null.
        lines: the line of each row, or None where they follow one another.
        first_line: the first row's line.
        rejects: rows that are no records.
    """

    table: pa.Table
    lines: list[int] | None
    first_line: int
    rejects: list[Reject] = field(default_factory=list)
    raw: bytes = b""

    def line(self, row: int) -> int:
        """The line of a row."""
        if self.lines is None:
            return self.first_line + row
        return self.lines[row]


class CsvFile:
    """One CSV file, plain or gzip.

    Attributes:
        path: the file.
        name: for messages.
        header: column names, in the file's order.

    Raises:
        DataError: the file as a whole cannot be read; nothing of it is loaded.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self._file = self._open()
        self._held = b""
        self._line = 1
        self._ended = False
        self.header = self._read_header()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def records(self) -> Iterator[Records]:
        """All records after the header, chunk by chunk.

        Raises:
            DataError: the file cannot be read to its end.
        """
        while True:
            buffer = self._held + self._read(CHUNK)
            if not buffer:
                return
            cut = 0
            if self._quotes_are_plain(buffer):
                cut = len(buffer) if self._ended else _last_record_end(buffer)
            if cut and not (self._ended and buffer.count(b'"') % 2):
                self._held = buffer[cut:]
                yield self._parse(buffer[:cut])
            else:
                yield self._line_by_line(buffer)

    def lines_of(self, chunk: Records) -> Records:
        """The chunk with the line of each row, also where values span lines."""
        expected = chunk.raw.count(b"\n") + (not chunk.raw.endswith(b"\n"))
        if chunk.lines is not None or chunk.table.num_rows == expected:
            return chunk
        return self._careful(chunk.raw, chunk.first_line)

    def _open(self) -> IO[bytes]:
        try:
            if self.path.suffix == ".gz":
                return cast("IO[bytes]", gzip.open(self.path, "rb"))
            return self.path.open("rb")
        except OSError as error:
            raise self._failure(error.strerror or "it cannot be opened") from None

    def _read(self, size: int) -> bytes:
        if self._ended:
            return b""
        data = self._guarded(lambda: self._file.read(size))
        self._ended = len(data) < size
        return data

    def _read_line(self) -> bytes:
        return self._guarded(lambda: self._file.readline(LONGEST_RECORD))

    def _guarded(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise self._failure(
                "it is not a whole gzip file", "send it again, or unpack it"
            ) from None
        except OSError as error:
            raise self._failure(error.strerror or "it cannot be read") from None

    def _read_header(self) -> list[str]:
        line = self._read_line().removeprefix(BOM)
        for mark, encoding in OTHER_BOMS.items():
            if line.startswith(mark):
                raise self._failure(f"it is {encoding}", "save it as UTF-8")
        if not line.strip():
            raise self._failure(
                "it is empty or begins with a blank line, and has no header",
                "for a feed without rows write the header line alone",
            )
        self._line = 2
        line = line.rstrip(b"\n").removesuffix(b"\r")
        if b"\r" in line:
            raise self._failure(
                "its lines end in a lone carriage return", "save it with LF or CRLF"
            )
        try:
            text = line.decode("utf-8")
            return next(csv.reader([text], strict=True), [])
        except (UnicodeDecodeError, csv.Error):
            raise self._failure(
                "its header is not one line of UTF-8 CSV",
                "save it as UTF-8 with commas",
            ) from None

    def _failure(self, what: str, fix: str = "send the file again") -> DataError:
        return DataError(f"Reading {self.path}: {what}", fix)

    def _quotes_are_plain(self, buffer: bytes) -> bool:
        """Whether every quote opens or closes a value, or is a doubled one."""
        if b'"' not in buffer:
            return True
        data = np.frombuffer(buffer, dtype=np.uint8)
        at = np.flatnonzero(data == QUOTE)
        opens, closes = at[0::2], at[1::2]
        before = data[np.maximum(opens - 1, 0)]
        opening = (opens == 0) | np.isin(before, (COMMA, NEWLINE, QUOTE))
        after = data[np.minimum(closes + 1, len(data) - 1)]
        last = closes == len(data) - 1
        closing = last | np.isin(after, (COMMA, NEWLINE, RETURN, QUOTE))
        return bool(opening.all() and closing.all())

    def _parse(self, raw: bytes) -> Records:
        first, self._line = self._line, self._line + raw.count(b"\n")
        # Arrow takes a lone carriage return for the end of a line.
        if b"\x00" in raw or raw.count(b"\r") != raw.count(b"\r\n"):
            return self._careful(raw, first)
        try:
            table = pacsv.read_csv(
                cast("IO[bytes]", pa.BufferReader(raw)),
                read_options=pacsv.ReadOptions(
                    column_names=self.header, block_size=len(raw) + 1, use_threads=False
                ),
                parse_options=pacsv.ParseOptions(
                    newlines_in_values=b'"' in raw, ignore_empty_lines=True
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types={name: pa.string() for name in self.header},
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            return self._careful(raw, first)
        if len(raw) > LONGEST_RECORD and _longest(table) > LONGEST_RECORD:
            return self._careful(raw, first)
        return Records(table.combine_chunks(), None, first, raw=raw)

    def _careful(self, raw: bytes, first: int) -> Records:
        found, _ = self._one_by_one(raw, first, is_end=True)
        return _gathered(self.header, found, first)

    def _line_by_line(self, buffer: bytes) -> Records:
        """The records of a chunk that holds bad ones; an open one waits for more."""
        first = self._line
        cut = len(buffer) if self._ended else buffer.rfind(b"\n") + 1
        if not cut and len(buffer) > LONGEST_RECORD:
            self._held = self._after_this_line()
            self._line += 1
            bad = self._reject(first, buffer[:LONGEST_RECORD], TOO_LONG)
            return _gathered(self.header, [(first, bad)], first)
        found, waiting = self._one_by_one(buffer[:cut], first, is_end=self._ended)
        self._held = waiting + buffer[cut:]
        self._line += buffer[:cut].count(b"\n") - waiting.count(b"\n")
        return _gathered(self.header, found, first)

    def _after_this_line(self) -> bytes:
        """What follows the line under way, which is read and thrown away."""
        while piece := self._read(CHUNK):
            _, newline, rest = piece.partition(b"\n")
            if newline:
                return rest
        return b""

    def _one_by_one(
        self, raw: bytes, first: int, is_end: bool
    ) -> tuple[list[tuple[int, list[str] | Reject]], bytes]:
        """Each record, or the reject that stands for it, with its line.

        Returns:
            The records, and the lines of one that is open where more is to come.
        """
        found: list[tuple[int, list[str] | Reject]] = []
        lines = io.BytesIO(raw).readlines()
        at = 0
        while at < len(lines):
            size = _lines_of_record(lines, at)
            if size == OPEN and not is_end:
                return found, b"".join(lines[at:])
            record = b"".join(lines[at : at + max(size, 1)])
            line, at = first + at, at + max(size, 1)
            if size < 1:
                # Only its first line is to blame: the others get their chance.
                reason = BROKEN_QUOTES if size == BROKEN else NEVER_CLOSED
                found.append((line, self._reject(line, record, reason)))
            elif len(record) > LONGEST_RECORD:
                found.append((line, self._reject(line, record, TOO_LONG)))
            elif record.strip(b"\r\n"):
                found.append((line, self._record(line, record)))
        return found, b""

    def _record(self, line: int, raw: bytes) -> list[str] | Reject:
        text, is_flawed = _decode(raw)
        if is_flawed:
            return self._reject(line, raw, "it is not UTF-8")
        if "\x00" in text:
            return self._reject(line, raw, "it holds a NUL character")
        cells = next(csv.reader(io.StringIO(text, newline=""), strict=True))
        if len(cells) != len(self.header):
            reason = f"{len(cells)} values, and the header has {len(self.header)}"
            return self._reject(line, raw, reason)
        return cells

    def _reject(self, line: int, raw: bytes, reason: str) -> Reject:
        return Reject(self.name, line, "", shown(_decode(raw)[0].strip("\r\n")), reason)


def _lines_of_record(lines: list[bytes], at: int) -> int:
    """How many lines the record takes that begins at a line.

    Returns:
        The number, or BROKEN, UNCLOSED, or OPEN where the lines end inside a quote.
    """
    if RECORD.fullmatch(lines[at]):
        return 1
    if not OPEN_RECORD.fullmatch(lines[at]):
        return BROKEN
    length = 0
    for last in range(at, len(lines)):
        length += len(lines[last])
        if last > at and REST.fullmatch(lines[last]):
            return last - at + 1
        if length > LONGEST_RECORD:
            return UNCLOSED
        if last > at and not OPEN_REST.fullmatch(lines[last]):
            return UNCLOSED
    return OPEN


def _longest(table: pa.Table) -> int:
    """No row of the file can be longer, in bytes; most are much shorter."""
    widest = [compute.max(compute.binary_length(one)).as_py() for one in table.columns]
    # Each byte may be a doubled quote; two quotes and a comma surround a value.
    return sum(2 * (width or 0) + 3 for width in widest)


def shown(value: str) -> str:
    """A value as a message shows it: one line, at most `LONGEST_SHOWN` characters."""
    flat = "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode()
        for one in value[: LONGEST_SHOWN + 1]
    )
    return flat if len(flat) <= LONGEST_SHOWN else flat[: LONGEST_SHOWN - 1] + "…"


def _decode(raw: bytes) -> tuple[str, bool]:
    """Text of bytes, and whether they were not UTF-8."""
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace"), True


def _last_record_end(buffer: bytes) -> int:
    """Where the last whole record ends; 0 where none does."""
    odd = buffer.count(b'"') % 2
    end = len(buffer)
    for _ in range(1000):
        newline = buffer.rfind(b"\n", 0, end)
        if newline < 0:
            return 0
        if buffer.count(b'"', newline) % 2 == odd:
            return newline + 1
        end = newline
    data = np.frombuffer(buffer, dtype=np.uint8)
    inside = np.cumsum(data == QUOTE) & 1
    ends = np.flatnonzero((data == NEWLINE) & (inside == 0))
    return int(ends[-1]) + 1 if len(ends) else 0


def _gathered(
    header: list[str], found: list[tuple[int, list[str] | Reject]], first: int
) -> Records:
    rows = [(line, one) for line, one in found if not isinstance(one, Reject)]
    cells = [one for _, one in rows]
    columns = [
        array([row[index] or None for row in cells], pa.string())
        for index in range(len(header))
    ]
    return Records(
        table=pa.table(columns, names=header),
        lines=[line for line, _ in rows],
        first_line=first,
        rejects=[one for _, one in found if isinstance(one, Reject)],
    )
