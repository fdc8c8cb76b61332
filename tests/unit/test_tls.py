"""What a role shows of itself to Kafka over TLS, and what it says of files that are not what they should be."""

import subprocess
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from streams.kafka.connection import tls_context
from streams.settings import Settings
from tests.kit.certificates import SELF_SIGNED

PASSWORD = "correct-horse-battery"


def certificate(home: Path, name: str) -> dict[str, Path]:
    """A certificate and its encrypted key, as settings name them."""
    files = {"ssl_certfile": home / f"{name}.pem", "ssl_keyfile": home / f"{name}-key.pem"}
    subprocess.run(
        [*SELF_SIGNED, "-subj", f"/CN={name}",
         "-passout", f"pass:{PASSWORD}", "-out", files["ssl_certfile"], "-keyout", files["ssl_keyfile"]],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


def settings(**values: object) -> Settings:
    return Settings(security_protocol="SSL", **values)  # type: ignore[arg-type]


def test_a_certificate_and_its_encrypted_key_are_taken(tmp_path: Path) -> None:
    context = tls_context(settings(**certificate(tmp_path, "calc"), ssl_key_password=PASSWORD))
    assert context.check_hostname


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    ours, others = certificate(tmp_path, "calc"), certificate(tmp_path, "query")
    missing, mixed = {"ssl_cafile": tmp_path / "none.pem"}, ours | {"ssl_keyfile": others["ssl_keyfile"]}
    for values in (missing, {**mixed, "ssl_key_password": PASSWORD}, {**ours, "ssl_key_password": "wrong"}):
        with pytest.raises(ConfigurationError, match=f"TLS with .*{tmp_path}.* cannot be set up"):
            tls_context(settings(**values))


def test_a_process_asks_nobody_for_a_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be set up"):
        tls_context(settings(**certificate(tmp_path, "calc")))
