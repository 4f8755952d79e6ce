"""Reading from a hot standby, and from the server that took over."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from stack.home import Home
from stack.postgres import Postgres, binaries
from tests.conftest import BIN, environment
from tests.ingest.conftest import Shop

UPSERT = "  - {name: t, key: [id], cursor: at, mode: upsert}\n"
TABLE = "CREATE TABLE t (id bigint PRIMARY KEY, v text, at timestamptz DEFAULT now())"


class Follower(Postgres):
    """A server that has its roles from another, and can change none."""

    def _make_roles(self) -> None:
        pass


@contextmanager
def standby_of(primary: Postgres, folder: Path) -> Iterator[Postgres]:
    """A hot standby, cloned by `pg_basebackup` into a home of its own."""
    home = Home(folder / "standby")
    home.folder("run")
    secrets = (primary.home.root / "secrets.json").read_text(encoding="utf-8")
    home.write_private(home.root / "secrets.json", secrets)
    home.claim_ports(["postgres"])
    follower = Follower(home)
    follower.data.mkdir(mode=0o700)
    follower._give_away(follower.data)
    password = primary.home.secret("postgres_postgres")
    address = f"host=127.0.0.1 port={primary.port} user=postgres"
    subprocess.run(
        [*follower._as_user(), str(binaries() / "pg_basebackup"), "-D", str(follower.data),
         "-d", address, "--checkpoint=fast", "-X", "stream"],
        env={**os.environ, "PGPASSWORD": password}, cwd="/", check=True,
    )  # fmt: skip
    (follower.data / "standby.signal").touch()
    follower._give_away(follower.data / "standby.signal")
    with (follower.data / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write(f"\nprimary_conninfo = '{address} password={password}'\n")
    try:
        follower.start()
        yield follower
    finally:
        follower.stop()


def catch_up(primary: Postgres, follower: Postgres) -> None:
    """Wait until the standby has replayed what the primary has written."""
    leading, following = primary.connect(), follower.connect()
    leading.autocommit = following.autocommit = True
    with leading.cursor() as lead, following.cursor() as follow:
        lead.execute("SELECT pg_current_wal_lsn()")
        (target,) = lead.fetchone() or (None,)
        for _ in range(200):
            follow.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (target,))
            if (follow.fetchone() or (False,))[0]:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("the standby does not catch up")
    leading.close()
    following.close()


def test_a_standby_says_what_it_cannot_know_and_a_fail_over_is_refused(
    shop: Shop, tmp_path: Path
) -> None:
    shop.execute(TABLE, "INSERT INTO t VALUES (1, 'a')")
    manifest = shop.manifest(UPSERT)
    with standby_of(shop.server, tmp_path) as follower:
        dsn = re.sub(r":\d+/", f":{follower.port}/", str(shop.settings.source_dsn))
        reader = replace(shop, settings=replace(shop.settings, source_dsn=dsn))
        late = shop.connect()
        late.cursor().execute("INSERT INTO t VALUES (2, 'late')")
        shop.execute("INSERT INTO t VALUES (3, 'after')")
        catch_up(shop.server, follower)
        said = subprocess.run(
            [str(BIN / "ecom"), "ingest", "--manifest", str(manifest)],
            env=environment(reader.settings), capture_output=True, text=True, check=True,
        ).stderr  # fmt: skip
        assert "a standby cannot see the transactions open on its primary" in said
        assert "lookback_seconds" in said
        assert ids(shop) == [1, 3]

        late.commit()
        late.close()
        catch_up(shop.server, follower)
        reader.ingest(manifest)
        assert ids(shop) == [1, 2, 3]

        promoted = follower.connect(shop.database)
        promoted.autocommit = True
        with promoted.cursor() as cursor:
            cursor.execute("SELECT pg_promote()")
            cursor.execute("INSERT INTO t VALUES (4, 'new timeline')")
        promoted.close()
        refused = reader.ingest(manifest, code=1)
        assert "went back in time" in refused
        assert "--full" in refused
        reader.ingest(manifest, "--full")
        assert ids(shop) == [1, 2, 3, 4]


def ids(shop: Shop) -> list[int]:
    return [row[0] for row in shop.staged("SELECT id FROM {s}.t ORDER BY id")]
