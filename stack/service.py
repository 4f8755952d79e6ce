"""What every service has: a name, ports, a start, a health check, a stop."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import psutil

from common.errors import ServiceError
from common.progress import say
from stack.home import Home
from stack.process import ProcessRecord, listens, owner, stop

SAY_EVERY = 5.0
ERROR_MARKS = ("ERROR", "FATAL", "Exception", "Error:", "error:", "denied")


class InterruptedStartError(Exception):
    """Nobody waits for this start any more."""


class ServiceBase(ABC):
    """Shared by the services: the record of the process and waiting for it."""

    name = ""
    stop_patience = 20.0

    def __init__(self, home: Home) -> None:
        self.home = home
        self.record = ProcessRecord(home, self.name)
        self.interrupted = threading.Event()

    @property
    def port_name(self) -> str:
        """Which remembered port others use to reach it."""
        return self.name

    @property
    def port(self) -> int:
        """The port others use to reach it."""
        return self.home.ports()[self.port_name]

    def process(self) -> psutil.Process | None:
        """Our own running process, or None."""
        return self.record.find()

    def demand_free_port(self) -> None:
        """Refuse to start where another process listens.

        Raises:
            ServiceError: naming the port and, where it can be seen, the process.
        """
        if listens(self.port):
            raise ServiceError(
                f"Starting {self.name}: port {self.port} is in use by {owner(self.port)}",
                "end that process, or take other ports: `ecom up --new-ports`",
            )

    @abstractmethod
    def start(self) -> None:
        """Start the process and return when it answers."""

    def healthy(self) -> bool:
        """Our process runs and its port answers."""
        return self.process() is not None and listens(self.port)

    def stop(self) -> bool:
        """End our process; whether there was one."""
        process = self.process()
        if process is not None:
            stop(process, self.stop_patience)
        self.record.forget()
        return process is not None

    def await_ready(
        self, ready: Callable[[], bool], log: Path, log_start: int, patience: float
    ) -> None:
        """Wait until `ready`, with a line every few seconds.

        Raises:
            ServiceError: the process died, or `patience` seconds passed; with the
                service's own error line and log file.
        """
        began = said = time.monotonic()
        while not ready():
            now = time.monotonic()
            if self.interrupted.is_set():
                raise InterruptedStartError
            if self.process() is None:
                raise self.failure("ended while starting", log, log_start)
            if now - began > patience:
                raise self.failure(
                    f"did not answer in {patience:.0f} s", log, log_start
                )
            if now - said > SAY_EVERY:
                said = now
                say(f"  {self.name}: still starting, {now - began:.0f} s")
            time.sleep(0.1)

    def failure(self, what: str, log: Path, log_start: int = 0) -> ServiceError:
        """An error that quotes the service's own words."""
        line = last_error_line(log, log_start)
        quoted = f": {line}" if line else ""
        return ServiceError(
            f"Starting {self.name} on port {self.port}: it {what}{quoted}",
            f"read {log}, mend the cause, then `ecom up`; `ecom doctor` may name it",
        )


def last_error_line(log: Path, start: int = 0) -> str:
    """The last line after byte `start` of a log that looks like an error."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").splitlines()
    marked = [line.strip() for line in lines if any(m in line for m in ERROR_MARKS)]
    plain = [line for line in marked if not line.startswith("at ")]
    return (plain or [""])[-1][:400]


def log_size(log: Path) -> int:
    """Bytes already in a log, so that older runs' errors are not quoted."""
    return log.stat().st_size if log.exists() else 0
