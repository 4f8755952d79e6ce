"""What people do in a session: a library of short scripts, drawn once.

A script is a row of events. Each has a type, a slot (the events of one slot concern
one product) and the time since the session began, in units of the session's pace.
Funnels hold by construction: nothing is clicked, put into the cart or bought that
was not viewed before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from source import story
from source.chance import Array, Ints, Table, bits, mix, words
from source.tables import TYPES

VIEW, SEARCH, CLICK, CART, WISH, BUY, REVIEW = range(len(TYPES))
MOVES = (VIEW, SEARCH, CLICK, CART, WISH, REVIEW)
PER_CLASS = 512
CLASSES = len(story.BROWSING)
STREAM = 90
NO_SLOT = -1


@dataclass(frozen=True)
class Scripts:
    """All scripts of one kind, flattened; script `i` of age class `c` is
    `c * PER_CLASS + i`.

    Attributes:
        first, length: where each script's events lie in the flat arrays.
        lines: products bought; they are the slots 0 .. lines - 1.
        checkout: time of the purchase, in units.
        duration: time of the last event, in units.
        kind, slot, time: the flat arrays, one entry an event.
    """

    first: Ints
    length: Ints
    lines: Ints
    checkout: Ints
    duration: Ints
    kind: Array
    slot: Ints
    time: Ints


@dataclass
class _Script:
    kinds: list[int]
    slots: list[int]
    times: list[int]
    lines: int = 0

    @classmethod
    def empty(cls) -> _Script:
        return cls([], [], [])

    def add(self, kind: int, slot: int, pause: int) -> None:
        self.kinds.append(kind)
        self.slots.append(slot)
        self.times.append((self.times[-1] if self.times else 0) + pause)


class _Die:
    """Small numbers one after another, the same on every machine."""

    def __init__(self, stream: int) -> None:
        self._words: Iterator[int] = iter(words(0, STREAM, stream, 200_000).tolist())

    def below(self, bound: int) -> int:
        return ((next(self._words) >> 32) * bound) >> 32

    def among(self, weights: tuple[int, ...]) -> int:
        thrown = self.below(sum(weights))
        for index, weight in enumerate(weights):
            thrown -= weight
            if thrown < 0:
                return index
        raise AssertionError(weights)


def _browse(die: _Die, age_class: int) -> _Script:
    """Look around: views, searches, and what they lead to."""
    script = _Script.empty()
    length = die.among(story.BROWSE_LENGTHS) + 1
    slot = NO_SLOT
    while len(script.kinds) < length:
        move = MOVES[die.among(story.BROWSING[age_class])]
        pause = die.below(6)
        if move in {CLICK, CART, WISH} and slot == NO_SLOT:
            move = VIEW
        if move == SEARCH:
            script.add(SEARCH, NO_SLOT, pause)
            continue
        if move in {VIEW, REVIEW}:
            slot += 1
        script.add(move, slot, pause)
    return script


def _buy(die: _Die, age_class: int) -> _Script:
    """View, perhaps click, put into the cart, and buy all at one checkout."""
    script = _Script.empty()
    script.lines = die.among(story.ORDER_LINES) + 1
    liking = story.BROWSING[age_class]
    for slot in range(script.lines):
        if die.below(1000) < story.BUY_SEARCHED * liking[1] // 18:
            script.add(SEARCH, NO_SLOT, die.below(4))
        script.add(VIEW, slot, 1 + die.below(4))
        if die.below(1000) < story.BUY_CLICKED * liking[2] // 22:
            script.add(CLICK, slot, 1 + die.below(3))
        script.add(CART, slot, 1 + die.below(4))
    pause = 2 + die.below(8)
    for slot in range(script.lines):
        script.add(BUY, slot, 0 if slot else pause)
    if die.below(1000) < story.BUY_REVIEWED * liking[5] // 6:
        script.add(REVIEW, 0, 20 + die.below(60))
    return script


@cache
def browsing() -> Scripts:
    """The scripts of sessions without a purchase."""
    return _library([_browse(die, c) for c, die in _dice(0) for _ in range(PER_CLASS)])


@cache
def buying() -> Scripts:
    """The scripts of sessions that end in an order."""
    return _library([_buy(die, c) for c, die in _dice(1) for _ in range(PER_CLASS)])


def _dice(offset: int) -> list[tuple[int, _Die]]:
    return [(c, _Die(2 * c + offset)) for c in range(CLASSES)]


def _library(scripts: list[_Script]) -> Scripts:
    length = np.array([len(script.kinds) for script in scripts], dtype=np.int64)
    checkout = [
        script.times[script.kinds.index(BUY)] if script.lines else 0
        for script in scripts
    ]
    return Scripts(
        first=np.cumsum(length) - length,
        length=length,
        lines=np.array([script.lines for script in scripts], dtype=np.int64),
        checkout=np.array(checkout, dtype=np.int64),
        duration=np.array([script.times[-1] for script in scripts], dtype=np.int64),
        kind=np.array([k for s in scripts for k in s.kinds], dtype=np.int8),
        slot=np.array([k for s in scripts for k in s.slots], dtype=np.int64),
        time=np.array([k for s in scripts for k in s.times], dtype=np.int64),
    )


@cache
def devices() -> list[Table]:
    """For each class of age, how its devices are drawn."""
    return [Table(weights) for weights in story.DEVICE_WEIGHTS]


def choose(chance: Array, age_class: Array) -> Ints:
    """A script for each session of customers of these classes of age."""
    mixed = mix(chance)
    return age_class.astype(np.int64) * PER_CLASS + bits(mixed, 0, 9)
