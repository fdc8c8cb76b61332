"""The command ``glucast``. A command imports what it needs when it runs, so that help and small commands are quick."""

import logging
import sys

import typer

from deploy.cli import (
    bench,
    bridge,
    dlq,
    forecaster,
    keys,
    model,
    replay,
    roles,
    schemas_files,
    simulate,
    subject,
    topics,
    up,
    upload,
    webhooks,
)
from schemas.errors import GlucastError, OverloadedError, UnavailableError
from schemas.exit_codes import ExitCode

app = typer.Typer(
    name="glucast",
    help="Probabilistic one-hour glucose forecasts from CGM readings, on Kafka. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("up")(up.up)
app.command("worker")(roles.worker)
app.command("api")(roles.api)
app.command("notify")(roles.notify)
app.command("upload")(upload.upload)
app.command("simulate")(simulate.simulate)
app.command("replay")(replay.replay)
app.command("bridge")(bridge.bridge)
app.add_typer(topics.app, name="topics")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(model.app, name="model")
app.add_typer(subject.app, name="subject")
app.add_typer(dlq.app, name="dlq")
app.add_typer(schemas_files.app, name="schemas")
app.add_typer(bench.app, name="bench")
forecaster.add_to(app)


def run() -> None:
    """The console script: what a person can change is one line on standard error, not a traceback."""
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # its errors come as one line of ours
    try:
        app(prog_name="glucast")
    except (UnavailableError, OverloadedError) as error:
        _fail(str(error), ExitCode.RESTART)
    except GlucastError as error:
        _fail(str(error), ExitCode.CONFIGURATION)
    except ValueError as error:
        if not (sentences := _settings_sentences(error)):
            raise
        _fail("\n  ".join(["these settings do not work:", *sentences]), ExitCode.CONFIGURATION)
    except Exception as error:
        if not _is_kafkas(error):
            raise
        _fail(f"Kafka does not do it: {error}", ExitCode.RESTART)


def _is_kafkas(error: Exception) -> bool:
    """Whether a broker went or refused halfway: no check has found anything, which is what code 1 says."""
    errors = sys.modules.get("aiokafka.errors")  # of a command that has asked one
    return errors is not None and isinstance(error, errors.KafkaError)


def _settings_sentences(error: ValueError) -> list[str]:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError) or not error.title.endswith("Settings"):
        return []
    sentences = []
    for item in error.errors(include_input=False, include_url=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        variable = name if name.isupper() else f"GLUCAST_{name.upper()}"
        message = item["msg"].removeprefix("Value error, ")
        sentences.append(f"{variable}: {message}" if name else message)
    return sentences


def _fail(text: str, code: int) -> None:
    sys.stderr.write(f"glucast: {text}\n")
    sys.exit(code)


if __name__ == "__main__":
    run()
