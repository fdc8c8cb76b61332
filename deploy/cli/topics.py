"""``glucast topics``: what has to exist in Kafka before a worker starts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streams.settings import Settings

app = typer.Typer(help="Create, verify and list the topics, and who needs what of them.", no_args_is_help=True)
BrokerOption = Annotated[str | None, typer.Option(help="host:port[,host:port…] (GLUCAST_BROKER).")]


def settings_with(broker: str | None) -> Settings:
    """The settings of the environment, with another broker if one is given."""
    from streams.settings import Settings

    return Settings(broker=broker) if broker else Settings()


@app.command("provision")
def provision_topics(broker: BrokerOption = None) -> None:
    """Create what is missing and correct settings that differ; repeating it changes nothing."""
    from streams.kafka.provision import provision

    settings = settings_with(broker)
    done = asyncio.run(provision(settings))
    typer.echo(
        f"{done.total} topics at {settings.broker}: {len(done.created)} created, {len(done.altered)} corrected, "
        f"{done.total - len(done.created) - len(done.altered)} as they should be"
    )


@app.command()
def check(broker: BrokerOption = None) -> None:
    """Say what is missing or differs; exit code 1 if anything does."""
    from streams.kafka.provision import ADVICE
    from streams.kafka.provision import check as find_mismatches

    settings = settings_with(broker)
    mismatches = asyncio.run(find_mismatches(settings))
    for mismatch in mismatches:
        typer.echo(str(mismatch))
    typer.echo(f"to correct it {ADVICE}" if mismatches else f"all topics at {settings.broker} are as they should be")
    raise typer.Exit(1 if mismatches else 0)


@app.command()
def acls(
    principal_of: Annotated[
        list[str] | None, typer.Option(help="ROLE=NAME, where the Kafka user is not glucast-ROLE; may be repeated.")
    ] = None,
) -> None:
    """Print the least that each role needs on a Kafka with ACLs, as kafka-acls.sh lines; asks no broker."""
    from streams.acls import lines, principals

    for line in lines(principals(principal_of or [])):
        typer.echo(line)


@app.command("list")
def list_topics() -> None:
    """Every topic, what it carries and how it is kept."""
    from streams.topology import all_topics

    for topic in all_topics():
        kept = "compacted" if topic.compacted else f"{topic.retention_ms // 86_400_000} d"
        mark = "public" if topic.public else ""
        typer.echo(f"{topic.name:<42} {topic.encoding:<6} {kept:<10} {mark:<7} {topic.about}")
