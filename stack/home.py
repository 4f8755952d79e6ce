"""`ECOM_HOME` on disk: folders, remembered ports, secrets of mode 600.

```
ECOM_HOME/
  ports.json     service -> port, chosen free once and kept
  secrets.json   mode 600, generated passwords
  run/           <service>.json: pid and start time of what we started
  conf/          generated configuration of the services, mode 600
  logs/          one log file a service
  postgres/ namenode/ datanode/ tmp/
```
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any


class Home:
    """The folder that holds all state of one stack."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str) -> Path:
        """The folder `name` below the home, made where it is missing."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def log(self, service: str) -> Path:
        """The log file of a service."""
        return self.folder("logs") / f"{service}.log"

    def ports(self) -> dict[str, int]:
        """The remembered ports; empty before the first start."""
        return {name: int(port) for name, port in self._read("ports.json").items()}

    def claim_ports(self, names: list[str]) -> dict[str, int]:
        """Remembered ports for `names`; a free one is chosen where none is yet."""
        ports = self.ports()
        missing = [name for name in names if name not in ports]
        ports.update(zip(missing, _free_ports(len(missing), set(ports.values()))))
        self._write("ports.json", ports)
        return ports

    def secret(self, name: str) -> str:
        """A generated password, made at the first call and kept."""
        known = self._read("secrets.json")
        if name not in known:
            known[name] = secrets.token_urlsafe(24)
            self._write("secrets.json", known)
        return str(known[name])

    def write_private(self, path: Path, text: str) -> None:
        """Replace a file at once, readable by its owner alone."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def _read(self, name: str) -> dict[str, Any]:
        path = self.root / name
        if not path.exists():
            return {}
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _write(self, name: str, value: dict[str, Any]) -> None:
        self.write_private(self.root / name, json.dumps(value, indent=2))


def _free_ports(count: int, taken: set[int]) -> list[int]:
    """Ports of the loopback address that nothing listens on just now."""
    found: list[int] = []
    held: list[socket.socket] = []
    while len(found) < count:
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        held.append(probe)
        port = probe.getsockname()[1]
        if port not in taken:
            found.append(port)
    for probe in held:
        probe.close()
    return found
