"""The file of keys: who may ask what, about whom. A key itself is stored nowhere, only a hash of it.

One key a line: a JSON object as ``glucast keys`` writes it, or ``name sha256-in-hex``, which may ask everything about
everybody. ``#`` begins a comment. The hash of a JSON line is SHA-256 over the SHA-1 in hexadecimal: most Nightscout
clients send nothing but that SHA-1, so it is all that there is to compare with.
"""

import datetime
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from agents.core.local_time import zone
from query_api.rate_limit import parsed
from schemas.errors import ConfigurationError, ImplausibleError
from schemas.record import HexDigest, SubjectId
from streams.private_file import alone, lines_of, write

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
"""See what is stored; send readings and files; delete, reset, save and load."""

SHORTEST_SECRET = 12
"""Characters, as Nightscout asks of its own."""
_WHAT = "the file of API keys"


def _is_rate(text: str) -> str:
    try:
        parsed(text)
    except ValueError:
        raise ValueError("a rate is like 120/minute") from None
    return text


Rate = Annotated[str, StringConstraints(max_length=32), AfterValidator(_is_rate)]

_LINE = re.compile(r"([A-Za-z0-9._-]{1,64})\s+([0-9a-fA-F]{64})")


class Key(BaseModel):
    """What one key may do. Without `subjects` it is for everybody's data, and with `timezone` for one person's."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    digest: HexDigest = Field(description="SHA-256 of the key's SHA-1 in hexadecimal; of an old line, of the key.")
    scopes: tuple[Scope, ...] = Field(SCOPES, min_length=1)
    subjects: tuple[SubjectId, ...] | None = Field(None, min_length=1)
    timezone: str | None = Field(None, description="IANA name: where times come in UTC, the clock the person lives by.")
    device: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="What readings go by that name no device, on the Nightscout site.",
    )
    expires: AwareDatetime | None = None
    rate_limit: Rate | None = Field(None, description="Of this key, in the place of GLUCAST_RATE_LIMIT.")
    body_rate_limit: Rate | None = Field(
        None, description="KiB that may be sent with this key, in the place of what the settings say of every door."
    )

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.timezone is not None:
            try:
                zone(self.timezone)
            except ImplausibleError as error:
                raise ValueError(str(error)) from None
        return self

    @property
    def subject(self) -> str | None:
        """The person, where there is just one and their clock is known: who may use the Nightscout site."""
        return self.subjects[0] if self.subjects and len(self.subjects) == 1 and self.timezone else None

    def covers(self, subject_id: str) -> bool:
        """Whether it is for this subject's data."""
        return self.subjects is None or subject_id in self.subjects

    def is_made_of(self, secret: str) -> bool:
        """Whether it is the key of this token or secret."""
        return hmac.compare_digest(self.digest, sha256(sha1(secret)))

    def has_expired(self, now: datetime.datetime) -> bool:
        return self.expires is not None and self.expires <= now


def new_token(name: str) -> str:
    """A fresh key in the form of Nightscout's access tokens: up to ten characters of the name, 16 random hex digits."""
    return f"{re.sub('[^a-z0-9]', '', name.lower())[:10] or 'key'}-{secrets.token_hex(8)}"


def digest_of(secret: str) -> str:
    """What is stored of a token or a secret. Raises `ConfigurationError` for one that is too short."""
    if len(secret) < SHORTEST_SECRET or not secret.isprintable():
        raise ConfigurationError(f"a secret has at least {SHORTEST_SECRET} printable characters")
    return sha256(sha1(secret))


def sha1(text: str) -> str:
    """As Nightscout's clients send a secret: hexadecimal, in small letters."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read(path: Path) -> list[Key]:
    """All keys of a file, in its order. Raises `ConfigurationError`, which never repeats a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError("the file of API keys cannot be read: set GLUCAST_API_KEYS_FILE") from None
    return [key for number, line in enumerate(lines, start=1) if (key := _key(number, line)) is not None]


def _key(number: int, line: str) -> Key | None:
    text = line.strip()
    if text.startswith("{"):
        try:
            return Key.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False)[0]
            place = ".".join(map(str, first["loc"])) or "key"
            raise ConfigurationError(
                f"line {number} of the file of API keys is not as glucast keys writes it: {place}: {first['msg']}"
            ) from None
    text = text.partition("#")[0].strip()
    if not text:
        return None
    match = _LINE.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"line {number} of the file of API keys is not `name sha256-in-hex`")
    return Key(name=match[1], digest=match[2].lower())


def add(path: Path, key: Key) -> None:
    """Append a key; makes the file where there is none. Raises `ConfigurationError` where name or secret is taken."""
    with alone(path, _WHAT):
        known = read(path) if path.exists() else []
        if any(each.name == key.name for each in known):
            raise ConfigurationError(
                f"there is a key named {key.name} already: rotate or revoke it, or take another name"
            )
        _check_own(key.digest, known)
        write(path, [*lines_of(path), _line(key)], _WHAT)


def replace(path: Path, name: str, digest: str) -> Key:
    """A new secret for the key of this name; the old one is nothing any more. Raises `ConfigurationError`."""
    with alone(path, _WHAT):
        known = read(path)
        found = [key for key in known if key.name == name]
        if not found:
            raise ConfigurationError(_unknown(name))
        _check_own(digest, [key for key in known if key.name != name])
        key = found[-1].model_copy(update={"digest": digest})
        write(path, [*_without(path, name), _line(key)], _WHAT)
    return key


def remove(path: Path, name: str) -> None:
    """Revoke every key of this name. Raises `ConfigurationError` where there is none."""
    with alone(path, _WHAT):
        if all(key.name != name for key in read(path)):
            raise ConfigurationError(_unknown(name))
        write(path, _without(path, name), _WHAT)


def _check_own(digest: str, others: Iterable[Key]) -> None:
    """Who calls is known by the secret alone. Raises `ConfigurationError` for that of another key."""
    if taken := [key.name for key in others if key.digest == digest]:
        raise ConfigurationError(
            f"the key named {taken[0]} has this secret already, and by it one is taken for the other: take another "
            "secret, or revoke that key first"
        )


def _unknown(name: str) -> str:
    return f"there is no key named {name}: glucast keys list shows them"


def _line(key: Key) -> str:
    return key.model_dump_json(exclude_none=True)


def _without(path: Path, name: str) -> list[str]:
    lines = enumerate(lines_of(path), start=1)
    return [line for number, line in lines if (key := _key(number, line)) is None or key.name != name]
