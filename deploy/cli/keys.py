"""``glucast keys``: who may ask the API what, about whom."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make, list, renew and revoke keys of the API and the Nightscout site.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Of the key, not of the person: it is in the access log.")]
FileOption = Annotated[Path | None, typer.Option("--file", help="The file of keys (GLUCAST_API_KEYS_FILE).")]
OwnOption = Annotated[
    bool, typer.Option("--own-secret", help="Ask for a secret of at least 12 characters instead of making a token.")
]


@app.command()
def add(
    name: Name,
    subject: Annotated[
        list[str] | None, typer.Option(help="For whom; repeat it for several people. Without: for everybody.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="The clock the person lives by, such as Europe/Vienna; needed for one subject.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="What readings with this key are called that name no device: which of several is preferred "
            "goes by names (PUT /subjects/ID/sources)."
        ),
    ] = None,
    scope: Annotated[str, typer.Option(help="Of read, write and admin, comma separated.")] = "read,write",
    expires: Annotated[str | None, typer.Option(help="Until when, like 2027-01-01 or 2027-01-01T08:00+01:00.")] = None,
    rate_limit: Annotated[
        str | None, typer.Option(help="Requests of this key, like 600/minute; without: GLUCAST_RATE_LIMIT.")
    ] = None,
    body_rate_limit: Annotated[
        str | None,
        typer.Option(help="KiB that may be sent with this key, like 65536/minute; without: as the settings say."),
    ] = None,
    own_secret: OwnOption = False,
    file: FileOption = None,
) -> None:
    """Make a key and show it, once: only a hash of it is kept. A running API knows it a second later."""
    from pydantic import ValidationError

    from query_api.key_file import Key, digest_of
    from query_api.key_file import add as add_key
    from schemas.errors import ConfigurationError

    if subject and len(subject) == 1 and timezone is None:
        raise ConfigurationError(
            "say by which clock this person lives, for example --timezone Europe/Vienna: many senders give times in "
            "UTC, and forecasts depend on the time of day"
        )
    path, secret = _path(file), _secret(name, own_secret)
    fields = {
        "name": name,
        "digest": digest_of(secret),
        "scopes": [item.strip() for item in scope.split(",")],
        "subjects": subject or None,
        "timezone": timezone,
        "device": device,
        "expires": _moment(expires),
        "rate_limit": rate_limit,
        "body_rate_limit": body_rate_limit,
    }
    try:
        key = Key.model_validate(fields)
    except ValidationError as error:
        raise ConfigurationError(
            "; ".join(f"{item['loc'][0] if item['loc'] else 'key'}: {item['msg']}" for item in error.errors()[:3])
        ) from None
    add_key(path, key)
    _show(secret, own_secret)


@app.command("list")
def list_keys(file: FileOption = None) -> None:
    """Every key: its name, what it allows, for whom, by which clock, until when, its own limits."""
    from query_api.key_file import read

    for key in read(_path(file)):
        whose = "everybody" if key.subjects is None else ",".join(key.subjects)
        until = "" if key.expires is None else f"until {key.expires.isoformat(timespec='minutes')}"
        until += "" if key.device is None else f"  device {key.device}"
        until += "" if key.rate_limit is None else f"  {key.rate_limit}"
        until += "" if key.body_rate_limit is None else f"  {key.body_rate_limit} KiB"
        typer.echo(f"{key.name:<24} {','.join(key.scopes):<17} {whose:<24} {key.timezone or '-':<20} {until}".rstrip())


@app.command()
def rotate(name: Name, own_secret: OwnOption = False, file: FileOption = None) -> None:
    """A new secret for a key, which goes on allowing what it did; the old secret ends at once."""
    from query_api.key_file import digest_of, replace

    secret = _secret(name, own_secret)
    replace(_path(file), name, digest_of(secret))
    _show(secret, own_secret)


@app.command()
def revoke(name: Name, file: FileOption = None) -> None:
    """End a key. A running API refuses it a second later."""
    from query_api.key_file import remove

    remove(_path(file), name)
    typer.echo(f"{name} is revoked")


def _path(file: Path | None) -> Path:
    from schemas.errors import ConfigurationError
    from streams.settings import Settings

    path = file or Settings().api_keys_file
    if path is None:
        raise ConfigurationError("say which file of keys: set GLUCAST_API_KEYS_FILE or give --file")
    return path


def _secret(name: str, own: bool) -> str:
    from query_api.key_file import new_token

    if not own:
        return new_token(name)
    if sys.stdin.isatty():
        return str(typer.prompt("Secret", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def _show(secret: str, own: bool) -> None:
    if not own:
        typer.echo(secret)
        typer.echo("Keep it: it is not shown again. It is an API key, and on the Nightscout site API secret and token.",
                   err=True)  # fmt: skip


def _moment(text: str | None) -> datetime.datetime | None:
    from schemas.errors import ConfigurationError

    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--expires {text[:40]!r} is no date, such as 2027-01-01") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
