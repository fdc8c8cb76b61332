"""Downloads published weights from Hugging Face: one file, one revision, one checksum, all given by the operator."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import CheckpointError, ConfigurationError

_FALLBACK = "the bundled checkpoint needs no download: set GLUCAST_CHECKPOINT=bundled"


@dataclass(frozen=True)
class Published:
    """What to download. ConfigurationError unless `revision` is a full commit and `sha256` a checksum: a name that
    can move is no pin.
    """

    repository: str
    file: str
    revision: str
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ConfigurationError(
                "GLUCAST_HUGGINGFACE_REVISION must be a full commit of 40 hex digits, from the repository's history; "
                + _FALLBACK
            )
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256 or ""):
            raise ConfigurationError(
                "GLUCAST_HUGGINGFACE_SHA256 must be 64 hex digits: the SHA-256 that the repository's file page shows; "
                + _FALLBACK
            )


def published_file(published: Published) -> Path:
    """Path of the verified file in huggingface_hub's cache; downloads it, with a progress bar, on the first call.

    CheckpointError when it cannot be had or is not the file that the checksum names.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    what = f"{published.file} of {published.repository} at {published.revision[:12]}"
    try:
        path = Path(hf_hub_download(published.repository, published.file, revision=published.revision))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(f"{what} is not in the cache and Hugging Face cannot be reached; {_FALLBACK}") from error
    except HfHubHTTPError as error:
        raise CheckpointError(f"Hugging Face does not give out {what}: {error}; {_FALLBACK}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{what} cannot be downloaded: {error}; {_FALLBACK}") from error
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != published.sha256:
        raise CheckpointError(
            f"{what} has SHA-256 {digest.hexdigest()}, not the {published.sha256} that was asked for: "
            f"it was damaged or replaced; {_FALLBACK}"
        )
    return path
