"""``glucast model``: which of two models serves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.topics import BrokerOption, settings_with

if TYPE_CHECKING:
    from schemas.model_choice import ModelChoice
    from streams.settings import Settings

app = typer.Typer(
    help="The model that serves and the one on trial, of the same settings as the workers'.", no_args_is_help=True
)


@app.command("list")
def list_models(broker: BrokerOption = None) -> None:
    """The models that the settings name, and which of them serves."""
    from streams.models import Candidates, chosen, served_of

    settings = settings_with(broker)
    choice = asyncio.run(chosen(settings))
    candidates = Candidates(settings).all()
    served = served_of(candidates, choice)
    for each in candidates:
        typer.echo(f"{'serves' if each.is_same(served) else 'on trial':<9} {each.fingerprint}  {each.name}")
    if choice is not None:
        typer.echo(f"chosen {choice.chosen_at:%Y-%m-%d %H:%M} UTC, before it served {_spoken_before(choice)}")


@app.command()
def promote(
    fingerprint: Annotated[
        str | None, typer.Argument(help="The first digits of its fingerprint; else the one on trial.")
    ] = None,
    broker: BrokerOption = None,
) -> None:
    """Let the model on trial serve; the one before goes on on trial. `GET /models` compares them first."""
    from streams.models import Candidates, chosen, promotion

    settings = settings_with(broker)
    before = asyncio.run(chosen(settings))
    _choose(settings, promotion(Candidates(settings).all(), before, fingerprint))


@app.command()
def rollback(broker: BrokerOption = None) -> None:
    """Let the model serve again that served before the last promotion."""
    from streams.models import Candidates, chosen
    from streams.models import rollback as back

    settings = settings_with(broker)
    before = asyncio.run(chosen(settings))
    _choose(settings, back(Candidates(settings).all() if before else (), before))


def _choose(settings: Settings, choice: ModelChoice) -> None:
    from streams.models import choose

    asyncio.run(choose(settings, choice))
    typer.echo(f"{choice.model} ({choice.model_fingerprint[:12]}) serves as soon as the inference workers have started")
    typer.echo(f"again, {_spoken_before(choice)} goes on on trial; glucast model rollback changes them back")


def _spoken_before(choice: ModelChoice) -> str:
    return f"{choice.previous_model} ({choice.previous_fingerprint[:12]})"
