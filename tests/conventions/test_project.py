"""Conventions of the repository that no linter knows. Each has its reason."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from cli.main import app
from common.settings import PROJECT

MANIFEST = PROJECT / "target" / "check" / "manifest.json"
BRANCH_SAFE = {"incremental", "snapshot", "view", "ephemeral"}


def tracked(*patterns: str) -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [
        PROJECT / line for line in done.stdout.splitlines() if (PROJECT / line).exists()
    ]


def nodes(*kinds: str) -> Iterator[dict[str, object]]:
    document = json.loads(MANIFEST.read_text(encoding="utf-8"))
    for node in document["nodes"].values():
        if node["resource_type"] in kinds:
            yield node


def test_every_model_has_its_yml_beside_it_and_a_description() -> None:
    """A newcomer finds what a relation means where it is made."""
    seen = 0
    for node in nodes("model", "snapshot"):
        seen += 1
        path = PROJECT / str(node["original_file_path"])
        assert path.with_suffix(".yml").exists(), path
        assert node["description"], node["name"]
    assert seen >= 16


def test_every_test_says_what_it_asks() -> None:
    """Whoever reads a failure has the rule beside it, not only its name."""
    for node in nodes("test"):
        assert node["description"], node["name"]


def test_no_model_bypasses_the_audit_branch() -> None:
    """`create or replace table` would be visible to readers before any test ran."""
    for node in nodes("model", "snapshot"):
        kind = node["config"]["materialized"]  # type: ignore[index]
        assert kind in BRANCH_SAFE, f"{node['name']} is a {kind}"
        if kind == "view":
            assert str(node["schema"]).endswith("staging"), node["name"]


def test_no_personal_data_in_core_and_marts() -> None:
    """`full_name` and `email` stay in staging and snapshots."""
    for node in nodes("model"):
        if str(node["schema"]).endswith(("core", "marts")):
            columns = set(node["columns"])  # type: ignore[call-overload]
            assert not columns & {"full_name", "email"}, node["name"]


def test_links_in_the_guides_lead_somewhere() -> None:
    """A broken link costs a reader more than no link."""
    for page in tracked("*.md"):
        for target in re.findall(
            r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")
        ):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_of_the_readme_exists() -> None:
    """Commands shown must be commands."""
    known = set(_commands(typer.main.get_command(app)))
    shown = re.findall(
        r"ecom ((?:source )?[a-z][a-z-]+)",
        (PROJECT / "README.md").read_text(encoding="utf-8"),
    )
    assert len(shown) > 8
    for command in shown:
        assert command.split()[0] in known, command
        if command.startswith("source "):
            assert command in known, command


def _commands(group: object, prefix: str = "") -> Iterator[str]:
    for name, command in getattr(group, "commands", {}).items():
        yield prefix + name
        yield from _commands(command, f"{prefix}{name} ")


@pytest.mark.parametrize("name", sorted(set(_commands(typer.main.get_command(app)))))
def test_every_command_has_an_example(name: str) -> None:
    """`--help` ends in something that can be typed."""
    found: object = typer.main.get_command(app)
    for part in name.split():
        found = getattr(found, "commands")[part]  # noqa: B009
    if not getattr(found, "commands", None):
        assert "ecom " in (getattr(found, "help", "") or ""), name


def test_no_registry_host_and_no_path_of_one_machine() -> None:
    """The text speaks of the project alone."""
    hosts = re.compile(
        "|".join(
            [
                "py" + "pi.org",
                "pythonhosted" + r"\.org",
                "repo1?" + r"\.maven",
                "registry" + r"\.npmjs",
            ]
        )
    )
    paths = re.compile(r"(?<![\w.])/(?:work|root|home/\w+)/")
    for path in tracked():
        if path.suffix in (".png", ".lock"):
            continue
        text = path.read_text(encoding="utf-8")
        assert not hosts.search(text), path
        assert not paths.search(text), path
