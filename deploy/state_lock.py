"""One `glucast up` a state directory: two would share tables and a broker's data."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from schemas.errors import ConfigurationError


@contextmanager
def state_lock(state_dir: Path) -> Iterator[None]:
    """Hold the directory. Raises `ConfigurationError` naming the process that holds it, or why it is unusable.

    The kernel frees it with the process, however that ends.
    """
    path = state_dir / "up.lock"
    # No soft lock where the file system knows no other: that would outlive a process that is killed.
    lock = FileLock(path, mode=0o600, timeout=0, fallback_to_soft=False)
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        held = lock.acquire()
    except Timeout:
        holder = path.read_text(errors="replace").strip() or "?"
        raise ConfigurationError(
            f"glucast is already up on {state_dir} (process {holder}); "
            "stop it, or set GLUCAST_STATE_DIR to another directory"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"cannot use the state directory {state_dir}: {error.strerror}") from error
    with held:
        path.write_text(f"{os.getpid()}\n")
        yield
