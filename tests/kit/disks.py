"""A disk that takes no more, without a disk of its own; and what is found on one."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

LARGEST_BYTES = 64 << 10
"""So large a file may still become: what pytest catches of a test's output has to fit."""


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow beyond `LARGEST_BYTES`: what writes to one gets the operating system's error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_BYTES, hard))  # Python ignores the signal that comes with it
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files_with(folder: Path, name: str) -> list[Path]:
    """The files below a folder in which a name stands, as it is or as RocksDB writes keys to its log."""
    found = []
    for path in folder.rglob("*"):
        try:
            data = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:  # RocksDB has just removed it
            continue
        if name.encode() in data or name.encode().hex().encode() in data.lower():
            found.append(path)
    return sorted(found)
