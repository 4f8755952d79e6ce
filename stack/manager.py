"""Start order, health and ports of the five services."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from filelock import FileLock, Timeout

from common.errors import BusyError, ServiceError
from common.progress import say
from common.settings import Settings
from stack import hadoop, hdfs_access, java, metastore
from stack.home import Home
from stack.metastore import Metastore
from stack.postgres import Postgres
from stack.service import ServiceBase
from stack.thrift import Thrift

PORTS = ["postgres", *hadoop.HDFS_PORTS, "metastore", "thrift", "connect", "spark_ui"]
LOCK_PATIENCE = 180.0


@dataclass(frozen=True)
class ServiceStatus:
    """State of one service: `running`, `stopped` or `unhealthy`."""

    state: str
    host: str
    port: int | None
    pid: int | None


class Stack:
    """The five services of one home."""

    def __init__(self, settings: Settings) -> None:
        self.home = Home(settings.home)
        self.postgres = Postgres(self.home)
        self.namenode = hadoop.NameNode(self.home)
        self.datanode = hadoop.DataNode(self.home)
        self.metastore = Metastore(self.home)
        self.thrift = Thrift(self.home)

    @property
    def services(self) -> list[ServiceBase]:
        """All five, in the order in which they depend on one another."""
        return [
            self.postgres,
            self.namenode,
            self.datanode,
            self.metastore,
            self.thrift,
        ]

    def up(self) -> None:
        """Start what is not healthy, in parallel where the order allows.

        Raises:
            UsageError: Java is missing or the home cannot be written.
            ServiceError: a service did not start; its own words are quoted.
        """
        if self._all_healthy():
            self._mend_folders()
            return
        self._check_home()
        with self._locked():
            found = java.find_java()
            self.home.claim_ports(PORTS)
            hadoop.configure(self.home)
            metastore.configure(self.home)
            java.fetch_jars(found, self.home.folder("tmp"))
            self._start_all()

    def _mend_folders(self) -> None:
        if hdfs_access.laid_out(self.home):
            return
        with self._locked():
            say(f"Mending the folders of {hadoop.WAREHOUSE} on HDFS")
            hadoop.lay_out(self.home)

    def down(self) -> list[str]:
        """Stop our own processes, engine first, HDFS last; the names stopped."""
        with self._locked():
            order = [
                self.thrift,
                self.metastore,
                self.datanode,
                self.namenode,
                self.postgres,
            ]
            return [service.name for service in order if service.stop()]

    def status(self) -> dict[str, ServiceStatus]:
        """State, host, port and pid of each service."""
        ports = self.home.ports()
        found = {}
        for service in self.services:
            process = service.process()
            state = "stopped"
            if process is not None:
                state = "running" if service.healthy() else "unhealthy"
            found[service.name] = ServiceStatus(
                state,
                "127.0.0.1",
                ports.get(service.port_name),
                process.pid if process else None,
            )
        return found

    def _all_healthy(self) -> bool:
        if not self.home.ports():
            return False
        return all(service.healthy() for service in self.services)

    def _check_home(self) -> None:
        try:
            self.home.root.mkdir(parents=True, exist_ok=True)
            self.home.folder("run")
            self.home.folder("logs")
        except OSError as error:
            raise ServiceError(
                f"Making the home {self.home.root}: {error.strerror}",
                "make the folder writable, or set ECOM_HOME to another",
            ) from error
        if not os.access(self.home.root, os.W_OK):
            raise ServiceError(
                f"The home {self.home.root} is not writable",
                "make the folder writable, or set ECOM_HOME to another",
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold this home against another `up` or `down`; a dead owner holds nothing."""
        self.home.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.home.root / "stack.lock", timeout=LOCK_PATIENCE)
        try:
            lock.acquire()
        except Timeout as error:
            raise BusyError(
                f"Another `ecom up` or `down` has held {self.home.root} for "
                f"{LOCK_PATIENCE:.0f} s",
                "wait for it to end, then run again",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _start_all(self) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            postgres = pool.submit(self._start, self.postgres)
            namenode = pool.submit(self._start, self.namenode)
            datanode = pool.submit(self._after, [namenode], self.datanode)
            store = pool.submit(self._after, [postgres, namenode], self.metastore)
            namenode.result()
            hadoop.lay_out(self.home)
            for future in (postgres, datanode, store):
                future.result()
        self._start(self.thrift)
        say(f"All five services run ({time.monotonic() - began:.1f} s)")

    def _after(self, needed: list[Future[None]], service: ServiceBase) -> None:
        for future in needed:
            future.result()
        self._start(service)

    def _start(self, service: ServiceBase) -> None:
        if service.healthy():
            return
        service.stop()
        began = time.monotonic()
        say(f"Starting {service.name} on 127.0.0.1:{service.port}")
        service.start()
        say(f"  {service.name} answers after {time.monotonic() - began:.1f} s")
