"""A disk that takes no more, without a disk of its own."""

import contextlib
import resource
from collections.abc import Iterator

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
