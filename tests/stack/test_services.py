"""Starting, healing and stopping five real services in a home of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from common.settings import Settings
from publish.lake import open_lake
from stack.endpoints import source_dsn
from stack.home import Home
from tests.conftest import BIN, ecom, environment

SERVICES = ["postgres", "namenode", "datanode", "metastore", "thrift"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    root = tmp_path_factory.mktemp("stack of its own") / "ecom home"
    settings = Settings(home=root, source_dsn=None, target="local")
    ecom(settings, "up")
    with open_lake(settings) as lake:
        lake.rows("CREATE NAMESPACE IF NOT EXISTS marts")
        lake.rows("CREATE TABLE marts.kept USING iceberg AS SELECT 42 AS answer")
    yield settings
    ecom(settings, "down", "--purge", "--yes")
    assert not root.exists()


def status(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ecom(settings, "status", "--json"))
    return found


def assert_data_is_there(settings: Settings) -> None:
    with open_lake(settings) as lake:
        assert lake.rows("SELECT answer FROM marts.kept") == [(42,)]


def pids(settings: Settings) -> dict[str, int]:
    return {name: one["pid"] for name, one in status(settings).items()}


def test_all_five_run_on_loopback_alone(home: Settings) -> None:
    found = status(home)
    assert list(found) == SERVICES
    for one in found.values():
        assert one["state"] == "running"
        assert one["host"] == "127.0.0.1"
    for name, pid in pids(home).items():
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        listening = [
            c.laddr
            for p in family
            for c in p.net_connections("inet")
            if c.status == "LISTEN"
        ]
        assert listening, name
        for address in listening:
            assert address.ip in ("127.0.0.1", "::ffff:127.0.0.1"), (name, address)


def test_a_warm_up_touches_nothing_and_is_quick(home: Settings) -> None:
    before = pids(home)
    began = time.monotonic()
    ecom(home, "up")
    assert time.monotonic() - began < 3
    assert pids(home) == before


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_is_healed(home: Settings, service: str) -> None:
    pid = pids(home)[service]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status(home)[service]["state"] == "stopped"
    ecom(home, "up")
    assert status(home)[service]["state"] == "running"
    assert_data_is_there(home)


def test_everything_killed_comes_back_with_its_data(home: Settings) -> None:
    for pid in pids(home).values():
        os.kill(pid, signal.SIGKILL)
    ecom(home, "up")
    assert_data_is_there(home)


def test_doctor_finds_and_names_a_wrong_permission(home: Settings) -> None:
    assert "WRONG" not in ecom(home, "doctor")
    from stack import hadoop

    path = f"{hadoop.WAREHOUSE}/core.db"
    command = [
        *hadoop.java_command(Home(home.home), 128), "org.apache.hadoop.fs.FsShell",
        "-chmod", "700", path,
    ]  # fmt: skip
    subprocess.run(command, env=hadoop.java_environment(hadoop.ADMIN), check=True)
    said = ecom(home, "doctor", code=1)
    assert f"WRONG hdfs {path}" in said
    assert "mode 700" in said
    assert f"chmod 775 {path}" in said


def test_an_unwritable_folder_is_found_before_data_moves_and_mended(
    home: Settings,
) -> None:
    from stack import hadoop, hdfs_access

    path = f"{hadoop.WAREHOUSE}/staging.db"
    address = ("127.0.0.1", Home(home.home).ports()["namenode"])
    command = [
        *hadoop.java_command(Home(home.home), 128), "org.apache.hadoop.fs.FsShell",
        "-chmod", "500", path,
    ]  # fmt: skip
    subprocess.run(command, env=hadoop.java_environment(hadoop.ADMIN), check=True)
    for run in ("ingest", "run"):
        said = ecom(home, run, code=2)
        assert f"ecom may not write to {path}" in said
        assert "owner is ecom_ingest:ecom_ingest, its mode dr-x" in said
        assert "run `ecom up`" in said
    ecom(home, "up")
    assert hdfs_access.refusal(address, hadoop.ENGINE, path) is None
    assert "ecom_reader" in str(hdfs_access.refusal(address, hadoop.READER, path))
    assert "WRONG" not in ecom(home, "doctor")


def test_the_reader_may_read_what_is_published_and_write_nothing(
    home: Settings,
) -> None:
    from stack import hadoop

    def shell(user: str, *arguments: str) -> int:
        command = [
            *hadoop.java_command(Home(home.home), 128),
            "org.apache.hadoop.fs.FsShell", *arguments,
        ]  # fmt: skip
        done = subprocess.run(
            command, env=hadoop.java_environment(user), capture_output=True, check=False
        )
        return done.returncode

    marts = f"{hadoop.WAREHOUSE}/marts.db"
    assert shell(hadoop.READER, "-ls", f"{marts}/kept/data") == 0
    assert shell(hadoop.READER, "-mkdir", f"{marts}/mine") != 0
    assert shell(hadoop.READER, "-ls", f"{hadoop.WAREHOUSE}/staging.db") != 0
    assert shell(hadoop.TRANSFORM, "-ls", f"{hadoop.WAREHOUSE}/staging.db") == 0
    assert shell(hadoop.TRANSFORM, "-mkdir", f"{marts}/mine") == 0
    assert shell(hadoop.INGEST, "-mkdir", f"{marts}/theirs") != 0


def test_secrets_are_in_no_log_and_no_command_line(home: Settings) -> None:
    secrets = json.loads((home.home / "secrets.json").read_text(encoding="utf-8"))
    assert (home.home / "secrets.json").stat().st_mode & 0o777 == 0o600
    logs = "".join(
        log.read_text(encoding="utf-8", errors="replace")
        for log in (home.home / "logs").iterdir()
    )
    lines = " ".join(
        " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])
    )
    for secret in secrets.values():
        assert secret not in logs
        assert secret not in lines


def test_postgres_does_not_run_as_root(home: Settings) -> None:
    assert psutil.Process(pids(home)["postgres"]).uids().real != 0
    assert source_dsn(home, "ingest") != source_dsn(home, "owner")


def test_down_leaves_no_process_and_no_socket(home: Settings) -> None:
    before, ports = pids(home), Home(home.home).ports()
    ecom(home, "down")
    assert not [name for name, pid in before.items() if psutil.pid_exists(pid)]
    assert not [name for name, port in ports.items() if _listens(port)]
    assert all(one["state"] == "stopped" for one in status(home).values())
    ecom(home, "ingest", code=3)
    ecom(home, "up")
    assert_data_is_there(home)
    # That clean stop, or one before it, has left the engine's classes.
    engine = psutil.Process(pids(home)["thrift"]).cmdline()
    assert any(word.startswith("-XX:SharedArchiveFile=") for word in engine)


def test_a_taken_port_is_named(home: Settings) -> None:
    ecom(home, "down")
    with socket.socket() as squatter:
        # The clients of the server that just stopped may still linger on its port.
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", Home(home.home).ports()["postgres"]))
        squatter.listen()
        said = ecom(home, "up", code=3)
        assert "postgres" in said
        assert "use" in said
    ecom(home, "up")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_an_unwritable_home_is_refused(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    blocker = tmp_path_factory.mktemp("blocked") / "file"
    blocker.write_text("not a folder", encoding="utf-8")
    said = ecom(Settings(blocker / "home", None, "local"), "up", code=3)
    assert "ECOM_HOME" in said


def test_a_wrong_java_is_said_in_one_line(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("java")
    (folder / "bin").mkdir()
    java = folder / "bin" / "java"
    java.write_text(
        "#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n", encoding="utf-8"
    )
    java.chmod(0o755)
    settings = Settings(folder / "home", None, "local")
    done = subprocess.run(
        [str(BIN / "ecom"), "up"],
        env={**environment(settings), "JAVA_HOME": str(folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Java 17 is needed" in done.stderr
    assert "version 11" in done.stderr
