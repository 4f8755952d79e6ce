"""Finds what is wrong with a home and its surroundings, and names the fix."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from common.database import connect
from common.errors import EcomError
from common.settings import Settings
from stack import hdfs_layout, java
from stack.endpoints import source_dsn
from stack.hdfs_access import explain
from stack.hdfs_rpc import namenode
from stack.home import Home
from stack.manager import Stack
from stack.postgres import lock_owner
from stack.process import holder, listens, owner

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
            f"service {name}", well,
            f"{found.state} on {found.host}:{found.port}" if found.port else "never started",
            "" if well else "run `ecom up`",
        )  # fmt: skip


def _ports(settings: Settings) -> Iterator[Finding]:
    for service in Stack(settings).services:
        port = service.home.ports().get(service.port_name)
        if port and service.process() is None and listens(port):
            yield Finding(
                f"port {port}", False,
                f"{owner(port)} listens on the port of {service.name}",
                "end that process, or take other ports: `ecom up --new-ports`",
            )  # fmt: skip


def _locks(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    files = [*home.glob("*.lock"), *home.glob("*node/in_use.lock")]
    held = {path: pid for path in sorted(files) if (pid := holder(path))}
    for path, pid in held.items():
        yield Finding(
            f"lock {path.relative_to(home)}", True, f"held by {pid}, which is alive"
        )
    idle = [str(path.relative_to(home)) for path in sorted(files) if path not in held]
    if idle:
        yield Finding(
            "stale locks", True,
            f"{', '.join(idle)}: nobody holds them, the system freed them when their "
            "owner ended; harmless, may be left or removed",
        )  # fmt: skip
    stack = Stack(settings)
    for service in stack.services:
        if service.record.path.exists() and service.process() is None:
            yield Finding(
                f"record run/{service.record.path.name}", False,
                f"its process is dead: {service.name} ended without `ecom down`",
                "run `ecom up`, which starts it anew, or `ecom down`; no data is lost",
            )  # fmt: skip
    server = lock_owner(stack.postgres.data)
    if server and stack.postgres.process() is None:
        yield Finding(
            "lock postgres/postmaster.pid", False,
            f"its owner, pid {server}, is not this home's PostgreSQL",
            "run `ecom up`, which removes it once that is certain",
        )  # fmt: skip


def _hdfs_folders(settings: Settings) -> Iterator[Finding]:
    home = Home(settings.home)
    if not Stack(settings).namenode.healthy():
        return
    with namenode(hdfs_layout.address(home), hdfs_layout.ADMIN) as client:
        if client.in_safe_mode():
            yield Finding(
                "hdfs", False, "the NameNode is in safe mode: it refuses every change",
                "free some space on the disk, then `ecom down` and `ecom up`",
            )  # fmt: skip
        faults = {one.path: one for one in hdfs_layout.folder_faults(client)}
    for path, wanted in hdfs_layout.LAYOUT.items():
        fault = faults.get(path)
        if fault is None:
            acl = f", ACL {wanted.acl}" if wanted.acl else ""
            said = f"{hdfs_layout.describe(wanted)}{acl}"
            yield Finding(f"hdfs {path}", True, said)
        else:
            yield Finding(
                f"hdfs {path}", False, f"{fault.found}; wanted {fault.wanted}; the "
                f"engine acts as {hdfs_layout.ENGINE}",
                f"run `ecom up`, which does as {hdfs_layout.ADMIN}: {fault.command}",
            )  # fmt: skip


def _hdfs_tables(settings: Settings) -> Iterator[Finding]:
    home = Home(settings.home)
    if not Stack(settings).namenode.healthy():
        return
    where = hdfs_layout.address(home)
    well = 0
    with ExitStack() as connections:
        users = {
            user: connections.enter_context(namenode(where, user))
            for user in hdfs_layout.GROUPS
        }
        for one in hdfs_layout.table_faults(users[hdfs_layout.ADMIN], users):
            if isinstance(one, str):
                well += 1
                continue
            path, state = explain(one.found, one.path)
            yield Finding(
                f"hdfs {path}", False, f"{state}; it has to be {one.wanted}",
                f"as {hdfs_layout.ADMIN}: {one.command}",
            )  # fmt: skip
    yield Finding(
        "hdfs tables", True, f"{well} folders of tables and views, each writable by the "
        f"engine ({hdfs_layout.ENGINE}) and by the role that owns its schema",
    )  # fmt: skip


def _source(settings: Settings) -> Iterator[Finding]:
    if settings.source_dsn is None and not Stack(settings).postgres.healthy():
        return
    try:
        connection = connect(source_dsn(settings, "ingest"), "ecom doctor", "")
    except EcomError as error:
        yield Finding("source", False, str(error.args[0]), error.fix)
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
    _java, _disk, _memory, _services, _ports, _locks,
    _hdfs_folders, _hdfs_tables, _source,
]  # fmt: skip
