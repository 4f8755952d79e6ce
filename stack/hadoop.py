"""HDFS: NameNode and DataNode as processes, and their configuration."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from xml.sax.saxutils import escape

from psutil import NoSuchProcess

from common.errors import ServiceError
from stack import java
from stack.hdfs_layout import ADMIN, GROUPS, READER, UMASK, WAREHOUSE, address
from stack.hdfs_rpc import RefusedError, answers, namenode
from stack.home import Home
from stack.process import base_environment, start_detached
from stack.service import ServiceBase, log_size

NAME_SERVICE = "ecom"
REPORT_PATIENCE = 60.0
HDFS_PORTS = ["namenode", "namenode_http", "datanode", "datanode_http", "datanode_ipc"]


# Iceberg writes whole addresses into its metadata: a name outlives a port.
URL = f"hdfs://{NAME_SERVICE}"
WAREHOUSE_URL = f"{URL}{WAREHOUSE}"


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
            "fs.defaultFS": URL,
            "hadoop.tmp.dir": str(home.folder("tmp")),
            "hadoop.user.group.static.mapping.overrides": groups,
            "hadoop.http.staticuser.user": READER,
            "fs.permissions.umask-mode": UMASK,
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
            "dfs.nameservices": NAME_SERVICE,
            f"dfs.ha.namenodes.{NAME_SERVICE}": "only",
            f"dfs.namenode.rpc-address.{NAME_SERVICE}.only": f"127.0.0.1:{ports['namenode']}",
            f"dfs.namenode.http-address.{NAME_SERVICE}.only": f"127.0.0.1:{ports['namenode_http']}",
            f"dfs.client.failover.proxy.provider.{NAME_SERVICE}": "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider",
            "dfs.client.failover.max.attempts": "4",
            "dfs.namenode.rpc-bind-host": "127.0.0.1",
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
        "-XX:-UsePerfData",
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

    def healthy(self) -> bool:
        """Our process runs and answers a question, not only its port."""
        return super().healthy() and answers(("127.0.0.1", self.port))

    def start(self) -> None:
        """Format where nothing is yet, then start."""
        if not (self.home.root / "namenode").exists():
            self._format()
        super().start()

    def _format(self) -> None:
        """Format beside its place: a crash leaves nothing, never half a file system.

        Raises:
            ServiceError: it failed, or blocks of an earlier file system are here.
        """
        if (self.home.root / "datanode" / "current").exists():
            raise ServiceError(
                f"Starting namenode: {self.home.root / 'namenode'} is missing while "
                "blocks of its files are in datanode/",
                "put the folder back, or `ecom down --purge` and begin anew",
            )
        partial = self.home.root / "namenode.part"
        shutil.rmtree(partial, ignore_errors=True)
        place = f"dfs.namenode.name.dir={partial.as_uri()}"
        done = subprocess.run(
            self.command("-D", place, "-format", "-nonInteractive"),
            env=java_environment(ADMIN),
            capture_output=True,
            text=True,
            check=False,
        )
        with self.home.log(self.name).open("a", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode:
            raise self.failure("could not be formatted", self.home.log(self.name))
        partial.rename(self.home.root / "namenode")


class DataNode(HdfsService):
    """The DataNode: the blocks of the files."""

    name = "datanode"
    main_class = "org.apache.hadoop.hdfs.server.datanode.DataNode"

    def await_reported(self) -> None:
        """Wait until the NameNode gives out its space: its port answers before that.

        Raises:
            ServiceError: it does not in a minute, or the process died.
        """
        log = self.home.log(self.name)
        self.await_ready(self._is_reported, log, log_size(log), REPORT_PATIENCE)

    def _is_reported(self) -> bool:
        process = self.process()
        if process is None:
            return False
        try:
            with namenode(address(self.home), ADMIN) as client:
                # The word of an earlier process may still be there.
                return any(at >= process.create_time() for at in client.heartbeats())
        except (ServiceError, RefusedError, NoSuchProcess):
            return False
