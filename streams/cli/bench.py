"""``glucast bench``: benchmarks that print what they measure."""

import typer

app = typer.Typer(help="Measure this machine; nothing is asserted.", no_args_is_help=True)
