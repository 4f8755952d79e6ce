"""Where the other rooms find the services, embedded or not."""

from __future__ import annotations

import os
from typing import Literal
from urllib.parse import quote

from common.errors import ServiceError, UsageError
from common.settings import PREFIX_VARIABLE, PROJECT, Settings
from stack.home import Home

Role = Literal["owner", "ingest"]
SHOP = "shop"
DEFAULT_THRIFT_PORT = "10000"


def source_dsn(settings: Settings, role: Role) -> str:
    """A `postgresql://` URL of the source database; holds a password, never print it.

    Args:
        settings: the user's choices; `ECOM_SOURCE_DSN` wins over the embedded one.
        role: `owner` makes and fills the shop's tables, `ingest` only reads them.

    Raises:
        ServiceError: the embedded PostgreSQL has never been started.
    """
    if settings.source_dsn:
        return settings.source_dsn
    home = Home(settings.home)
    port = home.ports().get("postgres")
    if port is None:
        raise ServiceError(
            f"No PostgreSQL has been started in {settings.home}", "run `ecom up`"
        )
    user = {"owner": "shop", "ingest": "ecom_ingest"}[role]
    password = quote(home.secret(f"postgres_{user}"), safe="")
    return f"postgresql://{user}:{password}@127.0.0.1:{port}/{SHOP}"


def thrift_address(settings: Settings) -> tuple[str, int]:
    """Host and port of the HiveServer2 endpoint readers and dbt use.

    `ECOM_THRIFT_HOST` and `ECOM_THRIFT_PORT` name another than the embedded one.
    """
    host = os.environ.get("ECOM_THRIFT_HOST")
    if host:
        named = os.environ.get("ECOM_THRIFT_PORT", DEFAULT_THRIFT_PORT)
        if not named.isdecimal():
            raise UsageError(
                f"Finding the Thrift server: ECOM_THRIFT_PORT is {named!r}, no port",
                "set it to a number such as 10000",
            )
        return host, int(named)
    port = Home(settings.home).ports().get("thrift")
    if port is None:
        raise ServiceError(
            f"No Spark Thrift server has been started in {settings.home}",
            "run `ecom up`",
        )
    return "127.0.0.1", port


def connect_url(settings: Settings) -> str:
    """The Spark Connect URL ingest works through.

    `ECOM_SPARK_REMOTE` names another engine, run by another HDFS user on a cluster.
    """
    remote = os.environ.get("ECOM_SPARK_REMOTE")
    if remote:
        return remote
    port = Home(settings.home).ports().get("connect")
    if port is None:
        raise ServiceError(
            f"No Spark engine has been started in {settings.home}", "run `ecom up`"
        )
    return f"sc://127.0.0.1:{port}"


def dbt_environment(settings: Settings) -> dict[str, str]:
    """What dbt needs in its environment; a value the user has set wins."""
    defaults = {
        "DBT_PROFILES_DIR": str(PROJECT / "profiles"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
        "DBT_TARGET": settings.target,
        PREFIX_VARIABLE: settings.schema_prefix,
    }
    port = Home(settings.home).ports().get("thrift")
    if port is not None:
        defaults |= {"ECOM_THRIFT_HOST": "127.0.0.1", "ECOM_THRIFT_PORT": str(port)}
    return {**defaults, **{k: v for k, v in os.environ.items() if k in defaults}}
