"""Where the other rooms find the services, embedded or not."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from common.errors import ServiceError
from common.settings import Settings
from stack.home import Home

Role = Literal["owner", "ingest"]
SHOP = "shop"


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
    """Host and port of the HiveServer2 endpoint readers and dbt use."""
    port = Home(settings.home).ports().get("thrift")
    if port is None:
        raise ServiceError(
            f"No Spark Thrift server has been started in {settings.home}",
            "run `ecom up`",
        )
    return "127.0.0.1", port
