"""Every error a user may see, named by how to recover from it.

The exit codes are the contract's: 1 = the data or a check failed, 2 = wrong usage
or configuration, 3 = a service is unreachable.
"""

from __future__ import annotations

from typing import Any


class EcomError(Exception):
    """An error with a remedy.

    Args:
        message: what was being done, on what, and what went wrong.
        fix: what the user can do next, as a sentence or a command.
    """

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix
        self.details: dict[str, Any] = {}
        """What else a `--json` document of the failure says."""

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  Next: {self.fix}" if self.fix else message


class DataError(EcomError):
    """The data or a check failed: look at the data named, then run again."""

    exit_code = 1


class UsageError(EcomError):
    """Wrong usage or configuration: correct what is named, then run again."""

    exit_code = 2


class ServiceError(EcomError):
    """A service is unreachable or failed: mend or start it, then run again."""

    exit_code = 3


class BusyError(EcomError):
    """Another process holds the lock: wait for it, then run again."""

    exit_code = 1
