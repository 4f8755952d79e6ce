"""Conventions of the repository that no linter knows. Each has its reason."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cli.main import app
from common.settings import PROJECT
from tests import check

MANIFEST = check.TARGET / "manifest.json"
BRANCH_SAFE = {"incremental", "snapshot", "view", "ephemeral"}


@pytest.fixture(scope="module", autouse=True)
def parsed() -> None:
    """The manifest of the project as it is; `make check` has just written it."""
    if os.environ.get("DBT_TARGET_PATH") != str(check.TARGET):
        done = check.run(check.WRITES_MANIFEST)
        assert done.returncode == 0, done.stdout + done.stderr


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


def _shown() -> Iterator[tuple[str, str]]:
    """Every `ecom ...` of the guides and of `--help`, with where it stands."""
    for page in tracked("*.md"):
        text = page.read_text(encoding="utf-8")
        fenced = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
        for line in "\n".join(fenced).splitlines():
            if line.startswith("ecom "):
                yield page.name, line.split("#")[0].strip()
        for line in re.findall(r"`(ecom [^`\n]+)`", text):
            yield page.name, line
    for name in set(_commands(typer.main.get_command(app))):
        for line in re.findall(r"Example: (ecom .*)", _found(name).help or ""):
            yield f"{name} --help", line.strip()


def test_every_command_shown_is_understood() -> None:
    """What a reader types must be taken: the command, its options, its arguments."""
    shown = sorted(set(_shown()))
    assert len(shown) > 40
    for place, line in shown:
        words = shlex.split(re.sub(r"\[[A-Z]+\.\.\.\]|[\[\]]|\s\.\.\.$", "", line))[1:]
        found = typer.main.get_command(app)
        while getattr(found, "commands", None) and words and words[0] != "--help":
            assert words[0] in found.commands, f"{place}: {line}"  # type: ignore[attr-defined]
            found = found.commands[words.pop(0)]  # type: ignore[attr-defined]
        if words == ["--help"] or getattr(found, "commands", None):
            continue
        left = _left_over(found, words)
        assert not left, f"{place}: {line}"


def _left_over(command: Any, words: list[str]) -> list[str]:
    """What a command does not take. Guides may leave out what it needs.

    Raises:
        NoSuchOption: it has no such option.
    """
    with command.make_context(command.name, [], resilient_parsing=True) as context:
        context.resilient_parsing = False
        _, left, _ = command.make_parser(context).parse_args(list(words))
    return list(left)


def test_a_command_nobody_has_is_noticed() -> None:
    """The test above must be able to fail."""
    assert _left_over(_found("charts"), ["--out", "here", "there"]) == ["there"]
    with pytest.raises(Exception, match="--nope"):
        _left_over(_found("charts"), ["--nope"])


def test_every_make_target_shown_exists() -> None:
    """`make run` is the first thing a reader types."""
    targets = set(
        re.findall(
            r"^([a-z]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.M
        )
    )
    for page in tracked("*.md"):
        text = page.read_text(encoding="utf-8")
        fenced = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
        shown = re.findall(r"^make ([a-z]+)", fenced, re.M)
        for target in shown + re.findall(r"`make ([a-z]+)`", text):
            assert target in targets, f"{page.name}: {target}"


def _found(name: str) -> Any:
    """The command of a name such as `source init`."""
    found: Any = typer.main.get_command(app)
    for part in name.split():
        found = found.commands[part]
    return found


def _commands(group: object, prefix: str = "") -> Iterator[str]:
    for name, command in getattr(group, "commands", {}).items():
        yield prefix + name
        yield from _commands(command, f"{prefix}{name} ")


@pytest.mark.parametrize("name", sorted(set(_commands(typer.main.get_command(app)))))
def test_every_command_has_an_example(name: str) -> None:
    """`--help` ends in something that can be typed."""
    found = _found(name)
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
