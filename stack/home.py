"""`ECOM_HOME` on disk: folders, remembered ports, secrets of mode 600.

```
ECOM_HOME/
  ports.json     service -> port, chosen free once and kept
  secrets.json   mode 600, generated passwords
  spare/         copies of the two, from which a lost or damaged one is mended
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

from common.errors import UsageError
from common.progress import say

REMEMBERED = ("ports.json", "secrets.json")


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
        found = self._read("ports.json").items()
        return {name: port for name, port in found if isinstance(port, int)}

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

    def mend_remembered(self) -> None:
        """Bring back ports and passwords that were lost or damaged, from their copy."""
        for name in REMEMBERED:
            path, spare = self.root / name, self.root / "spare" / name
            if _parsed(path) is None and (kept := _parsed(spare)) is not None:
                say(f"Mending {path} from its copy")
                self._write(name, kept)

    def forget_ports(self) -> None:
        """Drop the remembered ports, so that free ones are chosen anew."""
        for path in (self.root / "ports.json", self.root / "spare" / "ports.json"):
            path.unlink(missing_ok=True)

    def _read(self, name: str) -> dict[str, Any]:
        """What is remembered under a name; empty where nothing is yet.

        Raises:
            UsageError: neither the file nor its copy can be understood.
        """
        places = self.root / name, self.root / "spare" / name
        for path in places:
            if (found := _parsed(path)) is not None:
                return found
        if not any(path.exists() for path in places):
            return {}
        raise UsageError(
            f"Reading {places[0]}: it is damaged, and so is its copy", FIX[name]
        )

    def _write(self, name: str, value: dict[str, Any]) -> None:
        for path in (self.root / name, self.root / "spare" / name):
            self.write_private(path, json.dumps(value, indent=2))


FIX = {
    "ports.json": "`ecom up --new-ports` chooses free ports; no data is lost",
    "secrets.json": "remove it and its copy in `spare/`; `ecom up` sets new passwords",
}


def _parsed(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None where there is no such file or object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None


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
