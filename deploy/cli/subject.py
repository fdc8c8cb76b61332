"""``glucast subject``: what is held of a person, for the person."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.topics import BrokerOption, settings_with

app = typer.Typer(help="Export or erase all that is held of one person.", no_args_is_help=True)

Subject = Annotated[str, typer.Argument(help="Whose, as the integration names them.")]


@app.command()
def export(
    subject: Subject,
    to: Annotated[Path, typer.Option("--to", help="A new directory, for this user's eyes alone.")],
    broker: BrokerOption = None,
) -> None:
    """Write everything that Kafka holds of a person: a Parquet file a topic or table, and manifest.json."""
    from streams.subjects import export as write

    found = write(settings_with(broker), _checked(subject), to)
    for source in found:
        if source.rows:
            typer.echo(f"{source.rows:>8}  {source.file}  {source.first} to {source.last}")
    typer.echo(f"{sum(source.rows for source in found)} records in {to}, of {len(found)} topics and tables")


@app.command()
def erase(
    subject: Subject,
    revoke_keys: Annotated[bool, typer.Option("--revoke-keys", help="Also end keys for this person alone.")] = False,
    file: Annotated[Path | None, typer.Option("--file", help="The file of keys (GLUCAST_API_KEYS_FILE).")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    broker: BrokerOption = None,
) -> None:
    """Erase a person from every table and from the API. It cannot be undone; topics keep records until they expire."""
    from streams.subjects import erase as order
    from streams.subjects import remains

    settings = settings_with(broker)
    name = _checked(subject)
    if not yes:
        typer.confirm("Erase this person from every table? It cannot be undone", abort=True)
    keys = _keys(file or settings.api_keys_file, name, revoke_keys)  # first: who cannot send brings nobody back
    asyncio.run(order(settings, name))
    typer.echo("erased from all tables; the API forgets within a second, forecasts as soon as calc has read of it")
    for line in [*keys, *_webhooks(settings.notify.webhooks_file, name)]:
        typer.echo(line)
    typer.echo("topics keep records until they expire, at the latest:")
    for kept in remains(datetime.datetime.now(datetime.UTC)):
        typer.echo(f"  {kept.topic:<46} {kept.until:%Y-%m-%d %H:%M} UTC")
    typer.echo("a reading that is published from now on begins anew")


@app.command("audit-name")
def audit_name(subject: Subject) -> None:
    """How the audit log of the API calls a person: a name that nobody can make without this installation's key."""
    from query_api.audit import audit_name as name_of
    from query_api.audit import known_audit_key
    from streams.settings import Settings

    typer.echo(name_of(known_audit_key(Settings().state_dir), _checked(subject)))


def _checked(subject: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from schemas.errors import ConfigurationError
    from schemas.record import SubjectId

    try:
        return TypeAdapter(SubjectId).validate_python(subject, strict=True)
    except ValidationError:
        raise ConfigurationError(
            "a subject is 1 to 128 letters, digits and . _ : @ -, beginning with a letter or digit"
        ) from None


def _keys(path: Path | None, subject: str, revoke: bool) -> list[str]:
    """Ends the keys of this person alone, if it is wanted; what is to be said of those that name the person."""
    from query_api.key_file import read, remove
    from schemas.errors import ConfigurationError

    if path is None:
        if revoke:
            raise ConfigurationError("say which file of keys: set GLUCAST_API_KEYS_FILE or give --file")
        return []
    lines = []
    for key in read(path) if revoke or path.exists() else []:
        if key.subjects is None or subject not in key.subjects:
            continue
        if key.subjects == (subject,) and revoke:
            remove(path, key.name)
            lines.append(f"key {key.name} is revoked")
        elif key.subjects == (subject,):
            lines.append(f"key {key.name} still lets send readings of this person: glucast keys revoke {key.name}")
        else:
            lines.append(f"key {key.name} is also for others and stays: make those a new one, then revoke it")
    return lines


def _webhooks(path: Path | None, subject: str) -> list[str]:
    """Of webhooks that name the person: whoever made them has to say what becomes of them."""
    from streams.notify.webhook_file import read

    if path is None or not path.exists():
        return []
    return [
        f"webhook {each.name} names this person and stays: glucast webhooks remove {each.name}"
        for each in read(path)
        if each.subject_id == subject
    ]
