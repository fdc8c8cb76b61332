"""``glucast schemas``: the records as JSON Schema and AsyncAPI files that other teams build on."""

from typing import Annotated

import typer

app = typer.Typer(help="Export and check the JSON Schemas and the AsyncAPI document.", no_args_is_help=True)


@app.command()
def export(
    allow_incompatible: Annotated[bool, typer.Option(help="Overwrite even what breaks today's readers.")] = False,
) -> None:
    """Write the files and the papers' tables anew; refuses what would break somebody."""
    from streams.contracts.export import export as write_files

    written = write_files(allow_incompatible=allow_incompatible)
    for path in written:
        typer.echo(str(path))
    typer.echo(f"{len(written)} files changed")


@app.command()
def check() -> None:
    """Say where the committed files differ from the code or break somebody; exit code 1 if they do."""
    from streams.contracts.export import check as find_differences

    differences = find_differences()
    for difference in differences:
        typer.echo(difference)
    typer.echo("run: glucast schemas export" if differences else "the committed schemas are those of the code")
    raise typer.Exit(1 if differences else 0)
