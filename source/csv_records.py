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
from source.arrow import array

CHUNK = 8 << 20
CAREFUL_ROWS = 20_000
LONGEST_RECORD = 1 << 20
LONGEST_SHOWN = 200
QUOTE, COMMA, NEWLINE, RETURN = b'",\n\r'
BOM = b"\xef\xbb\xbf"
OTHER_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}

_FIELD = r'(?:"[^"]*(?:""[^"]*)*"|[^",\r\n]*)'
RECORD = re.compile(rf"{_FIELD}(?:,{_FIELD})*(?:\r?\n)?")
OPEN_RECORD = re.compile(rf'(?:{_FIELD},)*"[^"]*(?:""[^"]*)*')


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
            if not self._quotes_are_plain(buffer):
                self._held = buffer
                yield from self._careful_to_the_end()
                return
            cut = len(buffer) if self._ended else _last_record_end(buffer)
            if self._ended and buffer.count(b'"') % 2:
                self._held = buffer
                yield from self._careful_to_the_end()
                return
            self._held = buffer[cut:]
            if not cut:
                if len(buffer) > 4 * CHUNK:
                    yield from self._careful_to_the_end()
                    return
                continue
            yield self._parse(buffer[:cut])

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
        if b"\x00" in raw:
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
        return Records(table.combine_chunks(), None, first, raw=raw)

    def _careful(self, raw: bytes, first: int) -> Records:
        found = list(self._one_by_one(io.BytesIO(raw), first))
        return _gathered(self.header, found, first)

    def _careful_to_the_end(self) -> Iterator[Records]:
        first, found = self._line, []
        stream = _Joined(self._held, self)
        self._held = b""
        for one in self._one_by_one(stream, first):
            found.append(one)
            if len(found) >= CAREFUL_ROWS:
                yield _gathered(self.header, found, first)
                found = []
        yield _gathered(self.header, found, first)

    def _one_by_one(
        self, stream: io.BytesIO | _Joined, first: int
    ) -> Iterator[tuple[int, list[str] | Reject]]:
        """Each record, or the reject that stands for it, with its line."""
        waiting: list[bytes] = []
        begun, number = first, first - 1
        queue: list[bytes] = []
        while True:
            line = queue.pop(0) if queue else stream.readline()
            if not line:
                if not waiting:
                    return
                # Never closed: the first line is to blame, the others get their chance.
                yield begun, self._reject(begun, waiting[0], "a quote is never closed")
                queue, waiting, number = waiting[1:], [], begun
                continue
            number += 1
            if not waiting:
                begun = number
            waiting.append(line)
            whole = b"".join(waiting)
            text, flawed = _decode(whole)
            if RECORD.fullmatch(text):
                waiting = []
                if text.strip("\r\n"):
                    yield begun, self._record(begun, text, flawed)
            elif OPEN_RECORD.fullmatch(text) and len(whole) < LONGEST_RECORD:
                continue
            elif len(waiting) > 1:
                yield begun, self._reject(begun, waiting[0], "a quote is never closed")
                queue, waiting, number = waiting[1:] + queue, [], begun
            else:
                waiting = []
                reason = "quotes or carriage returns inside an unquoted value"
                yield begun, self._reject(begun, whole, reason)

    def _record(self, line: int, text: str, flawed: bool) -> list[str] | Reject:
        cells = next(csv.reader(io.StringIO(text, newline=""), strict=True))
        if flawed:
            return self._reject(
                line, text.encode("utf-8", "replace"), "it is not UTF-8"
            )
        if "\x00" in text:
            return self._reject(line, text.encode(), "it holds a NUL character")
        if len(cells) != len(self.header):
            reason = f"{len(cells)} values, and the header has {len(self.header)}"
            return self._reject(line, text.encode(), reason)
        return cells

    def _reject(self, line: int, raw: bytes, reason: str) -> Reject:
        return Reject(self.name, line, "", shown(_decode(raw)[0].strip("\r\n")), reason)


class _Joined:
    """Lines of what is held already, then of the rest of the file."""

    def __init__(self, held: bytes, file: CsvFile) -> None:
        self._held, self._file, self._at = held, file, 0

    def readline(self) -> bytes:
        while True:
            end = self._held.find(b"\n", self._at)
            if end >= 0:
                line = self._held[self._at : end + 1]
                self._at = end + 1
                return line
            more = self._file._read(CHUNK)
            if not more:
                line, self._held, self._at = self._held[self._at :], b"", 0
                return line
            self._held, self._at = self._held[self._at :] + more, 0


def shown(value: str) -> str:
    """A value as a message shows it: one line, at most `LONGEST_SHOWN` characters."""
    flat = value.replace("\x00", "\\0").replace("\r", "\\r").replace("\n", "\\n")
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
