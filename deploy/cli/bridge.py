"""``glucast bridge``: readings from services that do not push them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from deploy.cli.topics import BrokerOption, settings_with

Service = Literal["nightscout", "librelinkup", "dexcom-share"]


def bridge(
    service: Annotated[Service, typer.Argument(help="Whose API is asked.")],
    file: Annotated[Path, typer.Option("--file", help="People and credentials in TOML, for this user's eyes alone.")],
    once: Annotated[bool, typer.Option(help="Ask for everybody once; exit code 1 if somebody was not heard.")] = False,
    broker: BrokerOption = None,
) -> None:
    """Pull the readings of all people of a file and publish them, until a signal."""
    from deploy.bridges.run import bridge as run
    from deploy.cli.signals import run_until_signal
    from streams import logs

    settings = settings_with(broker)
    logs.configure(settings)
    if once:
        raise typer.Exit(0 if asyncio.run(run(settings, service, file, once=True)) else 1)

    async def forever() -> None:
        await run(settings, service, file)

    run_until_signal(forever())
