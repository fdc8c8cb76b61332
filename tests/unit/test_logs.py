"""What is logged names places and mistakes, never people, their glucose or their keys."""

import logging

import pytest
import structlog

from streams import logs
from streams.settings import Settings

SECRETS = ("key-of-anna", "anna@home", "123.4")


@pytest.fixture(params=["console", "json"])
def log_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def failing(api_key: str, subject_id: str, glucose: str) -> None:
    raise RuntimeError("a step went wrong")


def test_a_traceback_shows_no_local_variables(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.configure(Settings(log_format=log_format))  # type: ignore[arg-type]
        for logger in (structlog.get_logger("test").bind(), logging.getLogger("query_api.test")):
            try:
                failing(*SECRETS)
            except RuntimeError:
                logger.exception("it failed")
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
        structlog.reset_defaults()
    said = capsys.readouterr().err
    assert said.count("RuntimeError: a step went wrong") == 2
    assert "Traceback" in said
    assert not [secret for secret in SECRETS if secret in said]
