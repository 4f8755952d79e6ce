"""Docs and charts are made again exactly when they would be others."""

from __future__ import annotations

from pathlib import Path

import pytest

from publish import building, shown


def test_the_same_docs_and_charts_are_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, target = tmp_path / "project", tmp_path / "target"
    (project / "models").mkdir(parents=True)
    (project / "models" / "a.sql").write_text("select 1")
    target.mkdir()
    monkeypatch.setattr(shown, "PROJECT", project)
    monkeypatch.setenv("DBT_TARGET_PATH", str(target))
    assert building.target_folder() == target

    made_of = shown.digest({"core.a": 1})
    assert shown.digest({"core.a": 2}) != made_of, "another snapshot"
    assert not shown.is_made_of(made_of), "nothing has been made yet"
    shown.remember(made_of)
    assert not shown.is_made_of(made_of), "the docs are not there"
    (target / shown.DOCS).touch()
    assert shown.is_made_of(shown.digest({"core.a": 1}))
    (project / "models" / "a.sql").write_text("select 2")
    assert not shown.is_made_of(shown.digest({"core.a": 1}))
    shown.forget()
    assert not shown.is_made_of(made_of)
