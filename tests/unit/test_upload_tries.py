"""An upload whose file cannot be read just now waits, in its place, until it can: it never becomes a dead letter."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents.ingest.files import readers
from agents.ingest.files.readers import Readers
from agents.ingest.unify import Unify
from schemas.dead_letter import DeadLetter
from schemas.topics import DEAD_LETTERS, SERIES, UPLOAD_OUTCOMES
from schemas.upload import UploadOutcome
from streams import middlewares
from streams.settings import Settings
from streams.topology import step_of
from tests.kit import breaking_reader
from tests.kit.guarded import FakeApp, FakeStream, RawMessage, guard_of
from tests.kit.waiting import until_async

UPLOADS = [RawMessage("cgm.uploads", 0, offset, None, b"file %d" % offset) for offset in range(2)]


class Uploads:
    """The step of uploads behind its guard, with processes that read files."""

    def __init__(self, messages: list[RawMessage]) -> None:
        self.app = FakeApp()
        self.parser = Readers(Settings(), 1)
        guard, self.metrics = guard_of(
            self.app, step_of("unify"), Unify(Settings(), self.parser), {}, by_partition=True, step_attempts=2
        )
        self.guard = guard
        self.consuming = asyncio.create_task(guard.consume(FakeStream(self.app, messages)))

    @property
    def tries(self) -> int:
        lines = self.metrics.exposition().decode().splitlines()
        found = [line for line in lines if line.startswith('glucast_events_total{outcome="retried",step="unify"}')]
        return int(float(found[0].rsplit(" ", 1)[1])) if found else 0

    @property
    def topics(self) -> list[str]:
        return [sent.topic for sent in self.app.producer.sent]


@contextlib.asynccontextmanager
async def uploads(messages: list[RawMessage] = UPLOADS) -> AsyncIterator[Uploads]:
    found = Uploads(messages)
    try:
        yield found
    finally:
        await found.consuming
        await found.parser.close()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middlewares, "FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(middlewares, "LONGEST_BACKOFF_SECONDS", 0.05)
    monkeypatch.setattr(readers, "FIRST_PAUSE_SECONDS", 0.01)


async def test_where_no_process_can_be_started_files_wait_in_their_order_until_one_can(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    async with uploads() as found:
        await until_async(lambda: found.tries >= 4, "more tries than a step has attempts")
        assert found.topics == []
        assert found.app.strict.acked == []
        monkeypatch.setattr(sys, "executable", breaking_reader.program(tmp_path))
        await until_async(lambda: len(found.topics) == 2, "both files are read")
        await found.app.producer.confirm()
        assert found.topics == [SERIES.name] * 2
        assert found.app.strict.acked == [0, 1]


async def test_a_worker_that_stops_meanwhile_gives_the_file_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    async with uploads(UPLOADS[:1]) as found:
        await until_async(lambda: found.tries >= 1, "a try")
        found.app.should_stop = True
        await until_async(lambda: found.app.strict.forgotten == [0], "it is given back")
        assert (found.topics, found.app.strict.acked, len(found.app.in_flight)) == ([], [], 0)
        assert found.app.ended == []


async def test_a_file_that_ends_every_process_ends_in_one_rejection_and_the_next_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", breaking_reader.program(tmp_path))
    poison = RawMessage("cgm.uploads", 0, 0, None, b"SIGKILL")
    async with uploads([poison, UPLOADS[1]]) as found:
        await until_async(lambda: len(found.topics) == 2, "both have their outcome")
        await found.app.producer.confirm()
    assert found.topics == [UPLOAD_OUTCOMES.name, SERIES.name]
    outcome = UploadOutcome.from_json(found.app.producer.sent[0].value)
    assert (outcome.status, outcome.code) == ("rejected", "too_costly")
    assert found.app.strict.acked == [0, 1]


async def test_what_fails_without_saying_that_it_waits_is_buried_as_ever() -> None:
    class Failing:
        async def unify(self, *_: object) -> None:
            raise OSError("disk")

        async def close(self) -> None:
            """There is nobody to end."""

    app = FakeApp()
    step = Unify(Settings(), Failing())  # type: ignore[arg-type]
    guard, _ = guard_of(app, step_of("unify"), step, {}, by_partition=True, step_attempts=2)
    await guard.consume(FakeStream(app, UPLOADS[:1]))
    await until_async(lambda: len(app.producer.sent) == 1, "a letter")
    assert app.producer.sent[0].topic == DEAD_LETTERS.name
    assert DeadLetter.from_json(app.producer.sent[0].value).attempts == 2
    await app.producer.confirm()
