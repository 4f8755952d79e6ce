"""The SQL of the charts: the text of `analyses/charts/`, the same that dbt compiles."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from common.errors import UsageError
from common.settings import PROJECT

FOLDER = PROJECT / "analyses" / "charts"
MARTS = (
    "customer_activity_by_region_tier",
    "top_products_by_category_region",
    "interaction_trend_daily",
    "purchase_trend_by_category",
    "interaction_by_age",
)
_REF = re.compile(r"\{\{\s*ref\(\s*['\"]([^'\"]+)['\"]\s*\)\s*\}\}")


def source_text(name: str, folder: Path = FOLDER) -> str:
    """The text of one analysis, before `ref` is resolved.

    Raises:
        UsageError: there is no analysis of that name.
    """
    path = folder / f"{name}.sql"
    if not path.exists():
        raise UsageError(
            f"There is no analysis {name} in {folder}",
            "take one of: " + ", ".join(sorted(p.stem for p in folder.glob("*.sql"))),
        )
    return path.read_text(encoding="utf-8")


def refs(text: str) -> list[str]:
    """The models that an analysis refers to, in order of their first mention."""
    return list(dict.fromkeys(_REF.findall(text)))


def relation(mart: str, prefix: str) -> str:
    """The name readers use for a mart, such as `ci_ab12_marts.interaction_by_age`.

    Raises:
        UsageError: `mart` is none of the five marts: charts read marts only.
    """
    if mart not in MARTS:
        raise UsageError(
            f"A chart refers to {mart}, which is not a mart",
            "read one of: " + ", ".join(MARTS),
        )
    return f"{prefix}marts.{mart}"


def render(name: str, prefix: str) -> str:
    """The SQL of one analysis, ready to run.

    Args:
        name: the analysis, `analyses/charts/<name>.sql`.
        prefix: what stands before the schema names, see `common.settings.schema_prefix`.
    """
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701
    template = environment.from_string(source_text(name))
    return template.render(ref=lambda mart: relation(mart, prefix))
