"""Products: what is sold, at what price, how wanted; and the rows of the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from source import story
from source.arrow import ArrowArray, array, compute, packed
from source.chance import Array, Ints, Table, Words, below, bits, mix, words
from source.people import coprime_step, moment, zipf_weights
from source.tables import MONEY, PRODUCTS
from source.timeline import DAY, Timeline

BLOCK = 65_536
STREAM = 2
DRAW_BITS = 20
FLAT = 0.004
CENT = 100


@dataclass(frozen=True)
class Goods:
    """All products as arrays, and what is needed to draw one as customers do.

    Attributes:
        ids: product ids.
        category: index of each product's category.
        cents: price of each product.
        wanted: index of the product for each of `2 ** DRAW_BITS` chances: Zipf.
        shelves: product indexes sorted by category.
        shelf_start, shelf_size: where each of the story's categories lies in it.
    """

    ids: Ints
    category: Array
    cents: Ints
    wanted: Array
    shelves: Ints
    shelf_start: Ints
    shelf_size: Ints

    @property
    def next_id(self) -> int:
        """The first id that no product has."""
        return int(self.ids.max(initial=0)) + 1

    @classmethod
    def stocked(cls, ids: Ints, category: Array, cents: Ints) -> Goods:
        """Arrange products for drawing."""
        edges = np.cumsum(zipf_weights(np.arange(max(len(ids), 1)), FLAT))
        steps = (np.arange(1 << DRAW_BITS) + 0.5) * (edges[-1] / (1 << DRAW_BITS))
        rank = np.minimum(np.searchsorted(edges, steps, side="right"), len(edges) - 1)
        size = np.bincount(category, minlength=len(story.CATEGORIES))
        return cls(
            ids=ids,
            category=category,
            cents=cents,
            wanted=rank.astype(np.int32),
            shelves=np.argsort(category, kind="stable").astype(np.int64),
            shelf_start=(np.cumsum(size) - size).astype(np.int64),
            shelf_size=size.astype(np.int64),
        )

    def draw(
        self, chance: Words, region: Ints, month: Ints, recent: Array
    ) -> tuple[Ints, Ints]:
        """The product that a customer looks at.

        Args:
            chance: one word for each look.
            region: the customer's region.
            month: 0 = January.
            recent: whether a product may be looked at before it is listed.

        Returns:
            Index of the product, and its id. Where the story wants an orphan that is
            an id soon to be listed, or `story.NOBODY`.
        """
        count = len(self.ids)
        route = bits(chance, 0, 10)
        rank = self.wanted[bits(chance, 10, DRAW_BITS)].astype(np.int64)
        # Every market has favourites of its own: the same ranks, begun elsewhere.
        regional = route < story.SEASONAL_SHARE + story.REGIONAL_SHARE
        start = np.where(regional, (region + 1) * (count // 11 + 1), 0)
        index = (rank * coprime_step(count) + start) % count
        shelf = np.array(story.SEASONAL)[month]
        size = self.shelf_size[shelf]
        seasonal = (route < story.SEASONAL_SHARE) & (size > 0)
        place = self.shelf_start[shelf] + rank % np.maximum(size, 1)
        index = np.where(seasonal, self.shelves[np.minimum(place, count - 1)], index)
        unknown = route >= 1024 - story.UNKNOWN_SHARE
        coming = self.next_id + bits(chance, 32, story.COMING_BITS)
        strange = np.where(recent, coming, story.NOBODY)
        return index, np.where(unknown, strange, self.ids[index])


@cache
def _tables() -> tuple[Table, ArrowArray, ArrowArray]:
    nouns = [noun for group in story.NOUNS for noun in group]
    return (
        Table(story.CATEGORY_SHARES),
        array([noun.replace("-", " ") for noun in nouns]),
        array(story.ADJECTIVES),
    )


def _chance(seed: int, block: int, count: int) -> Words:
    drawn = words(seed, STREAM, block, count)
    position = np.arange(count)
    twin = (below(mix(drawn), story.TWIN_PRODUCTS) == 0) & (position > 0)
    chance: Words = drawn[position - twin]
    return chance


def _category(chance: Words) -> Ints:
    return _tables()[0].pick(chance)


def _cents(chance: Words, category: Ints) -> Ints:
    """Prices from a quarter to seven times the typical one, ending in 5 or 9."""
    typical = np.array(story.CATEGORY_PRICES)[category]
    spread = 256 + (bits(chance, 16, 10) * bits(chance, 26, 10) * 7 >> 10)
    cents = (typical * spread) >> 10
    ending = np.where(bits(chance, 36, 1) == 0, 9, 5)
    cents = cents // 10 * 10 + ending
    free = bits(chance, 40, 24) % story.FREE_PRODUCTS == 0
    return np.where(free, 0, cents)


def blocks(count: int) -> Iterator[tuple[int, int]]:
    """Number and size of each block of `count` products."""
    for number, first in enumerate(range(0, count, BLOCK)):
        yield number, min(BLOCK, count - first)


def goods(seed: int, count: int, first_id: int = 1) -> Goods:
    """All products of a generated shop, as arrays."""
    chance = [_chance(seed, number, size) for number, size in blocks(count)]
    drawn = np.concatenate(chance) if chance else np.zeros(0, np.uint64)
    category = _category(drawn)
    return Goods.stocked(
        np.arange(first_id, first_id + count), category, _cents(drawn, category)
    )


def rows(
    seed: int, block: int, count: int, timeline: Timeline, first_id: int = 1
) -> pa.RecordBatch:
    """The rows of one block of products, in the schema of `tables.PRODUCTS`."""
    chance = _chance(seed, block, count)
    category = _category(chance)
    other = mix(chance)
    _, nouns, adjectives = _tables()
    per_category = len(story.NOUNS[0])
    noun = category * per_category + below(other, per_category)
    model = array(bits(other, 0, 16) % 900 + 100).cast(pa.string())
    name = compute.binary_join_element_wise(
        adjectives.take(array(bits(other, 16, 4))), nouns.take(array(noun)),
        model, " ",
    )  # fmt: skip
    span = timeline.end - timeline.start
    updated = (
        timeline.start - 300 * DAY + bits(other, 20, 32) * ((span + 300 * DAY) >> 32)
    )
    first = first_id + block * BLOCK
    arrays = [
        array(np.arange(first, first + count)),
        name,
        array(story.CATEGORIES).take(array(category)),
        money(_cents(chance, category)),
        moment(updated),
    ]
    return pa.record_batch(arrays, schema=PRODUCTS.schema)


def money(cents: Ints) -> ArrowArray:
    """Whole cents as exact `numeric(12,2)` amounts."""
    # A decimal's value is its 128 bits: the low word, then the sign's.
    values = np.ascontiguousarray(cents, dtype=np.int64)
    both = np.empty((len(values), 2), dtype=np.int64)
    both[:, 0], both[:, 1] = values, values >> 63
    return packed(MONEY, both)
