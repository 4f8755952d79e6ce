"""Policies of upkeep, and what the build's state keeps of a compacted table."""

from __future__ import annotations

import pytest

from common.errors import UsageError
from publish.upkeep import Policy, move_days, policies_of


def test_a_policy_is_checked_and_a_table_has_its_own() -> None:
    source = {
        "resource_type": "source", "schema": "staging", "identifier": "orders",
        "source_meta": {"upkeep": {"keep_days": 2}}, "config": {"meta": {}},
    }  # fmt: skip
    model = {
        "resource_type": "model", "schema": "core", "alias": "dim_date",
        "config": {"meta": {"upkeep": {"compact_from_files": 9}}},
    }  # fmt: skip
    found = policies_of({"sources": {"a": source}, "nodes": {"b": model}})
    assert found == {
        "staging": Policy(keep_days=2),
        "core.dim_date": Policy(compact_from_files=9),
    }
    for wrong in ({"keep": 1}, {"orphan_days": 0.5}, {"compact_from_files": 1}):
        with pytest.raises(UsageError):
            Policy.from_meta(wrong, "core.dim_date")


def test_a_day_not_read_yet_is_still_read_after_compaction() -> None:
    mark = "2024-03-01:aaaa 2024-03-02:bbbb 2024-03-03:cccc"
    before = {"2024-03-01": "aaaa", "2024-03-02": "xxxx"}
    after = {"2024-03-01": "1111", "2024-03-02": "2222"}
    assert move_days(mark, before, after) == (
        "2024-03-01:1111 2024-03-02:bbbb 2024-03-03:cccc"
    )
