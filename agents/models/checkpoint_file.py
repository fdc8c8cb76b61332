"""Where a checkpoint lies and what tells its file from others, without loading anything of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from agents.models.published import Published, published_file
from schemas.errors import CheckpointError, ConfigurationError

LARGEST_FILE_BYTES = 1 << 30
BUNDLED = Path(__file__).parent / "bundled" / "glucast.safetensors"


def read_bounded(path: Path) -> bytes:
    """The file's bytes. CheckpointError when it is missing or larger than any model that is served."""
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE_BYTES:
            raise CheckpointError(f"{path} holds {size:,} bytes; a checkpoint has at most {LARGEST_FILE_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"the checkpoint {path} cannot be read: {error.strerror or error}") from error


def checkpoint_path(checkpoint: str | Path, published: Published | None = None) -> Path:
    """The file behind "bundled", "huggingface" (downloaded if need be) or a path."""
    if str(checkpoint) == "bundled":
        return BUNDLED
    if str(checkpoint) == "huggingface":
        if published is None:
            raise ConfigurationError(
                "checkpoint huggingface needs a repository, file, revision and checksum; or use bundled"
            )
        return published_file(published)
    return Path(checkpoint)


def checkpoint_fingerprint(path: str | Path) -> str:
    """Hex SHA-256 of a checkpoint's bytes, "bundled" included: tells models apart without loading one.

    The fingerprint of a forecaster also covers the device, the precision and the way of sampling.
    """
    return hashlib.sha256(read_bounded(checkpoint_path(path))).hexdigest()
