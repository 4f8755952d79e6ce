"""Sessions, and the interactions, orders and lines that come of them.

A shop's history is a row of blocks of fixed logical size. Each block depends on the
seed and its own number alone: any block can be made by anyone, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from source import story
from source.arrow import ArrowArray, array, packed
from source.chance import Array, Ints, Picker, Words, below, bits, mix, unit, words
from source.goods import Goods, money
from source.people import People, moment, scattered_ranks, zipf_weights
from source.scripts import (
    BUY,
    NO_SLOT,
    REVIEW,
    SEARCH,
    VIEW,
    Scripts,
    browsing,
    buying,
    choose,
    devices,
)  # fmt: skip
from source.tables import (
    DEVICES,
    INTERACTIONS,
    ORDER_ITEMS,
    ORDERS,
    STATUSES,
    TYPES,
    UUID,
)  # fmt: skip
from source.timeline import DAY, Timeline

INTERACTIONS_A_BLOCK = 65_536
ORDERS_A_BLOCK = 16_384
SMALL_BLOCK = 2_048
SECOND = 1_000_000
# Streams of chance, one for each use.
BUYERS, BROWSERS = 10, 11
SLOT_SALT, EVENT_SALT, UUID_SALT = (
    np.uint64(0xD1B54A32D192ED03),
    np.uint64(0x8CB92BA72F3D8DD7),
    np.uint64(0xA0761D6478BD642F),
)
DELIVERED, CANCELLED, RETURNED = (
    STATUSES.index(name) for name in ("delivered", "cancelled", "returned")
)


@dataclass(frozen=True)
class Shop:
    """A shop about to live: who, what, when, and how much of it.

    Attributes:
        seed: of all chance.
        people, goods, timeline: who shops, what, and when.
        interactions, orders: how many rows there will be.
        first_interaction, first_order: their first ids.
    """

    seed: int
    people: People
    goods: Goods
    timeline: Timeline
    interactions: int
    orders: int
    first_interaction: int = 1
    first_order: int = 1

    @property
    def blocks(self) -> int:
        """How many blocks the history has."""
        return max(
            -(-self.interactions // INTERACTIONS_A_BLOCK),
            -(-self.orders // ORDERS_A_BLOCK),
        )

    def interactions_before(self, block: int) -> int:
        """Interactions in all blocks before this one."""
        return self.interactions * block // max(self.blocks, 1)

    def orders_before(self, block: int) -> int:
        """Orders in all blocks before this one."""
        return self.orders * block // max(self.blocks, 1)


@dataclass(frozen=True)
class Sessions:
    """The sessions of one block in order of time, buyers and browsers together.

    Attributes:
        chance: one word each, from which everything else about it follows.
        start: microseconds since 1970.
        customer: index of the customer, whatever id the rows will carry.
        customer_id: the id in the rows; now and then one that nobody has.
        script: index into the scripts of its kind.
        buys: whether it ends in an order.
        events: how many interactions it has; zero for orders by telephone.
        pace: microseconds in one unit of the script's time.
    """

    chance: Words
    start: Ints
    customer: Ints
    customer_id: Ints
    script: Ints
    buys: Array
    events: Ints
    pace: Ints


class Historian:
    """Makes the blocks of one shop's history.

    Args:
        shop: what is to be told.
    """

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        people = shop.people
        ranks = scattered_ranks(len(people), salt=5)
        active = (
            zipf_weights(ranks)
            * np.array([region.activity for region in story.REGIONS])[people.region]
            * np.array(story.TIER_ACTIVITY)[people.tier]
            * np.array(story.AGE_ACTIVITY)[people.age_class]
        )
        ready = (
            active
            * np.array([region.conversion for region in story.REGIONS])[people.region]
            * np.array(story.TIER_CONVERSION)[people.tier]
            * np.array(story.AGE_CONVERSION)[people.age_class]
        )
        self._elders = np.flatnonzero(people.signup < shop.timeline.start)
        if not len(self._elders):
            self._elders = np.array([int(np.argmin(people.signup))])
        self._browsers, self._buyers = Picker(active), Picker(ready)
        self._elder_browsers = Picker(active[self._elders])
        self._elder_buyers = Picker(ready[self._elders])

    def sessions(self, block: int) -> Sessions:
        """The sessions of one block."""
        shop = self.shop
        rows = shop.interactions_before(block + 1) - shop.interactions_before(block)
        orders = shop.orders_before(block + 1) - shop.orders_before(block)
        buyers = self._some(block, BUYERS, orders)
        # A session has four events on average: half of the rows is more than enough,
        # save in blocks so small that the average says nothing.
        wanted = rows // 2 if rows > SMALL_BLOCK else rows
        browsers = self._some(block, BROWSERS, wanted)
        bought = buying().length[buyers.script]
        fits = np.cumsum(bought) <= max(rows * story.BUYING_SHARE, 0)
        bought = np.where(fits, bought, 0)
        # A purchase needs its session: with room for one only, let it browse less.
        left = rows - int(bought.sum())
        looked = browsing().length[browsers.script]
        before = np.cumsum(looked) - looked
        looked = np.clip(left - before, 0, looked)
        kept = looked > 0
        return _in_order(buyers, bought, _where(browsers, kept), looked[kept])

    def _buying(self, block: int) -> Sessions:
        """The sessions of one block that end in an order, by time of start."""
        orders = self.shop.orders_before(block + 1) - self.shop.orders_before(block)
        found = self._some(block, BUYERS, orders)
        return _where(found, np.argsort(found.start, kind="stable"))

    def _some(self, block: int, stream: int, count: int) -> Sessions:
        """`count` sessions of buyers or browsers, somewhere in the block's time."""
        shop, people = self.shop, self.shop.people
        chance = words(shop.seed, stream, block, count)
        when = mix(chance ^ np.uint64(stream))
        buys = stream == BUYERS
        start = shop.timeline.at((block + unit(when)) / shop.blocks)
        who = mix(when)
        customer = (self._buyers if buys else self._browsers).pick(who)
        early = people.signup[customer] > start
        elders = self._elder_buyers if buys else self._elder_browsers
        customer[early] = self._elders[elders.pick(mix(who[early]))]
        script = choose(chance, people.age_class[customer])
        pace = (3 + bits(chance, 0, 5)) * SECOND + bits(chance, 5, 19)
        scripts = buying() if buys else browsing()
        last = shop.timeline.end - 1 - pace * scripts.duration[script]
        start = np.maximum(np.minimum(start, last), shop.timeline.start)
        stranger = bits(mix(who), 20, 32) % story.ORPHAN_SESSIONS == 0
        coming = people.next_id + bits(who, 0, story.COMING_BITS)
        strange = np.where(self._recent(start), coming, story.NOBODY)
        customer_id = np.where(stranger, strange, people.ids[customer])
        return Sessions(
            chance, start, customer, customer_id, script,
            np.full(count, buys), scripts.length[script], pace,
        )  # fmt: skip

    def interactions(self, block: int) -> pa.RecordBatch:
        """The interactions of one block, in the schema of `tables.INTERACTIONS`."""
        found = self.sessions(block)
        shop = self.shop
        owner = np.repeat(np.arange(len(found.start)), found.events)
        position = np.arange(len(owner)) - np.repeat(
            np.cumsum(found.events) - found.events, found.events
        )
        chance = found.chance[owner]
        with np.errstate(over="ignore"):
            event = mix(
                chance ^ ((position.astype(np.uint64) + np.uint64(1)) * EVENT_SALT)
            )
        scripts, offset = _both_kinds()
        place = scripts.first[found.script + offset * found.buys][owner] + position
        again = (bits(event, 0, 12) % story.DOUBLE_SENT == 0) & (position > 0)
        # A copy overwrites its successor, which no later event may rest on.
        again &= ~np.isin(scripts.kind[place], (VIEW, REVIEW, BUY))
        again &= scripts.kind[place - again] != BUY
        place = place - again
        # A copy takes its original's chance, so that only the id differs.
        event = np.where(again, np.roll(event, 1), event)
        kind, slot = scripts.kind[place], scripts.slot[place]
        occurred = found.start[owner] + scripts.time[place] * found.pace[owner]
        region, month = self._surroundings(found)
        recent = self._recent(found.start)
        _, product = shop.goods.draw(
            slot_chance(chance, slot), region[owner], month[owner], recent[owner]
        )
        nameless = (kind == SEARCH) | (slot == NO_SLOT)
        nameless |= (bits(event, 12, 16) % story.NULL_PRODUCTS == 0) & (kind != BUY)
        recorded = np.minimum(occurred + _delay(event), shop.timeline.end - 1)
        first = shop.first_interaction + shop.interactions_before(block)
        arrays = [
            array(np.arange(first, first + len(owner))),
            array(found.customer_id[owner]),
            array(product, mask=nameless),
            _TYPES.take(array(kind)),
            moment(occurred),
            _session_ids(found.chance).take(array(owner)),
            _DEVICES.take(array(self._devices(found)[owner])),
            moment(recorded),
        ]
        return pa.record_batch(arrays, schema=INTERACTIONS.schema)

    def orders(self, block: int) -> pa.RecordBatch:
        """The orders of one block, in the schema of `tables.ORDERS`."""
        found = self._buying(block)
        ordered = _checkout(found)
        status, updated = self._settled(found, ordered)
        first = self.shop.first_order + self.shop.orders_before(block)
        arrays = [
            array(np.arange(first, first + len(ordered))),
            array(found.customer_id),
            moment(ordered),
            array(STATUSES).take(array(status)),
            moment(updated),
        ]
        return pa.record_batch(arrays, schema=ORDERS.schema)

    def order_items(self, block: int) -> pa.RecordBatch:
        """The lines of one block's orders, in the schema of `tables.ORDER_ITEMS`."""
        shop = self.shop
        found = self._buying(block)
        lines = buying().lines[found.script]
        owner = np.repeat(np.arange(len(lines)), lines)
        slot = np.arange(len(owner)) - np.repeat(np.cumsum(lines) - lines, lines)
        chance = slot_chance(found.chance[owner], slot)
        region, month = self._surroundings(found)
        recent = self._recent(found.start)
        index, product = shop.goods.draw(
            chance, region[owner], month[owner], recent[owner]
        )
        order = shop.first_order + shop.orders_before(block) + owner
        other = mix(chance)
        many = np.array([1] * 44 + [2] * 11 + [3] * 5 + [4] * 2 + [6, 12])
        quantity = many[bits(other, 0, 6)]
        discount = np.array([100] * 12 + [95, 90, 90, 80])[bits(other, 6, 4)]
        cents = shop.goods.cents[index] * discount // 100
        ordered = _checkout(found)[owner]
        updated = np.minimum(ordered + bits(other, 10, 24), shop.timeline.end - 1)
        line = slot + 1
        stray = np.flatnonzero(
            (slot == 0) & (bits(other, 34, 30) % story.ORPHAN_LINES == 0)
        )

        def with_strays(values: Ints, strays: Ints | None = None) -> Ints:
            return np.concatenate([values, values[stray] if strays is None else strays])

        arrays = [
            array(with_strays(order, -order[stray])),
            array(with_strays(line), pa.int32()),
            array(with_strays(product)),
            array(with_strays(quantity), pa.int32()),
            money(with_strays(cents)),
            moment(with_strays(updated)),
        ]
        return pa.record_batch(arrays, schema=ORDER_ITEMS.schema)

    def _recent(self, start: Ints) -> Array:
        """Whether what was unlisted at these moments may be about to be listed."""
        return np.asarray(start >= self.shop.timeline.end - story.COMING_DAYS * DAY)

    def _surroundings(self, found: Sessions) -> tuple[Ints, Ints]:
        region = self.shop.people.region[found.customer].astype(np.int64)
        return region, self.shop.timeline.month(found.start)

    def _devices(self, found: Sessions) -> Ints:
        chance = mix(found.chance ^ UUID_SALT)
        every = np.stack([table.pick(chance, 8) for table in devices()])
        age_class = self.shop.people.age_class[found.customer]
        picked: Ints = every[age_class, np.arange(len(chance))]
        return picked

    def _settled(self, found: Sessions, ordered: Ints) -> tuple[Ints, Ints]:
        """Status at the end of the story, and when it was reached."""
        end = self.shop.timeline.end
        chance = mix(found.chance ^ SLOT_SALT)
        fate = below(chance, 1000)
        delivered, cancelled, _ = story.SETTLED
        # The lower tiers send back more; chance is moved rather than drawn anew.
        tier = self.shop.people.tier[found.customer].astype(np.int64)
        fate = np.minimum(fate + (2 - np.minimum(tier, 2)) * 12, 999)
        final = np.where(
            fate < delivered,
            DELIVERED,
            np.where(fate < delivered + cancelled, CANCELLED, RETURNED),
        )
        age = (end - ordered) // DAY
        open_status = np.clip(age * 3 // story.SETTLED_AFTER_DAYS, 0, 2)
        settled = age >= story.SETTLED_AFTER_DAYS
        status = np.where(settled, final, open_status)
        days = np.where(
            settled,
            np.array([0, 0, 0, 3, 0, 6])[final],
            np.maximum(open_status * 2, 0),
        )
        took = days * DAY + bits(chance, 0, 32) * ((DAY * 2) >> 32)
        took = np.where(status == 0, bits(chance, 0, 16), took)
        return status, np.minimum(ordered + took, end - 1)


_TYPES, _DEVICES = array(TYPES), array(DEVICES)


def slot_chance(chance: Words, slot: Ints) -> Words:
    """Chance of one product in a session: shared by its views, purchase and line."""
    with np.errstate(over="ignore"):
        return mix(chance ^ ((slot + 1).astype(np.uint64) * SLOT_SALT))


@cache
def _both_kinds() -> tuple[Scripts, int]:
    """Browsing and buying scripts in one, and where the latter begin."""
    a, b = browsing(), buying()
    names = ("length", "lines", "checkout", "duration", "kind", "slot", "time")
    joined = {
        name: np.concatenate([getattr(a, name), getattr(b, name)]) for name in names
    }
    both = Scripts(first=np.concatenate([a.first, b.first + len(a.kind)]), **joined)
    return both, len(a.length)


def _where(found: Sessions, mask: Array) -> Sessions:
    return Sessions(
        *(getattr(found, name)[mask] for name in Sessions.__dataclass_fields__)
    )


def _in_order(
    buyers: Sessions, bought: Ints, browsers: Sessions, looked: Ints
) -> Sessions:
    """Both kinds of sessions by time of start, with their numbers of events."""
    joined = {
        name: np.concatenate([getattr(buyers, name), getattr(browsers, name)])
        for name in Sessions.__dataclass_fields__
    }
    joined["events"] = np.concatenate([bought, looked])
    order = np.argsort(joined["start"], kind="stable")
    return Sessions(**{name: values[order] for name, values in joined.items()})


def _checkout(found: Sessions) -> Ints:
    return found.start + buying().checkout[found.script] * found.pace


def _delay(event: Words) -> Ints:
    """Microseconds from occurrence to record: seconds, now and then days."""
    usual = bits(event, 28, 16) * 61 + 40_000
    fraction = bits(mix(event), 0, 24)
    day = (bits(event, 44, 16) % story.LATE_DAY == 0) * (fraction * (2 * DAY >> 24))
    week = (bits(event, 46, 16) % story.LATE_WEEK == 0) * (fraction * (10 * DAY >> 24))
    delay: Ints = usual + np.maximum(day, week)
    return delay


def _session_ids(chance: Words) -> ArrowArray:
    """Random UUIDs (version 4) as 16 bytes each."""
    both = np.empty((len(chance), 2), dtype=">u8")
    high, low = mix(chance ^ UUID_SALT), mix(chance + UUID_SALT)
    both[:, 0] = (high & np.uint64(0xFFFFFFFFFFFF0FFF)) | np.uint64(0x4000)
    both[:, 1] = (low & np.uint64(0x3FFFFFFFFFFFFFFF)) | np.uint64(1 << 63)
    return packed(UUID, both)
