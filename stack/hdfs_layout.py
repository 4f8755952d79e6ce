"""The warehouse's folders on HDFS: who owns which, with what mode and ACL.

Roles are users of simple authentication: `hdfs` administers, `ecom_ingest` lands
staging, `ecom_transform` builds the warehouse, `ecom_reader` only reads what is
published. The embedded engine is one JVM, so it works as `ecom`, a member of both
writing groups; on a cluster each role runs as itself, by configuration alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from common.errors import ServiceError
from common.progress import task
from stack.hdfs_rpc import Address, NameNodeClient, RefusedError, namenode
from stack.home import Home

ADMIN, ENGINE = "hdfs", "ecom"
INGEST, TRANSFORM, READER = "ecom_ingest", "ecom_transform", "ecom_reader"
GROUPS = {
    ADMIN: "supergroup",
    ENGINE: f"{ENGINE},{INGEST},{TRANSFORM}",
    INGEST: INGEST,
    TRANSFORM: TRANSFORM,
    READER: READER,
}
# What is made is open to its owner and group; where readers may look, an ACL says so.
UMASK = "007"
WAREHOUSE = "/user/hive/warehouse"
SAFE_MODE_PATIENCE = 60.0


@dataclass(frozen=True)
class Folder:
    """Who owns a folder; `acl` lets other roles in, or says what is made inside."""

    owner: str
    group: str
    mode: int
    acl: str = ""

    @property
    def entries(self) -> set[str]:
        """The ACL's entries one by one."""
        return set(self.acl.split(",")) if self.acl else set()


# Sticky: the one that transforms may add its views to staging, not move what is landed.
STAGING = Folder(
    INGEST, INGEST, 0o1770,
    f"group:{TRANSFORM}:rwx,default:group::rwx,default:group:{TRANSFORM}:r-x",
)  # fmt: skip
PUBLISHED = "default:group::rwx,default:other::r-x"
LAYOUT = {
    "/tmp": Folder(ADMIN, "supergroup", 0o1777),  # noqa: S108
    "/user": Folder(ADMIN, "supergroup", 0o755),
    "/user/hive": Folder(ADMIN, "supergroup", 0o755),
    WAREHOUSE: Folder(TRANSFORM, TRANSFORM, 0o775, f"group:{INGEST}:r-x"),
    f"{WAREHOUSE}/staging.db": STAGING,
    f"{WAREHOUSE}/snapshots.db": Folder(TRANSFORM, TRANSFORM, 0o770),
    f"{WAREHOUSE}/core.db": Folder(TRANSFORM, TRANSFORM, 0o775, PUBLISHED),
    f"{WAREHOUSE}/marts.db": Folder(TRANSFORM, TRANSFORM, 0o775, PUBLISHED),
    f"{WAREHOUSE}/ops.db": Folder(
        TRANSFORM, TRANSFORM, 0o775,
        f"group:{INGEST}:rwx,default:group:{INGEST}:rwx,{PUBLISHED}",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A folder that is not as it has to be, and the command that mends it."""

    path: str
    found: str
    wanted: str
    command: str


def address(home: Home) -> Address:
    """Host and port of the home's NameNode."""
    return "127.0.0.1", home.ports()["namenode"]


def lay_out(home: Home) -> None:
    """Make and mend the warehouse's folders: owner, group, mode, ACL.

    Raises:
        ServiceError: the NameNode does not answer or refuses.
    """
    try:
        with namenode(address(home), ADMIN) as client:
            _await_writable(client)
            for path, wanted in LAYOUT.items():
                client.make_folder(path)
                client.set_owner(path, wanted.owner, wanted.group)
                client.set_mode(path, wanted.mode)
                if wanted.acl:
                    client.add_acl(path, wanted.acl)
    except RefusedError as error:
        raise ServiceError(
            f"Laying out {WAREHOUSE} on HDFS: {error}",
            f"read {home.log('namenode')}, or run `ecom doctor`",
        ) from error


def _await_writable(client: NameNodeClient) -> None:
    """After a start the NameNode refuses changes until the DataNode has reported."""
    if not client.in_safe_mode():
        return
    began = time.monotonic()
    with task("Waiting until HDFS has seen its blocks"):
        while client.in_safe_mode():
            if time.monotonic() - began > SAFE_MODE_PATIENCE:
                raise ServiceError(
                    "HDFS stays in safe mode: blocks are missing, or the disk is full",
                    "free some space; `ecom doctor` shows how much there is",
                )
            time.sleep(0.05)


def folder_faults(client: NameNodeClient) -> Iterator[Fault]:
    """Folders of the layout that are missing or differ; asked as `hdfs`."""
    for path, wanted in LAYOUT.items():
        found = client.status(path)
        if found is None:
            command = f"hdfs dfs -mkdir -p {path} && {_set(path, wanted)}"
            yield Fault(path, "missing", describe(wanted), command)
            continue
        same = (found.owner, found.group, found.mode)
        lacks = wanted.entries - client.acl(path)
        if lacks or same != (wanted.owner, wanted.group, wanted.mode):
            said = describe(Folder(*same)) + (
                f", without the ACL {','.join(sorted(lacks))}" if lacks else ""
            )
            yield Fault(path, said, describe(wanted), _set(path, wanted))


def table_faults(
    client: NameNodeClient, users: dict[str, NameNodeClient]
) -> Iterator[Fault | str]:
    """Every table's folder: its path where all is well, else its fault.

    Args:
        client: asks as `hdfs`, which sees everything.
        users: by name, the connections of those who have to write.
    """
    for schema in client.list(WAREHOUSE):
        above = f"{WAREHOUSE}/{schema.name}"
        laid = LAYOUT.get(above)
        writers = {ENGINE, laid.owner} if laid else {ENGINE}
        for table in client.list(above):
            folder = f"{above}/{table.name}"
            below = [f"{folder}/{one.name}" for one in client.list(folder)]
            yield _table_fault(folder, below, {u: users[u] for u in writers}) or folder


def _table_fault(
    folder: str, below: list[str], users: dict[str, NameNodeClient]
) -> Fault | None:
    for path in (folder, *below):
        for user, client in sorted(users.items()):
            try:
                client.check_access(path)
            except FileNotFoundError:  # dropped in the meantime
                continue
            except RefusedError as error:
                return Fault(path, str(error), f"writable by {user}", mend(folder))
    return None


def mend(path: str) -> str:
    """The command that gives a table's folder, and all below, back to its role."""
    group = next(
        (laid.group for above, laid in reversed(LAYOUT.items()) if _in(path, above)),
        TRANSFORM,
    )
    return f"hdfs dfs -chgrp -R {group} {path} && hdfs dfs -chmod -R u+rwX,g+rwX {path}"


def describe(folder: Folder) -> str:
    """Owner, group and mode in words."""
    return f"owner {folder.owner}:{folder.group}, mode {folder.mode:o}"


def _in(path: str, above: str) -> bool:
    return path == above or path.startswith(f"{above}/")


def _set(path: str, wanted: Folder) -> str:
    command = (
        f"hdfs dfs -chown {wanted.owner}:{wanted.group} {path} && "
        f"hdfs dfs -chmod {wanted.mode:o} {path}"
    )
    more = f" && hdfs dfs -setfacl -m {wanted.acl} {path}" if wanted.acl else ""
    return command + more
