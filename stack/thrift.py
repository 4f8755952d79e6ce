"""The engine: Spark's HiveServer2 with Iceberg as default catalog, and Spark Connect.

One warm JVM serves dbt and readers (HiveServer2, binary) and ingest (Spark Connect).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from pathlib import Path

from common.progress import task
from stack import class_archive, hadoop, java
from stack.hdfs_layout import ENGINE
from stack.home import Home
from stack.process import base_environment, listens, start_detached
from stack.service import ServiceBase, log_size

CATALOG = "lake"
DRIVER_MEMORY = "3g"
RECORDING_PATIENCE = 120.0
# What the engine writes while it runs, and nobody needs after it.
SCRATCH = Path("tmp", "engine")
ENGINE_JARS = ("iceberg-spark-runtime", "postgresql")
# The packages that Spark's launcher opens, but not its incubator module: vectors for
# MLlib alone, and some builds of Java 17 lack it.
OPENED = (
    "java.base/java.lang", "java.base/java.lang.invoke", "java.base/java.lang.reflect",
    "java.base/java.io", "java.base/java.net", "java.base/java.nio",
    "java.base/java.util", "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic", "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch", "java.base/sun.nio.cs", "java.base/sun.security.action",
    "java.base/sun.util.calendar", "java.security.jgss/sun.security.krb5",
)  # fmt: skip
JAVA_OPTIONS = (
    "-XX:-UsePerfData",
    "-XX:MinHeapFreeRatio=10",
    "-XX:MaxHeapFreeRatio=30",
    "-Djava.net.preferIPv4Stack=true",
    f"-DHADOOP_USER_NAME={ENGINE}",
    "-Djdk.reflect.useDirectMethodHandle=false",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.allocator.type=pooled",
    *(f"--add-opens={package}=ALL-UNNAMED" for package in OPENED),
)
COLLECTOR = "-XX:+UseParallelGC"


def java_options() -> tuple[str, ...]:
    """Options of the engine's JVM; `ECOM_ENGINE_JAVA_OPTIONS` adds to them."""
    added = shlex.split(os.environ.get("ECOM_ENGINE_JAVA_OPTIONS", ""))
    chosen = any(re.fullmatch(r"-XX:\+Use\w+GC", option) for option in added)
    return (*([] if chosen else [COLLECTOR]), *JAVA_OPTIONS, *added)


def spark_settings(home: Home) -> dict[str, str]:
    """Spark's configuration of the embedded engine."""
    ports = home.ports()
    jars = ":".join(str(java.jar(name)) for name in ENGINE_JARS)
    catalog = f"spark.sql.catalog.{CATALOG}"
    return {
        "spark.master": f"local[{os.cpu_count() or 2}]",
        "spark.app.name": "ecom",
        "spark.driver.memory": DRIVER_MEMORY,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        # On spark.jars, Thrift's worker threads do not find the classes (trap 4).
        "spark.driver.extraClassPath": jars,
        "spark.executor.extraClassPath": jars,
        "spark.local.dir": str(home.root / SCRATCH),
        "spark.ui.port": str(ports["spark_ui"]),
        "spark.ui.retainedJobs": "100",
        "spark.ui.retainedStages": "200",
        "spark.ui.retainedTasks": "2000",
        "spark.sql.ui.retainedExecutions": "100",
        "spark.ui.showConsoleProgress": "false",
        "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(ports["connect"]),
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.defaultCatalog": CATALOG,
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.type": "hive",
        f"{catalog}.uri": f"thrift://127.0.0.1:{ports['metastore']}",
        f"{catalog}.warehouse": hadoop.WAREHOUSE_URL,
        # Another session's commit must be seen at once: dbt, ingest and readers share tables.
        f"{catalog}.cache-enabled": "false",
        "spark.hadoop.iceberg.engine.hive.lock-enabled": "false",
        "spark.sql.warehouse.dir": hadoop.WAREHOUSE_URL,
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "8",
        # Else one core sorts and spills up to 1.5 GB of a fact to write one large file.
        "spark.sql.iceberg.advisory-partition-size": str(64 << 20),
        # A dimension of a million rows is sent to the fact, not the fact sorted by its
        # key; what is known only as it runs is compressed, and keeps the usual bound.
        "spark.sql.autoBroadcastJoinThreshold": "64m",
        "spark.sql.adaptive.autoBroadcastJoinThreshold": "10m",
        "spark.sql.catalogImplementation": "hive",
        "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
    }


class Thrift(ServiceBase):
    """Spark Thrift server with Spark Connect in the same JVM."""

    name = "thrift"

    def healthy(self) -> bool:
        """Both front doors, HiveServer2 and Spark Connect, answer."""
        connect = self.home.ports().get("connect", 0)
        return super().healthy() and listens(connect)

    def start(self) -> None:
        """Write spark-defaults.conf, start, wait for both ports."""
        conf = self.home.folder("conf")
        self._clear_scratch()
        lines = [f"{key} {value}\n" for key, value in spark_settings(self.home).items()]
        self.home.write_private(conf / "spark-defaults.conf", "".join(lines))
        log = self.home.log(self.name)
        before = log_size(log)
        environment = {
            # Not by HADOOP_USER_NAME: Hive's shim would take it for a user to
            # impersonate in every statement run asynchronously, as dbt's are.
            **base_environment(),
            "SPARK_HOME": str(java.spark_home()),
            "SPARK_CONF_DIR": str(conf),
            "HADOOP_CONF_DIR": str(conf),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOG_DIR": str(log.parent),
        }
        process = start_detached(self._command(), log, environment, self.home.root)
        self.record.write(process.pid)
        self.await_ready(self.healthy, log, before, patience=120)

    def stop(self) -> bool:
        """End the engine; one that records its classes is given time to write them."""
        process = self.process()
        recording = class_archive.recorded_by(process) if process else None
        if recording is None:
            return super().stop()
        self.stop_patience = RECORDING_PATIENCE
        began = time.monotonic()
        with task("Keeping the engine's classes for faster starts (only this once)"):
            ended = super().stop()
        if time.monotonic() - began < RECORDING_PATIENCE:
            class_archive.keep(recording)
        recording.unlink(missing_ok=True)
        return ended

    def _clear_scratch(self) -> None:
        scratch = self.home.root / SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        # Hive looks for its sessions' folder and complains where there is none.
        (scratch / "hive").mkdir(parents=True, exist_ok=True)

    def _command(self) -> list[str]:
        """What `spark-submit` would run, without the JVM it needs to find that out."""
        found, options = java.find_java(), java_options()
        jars = [java.jar(name) for name in ENGINE_JARS]
        jars += sorted((java.spark_home() / "jars").glob("*.jar"))
        # An archive refuses folders before its jars, so the configuration comes last.
        class_path = [*jars, self.home.folder("conf")]
        wanted = class_archive.archive(found, jars, options)
        return [
            found,
            f"-Xmx{DRIVER_MEMORY}",
            *class_archive.java_options(wanted, self.home.root),
            *options,
            f"-Djava.io.tmpdir={self.home.root / SCRATCH}",
            "-cp",
            ":".join(str(entry) for entry in class_path),
            "org.apache.spark.deploy.SparkSubmit",
            "--class",
            "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2",
            "spark-internal",
        ]
