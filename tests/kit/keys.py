"""Keys for tests: what `glucast keys add` would have made."""

import secrets
from pathlib import Path
from typing import Any

from query_api.key_file import Key, add, digest_of, new_token, sha256


def old_key() -> tuple[str, str]:
    """A key and its digest, for a line of the form `name sha256-in-hex`."""
    key = secrets.token_urlsafe(32)
    return key, sha256(key)


def key_in(path: Path, name: str, secret: str | None = None, **fields: Any) -> str:
    """A new key in the file: its token, or the secret that is given."""
    secret = secret or new_token(name)
    add(path, Key.model_validate({"name": name, "digest": digest_of(secret), **fields}))
    return secret


def person_in(path: Path, subject_id: str, secret: str | None = None, **fields: Any) -> str:
    """A new key of one person, who lives in Vienna."""
    of_person = {"subjects": [subject_id], "timezone": "Europe/Vienna", "scopes": ["read", "write"]}
    name = fields.pop("name", f"{subject_id}-{secrets.token_hex(3)}")
    return key_in(path, name, secret, **(of_person | fields))
