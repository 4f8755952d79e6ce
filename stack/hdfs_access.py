"""Whether the engine may write to the warehouse's folders, asked before data moves."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from common.errors import UsageError
from common.settings import Settings
from stack.hdfs_layout import (
    ADMIN,
    ENGINE,
    LAYOUT,
    WAREHOUSE,
    address,
    folder_faults,
    mend,
)
from stack.hdfs_rpc import NameNodeClient, RefusedError, namenode
from stack.home import Home

REFUSED = re.compile(
    r'inode="(?P<path>[^"]*)":(?P<owner>[^:]+):(?P<group>[^:]+):(?P<mode>\S+)'
)


def demand_writable(settings: Settings, paths: Sequence[str]) -> None:
    """Refuse to go on where the engine may not write to a folder of the warehouse.

    An engine elsewhere (`ECOM_SPARK_REMOTE`) and a home never started are not asked.

    Args:
        settings: where the stack is.
        paths: folders below the warehouse's; of what is missing, the folder above.

    Raises:
        UsageError: naming path, owner, mode, acting user and the command that mends it.
        ServiceError: the NameNode does not answer.
    """
    home = Home(settings.home)
    if "namenode" not in home.ports() or os.environ.get("ECOM_SPARK_REMOTE"):
        return
    with namenode(address(home), ENGINE) as client:
        for path in paths:
            _demand(client, f"{WAREHOUSE}/{path}")


def laid_out(home: Home) -> bool:
    """Whether every folder that `up` lays out is as it has to be."""
    with namenode(address(home), ADMIN) as client:
        return not list(folder_faults(client))


def explain(refusal: str, path: str) -> tuple[str, str]:
    """The inode a refusal speaks of, and its owner, group and mode in words."""
    found = REFUSED.search(refusal)
    if not found:
        return path, refusal
    owner = f"its owner is {found['owner']}:{found['group']}, its mode {found['mode']}"
    return found["path"], owner


def _demand(client: NameNodeClient, path: str) -> None:
    try:
        client.check_access(path)
    except FileNotFoundError:
        _demand(client, path.rpartition("/")[0])
    except RefusedError as refusal:
        where, state = explain(str(refusal), path)
        fix = (
            "run `ecom up`, which sets owner, mode and ACL of this folder right"
            if where in LAYOUT
            else f"as {ADMIN} run `{mend(where)}`"
        )
        raise UsageError(
            f"Before any data moves: {ENGINE} may not write to {where} on HDFS: {state}",
            fix,
        ) from None
