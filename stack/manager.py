"""Start order, health and ports of the five services."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from common.errors import BusyError, ServiceError, UsageError
from common.progress import say
from common.settings import PROJECT, Settings
from stack import hadoop, hdfs_access, hdfs_layout, java, metastore
from stack.home import Home
from stack.metastore import Metastore
from stack.postgres import Postgres
from stack.service import ServiceBase
from stack.thrift import Thrift

PORTS = ["postgres", *hadoop.HDFS_PORTS, "metastore", "thrift", "connect", "spark_ui"]
LOCK_PATIENCE = 180.0
SAY_WAITING_AFTER = 1.0
LEAST_FREE_MB = 500
UNFIT = set(":,;'\"\n")


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
        self._started: list[ServiceBase] = []

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

    def up(self, new_ports: bool = False) -> None:
        """Start what is not healthy, in parallel where the order allows.

        Args:
            new_ports: stop what runs and forget the remembered ports first.

        Raises:
            UsageError: Java is missing or what the home remembers is damaged.
            ServiceError: the home cannot be written or a service did not start; its
                own words are quoted.
        """
        if not new_ports and self._all_healthy():
            self._mend_folders()
            return
        found = java.find_java()
        self._check_home()
        with self._locked(), _disk_errors(self.home.root):
            if new_ports:
                self._stop_all()
                self.home.forget_ports()
            self.home.mend_remembered()
            self.home.claim_ports(PORTS)
            hadoop.configure(self.home)
            metastore.configure(self.home)
            java.fetch_jars(found, self.home.folder("tmp"))
            self._start_all()

    def _mend_folders(self) -> None:
        if hdfs_access.laid_out(self.home):
            return
        with self._locked():
            say(f"Mending the folders of {hdfs_layout.WAREHOUSE} on HDFS")
            hdfs_layout.lay_out(self.home)

    def down(self) -> list[str]:
        """Stop our own processes, engine first, HDFS last; the names stopped."""
        if not self.home.root.exists():
            return []
        with self._locked():
            return self._stop_all()

    def purge(self) -> None:
        """Stop everything and remove all state.

        Raises:
            UsageError: the folder is no home, or holds more than one.
            ServiceError: something in it cannot be removed.
        """
        demand_purgeable(self.home.root)
        self.down()
        try:
            shutil.rmtree(self.home.root)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ServiceError(
                f"Removing {self.home.root}: {error.strerror}: {error.filename}",
                "remove it by hand as its owner",
            ) from error

    def _stop_all(self) -> list[str]:
        order = reversed(self.services)
        stopped = [service.name for service in order if service.stop()]
        shutil.rmtree(self.home.root / "tmp", ignore_errors=True)
        return stopped

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
        try:
            if not self.home.ports():
                return False
        except UsageError:  # damaged: mended by a start
            return False
        return all(service.healthy() for service in self.services)

    def _check_home(self) -> None:
        fix = "make the folder writable, or set ECOM_HOME to another"
        for character in set(str(self.home.root)) & UNFIT:
            raise UsageError(
                f"The path {self.home.root} holds a `{character}`, which class paths "
                "and Hadoop cannot take",
                "set ECOM_HOME to a path without it",
            )
        try:
            self.home.root.mkdir(parents=True, exist_ok=True)
            self.home.folder("run")
            self.home.folder("logs")
        except OSError as error:
            raise ServiceError(
                f"Making the home {self.home.root}: {error.strerror}", fix
            ) from error
        if not os.access(self.home.root, os.W_OK):
            raise ServiceError(f"The home {self.home.root} is not writable", fix)
        free = shutil.disk_usage(self.home.root).free / 1e6
        if free < LEAST_FREE_MB:
            raise ServiceError(
                f"Starting in {self.home.root}: only {free:,.0f} MB are free there, "
                f"{LEAST_FREE_MB} are needed",
                "free some space, or set ECOM_HOME to another disk",
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold this home against another `up` or `down`; a dead owner holds nothing."""
        lock = FileLock(self.home.root / "stack.lock")
        try:
            try:
                lock.acquire(timeout=SAY_WAITING_AFTER)
            except Timeout:
                say(f"Waiting for another `ecom up` or `down` of {self.home.root}")
                lock.acquire(timeout=LOCK_PATIENCE)
        except Timeout as error:
            raise BusyError(
                f"Another `ecom up` or `down` has held {self.home.root} for "
                f"{LOCK_PATIENCE:.0f} s",
                "wait for it to end, then run again",
            ) from error
        except OSError as error:
            raise ServiceError(
                f"Locking {self.home.root}: {error.strerror}",
                "run as the owner of the home, or set ECOM_HOME to another",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _start_all(self) -> None:
        began = time.monotonic()
        self._started.clear()
        try:
            with ThreadPoolExecutor(4) as pool:
                try:
                    self._start_in_order(pool)
                except BaseException:
                    # Leaving the pool waits for its threads: none may wait for long.
                    for service in self.services:
                        service.interrupted.set()
                    raise
        except KeyboardInterrupt:
            say("Interrupted: stopping what was started")
            for service in reversed(self._started):
                service.stop()
            raise
        say(f"All five services run ({time.monotonic() - began:.1f} s)")

    def _start_in_order(self, pool: ThreadPoolExecutor) -> None:
        postgres = pool.submit(self._start, self.postgres)
        namenode = pool.submit(self._start, self.namenode)
        datanode = pool.submit(self._after, [namenode], self.datanode)
        store = pool.submit(self._after, [postgres, namenode], self.metastore)
        namenode.result()
        hdfs_layout.lay_out(self.home)
        for future in (postgres, datanode, store):
            future.result()
        self._start(self.thrift)
        self.datanode.await_reported()

    def _after(self, needed: list[Future[None]], service: ServiceBase) -> None:
        for future in needed:
            future.result()
        if service is self.metastore and self.postgres in self._started:
            # Connections it kept died with the server: it would deny its schemas.
            service.stop()
        self._start(service)

    def _start(self, service: ServiceBase) -> None:
        if service.healthy():
            return
        service.stop()
        service.demand_free_port()
        self._started.append(service)
        began = time.monotonic()
        say(f"Starting {service.name} on 127.0.0.1:{service.port}")
        service.start()
        say(f"  {service.name} answers after {time.monotonic() - began:.1f} s")


def demand_purgeable(root: Path) -> None:
    """Refuse to remove what is no home, or has the project or the user's files in it.

    Raises:
        UsageError: saying what the folder is.
    """
    resolved = root.resolve()
    inside = [path for path in (PROJECT, Path.home()) if _in(path, resolved)]
    if inside:
        raise UsageError(
            f"Removing {root}: {inside[0]} is in it",
            "set ECOM_HOME to the stack's home",
        )
    entries = {path.name for path in root.iterdir()} if root.is_dir() else set()
    if entries and not entries & {"run", "logs", "ports.json"}:
        raise UsageError(
            f"Removing {root}: no stack has been started in it",
            "set ECOM_HOME to the stack's home",
        )


def _in(path: Path, folder: Path) -> bool:
    return folder == path.resolve() or folder in path.resolve().parents


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServiceError(
            f"Writing to {error.filename or root}: {error.strerror or error}",
            "mend the cause (space, permissions of ECOM_HOME), then `ecom up`",
        ) from error
