"""Finds what is wrong with a home and its surroundings, and names the fix."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import psycopg2

from common.errors import EcomError
from common.settings import Settings
from stack import hadoop, java
from stack.endpoints import source_dsn
from stack.manager import Stack
from stack.process import listens

LEAST_DISK_GB = 5
LEAST_MEMORY_GB = 4


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `fix` is empty where all is well."""

    check: str
    healthy: bool
    detail: str
    fix: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Run every check; none changes anything."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check(settings)
        except EcomError as error:
            name = check.__name__.strip("_").replace("_", " ")
            message = str(error).splitlines()[0]
            findings.append(Finding(name, False, message, error.fix))
    return findings


def _java(_: Settings) -> Iterator[Finding]:
    yield Finding("java", True, f"Java {java.REQUIRED_MAJOR} at {java.find_java()}")


def _disk(settings: Settings) -> Iterator[Finding]:
    place = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    free = shutil.disk_usage(place).free / 1e9
    yield Finding(
        "disk", free >= LEAST_DISK_GB, f"{free:,.0f} GB free at {place}",
        "" if free >= LEAST_DISK_GB else "free some space, or set ECOM_HOME to another disk",
    )  # fmt: skip


def _memory(_: Settings) -> Iterator[Finding]:
    total = psutil.virtual_memory().total / 1e9
    yield Finding(
        "memory", total >= LEAST_MEMORY_GB, f"{total:,.0f} GB of memory",
        "" if total >= LEAST_MEMORY_GB else f"the stack needs {LEAST_MEMORY_GB} GB",
    )  # fmt: skip


def _services(settings: Settings) -> Iterator[Finding]:
    for name, found in Stack(settings).status().items():
        well = found.state == "running"
        yield Finding(
            f"service {name}", well, f"{found.state} on {found.host}:{found.port or '-'}",
            "" if well else "run `ecom up`",
        )  # fmt: skip


def _ports(settings: Settings) -> Iterator[Finding]:
    for service in Stack(settings).services:
        port = service.home.ports().get(service.port_name)
        if port and service.process() is None and listens(port):
            yield Finding(
                f"port {port}", False, f"another process listens on {service.name}'s port",
                f"end that process, or remove {settings.home / 'ports.json'} while the "
                "stack is down so that free ports are chosen anew",
            )  # fmt: skip


def _hdfs_permissions(settings: Settings) -> Iterator[Finding]:
    stack = Stack(settings)
    if not stack.namenode.healthy():
        return
    for path, found in hadoop.lay_out(stack.home, check=True).items():
        owner, group, mode, _ = hadoop.LAYOUT[path]
        well = found[:2] == (owner, group) and _mode(found[2]) == _mode(mode)
        yield Finding(
            f"hdfs {path}", well,
            f"owner {found[0]}:{found[1]} mode {found[2]}, wanted {owner}:{group} {mode}; "
            f"the engine acts as {hadoop.ENGINE}",
            "" if well else f"run `ecom up`, which does: hdfs dfs -chown {owner}:{group} "
            f"{path} && hdfs dfs -chmod {mode} {path}",
        )  # fmt: skip


def _mode(text: str) -> int:
    """Permission bits, without what an ACL's mask does to the group's."""
    return int(text, 8) & 0o1707


def _source(settings: Settings) -> Iterator[Finding]:
    if settings.source_dsn is None and not Stack(settings).postgres.healthy():
        return
    try:
        connection = psycopg2.connect(source_dsn(settings, "ingest"), connect_timeout=5)
    except psycopg2.OperationalError as error:
        reason = str(error).strip().splitlines()[-1]
        yield Finding("source", False, reason, "start it, or correct ECOM_SOURCE_DSN")
        return
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),"
            " (SELECT count(*) FROM pg_prepared_xacts"
            "   WHERE database = current_database()),"
            " (SELECT array_agg(relname::text) FROM pg_class c WHERE relkind = 'r'"
            "   AND relnamespace = 'public'::regnamespace"
            "   AND NOT has_table_privilege(c.oid, 'SELECT'))"
        )
        row = cursor.fetchone()
    connection.close()
    assert row is not None
    user, sees, prepared, closed = row
    yield Finding(
        "source statistics", sees, f"{user} {'sees' if sees else 'cannot see'} all sessions",
        "" if sees else f"GRANT pg_read_all_stats TO {user}",
    )  # fmt: skip
    yield Finding(
        "source grants", not closed, f"tables {user} may not read: {', '.join(closed or []) or 'none'}",
        "" if not closed else f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}",
    )  # fmt: skip
    yield Finding(
        "prepared transactions", not prepared, f"{prepared} pending; they hold the watermark",
        "" if not prepared else "COMMIT PREPARED or ROLLBACK PREPARED them",
    )  # fmt: skip


CHECKS: list[Callable[[Settings], Iterator[Finding]]] = [
    _java, _disk, _memory, _services, _ports, _hdfs_permissions, _source,
]  # fmt: skip
