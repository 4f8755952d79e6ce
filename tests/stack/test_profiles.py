"""Every target of `profiles.yml` as dbt itself reads it, environment set and unset."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pytest
from dbt.config.runtime import load_profile
from dbt.flags import set_from_args
from dbt_common.context import set_invocation_context

from common.settings import PROJECT

LDAP = {"ECOM_THRIFT_AUTH": "LDAP", "DBT_ENV_SECRET_THRIFT_PASSWORD": "0042"}


def credentials(target: str, **environment: str) -> Any:
    """What dbt-spark is given for a target."""
    profiles = str(PROJECT / "profiles")
    set_from_args(Namespace(PROFILES_DIR=profiles, project_dir=str(PROJECT)), None)
    set_invocation_context(environment)
    return load_profile(str(PROJECT), {}, "ecom", target).credentials


@pytest.mark.parametrize("target", ["local", "audit", "ci", "dev"])
def test_targets_of_the_embedded_stack(target: str) -> None:
    unset = credentials(target)
    assert (unset.host, unset.port) == ("127.0.0.1", 10000)
    assert (unset.method, unset.user) == ("thrift", "ecom_transform")
    assert (unset.poll_interval, unset.query_retries) == (0, 0)
    # The server has neither; PyHive refuses a password that no mode asks for.
    given = (unset.auth, unset.password, unset.kerberos_service_name, unset.use_ssl)
    assert given == (None, None, None, False)
    there = {"ECOM_THRIFT_HOST": "10.0.0.7", "ECOM_THRIFT_PORT": "4711"}
    found = credentials(target, ECOM_DBT_THREADS="9", **there)
    assert (found.host, found.port) == ("10.0.0.7", 4711)


def test_the_audit_branch_reaches_the_session() -> None:
    for target in ("audit", "cluster"):
        found = credentials(target, ECOM_AUDIT_BRANCH="run_7")
        assert found.server_side_parameters["set:spark.wap.branch"] == "run_7"
    assert "set:spark.wap.branch" not in credentials("local").server_side_parameters


def test_a_cluster_with_kerberos_is_the_default_and_uses_tls() -> None:
    found = credentials("cluster")
    assert (found.auth, found.kerberos_service_name) == ("KERBEROS", "hive")
    assert (found.password, found.use_ssl) == (None, True)
    assert credentials(
        "cluster", ECOM_THRIFT_SERVICE="kyuubi"
    ).kerberos_service_name == ("kyuubi")


def test_a_cluster_with_a_password() -> None:
    for auth in ("LDAP", "CUSTOM"):
        found = credentials("cluster", **{**LDAP, "ECOM_THRIFT_AUTH": auth})
        # A number stays what was typed, and no service name comes with it.
        assert (found.auth, found.password) == (auth, "0042")
        assert found.kerberos_service_name is None


@pytest.mark.parametrize("auth", ["NONE", "NOSASL"])
def test_a_cluster_without_authentication(auth: str) -> None:
    found = credentials("cluster", ECOM_THRIFT_AUTH=auth)
    assert (found.password, found.kerberos_service_name) == (None, None)


@pytest.mark.parametrize(
    ("said", "tls"),
    [("false", False), ("False", False), ("true", True), ("yes", True), ("0", True)],
)
def test_only_false_turns_tls_off(said: str, tls: bool) -> None:
    assert credentials("cluster", ECOM_THRIFT_SSL=said).use_ssl is tls
