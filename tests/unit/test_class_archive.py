"""Where the archive of Kafka's classes lies, for whom it holds, and that it is there whole or not at all."""

import dataclasses
import os
import shutil
import signal
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from deploy.brokers import class_archive
from deploy.brokers.class_archive import ClassArchive, cache_directory, make_archive
from tests.kit.waiting import until

CLASSES = "java/lang/Object id: 1\njava/lang/Stri"
"""Whole lines, and what the broker is just writing."""
OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = cache_directory()
    assert directory is not None
    return directory


@pytest.fixture
def class_list(tmp_path: Path) -> Path:
    path = tmp_path / "classes.list"
    path.write_text(CLASSES)
    return path


@pytest.fixture
def jars(tmp_path: Path) -> Path:
    (tmp_path / "libs").mkdir()
    with zipfile.ZipFile(tmp_path / "libs" / "one.jar", "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
    return tmp_path / "libs"


def fake(tmp_path: Path, script: str) -> ClassArchive:
    """Of a Java that is this shell script."""
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    (tmp_path / "libs").mkdir(exist_ok=True)
    return ClassArchive(str(java), "17", OPTIONS, tmp_path / "libs")


def command(archive: ClassArchive) -> list[str]:
    return [archive.java, *archive.options, "-cp", f"{archive.jars}/*"]


def test_it_lies_in_a_directory_of_the_users_own(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    assert cache_directory({"HOME": str(home)}) == home / ".cache" / "glucast"
    assert cache_directory({"HOME": str(home), "XDG_CACHE_HOME": "relative"}) == home / ".cache" / "glucast"
    assert cache_directory({"HOME": str(home), "XDG_CACHE_HOME": str(elsewhere)}) == elsewhere / "glucast"
    assert stat.S_IMODE((elsewhere / "glucast").stat().st_mode) == 0o700


@pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "relative"}, {"XDG_CACHE_HOME": "/dev/null"}])
def test_there_is_none_where_no_directory_can_be_had(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    archive = fake(tmp_path, "exit 1")
    assert cache_directory() is None
    assert archive.using(tmp_path / "classes.list") == []
    assert archive.make(tmp_path / "classes.list", tmp_path / "log") is None


def test_java_would_take_a_path_with_a_colon_for_two(tmp_path: Path) -> None:
    assert cache_directory({"XDG_CACHE_HOME": str(tmp_path / "a:b")}) is None


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_may_write_to_is_refused(mode: int, cache: Path) -> None:
    cache.chmod(mode)
    assert cache_directory() is None


def test_a_directory_of_somebody_else_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: cache.stat().st_uid + 1)
    assert cache_directory() is None


def _newer(jars: Path) -> None:
    os.utime(jars / "one.jar", (1, 1))


def _more(jars: Path) -> None:
    (jars / "two.jar").touch()


@pytest.mark.parametrize("change", [_newer, _more])
def test_other_jars_have_another_archive(change: Callable[[Path], None], jars: Path, tmp_path: Path) -> None:
    archive = fake(tmp_path, "exit 1")
    before = archive.key
    assert archive.key == before
    change(jars)
    assert archive.key != before


@pytest.mark.parametrize("change", [{"version": "21"}, {"options": ("-XX:+UseG1GC",)}, {"java": "/bin/sh"}])
def test_another_java_has_another_archive(change: dict[str, object], jars: Path, tmp_path: Path) -> None:
    archive = fake(tmp_path, "exit 1")
    assert dataclasses.replace(archive, **change).key != archive.key  # type: ignore[arg-type]


def test_options_of_the_environment_have_another_archive(
    jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = fake(tmp_path, "exit 1")
    before = archive.key
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-XX:+UseG1GC")
    assert archive.key != before


def test_it_is_made_of_a_list_used_and_when_it_is_damaged_made_again(cache: Path, class_list: Path, jars: Path) -> None:
    java = shutil.which("java")
    if java is None:
        pytest.skip("no Java")
    archive = ClassArchive(java, "17", OPTIONS, jars)
    for other in (cache / "kafka-classes-before-1.jsa", cache / "kafka-classes.archive.1.part"):
        other.touch()
    assert archive.using() == []
    path = make_archive(cache, archive.key, class_list, command(archive))
    assert path is not None
    assert [each.name for each in cache.iterdir() if each.suffix != ".lock"] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert not class_list.exists()
    assert archive.using() == [f"-XX:SharedArchiveFile={path}"]
    assert archive.using(class_list) == [f"-XX:SharedArchiveFile={path}"]
    class_list.write_text(CLASSES)
    assert make_archive(cache, archive.key, class_list, ["false"]) == path, "it is there already"

    os.truncate(path, path.stat().st_size // 2)
    assert archive.using(class_list)[-1] == f"-XX:DumpLoadedClassList={class_list}"
    assert not path.exists()


def test_a_file_that_others_may_write_to_is_none(cache: Path, class_list: Path, tmp_path: Path) -> None:
    writes = 'for each; do case $each in -XX:SharedArchiveFile=*) echo classes > "${each#*=}";; esac; done'
    archive = fake(tmp_path, writes)
    path = make_archive(cache, archive.key, class_list, command(archive))
    assert path is not None
    assert archive.using() == [f"-XX:SharedArchiveFile={path}"]
    path.chmod(0o606)
    assert archive.using() == []
    assert not path.exists()


@pytest.mark.parametrize("refused", ["-Xshare:dump", "-Xshare:on"])
def test_what_java_does_not_make_or_take_is_none(refused: str, cache: Path, class_list: Path, tmp_path: Path) -> None:
    script = f"""for each; do case $each in -XX:SharedArchiveFile=*) echo half > "${{each#*=}}";; esac; done
        for each; do [ $each != {refused} ] || exit 1; done"""
    archive = fake(tmp_path, script)
    before = cache / "kafka-classes-before-1.jsa"
    before.touch()
    assert make_archive(cache, archive.key, class_list, command(archive)) is None
    assert [each for each in cache.iterdir() if each.suffix != ".lock"] == [before]


def test_jars_that_cannot_be_looked_at_and_a_process_that_cannot_be_started_stop_no_broker(
    cache: Path, class_list: Path, tmp_path: Path
) -> None:
    archive = fake(tmp_path, "exit 0")
    (tmp_path / "file").touch()
    assert archive.make(class_list, tmp_path / "file" / "log") is None
    (archive.jars / "gone.jar").symlink_to("nowhere")
    assert archive.using(class_list) == []


def test_one_process_makes_it(cache: Path, class_list: Path, tmp_path: Path) -> None:
    archive = fake(tmp_path, "exit 0")
    with FileLock(cache / "kafka-classes.lock"):
        assert make_archive(cache, archive.key, class_list, command(archive)) is None
    assert class_list.read_text() == CLASSES


def test_one_that_is_killed_leaves_no_process_no_archive_and_nobody_shut_out(
    cache: Path, class_list: Path, tmp_path: Path
) -> None:
    script = 'for each; do case $each in -XX:SharedArchiveFile=*) echo $$ > "${each#*=}";; esac; done; exec sleep 600'
    maker = fake(tmp_path, script).make(class_list, tmp_path / "log")
    assert maker is not None
    half = until(
        lambda: next((each for each in cache.glob("*.archive.*.part") if each.read_text().strip()), None),
        f"Java has begun: {(tmp_path / 'log').read_text()}",
    )
    java = int(half.read_text())
    maker.send_signal(signal.SIGKILL)
    assert maker.wait() == -signal.SIGKILL
    until(lambda: not psutil.pid_exists(java) or psutil.Process(java).status() == "zombie", "Java ends with it")
    assert half.exists()

    class_list.write_text(CLASSES)
    archive = fake(tmp_path, "exit 1")
    assert archive.using() == []
    assert make_archive(cache, archive.key, class_list, command(archive)) is None
    assert [each.suffix for each in cache.iterdir()] == [".lock"]
    assert not class_list.exists(), "it has had the lock"


def test_the_process_gives_way_to_others(cache: Path, class_list: Path, tmp_path: Path) -> None:
    assert class_archive._NICENESS == 19
    maker = fake(tmp_path, f"nice > {tmp_path / 'told'}; exit 1").make(class_list, tmp_path / "log")
    assert maker is not None
    assert maker.wait(60) == 0
    assert (tmp_path / "told").read_text() == "19\n"
