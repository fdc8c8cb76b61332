"""One `glucast up` a state directory: two would share tables and a broker's data."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import ConfigurationError


@contextmanager
def state_lock(state_dir: Path) -> Iterator[None]:
    """Hold the directory. Raises `ConfigurationError` naming the process that holds it, or why it is unusable."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(f"cannot use the state directory {state_dir}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "?"
            raise ConfigurationError(
                f"glucast is already up on {state_dir} (process {holder}); "
                "stop it, or set GLUCAST_STATE_DIR to another directory"
            ) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
