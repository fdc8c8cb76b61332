"""The file of webhooks: where each leads, whose events it gets, and its secret. One JSON object a line, mode 600.

It is the only place that holds the secrets, and whole addresses, which may be secrets too: what is on Kafka and at the
API names scheme, host and port.
"""

import base64
import binascii
import datetime
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from schemas.errors import ConfigurationError
from schemas.record import SubjectId
from schemas.webhook import Channel, EventGroup, Webhook, WebhookName
from streams.private_file import alone, lines_of, read_secret_lines, write

WHAT = "the file of webhooks"
PREFIX = "whsec_"
SECRET_BYTES = (24, 64)
"""Fewest and most, as Standard Webhooks has it."""
SHORTEST_SITE_SECRET = 12
"""As Nightscout has it (cgm-remote-monitor, lib/server/enclave.js)."""
MOST_WEBHOOKS = 100
_LONGEST_URL = 2000


class Endpoint(BaseModel):
    """One webhook as the file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: WebhookName
    url: Annotated[SecretStr, Field(max_length=_LONGEST_URL)]
    channel: Channel = "webhook"
    subject_id: SubjectId | None = None
    events: tuple[EventGroup, ...] = Field(("alert",), min_length=1, max_length=3)
    secret: SecretStr | None = Field(
        None,
        description="Of a webhook: whsec_ and base64. Of ntfy: an access token. Of a Nightscout site: its API secret "
        "or an access token.",
    )
    added_at: AwareDatetime
    enabled_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        _checked(self.url.get_secret_value())
        if len(set(self.events)) != len(self.events):
            raise ValueError("an event stands twice")
        if self.channel == "webhook":
            _check_secret(self.secret)
        elif self.channel == "nightscout":
            _check_site(self)
        elif "forecast" in self.events:
            raise ValueError("ntfy gets alerts and outcomes: a forecast every five minutes is no message for a person")
        return self

    @property
    def destination(self) -> str:
        """Where it leads, without what may be secret."""
        parts = urlsplit(self.url.get_secret_value())
        return f"{parts.scheme}://{_host(parts)}"

    @property
    def begins_at(self) -> datetime.datetime:
        """Nothing that came before is planned for it: when it was added, or enabled last."""
        return self.enabled_at or self.added_at

    def public(self, known: Webhook | None, now: datetime.datetime) -> Webhook:
        """What everybody may see, with how it does as far as that is `known` and still holds: enabling begins anew."""
        goes_on = known is not None and known.added_at == self.begins_at
        return Webhook(
            webhook_id=self.name, channel=self.channel, destination=self.destination, subject_id=self.subject_id,
            events=self.events, added_at=self.begins_at, since=self.added_at, updated_at=now,
            failing_since=known.failing_since if known and goes_on else None,
            failed_at=known.failed_at if known and goes_on else None,
            disabled_at=known.disabled_at if known and goes_on else None,
            reason=known.reason if known and goes_on else None,
        )  # fmt: skip


def _checked(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("the url is none") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise ValueError("the url begins with https:// or http:// and a host, and has no spaces")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the url carries no user or password: give a secret or token as a file")
    if len(_host(parts)) > 280:
        raise ValueError("the url has a host with a name of at most 253 characters")


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port is None else f"{host}:{parts.port}"


def _check_secret(secret: SecretStr | None) -> None:
    text = "" if secret is None else secret.get_secret_value()
    try:
        length = len(base64.b64decode(text.removeprefix(PREFIX), validate=True))
    except binascii.Error:
        length = 0
    fewest, most = SECRET_BYTES
    if not text.startswith(PREFIX) or not fewest <= length <= most:
        raise ValueError(f"the secret is {PREFIX} and {fewest} to {most} bytes in base64: glucast webhooks makes one")


def _check_site(site: Endpoint) -> None:
    """A site is one person's, shows forecasts, and lets nobody write without a secret."""
    if site.subject_id is None:
        raise ValueError("a Nightscout site is one person's: say whose forecasts it gets")
    if site.events != ("forecast",):
        raise ValueError("a Nightscout site gets forecasts and nothing else")
    if "?" in site.url.get_secret_value() or "#" in site.url.get_secret_value():
        raise ValueError("the url is that of the site: its secret or token is given as a file")
    text = "" if site.secret is None else site.secret.get_secret_value()
    if len(text) < SHORTEST_SITE_SECRET or not text.isprintable():
        raise ValueError(f"a Nightscout site has a secret or token of {SHORTEST_SITE_SECRET} characters at least")


def new_secret() -> str:
    """A fresh secret to sign with, in the form of Standard Webhooks."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def new_endpoint(fields: Mapping[str, object]) -> Endpoint:
    """Raises `ConfigurationError`, which says what does not work and repeats no value."""
    try:
        return Endpoint.model_validate(fields)
    except ValidationError as error:
        raise ConfigurationError("; ".join(_reasons(error))) from None


def read(path: Path) -> list[Endpoint]:
    """All webhooks of the file. Raises `ConfigurationError` for one that others may read, or that holds no webhooks."""
    found: list[Endpoint] = []
    for number, line in enumerate(read_secret_lines(path, WHAT), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            found.append(Endpoint.model_validate_json(line))
        except ValidationError as error:
            raise ConfigurationError(
                f"line {number} of {WHAT} is not as glucast webhooks writes it: {_reasons(error)[0]}"
            ) from None
    names = [endpoint.name for endpoint in found]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"{WHAT} has two of one name")
    if len(found) > MOST_WEBHOOKS:
        raise ConfigurationError(f"{WHAT} has {len(found)}; {MOST_WEBHOOKS} is the most")
    return found


def add(path: Path, endpoint: Endpoint) -> None:
    """Append a webhook; makes the file where there is none. Raises `ConfigurationError` for a name that is taken."""
    with alone(path, WHAT):
        known = read(path) if path.exists() else []
        if any(each.name == endpoint.name for each in known):
            raise ConfigurationError(
                f"there is a webhook named {endpoint.name} already: remove it, or take another name"
            )
        if len(known) >= MOST_WEBHOOKS:
            raise ConfigurationError(f"{WHAT} has {MOST_WEBHOOKS} already, which is the most")
        write(path, [*lines_of(path), _line(endpoint)], WHAT)


def enable(path: Path, name: str, now: datetime.datetime) -> None:
    """Begin anew with a webhook that is disabled. Raises `ConfigurationError` where there is none of this name."""
    with alone(path, WHAT):
        endpoint = _found(path, name).model_copy(update={"enabled_at": now})
        write(path, [*_without(path, name), _line(endpoint)], WHAT)


def remove(path: Path, name: str) -> None:
    """Nothing more is sent there. Raises `ConfigurationError` where there is none of this name."""
    with alone(path, WHAT):
        _found(path, name)
        write(path, _without(path, name), WHAT)


def _found(path: Path, name: str) -> Endpoint:
    for endpoint in read(path):
        if endpoint.name == name:
            return endpoint
    raise ConfigurationError(f"there is no webhook named {name}: glucast webhooks list shows them")


def _without(path: Path, name: str) -> list[str]:
    def is_other(line: str) -> bool:
        text = line.strip()
        return not text or text.startswith("#") or Endpoint.model_validate_json(text).name != name

    return [line for line in lines_of(path) if is_other(line)]


def _line(endpoint: Endpoint) -> str:
    shown = endpoint.model_dump(mode="json", exclude_none=True)
    shown["url"] = endpoint.url.get_secret_value()
    if endpoint.secret is not None:
        shown["secret"] = endpoint.secret.get_secret_value()
    return json.dumps(shown)


def _reasons(error: ValidationError) -> Sequence[str]:
    return [
        f"{'.'.join(map(str, item['loc'])) or 'webhook'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_input=False, include_context=False)[:3]
    ]
