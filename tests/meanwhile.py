"""What others do while a test does something: readers, vacuums."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def meanwhile(*actions: Callable[[], object], pause: float = 0.0) -> Iterator[None]:
    """Do things again and again while the block runs, each in a thread of its own.

    Args:
        actions: what is done; what one raises ends it, and is raised after the block.
        pause: seconds between two of them.
    """
    over = threading.Event()

    def repeat(action: Callable[[], object]) -> None:
        while not over.wait(pause):
            action()

    with ThreadPoolExecutor(len(actions)) as pool:
        threads = [pool.submit(repeat, action) for action in actions]
        try:
            yield
        finally:
            over.set()
    for thread in threads:
        thread.result()
