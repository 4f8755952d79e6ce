"""HDFS: NameNode and DataNode, and the folders each role owns.

Roles are users of simple authentication: `hdfs` administers, `ecom_ingest` lands
staging, `ecom_transform` builds the warehouse, `ecom_reader` only reads what is
published. The embedded engine is one JVM, so it works as `ecom`, a member of both
writing groups; on a cluster each role runs as itself, by configuration alone.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from xml.sax.saxutils import escape

from common.errors import ServiceError
from stack import java
from stack.home import Home
from stack.process import base_environment, listens, start_detached
from stack.service import ServiceBase, log_size

ADMIN, ENGINE = "hdfs", "ecom"
INGEST, TRANSFORM, READER = "ecom_ingest", "ecom_transform", "ecom_reader"
GROUPS = {
    ADMIN: "supergroup",
    ENGINE: f"{ENGINE},{INGEST},{TRANSFORM}",
    INGEST: INGEST,
    TRANSFORM: TRANSFORM,
    READER: READER,
}
WAREHOUSE = "/user/hive/warehouse"
HDFS_PORTS = ["namenode", "namenode_http", "datanode", "datanode_http", "datanode_ipc"]


def namenode_url(home: Home) -> str:
    """The `hdfs://` URL of the file system."""
    return f"hdfs://127.0.0.1:{home.ports()['namenode']}"


LOGGING = """\
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss} %p %c{1}: %m%n%ex{12}
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
"""


def write_configuration(home: Home, name: str, settings: dict[str, str]) -> None:
    """Write a Hadoop XML file into the home's `conf/`, readable by us alone."""
    properties = "".join(
        f"<property><name>{escape(key)}</name><value>{escape(value)}</value></property>\n"
        for key, value in settings.items()
    )
    text = f'<?xml version="1.0"?>\n<configuration>\n{properties}</configuration>\n'
    home.write_private(home.folder("conf") / name, text)


def configure(home: Home) -> None:
    """Write core-site.xml and hdfs-site.xml: loopback only, permissions on."""
    ports = home.ports()
    home.write_private(home.folder("conf") / "log4j2.properties", LOGGING)
    groups = ";".join(f"{user}={names}" for user, names in GROUPS.items())
    write_configuration(
        home,
        "core-site.xml",
        {
            "fs.defaultFS": namenode_url(home),
            "hadoop.tmp.dir": str(home.folder("tmp")),
            "hadoop.user.group.static.mapping.overrides": groups,
            "hadoop.http.staticuser.user": READER,
            "fs.permissions.umask-mode": "002",
        },
    )
    write_configuration(
        home,
        "hdfs-site.xml",
        {
            "dfs.replication": "1",
            "dfs.permissions.enabled": "true",
            "dfs.namenode.acls.enabled": "true",
            "dfs.namenode.posix.acl.inheritance.enabled": "true",
            "dfs.namenode.name.dir": (home.root / "namenode").as_uri(),
            # A path, not a URL: the DataNode does not decode %20.
            "dfs.datanode.data.dir": str(home.root / "datanode"),
            "dfs.namenode.rpc-address": f"127.0.0.1:{ports['namenode']}",
            "dfs.namenode.rpc-bind-host": "127.0.0.1",
            "dfs.namenode.http-address": f"127.0.0.1:{ports['namenode_http']}",
            "dfs.namenode.http-bind-host": "127.0.0.1",
            "dfs.datanode.address": f"127.0.0.1:{ports['datanode']}",
            "dfs.datanode.http.address": f"127.0.0.1:{ports['datanode_http']}",
            "dfs.datanode.ipc.address": f"127.0.0.1:{ports['datanode_ipc']}",
            "dfs.datanode.hostname": "127.0.0.1",
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            # One DataNode: nothing to replace a failed one with, and no point
            # in waiting for a second opinion before leaving safe mode.
            "dfs.client.block.write.replace-datanode-on-failure.enable": "false",
            "dfs.namenode.safemode.extension": "0",
            "dfs.namenode.replication.min": "1",
            # Closing a file asks the NameNode whether the last block has arrived and
            # sleeps before it asks again: 400 ms by default, for a report that takes 5.
            "dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "5",
            "dfs.client.block.write.locateFollowingBlock.retries": "12",
            "dfs.heartbeat.interval": "1",
            "dfs.namenode.handler.count": "4",
            "dfs.datanode.handler.count": "4",
        },
    )


def java_command(home: Home, heap_mb: int, *extra_class_path: Path) -> list[str]:
    """`java` with our configuration first on the class path."""
    entries = [home.root / "conf", *extra_class_path, Path(java.spark_jars())]
    return [
        java.find_java(),
        f"-Xmx{heap_mb}m",
        "-Xms32m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Djava.net.preferIPv4Stack=true",
        f"-Djava.io.tmpdir={home.folder('tmp')}",
        "-cp",
        ":".join(str(entry) for entry in entries),
    ]


def source_command(home: Home, name: str, heap_mb: int, *jars: Path) -> list[str]:
    """The command that runs one of our few Java sources, compiled as it starts.

    pyspark ships the compiler (Janino), so neither a JDK nor a binary is needed.
    """
    source = Path(__file__).parent / "java_sources" / f"{name}.java"
    return [
        *java_command(home, heap_mb, *jars),
        "org.codehaus.janino.SimpleCompiler",
        str(source),
        name,
    ]


def java_environment(user: str) -> dict[str, str]:
    """The environment of a service that acts as `user` on HDFS."""
    return {**base_environment(), "HADOOP_USER_NAME": user}


class HdfsService(ServiceBase):
    """What NameNode and DataNode share."""

    main_class = ""

    def command(self, *arguments: str) -> list[str]:
        """The command line of the service's main class."""
        return [
            *java_command(self.home, 256, java.jar("hadoop-client-minicluster")),
            self.main_class,
            *arguments,
        ]

    def start(self) -> None:
        """Start the process and wait until its port answers."""
        log = self.home.log(self.name)
        before = log_size(log)
        process = start_detached(
            self.command(), log, java_environment(ADMIN), self.home.root
        )
        self.record.write(process.pid)
        self.await_ready(self.healthy, log, before, patience=90)


class NameNode(HdfsService):
    """The NameNode; formats its folder once."""

    name = "namenode"
    main_class = "org.apache.hadoop.hdfs.server.namenode.NameNode"

    def start(self) -> None:
        """Format where nothing is yet, then start."""
        if not (self.home.root / "namenode" / "current" / "VERSION").exists():
            self._format()
        super().start()

    def _format(self) -> None:
        done = subprocess.run(
            self.command("-format", "-nonInteractive", "-force"),
            env=java_environment(ADMIN),
            capture_output=True,
            text=True,
            check=False,
        )
        with self.home.log(self.name).open("a", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode:
            raise self.failure("could not be formatted", self.home.log(self.name))


class DataNode(HdfsService):
    """The DataNode; ready when the NameNode counts it as live."""

    name = "datanode"
    main_class = "org.apache.hadoop.hdfs.server.datanode.DataNode"

    def healthy(self) -> bool:
        """Our process runs and its port answers."""
        return self.process() is not None and listens(self.port)


# folder -> (owner, group, mode, ACL entries that let other roles in)
LAYOUT: dict[str, tuple[str, str, str, str]] = {
    "/tmp": (ADMIN, "supergroup", "1777", ""),  # noqa: S108
    "/user": (ADMIN, "supergroup", "755", ""),
    "/user/hive": (ADMIN, "supergroup", "755", ""),
    WAREHOUSE: (TRANSFORM, TRANSFORM, "775", f"group:{INGEST}:r-x"),
    f"{WAREHOUSE}/staging.db": (
        INGEST,
        INGEST,
        "770",
        f"group:{TRANSFORM}:rwx,default:group:{TRANSFORM}:r-x",
    ),
    f"{WAREHOUSE}/snapshots.db": (TRANSFORM, TRANSFORM, "770", ""),
    f"{WAREHOUSE}/core.db": (TRANSFORM, TRANSFORM, "775", ""),
    f"{WAREHOUSE}/marts.db": (TRANSFORM, TRANSFORM, "775", ""),
    f"{WAREHOUSE}/ops.db": (TRANSFORM, TRANSFORM, "775", f"group:{INGEST}:rwx"),
}


def lay_out(home: Home, check: bool = False) -> dict[str, tuple[str, str, str]]:
    """Make and mend the warehouse's folders: owner, group, mode, ACL.

    Args:
        home: the stack, its NameNode up.
        check: change nothing, only look.

    Returns:
        Folder -> (owner, group, octal mode) as it was found; owner `missing` where
        there was none.

    Raises:
        ServiceError: the NameNode does not answer or refuses.
    """
    lines = ["\t".join([path, *wanted]) for path, wanted in LAYOUT.items()]
    command = [*source_command(home, "HdfsLayout", 128), *(["check"] if check else [])]
    done = subprocess.run(
        command,
        input="\n".join(lines) + "\n",
        env=java_environment(ADMIN),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.splitlines()
        reason = [line for line in lines if line.startswith("Caused by")] or lines[-1:]
        raise ServiceError(
            f"Laying out {WAREHOUSE} on HDFS: {(reason or ['no reason given'])[-1][:300]}",
            f"read {home.log('namenode')}, or run `ecom doctor`",
        )
    rows = [
        line.split("\t") for line in done.stdout.splitlines() if line.startswith("/")
    ]
    return {path: (owner, group, mode) for path, owner, group, mode in rows}
