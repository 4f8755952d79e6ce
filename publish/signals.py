"""What Ctrl-C and a polite kill do to a command that writes to the warehouse."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_back() -> Iterator[None]:
    """Hold Ctrl-C and a polite kill back until the block, a second or so, has ended."""
    received: list[int] = []
    with _handled_by(received.append, signal.SIGINT, signal.SIGTERM):
        yield
    if received:
        signal.raise_signal(received[0])


@contextmanager
def ends_politely() -> Iterator[None]:
    """Take a polite kill as Ctrl-C, so that it leaves as clean a state."""

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with _handled_by(interrupt, signal.SIGTERM):
        yield


@contextmanager
def _handled_by(
    handle: Callable[[int], None], *signals: signal.Signals
) -> Iterator[None]:
    """Give signals a handler for the block; only the main thread may, and gets them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, _: FrameType | None) -> None:
        handle(number)

    kept = {one: signal.signal(one, handler) for one in signals}
    try:
        yield
    finally:
        for one, before in kept.items():
            signal.signal(one, before)
