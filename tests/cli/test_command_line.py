"""What holds for every command: options anywhere, documents, targets, secrets."""

from __future__ import annotations

import getpass
import json
import re
import subprocess
from pathlib import Path

import pytest

from cli.dbt import target_named
from common.database import check_address, connect, place
from common.errors import UsageError
from common.settings import PREFIX_VARIABLE, PROJECT, Settings
from ingest import reconcile
from publish.building import demand_target
from stack.endpoints import dbt_environment, thrift_address
from tests.conftest import BIN, ecom, environment


def test_debug_may_stand_behind_the_command(tmp_path: Path) -> None:
    nowhere = Settings(tmp_path / "none", None, "local")
    assert "Traceback" in ecom(nowhere, "ingest", "--debug", code=3)
    assert "Traceback" not in ecom(nowhere, "ingest", code=3)


def test_wrong_usage_is_told_as_a_document_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "ecom"), "status", "--json", "--nope"],
        env=environment(Settings(tmp_path, None, "local")),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "No such option" in done.stderr
    found = json.loads(done.stdout)
    assert found["exit_code"] == 2
    assert "ecom status --json --nope" in found["error"]


def test_nothing_is_dropped_where_nobody_can_be_asked(tmp_path: Path) -> None:
    nowhere = Settings(tmp_path / "none", None, "local")
    assert "add --yes" in ecom(nowhere, "maintain", "--drop", "core.x", code=2)


@pytest.mark.parametrize(
    "address",
    [
        "mysql://u:TopSecret1@127.0.0.1:1/x",
        "postgresql://u:Top%Secret1@127.0.0.1:1/x",
        "postgresql://u:Top@Secret1@127.0.0.1:1/x",
        "postgresql://u:1/TopSecret1@127.0.0.1:1/x",
        "postgresql://u:1?TopSecret1@127.0.0.1:1/x",
        "postgresql://u:1#TopSecret1@127.0.0.1:1/x",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_shown(
    address: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="percent-encoded") as refused:
        check_address(address)
    assert "Secret1" not in str(refused.value)
    said = ecom(Settings(tmp_path, address, "local"), "doctor", code=1)
    assert "is not a PostgreSQL address" in said
    assert "Secret1" not in said


def test_an_option_that_is_none_does_not_show_the_password() -> None:
    address = "postgresql://u:TopSecret1@127.0.0.1:1/x?nothing_like_it=1"
    with pytest.raises(UsageError, match="cannot be read") as refused:
        connect(address, "a test", "")
    assert "Secret1" not in str(refused.value)


def test_an_escaped_password_is_taken() -> None:
    address = "postgresql://u:a%40b%25@127.0.0.1:7/x"
    check_address(address)
    assert place(address) == "127.0.0.1:7/x"


def test_targets_other_than_local_have_schemas_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (PREFIX_VARIABLE, "ECOM_TARGET", "DBT_TARGET"):
        monkeypatch.delenv(name, raising=False)
    user = re.sub("[^a-z0-9]", "_", getpass.getuser().lower())
    assert Settings.from_environment().schema_prefix == ""
    assert Settings.from_environment("cluster").schema_prefix == ""
    assert Settings.from_environment("dev").schema_prefix == f"dev_{user}_"
    monkeypatch.setenv("ECOM_TARGET", "ci")
    found = Settings.from_environment()
    assert re.fullmatch("ci_[0-9a-f]{8,}_", found.schema_prefix)
    assert dbt_environment(found)[PREFIX_VARIABLE] == found.schema_prefix
    monkeypatch.setenv(PREFIX_VARIABLE, "ci_mine_")
    assert Settings.from_environment("dev").schema_prefix == "ci_mine_"


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        (["build", "--target", "dev"], "dev"),
        (["build", "--target=ci", "-s", "x"], "ci"),
        (["-t", "audit", "run"], "audit"),
        (["build"], None),
    ],
)
def test_the_target_is_the_one_that_dbt_is_told(
    arguments: list[str], target: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DBT_TARGET", raising=False)
    assert target_named(arguments) == target
    monkeypatch.setenv("DBT_TARGET", "cluster")
    assert target_named(arguments) == (target or "cluster")


def test_dbt_names_the_schemas_of_its_target(tmp_path: Path) -> None:
    kept = environment(Settings(tmp_path / "home", None, "local"))
    done = subprocess.run(
        [str(BIN / "dbt"), "--quiet", "ls", "--target", "dev", "--output", "json",
         "--output-keys", "schema", "--resource-type", "model", "--resource-type", "source", "-s", "fct_interactions", "source:staging.orders"],
        cwd=PROJECT, env=kept, capture_output=True, text=True, check=True,
    )  # fmt: skip
    named = [json.loads(line)["schema"] for line in done.stdout.splitlines()]
    assert len(named) == 2
    assert all(re.fullmatch("dev_[a-z0-9_]+_(core|staging)", name) for name in named)


def test_a_target_that_dbt_does_not_know_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lokal.*local, audit, ci, dev, cluster"):
        demand_target(Settings(tmp_path, None, "lokal"))
    wrong = environment(Settings(tmp_path, None, "local")) | {"ECOM_TARGET": "lokal"}
    done = subprocess.run(
        [str(BIN / "ecom"), "run"], env=wrong, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "unset it for local" in done.stderr


def test_a_port_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_THRIFT_HOST", "127.0.0.1")
    monkeypatch.setenv("ECOM_THRIFT_PORT", "ten thousand")
    with pytest.raises(UsageError, match="ECOM_THRIFT_PORT is 'ten thousand'"):
        thrift_address(Settings(PROJECT, None, "local"))


def test_a_comparison_prints_the_first_keys_and_keeps_the_others() -> None:
    found = reconcile.Reconciliation("t")
    for key in range(reconcile.PRINTED_KEYS + 5):
        found.add(str(key), reconcile.MISSING)
    assert "and 5 more; --json names up to 10,000" in found.describe()
    assert len(found.document()["differences"]) == reconcile.PRINTED_KEYS + 5
    assert found.document()["agrees"] is False
    assert reconcile.Reconciliation("t").document()["agrees"] is True
