"""The Hive metastore, from pyspark's own jars, its tables in the embedded PostgreSQL."""

from __future__ import annotations

import subprocess
import zipfile

from common.errors import ServiceError
from stack import hadoop, java
from stack.hdfs_layout import ADMIN
from stack.home import Home
from stack.postgres import Postgres
from stack.process import start_detached
from stack.service import ServiceBase, log_size


def configure(home: Home) -> None:
    """Write hive-site.xml; it holds the metastore's database password."""
    ports = home.ports()
    hadoop.write_configuration(
        home,
        "hive-site.xml",
        {
            "javax.jdo.option.ConnectionURL": f"jdbc:postgresql://127.0.0.1:{ports['postgres']}/metastore",
            "javax.jdo.option.ConnectionDriverName": "org.postgresql.Driver",
            "javax.jdo.option.ConnectionUserName": "hive",
            "javax.jdo.option.ConnectionPassword": home.secret("postgres_hive"),
            # Creating tables on the fly deadlocks on PostgreSQL (design trap 3).
            "datanucleus.schema.autoCreateAll": "false",
            "datanucleus.connectionPool.maxPoolSize": "4",
            "hive.metastore.schema.verification": "false",
            "hive.metastore.uris": f"thrift://127.0.0.1:{ports['metastore']}",
            "hive.metastore.warehouse.dir": hadoop.WAREHOUSE_URL,
            "hive.metastore.execute.setugi": "true",
            "hive.async.log.enabled": "false",
            "hive.server2.thrift.bind.host": "127.0.0.1",
            "hive.server2.thrift.port": str(ports["thrift"]),
            "hive.server2.transport.mode": "binary",
            "hive.server2.authentication": "NONE",
            "hive.server2.enable.doAs": "false",
            "hive.server2.logging.operation.enabled": "false",
            "hive.exec.local.scratchdir": str(home.root / "tmp" / "engine" / "hive"),
            "hive.exec.scratchdir": f"{hadoop.URL}/tmp/hive",  # noqa: S108
        },
    )


class Metastore(ServiceBase):
    """The metastore on loopback; makes its schema before its first start."""

    name = "metastore"

    def start(self) -> None:
        """Create the schema where it is missing, start, wait for the port."""
        if not self._has_schema():
            self._create_schema()
        log = self.home.log(self.name)
        before = log_size(log)
        process = start_detached(
            [
                *hadoop.source_command(
                    self.home, "LoopbackMetastore", 384, java.jar("postgresql")
                ),
                str(self.port),
            ],
            log,
            hadoop.java_environment(ADMIN),
            self.home.root,
        )
        self.record.write(process.pid)
        self.await_ready(self.healthy, log, before, patience=90)

    def _java(self) -> list[str]:
        return hadoop.java_command(self.home, 384, java.jar("postgresql"))

    def _has_schema(self) -> bool:
        # The last of SchemaTool's work is a transaction's end, so any table is all.
        connection = Postgres(self.home).connect("metastore")
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('public.\"DBS\"') IS NOT NULL")
            row = cursor.fetchone()
        connection.close()
        return bool(row and row[0])

    def _create_schema(self) -> None:
        folder = self.home.folder("tmp")
        source = next((java.spark_home() / "jars").glob("hive-metastore-*.jar"))
        with zipfile.ZipFile(source) as archive:
            archive.extract("package.jdo", folder)
        settings = folder / "datanucleus.properties"
        self.home.write_private(
            settings,
            "\n".join(
                [
                    "javax.jdo.PersistenceManagerFactoryClass=org.datanucleus.api.jdo.JDOPersistenceManagerFactory",
                    f"javax.jdo.option.ConnectionURL=jdbc:postgresql://127.0.0.1:{self.home.ports()['postgres']}/metastore",
                    "javax.jdo.option.ConnectionDriverName=org.postgresql.Driver",
                    "javax.jdo.option.ConnectionUserName=hive",
                    f"javax.jdo.option.ConnectionPassword={self.home.secret('postgres_hive')}",
                    "datanucleus.identifierFactory=datanucleus1",
                    "datanucleus.connectionPoolingType=None",
                ]
            ),
        )
        done = subprocess.run(
            [
                *self._java(),
                "org.datanucleus.store.schema.SchemaTool",
                "-create",
                "-api",
                "JDO",
                "-props",
                str(settings),
                str(folder / "package.jdo"),
            ],
            env=hadoop.java_environment(ADMIN),
            capture_output=True,
            text=True,
            check=False,
        )
        settings.unlink()
        if done.returncode or not self._has_schema():
            with self.home.log(self.name).open("a", encoding="utf-8") as log:
                log.write(done.stdout + done.stderr)
            raise ServiceError(
                "Creating the metastore's schema in PostgreSQL failed",
                f"read {self.home.log(self.name)}",
            )
