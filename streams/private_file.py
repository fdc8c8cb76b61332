"""Files of secrets: nobody but their owner reads them, changes come one at a time and whole."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from schemas.errors import ConfigurationError

PRIVATE = 0o600
LOCK_SECONDS = 5.0


@contextlib.contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """One change at a time, so that none is lost. `what`: the file in words, for whoever reads the error."""
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS):
            yield
    except (OSError, Timeout) as error:
        raise ConfigurationError(f"{what} cannot be changed at {path} ({error})") from None


def lines_of(path: Path) -> list[str]:
    """None of a file that does not exist yet."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def write(path: Path, lines: Sequence[str], what: str) -> None:
    """The whole file at once: who reads it meanwhile sees the old one or the new one, and nobody else may read it.

    Its owner stays who it is: a service may run as another user than whoever changes the file.
    """
    path = path.resolve()
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if path.exists():
                _give_to(handle, path, what)
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except (OSError, ConfigurationError) as error:
        fresh.unlink(missing_ok=True)
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{what} cannot be written at {path} ({error.strerror})") from None


def read_secret_lines(path: Path, what: str) -> list[str]:
    """The lines of a file that must be its owner's alone. Raises `ConfigurationError`, which repeats none of them."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{what} cannot be read at {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{what} at {path} is no text in UTF-8") from None
    if mode & 0o077:
        raise ConfigurationError(f"others may read {what} at {path} (mode {mode:o}): run chmod 600 {path}")
    return text.splitlines()


def _give_to(handle: int, path: Path, what: str) -> None:
    """Raises `ConfigurationError` where it is another user's file, who could not read it any more."""
    owner = path.stat()
    try:
        os.fchown(handle, owner.st_uid, owner.st_gid)
    except PermissionError:
        raise ConfigurationError(f"{what} at {path} belongs to another user: run this as that user") from None
