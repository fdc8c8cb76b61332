"""``glucast simulate``: somebody to forecast for."""

from typing import Annotated

import typer

from deploy.cli.topics import BrokerOption, settings_with


def simulate(
    people: Annotated[int, typer.Option(min=1, help="Virtual people.")] = 1,
    speedup: Annotated[float, typer.Option(help="Simulated seconds per second; 60 is a reading each 5 s.")] = 60.0,
    history: Annotated[str, typer.Option(help="Hours that are published at once, e.g. 8.5h.")] = "8.5h",
    days_ago: Annotated[float, typer.Option(help="How far in the past the simulated clock starts.")] = 7.0,
    seed: Annotated[int, typer.Option(min=0, help="Other lives for the same people.")] = 0,
    steps: Annotated[int | None, typer.Option(min=0, help="Stop after so many readings each (after history).")] = None,
    tag: Annotated[str | None, typer.Option(help="End of the subject ids (default: the time of day).")] = None,
    broker: BrokerOption = None,
) -> None:
    """Virtual people (UVA/Padova parameters) who publish readings to cgm.readings as a device would."""
    from deploy.cli.signals import run_until_signal
    from deploy.simulate import Plan
    from deploy.simulate import simulate as publish

    try:
        hours = float(history.removesuffix("h"))
    except ValueError:
        raise typer.BadParameter(f"--history takes hours, e.g. 8.5h, not {history!r}") from None
    plan = Plan(people, speedup, hours, days_ago, seed, steps, tag)
    run_until_signal(publish(settings_with(broker), plan, typer.echo))
