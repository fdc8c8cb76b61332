"""What is logged names places and mistakes, never people, their glucose or their keys."""

import logging
from collections.abc import Iterator

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


@pytest.fixture
def configured(log_format: str) -> Iterator[None]:
    """As one process of ours is, for the time of a test."""
    before = logging.getLogger().handlers[:], logging.getLogger().level
    levels = {name: logging.getLogger(name).level for name in logs._LIBRARIES}
    logs.configure(Settings(log_format=log_format))
    yield
    logging.getLogger().handlers[:], level = before
    logging.getLogger().setLevel(level)
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)
    structlog.reset_defaults()


def test_loggers_of_libraries_are_of_the_class_that_they_chose(configured: None) -> None:
    """Kaleido's have methods of their own: without them it draws nothing, nor starts Chromium again."""

    class Theirs(logging.Logger):
        pass

    before = logging.getLoggerClass()
    logging.setLoggerClass(Theirs)
    try:
        logs.configure(Settings())
        assert logging.getLoggerClass() is Theirs
    finally:
        logging.setLoggerClass(before)


def test_a_traceback_shows_no_local_variables(capsys: pytest.CaptureFixture[str], configured: None) -> None:
    for logger in (structlog.get_logger("test").bind(), logging.getLogger("query_api.test")):
        try:
            failing(*SECRETS)
        except RuntimeError:
            logger.exception("it failed")
    said = capsys.readouterr().err
    assert said.count("RuntimeError: a step went wrong") == 2
    assert "Traceback" in said
    assert not [secret for secret in SECRETS if secret in said]
