"""Published weights: pinned, verified, and with clear words when they cannot be had."""

import hashlib
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from agents.models.published import Published, published_file
from schemas.errors import CheckpointError, ConfigurationError

CONTENT = b"weights"
REVISION = "0123456789abcdef0123456789abcdef01234567"
WANTED = Published("someone/models", "weights.pth", REVISION, hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str, str]]:
    """Hugging Face with one file; records what was asked of it."""
    asked: list[tuple[str, str, str]] = []

    def download(repository: str, file: str, *, revision: str) -> str:
        asked.append((repository, file, revision))
        (tmp_path / file).write_bytes(CONTENT)
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(*_arguments: object, **_options: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)


def test_the_pinned_revision_is_asked_for_and_verified(hub: list[tuple[str, str, str]]) -> None:
    assert published_file(WANTED).read_bytes() == CONTENT
    assert hub == [("someone/models", "weights.pth", REVISION)]


def test_another_file_under_the_same_name_is_refused(hub: list[tuple[str, str, str]]) -> None:
    other = Published("someone/models", "weights.pth", REVISION, "a" * 64)
    with pytest.raises(CheckpointError, match=r"not the a{64}.*GLUCAST_CHECKPOINT=bundled"):
        published_file(other)


def test_offline_names_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, LocalEntryNotFoundError("offline"))
    with pytest.raises(CheckpointError, match=r"cannot be reached; the bundled checkpoint"):
        published_file(WANTED)


def test_what_the_hub_answers_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    response = httpx.Response(404, request=httpx.Request("GET", "https://example.org"))
    failing(monkeypatch, HfHubHTTPError("404 Not Found", response=response))
    with pytest.raises(CheckpointError, match=r"does not give out.*404 Not Found.*bundled"):
        published_file(WANTED)
    failing(monkeypatch, OSError("disk full"))
    with pytest.raises(CheckpointError, match=r"disk full.*bundled"):
        published_file(WANTED)


@pytest.mark.parametrize(
    ("revision", "sha256"), [("main", "a" * 64), ("", "a" * 64), (REVISION, ""), (REVISION, "xyz")]
)
def test_a_name_that_can_move_is_no_pin(revision: str, sha256: str) -> None:
    with pytest.raises(ConfigurationError, match=r"GLUCAST_HUGGINGFACE.*bundled"):
        Published("someone/models", "weights.pth", revision, sha256)
