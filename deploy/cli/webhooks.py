"""``glucast webhooks``: where alerts and forecasts are sent, about whom."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Make, list, enable and remove webhooks, ntfy topics and Nightscout sites.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="Of the webhook, not of the person: it is in logs.")]
FileOption = Annotated[Path | None, typer.Option("--file", help="The file of webhooks (GLUCAST_WEBHOOKS_FILE).")]


@app.command()
def add(
    name: Name,
    url: Annotated[str, typer.Argument(help="Where it leads, https:// and so on.")],
    subject: Annotated[str | None, typer.Option(help="Whose events; without: everybody's.")] = None,
    events: Annotated[
        str | None, typer.Option(help="Of alert, outcome and forecast, comma separated; without: alert.")
    ] = None,
    ntfy: Annotated[bool, typer.Option("--ntfy", help="The address is that of a topic of ntfy.")] = False,
    nightscout: Annotated[
        bool, typer.Option("--nightscout", help="The address is that of a Nightscout site, which gets forecasts.")
    ] = False,
    token_file: Annotated[
        Path | None, typer.Option(help="A file of ntfy's access token, or of the site's API secret or token.")
    ] = None,
    file: FileOption = None,
) -> None:
    """Add a webhook and show the secret that its deliveries are signed with. A running role knows it a second later."""
    from schemas.errors import ConfigurationError
    from streams.notify import webhook_file

    if ntfy and nightscout:
        raise ConfigurationError("say --ntfy or --nightscout, not both")
    channel = "ntfy" if ntfy else "nightscout" if nightscout else "webhook"
    if token_file is not None and channel == "webhook":
        raise ConfigurationError("a token is for ntfy or Nightscout: a webhook gets a secret of its own")
    secret = webhook_file.new_secret() if channel == "webhook" else _token(token_file)
    wanted = events or ("forecast" if nightscout else "alert")
    fields = {
        "name": name,
        "url": url,
        "channel": channel,
        "subject_id": subject,
        "events": [item.strip() for item in wanted.split(",")],
        "secret": secret,
        "added_at": datetime.datetime.now(datetime.UTC),
    }
    webhook_file.add(_path(file), webhook_file.new_endpoint(fields))
    if channel == "webhook":
        typer.echo(secret)
        typer.echo("The receiver checks signatures with it (standardwebhooks.com).", err=True)


@app.command("list")
def list_webhooks(file: FileOption = None) -> None:
    """Every webhook: its name, where it leads, whose events, which. How each does tells GET /webhooks."""
    from streams.notify import webhook_file

    for each in webhook_file.read(_path(file)):
        whose = each.subject_id or "everybody"
        typer.echo(f"{each.name:<24} {each.channel:<10} {each.destination:<40} {whose:<24} {','.join(each.events)}")


@app.command()
def enable(name: Name, file: FileOption = None) -> None:
    """Begin anew with a webhook that was disabled because it failed too long. What it missed is not sent."""
    from streams.notify import webhook_file

    webhook_file.enable(_path(file), name, datetime.datetime.now(datetime.UTC))
    typer.echo(f"{name} is enabled")


@app.command()
def remove(name: Name, file: FileOption = None) -> None:
    """End a webhook. A running role sends nothing there a second later."""
    from streams.notify import webhook_file

    webhook_file.remove(_path(file), name)
    typer.echo(f"{name} is removed")


def _token(path: Path | None) -> str | None:
    from streams.private_file import read_secret_lines

    if path is None:
        return None
    lines = read_secret_lines(path, "the file of the access token")
    return lines[0] if lines else None


def _path(file: Path | None) -> Path:
    from schemas.errors import ConfigurationError
    from streams.settings import Settings

    path = file or Settings().notify.webhooks_file
    if path is None:
        raise ConfigurationError("say which file of webhooks: set GLUCAST_WEBHOOKS_FILE or give --file")
    return path
