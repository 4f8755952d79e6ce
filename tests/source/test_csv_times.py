"""Times written in many ways are read exactly, or refused; never shifted."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from common.errors import UsageError
from source.csv_formats import TimeFormats, read_formats
from source.csv_times import read_times
from source.csv_values import convert
from source.tables import CUSTOMERS, ORDERS

UTC = dt.timezone.utc
# Half hours, quarters, offsets of seconds, days skipped, clocks that changed at
# midnight, twice a year the other way round, or for a war.
ZONES = [
    "Europe/London", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC",
    "Europe/Amsterdam", "Africa/Monrovia", "Asia/Kathmandu", "Pacific/Apia",
    "Pacific/Kwajalein", "Africa/Casablanca", "America/Sao_Paulo", "Asia/Tehran",
    "Europe/Dublin", "America/St_Johns", "Antarctica/Troll", "Europe/Lisbon",
]  # fmt: skip
MOMENTS = st.datetimes(
    dt.datetime(1900, 1, 2), dt.datetime(2199, 12, 30), timezones=st.just(UTC)
)
YEAR = 366 * 86_400


@st.composite
def near_a_change(draw: st.DrawFn) -> tuple[str, dt.datetime]:
    """A zone, and a time of its clock within two hours of a change of the clock."""
    zone = ZoneInfo(draw(st.sampled_from(ZONES)))
    start = draw(MOMENTS.filter(lambda moment: moment.year < 2198))
    offset = start.astimezone(zone).utcoffset()
    low, high = 0, 2 * YEAR
    later = start + dt.timedelta(seconds=high)
    if later.astimezone(zone).utcoffset() == offset:
        high = 0
    while high - low > 1:
        middle = (low + high) // 2
        moved = start + dt.timedelta(seconds=middle)
        if moved.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    change = (start + dt.timedelta(seconds=high)).astimezone(zone)
    away = dt.timedelta(seconds=draw(st.integers(-7200, 7200)))
    return zone.key, change.replace(tzinfo=None, microsecond=0, fold=0) + away


OFFSETS = st.integers(-14 * 60, 14 * 60)
PATTERNS = [
    "%d/%m/%Y %H:%M:%S.%f",
    "%m/%d/%Y %I:%M:%S.%f %p",
    "%Y%m%dT%H%M%S.%f",
    "%d %b %Y %H:%M:%S.%f",
    "%Y-%j %H:%M:%S.%f",
]


def micros(moment: dt.datetime) -> int:
    return (moment - dt.datetime(1970, 1, 1, tzinfo=UTC)) // dt.timedelta(
        microseconds=1
    )


def read(text: str, *formats: str, zone: str | None = None) -> int | None:
    found = read_times(pa.array([text]), TimeFormats(formats or ("iso",), zone))
    return int(found.micros[0]) if found.good[0] else None


@effort(deadline=None)
@given(MOMENTS, OFFSETS, st.sampled_from(["T", " "]))
def test_iso_with_any_offset_comes_back(
    moment: dt.datetime, offset: int, mark: str
) -> None:
    zone = dt.timezone(dt.timedelta(minutes=offset))
    assert read(moment.astimezone(zone).isoformat(mark)) == micros(moment)


@effort(deadline=None, max_examples=200)
@given(MOMENTS, st.sampled_from(PATTERNS), st.sampled_from(ZONES))
def test_declared_patterns_come_back(
    moment: dt.datetime, pattern: str, zone: str
) -> None:
    """Or are refused, exactly where the zone's clock shows that time twice."""
    local = moment.astimezone(ZoneInfo(zone))
    naive = local.replace(tzinfo=None)
    twice = (
        naive.replace(tzinfo=ZoneInfo(zone), fold=0).utcoffset()
        != naive.replace(tzinfo=ZoneInfo(zone), fold=1).utcoffset()
    )
    assert read(naive.strftime(pattern), pattern, zone=zone) == (
        None if twice else micros(moment)
    )


@effort(deadline=None, max_examples=300)
@given(near_a_change())
def test_a_clock_that_changes_shifts_nothing(
    chosen: tuple[str, dt.datetime],
) -> None:
    """A time the clock showed once is read; one it skipped or showed twice is not."""
    zone, naive = chosen
    moments = {
        naive.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)
        for fold in (0, 1)
    }
    shown = [
        moment
        for moment in moments
        if moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == naive
    ]
    expected = micros(shown[0]) if len(shown) == 1 else None
    text = naive.strftime("%d/%m/%Y %H:%M:%S")
    assert read(text, "%d/%m/%Y %H:%M:%S", zone=zone) == expected


@effort(deadline=None)
@given(MOMENTS, OFFSETS)
def test_patterns_with_an_offset_come_back(moment: dt.datetime, offset: int) -> None:
    local = moment.astimezone(dt.timezone(dt.timedelta(minutes=offset)))
    pattern = "%d.%m.%Y %H:%M:%S.%f %z"
    assert read(local.strftime(pattern), pattern) == micros(moment)


@effort(deadline=None)
@given(st.integers(-(10**9), 4 * 10**9))
def test_epochs_come_back(seconds: int) -> None:
    assert read(str(seconds), "epoch_s") == seconds * 10**6
    assert read(str(seconds * 1000 + 7), "epoch_ms") == seconds * 10**6 + 7000


@effort(deadline=None)
@given(st.text(max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    for formats in (("iso",), ("%d/%m/%Y %H:%M",), ("epoch_s",), ("%Y-%m-%d", "iso")):
        read(text, *formats, zone="Europe/London")


@pytest.mark.parametrize(
    "text",
    [
        "2023-02-31T10:00:00Z", "2023-02-29 10:00:00+00", "2023-13-01T10:00:00Z",
        "2023-01-01T25:00:00Z", "2023-01-01T10:60:00Z", "2023-01-01T10:00:61Z",
        "2023-01-01T10:00:00", "2023-01-01", "01/02/2023 10:00", "1700000000", "now",
        "2023-01-01T10:00:00+25:00", "2023-01-01T10:00:00.1234567Z", "infinity", "today",
        "2023-01-01T10:00:00Zz", " 2023-01-01T10:00:00Z", "2023-1-1T10:00:00Z",
    ],
)  # fmt: skip
def test_iso_refuses(text: str) -> None:
    assert read(text) is None


def test_the_hour_that_was_skipped_is_refused() -> None:
    assert read("26/03/2023 01:30", "%d/%m/%Y %H:%M", zone="Europe/London") is None
    assert read("26/03/2023 02:30", "%d/%m/%Y %H:%M", zone="Europe/London") is not None


def test_the_hour_that_came_twice_is_refused() -> None:
    assert read("29/10/2023 01:30", "%d/%m/%Y %H:%M", zone="Europe/London") is None
    assert read("29/10/2023 02:30", "%d/%m/%Y %H:%M", zone="Europe/London") is not None


def test_formats_are_tried_in_order() -> None:
    both = ("%d/%m/%Y %H:%M", "iso")
    assert read("31/01/2023 00:00", *both, zone="UTC") == read("2023-01-31T00:00:00Z")
    assert read("2023-01-31T00:00:00Z", *both, zone="UTC") is not None


def test_day_and_month_are_never_guessed() -> None:
    both = ("%d/%m/%Y", "%m/%d/%Y")
    assert read("03/04/2023", *both, zone="UTC") is None
    assert read("13/04/2023", *both, zone="UTC") == read("2023-04-13T00:00:00Z")
    assert read("04/13/2023", *both, zone="UTC") == read("2023-04-13T00:00:00Z")
    assert read("05/05/2023", *both, zone="UTC") == read("2023-05-05T00:00:00Z")


def test_a_day_of_the_month_too_many_is_refused() -> None:
    assert read("31/02/2023", "%d/%m/%Y", zone="UTC") is None


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("2023-366", "%Y-%j"),
        ("2023-000", "%Y-%j"),
        ("2023-060x", "%Y-%j"),
        ("01/02/2023 00:00:60", "%d/%m/%Y %H:%M:%S"),
        ("31/12/2016 23:59:61", "%d/%m/%Y %H:%M:%S"),
        ("01/02/2023 24:00:00", "%d/%m/%Y %H:%M:%S"),
        ("01/02/2023 00:00:00.1234567", "%d/%m/%Y %H:%M:%S.%f"),
        ("01/02/2023 13:00 PM", "%d/%m/%Y %I:%M %p"),
        ("01/02/2023 00:30 AM", "%d/%m/%Y %I:%M %p"),
        ("2023111", "%Y%m%d"),
        ("2023-01-01 +01:00:30", "%Y-%m-%d %z"),
        ("2023-01-01 +99:00", "%Y-%m-%d %z"),
        ("01 März 2023", "%d %B %Y"),
        ("01/02/2023 ", "%d/%m/%Y"),
        ("٠١/02/2023", "%d/%m/%Y"),
        ("today", "%d/%m/%Y"),
    ],
)
def test_a_pattern_reads_nothing_near_it(text: str, pattern: str) -> None:
    """Each of these some parser takes for another moment than is written."""
    assert read(text, pattern, zone="UTC") is None


def test_a_pattern_reads_what_it_says() -> None:
    for text, pattern in (
        ("2024-366", "%Y-%j"),
        ("31/12/2024", "%d/%m/%Y"),
        ("20241231", "%Y%m%d"),
        ("December 31. 2024 12:00 am", "%B %d. %Y %I:%M %p"),
        ("100% 2024-12-31", "100%% %Y-%m-%d"),
        ("(2024) 12*31", "(%Y) %m*%d"),
    ):
        assert read(text, pattern, zone="UTC") == read("2024-12-31T00:00:00Z"), text


def test_days_have_patterns_too() -> None:
    birth = CUSTOMERS.column("birth_date")
    texts = pa.array(["28/02/1990", "30/02/1990", None, "1990-02-28"])
    found = convert(
        birth, texts, TimeFormats(("%d/%m/%Y", "iso"), None), 10**18 // 1000
    )
    assert found.good.tolist() == [True, False, True, True]
    assert found.array[0].as_py() == found.array[3].as_py() == dt.date(1990, 2, 28)


def test_one_bad_cell_spoils_no_other() -> None:
    texts = ["2023-01-01T00:00:00Z"] * 5000
    texts[777] = texts[4999] = "2023-02-30T00:00:00Z"
    found = convert(ORDERS.column("ordered_at"), pa.array(texts), TimeFormats(), 2**60)
    assert found.good.sum() == 4998
    assert not found.good[777]
    assert not found.good[4999]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("orders: [", "no YAML"),
        ("- 1", "not a mapping"),
        ("parcels: {sent_at: [iso]}", "no table"),
        ("orders: {sent_at: [iso]}", "no column"),
        ("orders: {status: [iso]}", "no time"),
        ("orders: {ordered_at: []}", "no list"),
        ("orders: {ordered_at: [sometimes]}", "neither"),
        ("orders: {ordered_at: ['%d/%m/%y %z']}", "century"),
        ("orders: {ordered_at: ['%d/%m/%Y %H:%M']}", "no timezone"),
        ("orders: {ordered_at: ['%H:%M %z']}", "lacks"),
        ("orders: {ordered_at: ['%Y-%m-%d %I:%M %z']}", "half of the day"),
        ("orders: {ordered_at: ['%Y-%m-%d %Z']}", "not supported"),
        ("orders: {ordered_at: ['%Y-%m-%d %H:%M %z %']}", "not supported"),
        ("orders: {ordered_at: ['%Y-%m-%d %d %z']}", "%d twice"),
        ("orders: {ordered_at: ['%Y-%j %m %z']}", "both %j and %m"),
        ("orders: {ordered_at: ['%Y-%m-%d %H:%M %p %z']}", "both %H and %p"),
        ("timezone: [1]", "not known"),
        ("orders: {ordered_at: [1]}", "not text"),
        ("orders: {ordered_at: [epoch_s, epoch_ms]}", "guessed"),
        ("timezone: Mars/Olympus\norders: {ordered_at: [iso]}", "not known"),
        ("orders: {ordered_at: {formats: [iso], zone: UTC}}", "unknown field"),
        ("customers: {birth_date: [epoch_s]}", "column is a day"),
    ],
)
def test_formats_yml_refuses_what_cannot_be(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "formats.yml").write_text(text)
    with pytest.raises(UsageError, match=says):
        read_formats(tmp_path)


def test_formats_yml_is_read(tmp_path: Path) -> None:
    (tmp_path / "formats.yml").write_text(
        "timezone: Europe/Paris\n"
        "orders:\n  ordered_at: ['%d/%m/%Y %H:%M', iso]\n"
        "interactions.csv:\n  occurred_at: {formats: epoch_ms}\n"
        "  recorded_at: {formats: ['%Y-%m-%d %H:%M:%S'], timezone: UTC}\n"
    )
    found = read_formats(tmp_path)
    assert found["orders", "ordered_at"].zone == "Europe/Paris"
    assert found["interactions", "occurred_at"].formats == ("epoch_ms",)
    assert found["interactions", "recorded_at"].zone == "UTC"
