"""What docs and charts were made of, so that the same are not made twice.

They are made of the tables that readers see and of the project's own files. A digest of
both is kept beside them in dbt's target folder, once all are written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from common.settings import PROJECT
from publish.building import target_folder

DOCS = "static_index.html"
_PARTS = (
    "analyses", "dbt_project.yml", "macros", "models", "requirements/run.lock",
    "seeds", "snapshots", "tests/dbt", "viz",
)  # fmt: skip


def digest(tables: Mapping[str, int]) -> str:
    """Of tables with their snapshots, and of what docs and charts are written by."""
    found = hashlib.sha256(json.dumps(sorted(tables.items())).encode())
    for path in _files():
        found.update(f"\n{path.relative_to(PROJECT)}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def is_made_of(wanted: str) -> bool:
    """Whether the docs are there, and they and the charts were made of just that."""
    try:
        known = _record().read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return known == wanted and (target_folder() / DOCS).exists()


def remember(made_of: str) -> None:
    """Keep what they are made of."""
    _record().write_text(made_of, encoding="utf-8")


def forget() -> None:
    """They are being made anew, and until then of nothing."""
    _record().unlink(missing_ok=True)


def _record() -> Path:
    return target_folder() / "shown.sha256"


def _files() -> Iterator[Path]:
    for part in _PARTS:
        path = PROJECT / part
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        for one in found:
            if one.is_file() and "__pycache__" not in one.parts:
                yield one
