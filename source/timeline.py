"""When things happen in the shop: days, hours, and how busy each is."""

from __future__ import annotations

import datetime as dt

import numpy as np
import numpy.typing as npt

from common.errors import UsageError
from source import story
from source.chance import Ints

DAY = 86_400_000_000
HOUR = 3_600_000_000
EPOCH = dt.date(1970, 1, 1)
FIRST_DAY, LAST_DAY = dt.date(2023, 1, 1), dt.date(2024, 10, 15)


def parse_day(text: str) -> dt.date:
    """A day written YYYY-MM-DD.

    Raises:
        UsageError: it is not one.
    """
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"Reading the day {text!r}: it is not a day of the calendar",
            "write it as YYYY-MM-DD, for example 2024-10-15",
        ) from None


def parse_days(text: str) -> tuple[dt.date, dt.date]:
    """First and last day, both inclusive, written `A:B`.

    Raises:
        UsageError: it is not two days, or the last is before the first.
    """
    first, colon, last = text.partition(":")
    if not colon:
        raise UsageError(
            f"Reading --days {text!r}: a range is two days with a colon between",
            "write it as 2023-01-01:2024-10-15",
        )
    days = parse_day(first), parse_day(last)
    if days[1] < days[0]:
        raise UsageError(
            f"Reading --days {text!r}: the last day is before the first",
            "write the earlier day first",
        )
    return days


def micros(day: dt.date) -> int:
    """Microseconds from 1970 to the start of a day, UTC."""
    return (day - EPOCH).days * DAY


class Timeline:
    """The days from `first` to `last`, each hour with its weight of traffic.

    Attributes:
        start, end: microseconds since 1970; the end is exclusive.
    """

    def __init__(self, first: dt.date, last: dt.date) -> None:
        self.start, self.end = micros(first), micros(last) + DAY
        days = np.arange((last - first).days + 1)
        self.months = np.array(
            [(first + dt.timedelta(int(day))).month - 1 for day in days]
        )
        weekdays = (days + first.weekday()) % 7
        weight = (
            (story.DOUBLING_DAYS + days)
            * np.array(story.MONTHS)[self.months]
            * np.array(story.WEEKDAYS)[weekdays]
        )
        hours = (weight[:, None] * np.array(story.HOURS)).ravel()
        self._weights = hours.astype(np.float64)
        self._edges = np.cumsum(self._weights)

    def at(self, shares: npt.NDArray[np.float64]) -> Ints:
        """The moments by which these shares (0 to 1) of all traffic has passed."""
        passed = shares * self._edges[-1]
        hour = np.searchsorted(self._edges, passed, side="right")
        hour = np.minimum(hour, len(self._edges) - 1)
        before = self._edges[hour] - self._weights[hour]
        part = np.clip((passed - before) / self._weights[hour], 0.0, 1.0)
        within = np.minimum((part * HOUR).astype(np.int64), HOUR - 1)
        return np.asarray(self.start + hour * HOUR + within, dtype=np.int64)

    def weights_by_day(self) -> npt.NDArray[np.float64]:
        """The traffic of each day, in no unit: to be compared with each other."""
        return np.asarray(self._weights.reshape(-1, len(story.HOURS)).sum(axis=1))

    def month(self, moments: Ints) -> Ints:
        """Month of each moment, 0 = January."""
        found: Ints = self.months[(moments - self.start) // DAY]
        return found
