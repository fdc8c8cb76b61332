"""``glucast up``: all of it on this machine."""

from pathlib import Path
from typing import Annotated

import typer


def up(
    broker: Annotated[
        str, typer.Option(help="embedded (in memory), local (durable, from KAFKA_HOME) or host:port[,host:port…].")
    ] = "embedded",
    simulate: Annotated[bool, typer.Option(help="A virtual person publishes readings.")] = True,
    ingest: Annotated[int, typer.Option(min=1, max=64, help="Ingest workers.")] = 1,
    inference: Annotated[int, typer.Option(min=1, max=64, help="Inference workers.")] = 1,
    calc: Annotated[int | None, typer.Option(min=1, max=64, help="Calc workers.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the API; 0 picks a free one.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Tables, logs, local Kafka's data.")] = None,
) -> None:
    """Start a broker and every role, keep them running, stop all with one Ctrl-C."""
    from deploy.roles import Counts
    from deploy.up import UpOptions
    from deploy.up import up as run
    from streams.settings import Settings

    settings = Settings(state_dir=state_dir) if state_dir else Settings()
    counts = Counts(inference, ingest, calc or settings.background_workers_count)
    raise typer.Exit(run(UpOptions(broker, simulate, counts, port), settings))
