"""What happens around every step: each concern at its place, whichever step it is."""

import dataclasses
from collections.abc import Awaitable, Callable

import pytest
import structlog

from agents.work import ENVELOPE_BYTES, Failure, Message, StepFunction, Work
from schemas import topics
from schemas.dead_letter import DeadLetter
from schemas.errors import ImplausibleError, UnavailableError
from streams import middlewares
from streams.metrics import Metrics
from streams.middlewares import Middleware, around, chained
from streams.topology import step_of

WINDOW = step_of("window")
MESSAGE = Message(topic="cgm.readings", partition=3, offset=8, key=b"anna", value=b"secret")
ABOUT = {"step": "window", "topic": "cgm.readings", "partition": 3, "offset": 8}
TOO_LARGE = bytes(topics.READING_OUTCOMES.max_message_bytes - ENVELOPE_BYTES)


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middlewares, "FIRST_BACKOFF_SECONDS", 0.0)


def work() -> Work:
    return Work(MESSAGE, {}, WINDOW, lambda _: 0)


async def test_the_first_of_a_chain_is_the_outermost() -> None:
    said: list[str] = []

    def saying(name: str) -> Middleware:
        async def middleware(given: Work, following: StepFunction) -> None:
            said.append(f"{name} before")
            await following(given)
            said.append(f"{name} after")

        return middleware

    async def step(given: Work) -> None:
        said.append("step")
        given.send(topics.READING_OUTCOMES, "anna", b"")

    whole = work()
    await chained([saying("first"), saying("second"), saying("third")], step)(whole)
    assert said == [
        "first before", "second before", "third before", "step", "third after", "second after", "first after",
    ]  # fmt: skip
    assert len(whole.sends) == 1, "all of them have the same work"


async def test_a_middleware_may_call_what_follows_again_or_not_at_all() -> None:
    calls = 0

    async def step(_: Work) -> None:
        nonlocal calls
        calls += 1

    def times(count: int) -> Callable[[Work, StepFunction], Awaitable[None]]:
        async def middleware(given: Work, following: StepFunction) -> None:
            for _ in range(count):
                await following(given)

        return middleware

    await chained([times(2), times(3)], step)(work())
    assert calls == 6
    await chained([times(0), times(3)], step)(work())
    assert calls == 6


class Ended:
    """How a step has ended inside all middlewares: its work, what was counted, and what was logged."""

    def __init__(self, step: StepFunction, attempts: int = 3) -> None:
        self.metrics, self.work = Metrics(), work()
        self.run = around(step, attempts, self.metrics.of_step("window"), {})
        self.logged: list[structlog.typing.EventDict] = []

    async def reached(self) -> "Ended":
        with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as self.logged:
            await self.run(self.work)
        return self

    @property
    def counts(self) -> dict[str, int]:
        lines = self.metrics.exposition().decode().splitlines()
        counted = [line.split('outcome="')[1] for line in lines if line.startswith("glucast_events_total{")]
        counts = {line.split('"')[0]: int(float(line.rsplit(" ", 1)[1])) for line in counted}
        return {outcome: count for outcome, count in counts.items() if count}

    @property
    def letters(self) -> list[DeadLetter]:
        return [DeadLetter.from_json(send.value) for send in self.work.sends if send.topic == topics.DEAD_LETTERS]


async def test_a_step_is_named_in_the_log_while_it_runs_and_in_what_is_said_of_its_end() -> None:
    contexts = []

    async def failing(_: Work) -> None:
        contexts.append(structlog.contextvars.get_contextvars())
        raise OSError("disk")

    ended = await Ended(failing).reached()
    assert contexts == [ABOUT] * 3
    assert ended.logged == [
        ABOUT | {"event": "step failed", "log_level": "error", "error": "OSError", "attempts": 3},
    ]
    assert structlog.contextvars.get_contextvars() == {}
    assert "secret" not in str(ended.logged)


@pytest.mark.parametrize(
    ("header", "calls"),
    [("cgm.readings/3/5/9/window", 1), ("cgm.readings/3/5/9/watch", 0), ("cgm.readings/2/5/9/watch", 1), ("watch", 1)],
)
async def test_what_a_letter_sends_again_is_for_the_step_that_failed(header: str, calls: int) -> None:
    called = []

    async def step(given: Work) -> None:
        called.append(given.message.first_offset)

    ended = Ended(step)
    ended.work.message = dataclasses.replace(MESSAGE, headers={"replay-of": header.encode()})
    await ended.reached()
    assert (len(called), ended.counts, ended.work.sends) == (calls, {"processed": 1}, [])


async def test_all_attempts_come_before_the_one_burial_which_is_counted_once() -> None:
    async def failing(given: Work) -> None:
        given.send(topics.READING_OUTCOMES, "anna", b"half of it")
        raise OSError("disk")

    ended = await Ended(failing).reached()
    assert [(letter.code, letter.attempts, letter.reason) for letter in ended.letters] == [
        ("failed", 3, "OSError: disk")
    ]
    assert [send.topic for send in ended.work.sends] == [topics.DEAD_LETTERS]
    assert ended.counts == {"retried": 2, "dead_lettered": 1}


async def test_what_waits_for_somebody_else_is_tried_for_as_long_as_that_takes_and_uses_up_no_attempt() -> None:
    tries = 0

    async def waiting(given: Work) -> None:
        nonlocal tries
        tries += 1
        given.send(topics.READING_OUTCOMES, "anna", b"half of it")
        if tries in (3, 30):
            raise OSError("disk")
        if tries < 50:
            raise UnavailableError("no process could be started")

    ended = await Ended(waiting).reached()
    assert (ended.letters, len(ended.work.sends)) == ([], 1)
    assert ended.counts == {"retried": 49, "processed": 1}
    assert {entry["reason"] for entry in ended.logged} == {"no process could be started"}


async def test_a_rejection_is_buried_at_once_and_counted_as_one() -> None:
    async def rejecting(_: Work) -> None:
        raise ImplausibleError("2000 mg/dL")

    ended = await Ended(rejecting).reached()
    assert [(letter.code, letter.attempts) for letter in ended.letters] == [("implausible", 1)]
    assert ended.counts == {"rejected": 1}
    assert ended.logged == []


async def test_every_attempt_is_sized_and_what_is_too_large_is_no_failure_of_the_step() -> None:
    tries = 0

    async def growing(given: Work) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("disk")
        given.send(topics.READING_OUTCOMES, "anna", TOO_LARGE)

    ended = await Ended(growing).reached()
    assert (tries, [letter.code for letter in ended.letters]) == (2, ["too_large"])
    assert ended.counts == {"retried": 1, "rejected": 1}
    assert [send.topic for send in ended.work.sends] == [topics.DEAD_LETTERS]


async def test_a_failure_that_a_step_states_itself_is_buried_beside_its_effects() -> None:
    async def stating(given: Work) -> None:
        given.send(topics.READING_OUTCOMES, "anna", b"told")
        given.failure = Failure("failed", "the model failed", 3)

    ended = await Ended(stating).reached()
    assert [send.topic for send in ended.work.sends] == [topics.READING_OUTCOMES, topics.DEAD_LETTERS]
    assert (ended.letters[0].reason, ended.counts) == ("the model failed", {"dead_lettered": 1})


async def test_a_step_that_works_in_the_end_is_processed_once() -> None:
    tries = 0

    async def flaky(_: Work) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("disk")

    ended = await Ended(flaky).reached()
    assert (ended.letters, ended.counts) == ([], {"retried": 2, "processed": 1})


async def test_each_attempt_waits_longer_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def failing(_: Work) -> None:
        raise OSError("disk")

    monkeypatch.setattr(middlewares, "FIRST_BACKOFF_SECONDS", 0.1)
    monkeypatch.setattr("streams.middlewares.asyncio.sleep", sleep)
    await Ended(failing, attempts=9).reached()
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_every_step_has_them_in_the_order_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(middlewares, "chained", lambda chain, _: given.extend(type(one).__name__ for one in chain))
    around(None, 3, Metrics().of_step("window"), {})  # type: ignore[arg-type]
    assert given == ["Measured", "Named", "Meant", "Buried", "Readable", "TriedAgain", "Sized"]
