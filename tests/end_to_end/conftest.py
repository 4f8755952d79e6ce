"""Sessions on the warehouse that these tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from common.settings import Settings
from publish.lake import Lake, open_lake


@pytest.fixture
def lake(stack_settings: Settings) -> Iterator[Lake]:
    """The generated shop's warehouse, as its readers find it."""
    with open_lake(stack_settings) as opened:
        yield opened
