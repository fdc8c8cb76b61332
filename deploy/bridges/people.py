"""Whose readings a bridge pulls, and with which credentials: a TOML file that nobody else may read.

[[person]]
subject = "anna"
timezone = "Europe/Vienna"
user = "anna@example.org"
password = "…"
"""

import stat
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError, model_validator

from agents.core.local_time import zone
from schemas.errors import ConfigurationError, ImplausibleError
from schemas.record import SubjectId

OTHERS = stat.S_IRWXG | stat.S_IRWXO
MOST_PEOPLE = 1000
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Person(BaseModel):
    """One person of one service."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    subject: SubjectId
    timezone: str = Field(description="IANA name: the clock the person lives by.")
    url: str | None = Field(None, description="Of the Nightscout site; of others only to go through a proxy.")
    user: str | None = Field(None, description="The e-mail address or user name that one signs in with.")
    password: SecretStr = Field(description="Of Nightscout the API secret or an access token.")
    region: Annotated[str, StringConstraints(pattern="^[a-z0-9]{2,3}$")] | None = None
    patient: str | None = Field(None, description="LibreLinkUp: which one, where the account follows several people.")

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        try:
            zone(self.timezone)
        except ImplausibleError as error:
            raise ValueError(str(error)) from None
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
                raise ValueError("url begins with https: what goes over http can be read by others")
            if parts.username or parts.password or parts.query:
                raise ValueError("url is an address alone: the secret is `password`")
        return self


Kind = Literal["nightscout", "librelinkup", "dexcom-share"]
_NEEDED: dict[Kind, tuple[str, ...]] = {"nightscout": ("url",), "librelinkup": ("user",), "dexcom-share": ("user",)}


def people_of(path: Path, kind: Kind) -> list[Person]:
    """The people of a file. Raises `ConfigurationError`, which names a person by number and repeats nothing."""
    try:
        if path.stat().st_mode & OTHERS:
            raise ConfigurationError(f"{path} can be read by others and holds passwords: chmod 600 {path}")
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigurationError(f"{path} is no TOML: see the example in deploy/kafka.md") from None
    listed = document.get("person")
    if not isinstance(listed, list) or not 0 < len(listed) <= MOST_PEOPLE:
        raise ConfigurationError(f"{path} lists 1 to {MOST_PEOPLE} people, each under [[person]]")
    people = [_person(path, number, entry, kind) for number, entry in enumerate(listed, start=1)]
    if len({person.subject for person in people}) < len(people):
        raise ConfigurationError(f"{path} names a subject twice: each person has one source of readings a bridge")
    return people


def _person(path: Path, number: int, entry: object, kind: Kind) -> Person:
    try:
        person = Person.model_validate(entry)
    except ValidationError as error:
        reasons = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'entry'}: {item['msg']}" for item in error.errors(include_input=False)
        )
        raise ConfigurationError(f"{path}, person {number}: {reasons}") from None
    if missing := [name for name in _NEEDED[kind] if getattr(person, name) is None]:
        raise ConfigurationError(f"{path}, person {number}: a bridge from {kind} needs {', '.join(missing)}")
    return person
