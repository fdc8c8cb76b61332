"""Kafka's classes as its JVM lays them out in memory, in a file that all state directories share: half a start's time.

Java calls it class data sharing. Loading some 7,000 classes from their jars is half of what a start of Kafka costs; a
JVM that maps this file has them already. The broker only lists what it loads, which costs it nothing. From that list
the file is made by a process of its own that gives way to everything else, so nobody waits for it, neither while the
broker runs nor at its end, and a broker that is killed leaves nothing half done. (`-XX:ArchiveClassesAtExit` would have
the broker itself make it, in three seconds of its end.)

What is wrong with the file must never be wrong with the broker: without one that is whole it starts as it always did.
A JVM refuses one of another Java or of other jars by itself, but one that has been cut short kills it (SIGBUS; Java 17,
also with `-XX:+VerifySharedSpaces`). So the name has a digest of the content, which is read before each use.
"""

import contextlib
import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from deploy.brokers.broker import launch
from deploy.orphans import die_with_parent
from streams.niceness import give_way

_NAME = "kafka-classes"
_DIGITS = 32
_NICENESS = 19
_JVM_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
_SILENT = ("-Xlog:disable", "-Xlog:all=error:stderr")
"""Making one tells of each class that has no place in it."""


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path | None:
    """``glucast`` in XDG_CACHE_HOME, or else in ``~/.cache``; None where it cannot be had, or others could change it.

    What lies there becomes code of the broker.
    """
    base, home = Path(environment.get("XDG_CACHE_HOME", "")), Path(environment.get("HOME", ""))
    if not base.is_absolute():  # as the XDG Base Directory Specification asks for
        base = home / ".cache"
    directory = base / "glucast"
    if not base.is_absolute() or os.pathsep in str(directory):  # the JVM would take it for two
        return None
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory if _only_ours(directory) else None
    except OSError:
        return None


@dataclasses.dataclass(frozen=True, slots=True)
class ClassArchive:
    """Of one Java, its `java -version`, one set of options and the jars of one folder; another one for any other."""

    java: str
    version: str
    options: tuple[str, ...]
    jars: Path

    @property
    def key(self) -> str:
        """Digest of all that an archive depends on."""
        with os.scandir(self.jars) as entries:  # in this order, unsorted, they are Java's class path
            jars = [(entry.name, *_stamp(Path(entry.path))) for entry in entries]
        java = Path(self.java).resolve()
        options = [os.environ.get(name) for name in _JVM_VARIABLES]
        parts = (self.version, java, *_stamp(java), self.options, options, self.jars, jars)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:_DIGITS]

    def using(self, class_list: Path | None = None) -> list[str]:
        """Options of a start: to use the archive or, where there is none, to write `class_list`, of which to make it.

        By that file `make` knows whether one is wanted.
        """
        if class_list is not None:
            class_list.unlink(missing_ok=True)
        if (directory := cache_directory()) is None:
            return []
        try:
            archive = _whole(directory, self.key)
        except OSError:  # a jar that is a link to nowhere is none to Java
            return []
        if archive is not None:
            return [f"-XX:SharedArchiveFile={archive}"]
        if class_list is None:
            return []
        return ["-XX:+IgnoreUnrecognizedVMOptions", f"-XX:DumpLoadedClassList={class_list}"]

    def make(self, class_list: Path, log: Path) -> subprocess.Popen[bytes] | None:
        """Begin to make it, where `class_list` says that it is wanted; the process ends by itself, or when it is told.

        What it has to say goes to `log`. None where it is not wanted, or the machine has no room for it.
        """
        directory = cache_directory()
        if directory is None or not class_list.exists():
            return None
        command = [self.java, *self.options, "-cp", f"{self.jars}/*"]
        try:
            maker = [sys.executable, "-m", __name__, str(_NICENESS), str(directory), self.key, str(class_list)]
            return launch([*maker, *command], log)
        except (OSError, subprocess.SubprocessError):
            return None


def make_archive(directory: Path, key: str, class_list: Path, command: Sequence[str]) -> Path | None:
    """The archive of the classes in `class_list`, put in its place whole, in place of all others.

    `command`: Java, with the options and the class path of those who will use it. None where another process is about
    it, or where it fails: the JVM says why on standard error. A list that is used is removed.
    """
    # No soft lock where the file system knows no other: that would outlive a process that is killed.
    lock = FileLock(directory / f"{_NAME}.lock", mode=0o600, timeout=0, fallback_to_soft=False)
    with contextlib.suppress(Timeout, OSError), lock.acquire():
        for left in directory.glob(f"{_NAME}*.part"):  # by one that was killed
            left.unlink()
        if (archive := _whole(directory, key)) is not None:
            return archive
        fresh, listed = (directory / f"{_NAME}.{what}.{os.getpid()}.part" for what in ("archive", "list"))
        try:
            _take(class_list, listed)
            dump = ("-Xshare:dump", f"-XX:SharedClassListFile={listed}", f"-XX:SharedArchiveFile={fresh}")
            trial = ("-Xshare:on", "-XX:+VerifySharedSpaces", f"-XX:SharedArchiveFile={fresh}", "-version")
            if all(_succeeds(command, options, directory) for options in (dump, trial)):
                return _put_in_place(fresh, key)
        finally:
            fresh.unlink(missing_ok=True)
            listed.unlink(missing_ok=True)
    return None


def _whole(directory: Path, key: str) -> Path | None:
    """The archive, read from its first byte to its last: one that is not what it was is removed."""
    for archive in directory.glob(f"{_NAME}-{key}-*.jsa"):
        with contextlib.suppress(OSError):
            if _only_ours(archive) and archive == _named(archive, key):
                return archive
            archive.unlink()
    return None


def _named(archive: Path, key: str) -> Path:
    with archive.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:_DIGITS]
    return archive.with_name(f"{_NAME}-{key}-{digest}.jsa")


def _take(class_list: Path, listed: Path) -> None:
    """All whole lines: the broker still writes to it."""
    shutil.copyfile(class_list, listed)
    class_list.unlink()
    listed.write_bytes(listed.read_bytes().rpartition(b"\n")[0] + b"\n")


def _succeeds(command: Sequence[str], options: Sequence[str], directory: Path) -> bool:
    """In `directory`, and without a report of a crash there. It ends with this process."""
    java, *others = command
    return not subprocess.run(
        [java, *_SILENT, "-XX:ErrorFile=/dev/null", *others, *options],
        stdin=subprocess.DEVNULL,
        cwd=directory,
        check=False,
        preexec_fn=die_with_parent(signal.SIGKILL),
    ).returncode


def _put_in_place(fresh: Path, key: str) -> Path:
    fresh.chmod(0o400)
    with fresh.open("rb") as content:
        os.fsync(content.fileno())  # a name must not outlive a loss of power that its content does not
    archive = fresh.replace(_named(fresh, key))
    for other in archive.parent.glob(f"{_NAME}-*.jsa"):
        if other != archive:
            other.unlink(missing_ok=True)
    return archive


def _only_ours(path: Path) -> bool:
    """Whether it belongs to this user and nobody else may write to it."""
    kept = path.stat()
    return kept.st_uid == os.geteuid() and not kept.st_mode & 0o022


def _stamp(path: Path) -> tuple[int, int]:
    kept = path.stat()
    return kept.st_size, kept.st_mtime_ns


if __name__ == "__main__":
    give_way(int(sys.argv[1]))
    make_archive(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), sys.argv[5:])
