"""Customers: who they are, as arrays; and the rows of the table."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import gcd
from typing import Any

import numpy as np
import pyarrow as pa

from source import story
from source.arrow import ArrowArray, array, compute
from source.chance import Array, Ints, Table, below, bits, mix, words
from source.tables import CUSTOMERS, TIERS
from source.timeline import DAY, Timeline

BLOCK = 65_536
STREAM = 1
UNBORN = np.iinfo(np.int32).min
YEAR_DAYS = 365.25
SIGNED_UP_BEFORE = 60  # per cent who were there before the range began


@dataclass(frozen=True)
class People:
    """All customers, one array entry each; what behaviour depends on.

    Attributes:
        ids: customer ids.
        region, tier: indexes into `story.REGIONS` and `tables.TIERS`.
        age_class: index into the story's classes of age.
        signup: microseconds since 1970.
    """

    ids: Ints
    region: Array
    tier: Array
    age_class: Array
    signup: Ints

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def next_id(self) -> int:
        """The first id that no customer has."""
        return int(self.ids.max(initial=0)) + 1


@dataclass(frozen=True)
class Traits:
    """What chance gave the customers of one block, before it becomes rows."""

    origin: Ints
    region: Ints
    tier: Ints
    birth: Array
    signup: Ints
    chance: Array


def age_classes(birth_days: Array, today: int) -> Array:
    """The story's class of age for days of birth since 1970 (`UNBORN` = unknown)."""
    years = (today - birth_days.astype(np.int64)) / YEAR_DAYS
    found = np.searchsorted(story.AGE_CLASSES, years, side="right")
    return np.where(birth_days == UNBORN, story.AGE_UNKNOWN, found).astype(np.int8)


def coprime_step(count: int, salt: int = 0) -> int:
    """A step that visits each of 0..count-1 once before it comes round."""
    step = (0x9E3779B1 + 2 * salt) % max(count, 1) or 1
    while gcd(step, count) != 1:
        step += 1
    return step


def scattered_ranks(count: int, salt: int = 0) -> Ints:
    """Each of 0..count-1 once, in an order that looks like chance."""
    steps = np.arange(count, dtype=np.int64) * coprime_step(count, salt)
    return np.asarray((steps + salt * 7919) % max(count, 1))


def zipf_weights(ranks: Ints, flat: float = 0.02) -> Array:
    """Weights 1 / (rank + q), Zipf and Mandelbrot's, with q a share `flat` of all."""
    weights: Array = 1.0 / (ranks + 1.0 + flat * len(ranks))
    return weights


@cache
def _tables() -> tuple[Table, list[Table], Table]:
    regions = Table([region.share for region in story.REGIONS])
    tiers = [Table(region.tiers) for region in story.REGIONS]
    ages = Table([weight for _, _, weight in story.AGES])
    return regions, tiers, ages


def traits(seed: int, block: int, count: int, timeline: Timeline) -> Traits:
    """What chance gives the customers of one block.

    Args:
        seed: the user's seed.
        block: number of the block of `BLOCK` customers.
        count: customers in it.
        timeline: the days of the story; nobody signs up after them.
    """
    drawn = words(seed, STREAM, block, count)
    position = np.arange(count)
    twin = (below(mix(drawn), story.TWIN_CUSTOMERS) == 0) & (position > 0)
    position = position - twin
    chance = drawn[position]
    other = mix(chance)
    regions, tiers, ages = _tables()
    region = regions.pick(chance)
    every_tier = np.stack([table.pick(chance, 16) for table in tiers])
    tier = every_tier[region, np.arange(count)]
    born = _births(other, ages, timeline.start // DAY)
    third = mix(other)
    early = below(third, 100) < SIGNED_UP_BEFORE
    if block == 0 and count:
        early[0] = True
    fraction = bits(third, 0, 32)
    before = timeline.start - 1 - fraction * (3 * 365 * DAY >> 32)
    during = timeline.start + fraction * ((timeline.end - timeline.start) >> 32)
    signup = np.where(early, before, during)
    return Traits(position, region, tier, born, signup, chance)


def _births(chance: Array, ages: Table, today: int) -> Array:
    band = ages.pick(chance)
    youngest = np.array([low for low, _, _ in story.AGES])[band]
    span = np.array([high - low for low, high, _ in story.AGES])[band]
    days = (youngest * YEAR_DAYS).astype(np.int64) + 1
    width = (span * YEAR_DAYS).astype(np.int64) - 1
    age = days + ((bits(chance, 16, 24) * width) >> 24)
    unknown = bits(chance, 40, 24) % story.NULL_BIRTH_DATES == 0
    return np.where(unknown, UNBORN, today - age).astype(np.int32)


def blocks(count: int) -> Iterator[tuple[int, int]]:
    """Number and size of each block of `count` customers."""
    for number, first in enumerate(range(0, count, BLOCK)):
        yield number, min(BLOCK, count - first)


def people(seed: int, count: int, timeline: Timeline, first_id: int = 1) -> People:
    """All customers of a generated shop, as arrays."""
    found = [traits(seed, number, size, timeline) for number, size in blocks(count)]
    births = _joined([one.birth for one in found], np.int32)
    return People(
        ids=np.arange(first_id, first_id + count),
        region=_joined([one.region for one in found], np.int8),
        tier=_joined([one.tier for one in found], np.int8),
        age_class=age_classes(births, timeline.start // DAY),
        signup=_joined([one.signup for one in found], np.int64),
    )


def _joined(parts: list[Array], kind: Any) -> Array:
    if not parts:
        return np.zeros(0, dtype=kind)
    return np.concatenate([part.astype(kind) for part in parts])


def rows(
    seed: int, block: int, count: int, timeline: Timeline, first_id: int = 1
) -> pa.RecordBatch:
    """The rows of one block of customers, in the schema of `tables.CUSTOMERS`."""
    found = traits(seed, block, count, timeline)
    first = first_id + block * BLOCK
    other = mix(found.chance ^ np.uint64(STREAM))
    firsts, lasts, plain_firsts, plain_lasts = _name_lists()
    a = found.region * len(story.REGIONS[0].first) + below(
        other, len(story.REGIONS[0].first)
    )
    b = found.region * len(story.REGIONS[0].last) + below(
        other, len(story.REGIONS[0].last), low=0
    )
    number = array(first + found.origin).cast(pa.string())
    domain = array([f"@{region.top_level}.example" for region in story.REGIONS])
    mailbox = compute.binary_join_element_wise(
        plain_firsts.take(a), plain_lasts.take(b), "."
    )
    email = compute.binary_join_element_wise(
        mailbox, number, domain.take(array(found.region)), ""
    )
    settled = found.signup + (bits(other, 8, 24) * (200 * DAY >> 24))
    updated = np.minimum(np.maximum(settled, found.signup), timeline.end - 1)
    arrays = [
        array(np.arange(first, first + count)),
        compute.binary_join_element_wise(firsts.take(a), lasts.take(b), " "),
        email,
        array(found.birth, pa.date32(), mask=found.birth == UNBORN),
        array([region.name for region in story.REGIONS]).take(array(found.region)),
        array(TIERS).take(array(found.tier)),
        moment(found.signup),
        moment(updated),
    ]
    return pa.record_batch(arrays, schema=CUSTOMERS.schema)


def moment(values: Ints) -> ArrowArray:
    """Microseconds since 1970 as Arrow moments in UTC."""
    return array(values, pa.int64()).cast(pa.timestamp("us", "UTC"))


@cache
def _name_lists() -> tuple[ArrowArray, ArrowArray, ArrowArray, ArrowArray]:
    firsts = [name for region in story.REGIONS for name in region.first]
    lasts = [name for region in story.REGIONS for name in region.last]
    return (
        array([name.replace("-", " ") for name in firsts]),
        array([name.replace("-", " ") for name in lasts]),
        array([_mailbox(name) for name in firsts]),
        array([_mailbox(name) for name in lasts]),
    )


def _mailbox(name: str) -> str:
    """The name in the 26 letters that a mailbox takes everywhere."""
    decomposed = unicodedata.normalize("NFKD", name.lower())
    latin = "".join(story.LATIN.get(letter, letter) for letter in decomposed)
    return "".join(c for c in latin if c.isascii() and c.isalpha())
