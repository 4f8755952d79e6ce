"""Starting, healing and stopping five real services in a home of their own."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from common.errors import ServiceError
from common.settings import PROJECT, Settings
from publish.lake import open_lake
from stack import hadoop
from stack.endpoints import source_dsn
from stack.hdfs_layout import (
    ADMIN,
    ENGINE,
    INGEST,
    READER,
    TRANSFORM,
    WAREHOUSE,
    address,
    folder_faults,
)
from stack.hdfs_rpc import NameNodeClient, RefusedError, namenode
from stack.home import Home
from stack.manager import PORTS, Stack
from stack.postgres import Postgres
from tests.conftest import BIN, ecom, environment

NOBODY = 65534
SERVICES = ["postgres", "namenode", "datanode", "metastore", "thrift"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A stack of its own. While developing, `ECOM_TEST_HOME` names one that runs."""
    given = os.environ.get("ECOM_TEST_HOME")
    root = tmp_path_factory.mktemp("stack of its own") / "ecom home"
    settings = Settings(Path(given) if given else root, None, "local")
    ecom(settings, "up")
    with open_lake(settings) as lake:
        for table in ("marts.kept", "staging.landed", "snapshots.private"):
            lake.rows(f"CREATE NAMESPACE IF NOT EXISTS {table.partition('.')[0]}")
            lake.rows(f"DROP TABLE IF EXISTS {table} PURGE")
            lake.rows(f"CREATE TABLE {table} USING iceberg AS SELECT 42 AS answer")
    yield settings
    if not given:
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
        for where in listening:
            assert where.ip in ("127.0.0.1", "::ffff:127.0.0.1"), (name, where)


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


@contextmanager
def hdfs(settings: Settings, user: str = ADMIN) -> Iterator[NameNodeClient]:
    with namenode(address(Home(settings.home)), user) as client:
        yield client


def shell(settings: Settings, *arguments: str) -> str:
    """Hadoop's own shell, as the administrator."""
    done = subprocess.run(
        [*hadoop.java_command(Home(settings.home), 128),
         "org.apache.hadoop.fs.FsShell", *arguments],
        env=hadoop.java_environment(ADMIN), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_doctor_names_a_wrong_folder_and_up_mends_it(home: Settings) -> None:
    assert "WRONG" not in ecom(home, "doctor")
    core, staging = f"{WAREHOUSE}/core.db", f"{WAREHOUSE}/staging.db"
    with hdfs(home) as admin:
        admin.set_mode(core, 0o700)
        admin.set_mode(staging, 0o500)
        said = ecom(home, "doctor", code=1)
        assert f"WRONG hdfs {core}: owner {TRANSFORM}:{TRANSFORM}, mode 700" in said
        assert f"the engine acts as {ENGINE}" in said
        assert f"chmod 775 {core}" in said
        for run in ("ingest", "run"):
            said = ecom(home, run, code=2)
            assert f"{ENGINE} may not write to {staging}" in said
            assert f"owner is {INGEST}:{INGEST}, its mode dr-x" in said
            assert "run `ecom up`" in said
        ecom(home, "up")
        assert not list(folder_faults(admin))
    assert f"user::rwx\ngroup::rwx\ngroup:{TRANSFORM}:rwx" in shell(
        home, "-getfacl", staging
    )


def test_doctor_names_a_wrong_table_and_its_command_mends_it(home: Settings) -> None:
    table = f"{WAREHOUSE}/staging.db/landed"
    with hdfs(home) as admin:
        admin.set_owner(f"{table}/metadata", "alice", "alice")
        admin.set_mode(f"{table}/metadata", 0o750)
    began = time.monotonic()
    said = ecom(home, "doctor", code=1)
    assert time.monotonic() - began < 15
    assert said.count("WRONG") == 1
    assert f"WRONG hdfs {table}/metadata: its owner is alice:alice, its mode dr" in said
    assert f"writable by {ENGINE}" in said
    fix = re.search(f"fix: as {ADMIN}: (.*)", said)
    assert fix
    for command in fix[1].split(" && "):
        shell(home, *command.removeprefix("hdfs dfs ").split())
    assert "WRONG" not in ecom(home, "doctor")


PARTS = {"staging": "landed", "snapshots": "private", "marts": "kept"}
# What each role may do: list a schema's table, add to the table, add to the schema,
# take the table away.
MAY = {
    (INGEST, "staging"): "list write create remove",
    (INGEST, "snapshots"): "",
    (INGEST, "marts"): "list",
    (INGEST, "ops"): "create",
    (TRANSFORM, "staging"): "list create",
    (TRANSFORM, "snapshots"): "list write create remove",
    (TRANSFORM, "marts"): "list write create remove",
    (TRANSFORM, "ops"): "create",
    (READER, "staging"): "",
    (READER, "snapshots"): "",
    (READER, "marts"): "list",
    (READER, "ops"): "",
}


@pytest.mark.parametrize(("role", "schema"), list(MAY))
def test_each_role_may_do_what_it_needs_and_is_refused_the_rest(
    home: Settings, role: str, schema: str
) -> None:
    above = f"{WAREHOUSE}/{schema}.db"
    table = f"{above}/{PARTS.get(schema, 'none')}"
    away = f"{above}/away"
    with hdfs(home, role) as client, hdfs(home) as admin:
        attempts: dict[str, Callable[[], object]] = {
            "create": lambda: client.make_folder(f"{above}/of_{role}"),
        }
        if schema in PARTS:
            attempts |= {
                "list": lambda: client.list(f"{table}/data"),
                "write": lambda: client.make_folder(f"{table}/data/of_{role}"),
                "remove": lambda: client.rename(table, away),
            }
        for what, attempt in attempts.items():
            if what in MAY[role, schema].split():
                attempt()
            else:
                with pytest.raises(RefusedError, match="Permission denied"):
                    attempt()
        if admin.status(away):
            admin.rename(away, table)
        for left in (f"{above}/of_{role}", f"{table}/data/of_{role}"):
            admin.delete(left)


def test_no_role_may_leave_its_place(home: Settings) -> None:
    for role in (INGEST, TRANSFORM, READER):
        with hdfs(home, role) as client:
            with pytest.raises(RefusedError):
                client.set_mode(f"{WAREHOUSE}/staging.db/landed", 0o777)
            with pytest.raises(RefusedError):
                client.set_owner(f"{WAREHOUSE}/staging.db/landed", role, role)
            with pytest.raises(RefusedError):
                client.make_folder("/user/mine")
            with pytest.raises(RefusedError):
                client.delete("/user/hive")


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


def test_down_leaves_no_process_no_socket_and_no_scratch(home: Settings) -> None:
    before, ports = pids(home), Home(home.home).ports()
    assert "pipeout" not in (home.home / "logs" / "thrift.log").read_text("utf-8")
    ecom(home, "down")
    assert not [name for name, pid in before.items() if psutil.pid_exists(pid)]
    assert not [name for name, port in ports.items() if _listens(port)]
    assert all(one["state"] == "stopped" for one in status(home).values())
    assert not (home.home / "tmp").exists()
    ecom(home, "ingest", code=3)


def test_a_taken_port_is_named_and_others_are_taken(home: Settings) -> None:
    ecom(home, "down")
    before = Home(home.home).ports()
    with socket.socket() as squatter:
        # The clients of the server that just stopped may still linger on its port.
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", before["namenode"]))
        squatter.listen()
        said = ecom(home, "up", code=3)
        assert f"Starting namenode: port {before['namenode']} is in use" in said
        assert f"by pid {os.getpid()} (" in said
        assert "`ecom up --new-ports`" in said
        assert f"pid {os.getpid()}" in ecom(home, "doctor", code=1)
        ecom(home, "up", "--new-ports")
    assert not set(before.values()) & set(Home(home.home).ports().values())
    assert_data_is_there(home)
    # A clean stop, this one or one before it, has left the engine's classes.
    engine = psutil.Process(pids(home)["thrift"]).cmdline()
    assert any(word.startswith("-XX:SharedArchiveFile=") for word in engine)


def test_lost_ports_and_passwords_come_back(home: Settings) -> None:
    before = (home.home / "ports.json").read_text("utf-8")
    (home.home / "ports.json").write_text('{"postgres": 54', "utf-8")
    (home.home / "secrets.json").unlink()
    assert status(home)["postgres"]["state"] == "running"
    os.kill(pids(home)["postgres"], signal.SIGKILL)
    ecom(home, "up")
    assert (home.home / "ports.json").read_text("utf-8") == before
    assert (home.home / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert_data_is_there(home)


def test_passwords_that_are_gone_for_good_are_set_anew(home: Settings) -> None:
    ecom(home, "down")
    places = [home.home / "secrets.json", home.home / "spare" / "secrets.json"]
    for place in places:
        place.write_text("no JSON", "utf-8")
    said = ecom(home, "up", code=2)
    assert f"Reading {places[0]}: it is damaged, and so is its copy" in said
    for place in places:
        place.unlink()
    ecom(home, "up")
    assert_data_is_there(home)
    psycopg2.connect(source_dsn(home, "ingest")).close()
    assert "WRONG" not in ecom(home, "doctor")


def test_a_wrong_password_of_the_source_is_said(home: Settings) -> None:
    address = source_dsn(home, "ingest").rpartition("@")[2]
    wrong = replace(home, source_dsn=f"postgresql://ecom_ingest:nope@{address}")
    said = ecom(wrong, "ingest", code=2)
    assert "password authentication failed" in said
    assert "nope" not in said
    assert "password authentication failed" in ecom(wrong, "doctor", code=1)


@contextmanager
def tls_in_front(port: int, folder: Path) -> Iterator[int]:
    """A port that speaks TLS and hands everything on to a plain one."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=cluster", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, capture_output=True, check=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                context.wrap_socket(self.request, server_side=True) as near,
                socket.create_connection(("127.0.0.1", port)) as far,
            ):
                thread = threading.Thread(target=hand_on, args=(far, near))
                thread.start()
                hand_on(near, far)
                thread.join()

    def hand_on(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_the_cluster_target_logs_in_by_tls_with_a_password(
    home: Settings, tmp_path: Path
) -> None:
    """The embedded server takes any password in the same SASL exchange as LDAP's."""
    there = {
        "ECOM_TARGET": "cluster", "ECOM_THRIFT_HOST": "127.0.0.1",
        "ECOM_THRIFT_AUTH": "LDAP", "DBT_ENV_SECRET_THRIFT_PASSWORD": "never shown",
    }  # fmt: skip
    with tls_in_front(Home(home.home).ports()["thrift"], tmp_path) as port:
        done = subprocess.run(
            [str(BIN / "dbt"), "debug", "--connection"],
            env={**environment(home), **there, "ECOM_THRIFT_PORT": str(port)},
            cwd=PROJECT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Connection test: [\x1b[32mOK connection ok" in done.stdout
    assert "never shown" not in done.stdout + done.stderr


def start(settings: Settings, until: str) -> subprocess.Popen[str]:
    """`ecom up` on its way, as far as a line that begins so."""
    process = subprocess.Popen(
        [str(BIN / "ecom"), "up"],
        env=environment(settings), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr
    for line in process.stderr:
        if line.startswith(until):
            return process
    raise AssertionError(f"ended before {until}: {process.wait()}")


def test_a_start_that_is_interrupted_leaves_nothing_behind(home: Settings) -> None:
    ecom(home, "down")
    process = start(home, "Starting datanode")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Interrupted" in said
    assert all(one["state"] == "stopped" for one in status(home).values())


def test_down_waits_for_a_start_under_way_and_stops_all(home: Settings) -> None:
    ecom(home, "down")
    process = start(home, "Starting metastore")
    ecom(home, "down")
    assert process.wait() == 0
    assert all(one["state"] == "stopped" for one in status(home).values())


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _plain_user() -> list[str]:
    """The prefix that makes a command a plain user's; that of root alone is not empty."""
    if os.geteuid():
        return []
    # Where checkout or Python is closed to others, the user may read through all the same.
    needed = (PROJECT, *PROJECT.parents, *Path(sys.executable).resolve().parents)
    closed = any(not p.stat().st_mode & 0o001 for p in needed)
    read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    ids = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return ["setpriv", *ids, *(read if closed else []), "--"]


def _path_without_java(folder: Path) -> Path:
    """A folder with every program of the PATH but `java`."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).iterdir() if Path(place).is_dir() else ():
            if program.name != "java":
                with suppress(FileExistsError):
                    (folder / program.name).symlink_to(program)
    return folder


def test_a_plain_user_without_java_has_a_home_beside_another_with_its_source(
    home: Settings,
) -> None:
    """A second home: everything runs as its user, on the Java of `make java`."""
    ecom(home, "up")
    with tempfile.TemporaryDirectory(prefix="a plain user ") as folder:
        root = Path(folder)
        if os.geteuid() == 0:
            os.chown(root, NOBODY, NOBODY)
        other = Settings(root / "home", source_dsn(home, "ingest"), "local")
        tools = _path_without_java(root / "tools")
        surroundings = environment(other) | {"PATH": str(tools), "HOME": folder}
        surroundings.pop("JAVA_HOME", None)
        prefix = [str(shutil.which(p) or p) for p in _plain_user()[:1]]

        def run(*arguments: str, code: int = 0) -> str:
            done = subprocess.run(
                [*prefix, *_plain_user()[1:], str(BIN / "ecom"), *arguments],
                env=surroundings, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == code, done.stdout + done.stderr
            return done.stdout

        try:
            found = json.loads(run("up", "--json"))
            user = NOBODY if os.geteuid() == 0 else os.getuid()
            for one in found.values():
                assert one["state"] == "running"
                assert psutil.Process(one["pid"]).uids().real == user
            ports = {one["port"] for one in found.values()}
            assert not ports & set(Home(home.home).ports().values())
            said = run("doctor")
            assert "java-runtime" in said
            assert "WRONG" not in said
            with open_lake(other) as lake:
                assert ("marts",) not in lake.rows("SHOW NAMESPACES")
        finally:
            run("down", "--purge", "--yes")
        assert_data_is_there(home)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[bool]:
    """A file system of its own in memory; False where this machine mounts none."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_home_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "read only"
    with mounted(place, "ro") as done:
        place.chmod(0o500) if not done else None
        # Root writes anywhere but where the kernel itself keeps the files.
        root = place if done or os.geteuid() else Path("/proc")
        said = ecom(Settings(root / "home", None, "local"), "up", code=3)
    assert "Making the home" in said
    assert "set ECOM_HOME to another" in said


def test_a_full_disk_is_refused_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "full"
    stack = Stack(Settings(place / "home", None, "local"))
    with mounted(place, "size=64k") as done:
        if done:
            with pytest.raises(ServiceError, match="only 0 MB are free there"):
                stack.up()
            # Room for folders and empty files, none for what is written into them.
            with suppress(OSError), (place / "filler").open("wb") as filler:
                filler.write(bytes(2**17))
        monkeypatch.setattr("stack.manager.LEAST_FREE_MB", 0)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if not done:  # the kernel refuses to write all the same
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            with pytest.raises(
                ServiceError, match=r"Writing to .*(space|large)"
            ) as found:
                stack.up()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "then `ecom up`" in found.value.fix


def test_a_path_that_java_cannot_take_is_refused(tmp_path: Path) -> None:
    said = ecom(Settings(tmp_path / "a:b", None, "local"), "up", code=2)
    assert "holds a `:`" in said
    assert not (tmp_path / "a:b").exists()


def test_purge_keeps_what_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear", "utf-8")
    said = ecom(Settings(tmp_path, None, "local"), "down", "--purge", "--yes", code=2)
    assert "no stack has been started in it" in said
    above = Settings(PROJECT.parent, None, "local")
    assert f"{PROJECT} is in it" in ecom(above, "down", "--purge", "--yes", code=2)
    assert (tmp_path / "letter.txt").exists()
    nowhere = Settings(tmp_path / "never", None, "local")
    ecom(nowhere, "down")
    assert not nowhere.home.exists()


@pytest.mark.parametrize("what", ["namenode", "postgres"])
def test_half_made_state_is_made_anew(tmp_path: Path, what: str) -> None:
    """Killed while it formats or while it makes its cluster; then it starts."""
    home = Home(tmp_path / "home")
    home.claim_ports(PORTS)
    hadoop.configure(home)
    service = {"namenode": hadoop.NameNode, "postgres": Postgres}[what](home)
    program = (
        "import sys; from pathlib import Path; from stack import hadoop;"
        "from stack.home import Home; from stack.postgres import Postgres;"
        "kind = {'namenode': hadoop.NameNode, 'postgres': Postgres}[sys.argv[1]];"
        "kind(Home(Path(sys.argv[2]))).start()"
    )
    maker = subprocess.Popen(
        [str(BIN / "python"), "-c", program, what, str(home.root)],
        cwd=PROJECT, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    partial = home.root / f"{what}.part"
    while not (partial.exists() and list(partial.iterdir())):
        assert maker.poll() is None
        time.sleep(0.001)
    os.killpg(maker.pid, signal.SIGKILL)
    maker.wait()
    assert not (home.root / what).exists()
    try:
        service.start()
        assert service.healthy()
    finally:
        service.stop()


def test_a_lost_file_system_is_not_made_anew_over_its_blocks(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.claim_ports(PORTS)
    (home.root / "datanode" / "current").mkdir(parents=True)
    with pytest.raises(ServiceError, match="namenode is missing while blocks"):
        hadoop.NameNode(home).start()


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
