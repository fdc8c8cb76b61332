"""``glucast train`` and ``glucast evaluate``: options live with the code, which needs the extra `train`."""

import importlib

import typer

_FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True}


def add_to(app: typer.Typer) -> None:
    """The commands hand all their arguments on, so that help of the others does not import the training code."""
    app.command("train", context_settings=_FORWARD, add_help_option=False)(train)
    app.command("evaluate", context_settings=_FORWARD, add_help_option=False)(evaluate)
    app.command("fit-alerts", context_settings=_FORWARD, add_help_option=False)(fit_alerts)


def train(context: typer.Context) -> None:
    """Train a checkpoint (--help shows the options)."""
    forward("agents.training.cli", ["train", *context.args])


def evaluate(context: typer.Context) -> None:
    """Evaluate a checkpoint beside the baselines and write a report (--help shows the options)."""
    forward("agents.training.cli", ["evaluate", *context.args])


def fit_alerts(context: typer.Context) -> None:
    """Fit the probabilities that alerts go by to a checkpoint (--help shows the options)."""
    forward("agents.training.cli", ["fit-alerts", *context.args])


def forward(module: str, arguments: list[str]) -> None:
    """Run `app`, the typer application of a module, with `arguments`.

    Raises `ConfigurationError` where packages or data that only it needs are missing.
    """
    from schemas.errors import ConfigurationError

    try:
        importlib.import_module(module).app(args=arguments, prog_name="glucast")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in {"agents", "streams", "schemas"}:
            raise
        raise ConfigurationError(f"{error.name} is not installed: pip install 'glucast[train]'") from error
    except FileNotFoundError as error:
        raise ConfigurationError(str(error)) from error
