"""``glucast replay``: forecasts made again, and whether they are what was issued."""

from __future__ import annotations

import asyncio
import datetime
import re
from typing import Annotated

import typer

from deploy.cli.topics import BrokerOption, settings_with


def replay(
    first: Annotated[str, typer.Option("--from", help="Last known point of the first, like 2026-01-01T08:00:00Z.")],
    last: Annotated[str, typer.Option("--to", help="Of the last; both included.")],
    subject: Annotated[str | None, typer.Option(help="Whose forecasts.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Those of everybody.")] = False,
    model: Annotated[
        str | None, typer.Option(help="First digits of a model's fingerprint; else the one that serves.")
    ] = None,
    broker: BrokerOption = None,
) -> None:
    """Have live forecasts made again, apart from what is served, and compare: exit code 1 if one differs or is missing.

    Requests are kept for a week, those of windows that a late reading has changed for a day.
    """
    from streams.replays import Wanted
    from streams.replays import replay as run

    if (subject is not None) == every:
        raise typer.BadParameter("name a --subject, or say --all")
    if model is not None and not re.fullmatch("[0-9a-f]{8,64}", model):
        raise typer.BadParameter("at least 8 hexadecimal digits of a fingerprint", param_hint="--model")
    wanted = Wanted(subject, _moment(first, "--from"), _moment(last, "--to"), model)
    if wanted.first > wanted.last:
        raise typer.BadParameter("it lies before --from", param_hint="--to")
    report = asyncio.run(run(settings_with(broker), wanted))
    for line in report.lines():
        typer.echo(line)
    raise typer.Exit(0 if report.is_clean else 1)


def _moment(text: str, option: str) -> datetime.datetime:
    """A time with its offset: where a clock stood is never guessed."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("a date and time like 2026-01-01T08:00:00Z", param_hint=option) from None
    if moment.tzinfo is None:
        raise typer.BadParameter("the time needs its offset from UTC, like Z or +01:00", param_hint=option)
    return moment
