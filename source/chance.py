"""Chance that is the same everywhere: Philox counters and exact arithmetic.

Only raw Philox words are used (their values are guaranteed; numpy's distributions
are not), and only operations that IEEE 754 rounds exactly, so that a seed gives the
same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Words: TypeAlias = npt.NDArray[np.uint64]
Ints: TypeAlias = npt.NDArray[np.int64]
Array: TypeAlias = npt.NDArray[Any]


def words(seed: int, stream: int, block: int, count: int) -> Words:
    """`count` random 64-bit words of one stream and block.

    Args:
        seed: the user's seed; any integer, taken modulo 2**64.
        stream: which use of chance this is; each has its own number.
        block: which block of fixed logical size.
        count: how many; the first words do not depend on it.
    """
    key = np.array([seed % 2**64, stream], dtype=np.uint64)
    counter = np.array([0, 0, 0, block], dtype=np.uint64)
    drawn: Words = np.random.Philox(key=key, counter=counter).random_raw(count)
    return drawn


def bits(source: Words, low: int, count: int) -> Ints:
    """`count` bits of each word from bit `low` on, as whole numbers."""
    mask = np.uint64((1 << count) - 1)
    return ((source >> np.uint64(low)) & mask).astype(np.int64)


def below(source: Words, bound: int, low: int = 32) -> Ints:
    """Whole numbers in [0, bound) from 32 bits of each word; bound up to 2**31."""
    part = (source >> np.uint64(low)) & np.uint64(0xFFFFFFFF)
    return ((part * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)


def unit(source: Words) -> npt.NDArray[np.float64]:
    """Fractions in [0, 1) from the upper 53 bits of each word."""
    return (source >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mix(source: Words) -> Words:
    """Other words, one for each: the finaliser of SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        state = source + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


class Picker:
    """Draws indexes in proportion to weights, by inverse cumulative weight."""

    def __init__(self, weights: Sequence[float] | Array) -> None:
        self._edges = np.cumsum(np.asarray(weights, dtype=np.float64))
        self.total = float(self._edges[-1])

    def pick(self, source: Words) -> Ints:
        """One index for each word."""
        found = np.searchsorted(self._edges, unit(source) * self.total, side="right")
        return np.minimum(found, len(self._edges) - 1)


class Table:
    """Draws indexes from 16 bits by a table: fast, to one part in 65,536."""

    def __init__(self, weights: Sequence[float] | Array) -> None:
        edges = np.cumsum(np.asarray(weights, dtype=np.float64))
        steps = (np.arange(65536) + 0.5) * (edges[-1] / 65536)
        self._found = np.minimum(
            np.searchsorted(edges, steps, side="right"), len(edges) - 1
        ).astype(np.int64)

    def pick(self, source: Words, low: int = 0) -> Ints:
        """One index for each word, from its 16 bits at `low`."""
        found: Ints = self._found[bits(source, low, 16)]
        return found
