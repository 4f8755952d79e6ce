"""Processes of our own: started detached, known by pid and start time, ended by pid.

A pid alone may have been given to somebody else since, so the start time is recorded
with it and both must match before a process is called ours.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from stack.home import Home

START_TIME_TOLERANCE = 0.05


class ProcessRecord:
    """The record of one service's process, `run/<service>.json` in the home."""

    def __init__(self, home: Home, service: str) -> None:
        self._home, self._service = home, service

    @property
    def path(self) -> Path:
        """The file that holds pid and start time."""
        return self._home.root / "run" / f"{self._service}.json"

    def find(self) -> psutil.Process | None:
        """The recorded process while it is alive and still the same one."""
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            process = psutil.Process(record["pid"])
            same = abs(process.create_time() - record["created"])
            dead = process.status() == psutil.STATUS_ZOMBIE
        except (OSError, ValueError, KeyError, psutil.Error):
            return None
        return None if dead or same > START_TIME_TOLERANCE else process

    def write(self, pid: int) -> None:
        """Record a process that was just started."""
        created = psutil.Process(pid).create_time()
        self._home.write_private(
            self.path, json.dumps({"pid": pid, "created": created})
        )

    def forget(self) -> None:
        """Remove the record."""
        self.path.unlink(missing_ok=True)


def start_detached(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    folder: Path,
) -> subprocess.Popen[bytes]:
    """Start a service in a session of its own, its output appended to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )


def stop(process: psutil.Process, patience: float = 20.0) -> None:
    """Ask a process to end; after `patience` seconds end it with its children."""
    try:
        family = [process, *process.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=patience)
    except psutil.NoSuchProcess:
        return
    for survivor in alive:
        try:
            survivor.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=5)


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections there."""
    import socket

    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def owner(port: int) -> str:
    """Who listens on a port, as `pid 12 (nginx)`; other users' may not be seen."""
    try:
        for found in psutil.net_connections("tcp"):
            listening = found.status == psutil.CONN_LISTEN and found.pid
            if listening and found.laddr and found.laddr.port == port:
                return f"pid {found.pid} ({psutil.Process(found.pid).name()})"
    except psutil.Error:
        pass
    return "another process"


def holder(path: Path) -> str | None:
    """The living process that locks a file, as `pid 12 (ecom)`; None where none does."""
    try:
        inode = path.stat().st_ino
        held = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in held:
        words = line.split()
        # 1: FLOCK ADVISORY WRITE <pid> <major:minor:inode> <start> <end>
        if "->" not in words and words[5].endswith(f":{inode}"):
            pid = int(words[4])
            name = psutil.Process(pid).name() if psutil.pid_exists(pid) else "?"
            return f"pid {pid} ({name})"
    return None


def base_environment() -> dict[str, str]:
    """The environment services get: no secret of the caller's passes through."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "JAVA_HOME", "TZ")
    return {name: os.environ[name] for name in kept if name in os.environ}
