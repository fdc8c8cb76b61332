"""The guard: retries, dead letters, sizes, and no ack before the broker has confirmed everything."""

import asyncio
import base64
import dataclasses
from pathlib import Path

import pytest
from aiokafka.errors import InvalidTimestampError

from agents.work import ENVELOPE_BYTES, StepFunction, Work
from schemas import topics
from schemas.dead_letter import DeadLetter
from schemas.errors import ImplausibleError
from streams import middlewares
from streams.topology import step_of
from tests.kit.guarded import FakeApp, FakeStream, RawMessage, guard_of, idle, table_of

WINDOW = dataclasses.replace(step_of("window"), tables=("subjects",))


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middlewares, "FIRST_BACKOFF_SECONDS", 0.0)


def messages(count: int) -> list[RawMessage]:
    return [RawMessage("cgm.readings", 0, offset, b"anna", b"%d" % offset) for offset in range(count)]


async def counting(work: Work) -> None:
    """Counts in a table and says so."""
    seen = int(work.get("subjects", "anna") or b"0") + 1
    work.put("subjects", "anna", b"%d" % seen)
    work.send(topics.READING_OUTCOMES, "anna", b"%d" % seen, {"from": b"test"})


async def consume(app: FakeApp, home: Path, step: StepFunction, given: list[RawMessage], **settings: object) -> None:
    guarded, _ = guard_of(app, WINDOW, step, {"subjects": table_of(app, home)}, **settings)
    await guarded.consume(FakeStream(app, given))


async def test_the_ack_waits_for_table_and_send(tmp_path: Path) -> None:
    app = FakeApp()
    await consume(app, tmp_path, counting, messages(1))
    assert [sent.topic for sent in app.producer.sent] == ["glucast-ingest-subjects-changelog", "cgm.reading-outcomes"]
    assert app.producer.sent[1].headers == {"from": b"test"}
    await app.producer.confirm(1)
    assert (app.strict.acked, len(app.in_flight)) == ([], 1)
    await app.producer.confirm(1)
    assert (app.strict.acked, len(app.in_flight), app.in_flight.unconfirmed) == ([0], 0, 0)


async def test_a_message_that_causes_nothing_is_acked_at_once(tmp_path: Path) -> None:
    app = FakeApp()

    async def nothing(work: Work) -> None:
        """No effects."""

    await consume(app, tmp_path, nothing, messages(3))
    assert app.strict.acked == [0, 1, 2]


async def test_messages_run_in_order_while_confirmations_overlap(tmp_path: Path) -> None:
    app = FakeApp()
    await consume(app, tmp_path, counting, messages(5))
    assert [sent.value for sent in app.producer.sent[1::2]] == [b"1", b"2", b"3", b"4", b"5"]
    assert len(app.in_flight) == 5
    await app.producer.confirm()
    assert app.strict.acked == [0, 1, 2, 3, 4]


async def test_no_more_events_than_allowed_are_in_flight(tmp_path: Path) -> None:
    app = FakeApp()
    running = asyncio.create_task(consume(app, tmp_path, counting, messages(4), events_in_flight=2))
    for confirmed in (0, 1, 2):
        await idle()
        assert [sent.value for sent in app.producer.sent[1::2]] == [b"1", b"2", b"3", b"4"][: confirmed + 2]
        assert (len(app.in_flight), len(app.strict.acked)) == (2, confirmed)
        await app.producer.confirm(2)  # the table write and the message of one event
    await running
    await app.producer.confirm()
    assert app.strict.acked == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("not enough replicas"), "not enough replicas"),
        (InvalidTimestampError(), "this machine's clock is over an hour ahead of the broker's"),
    ],
)
async def test_a_failed_confirmation_ends_the_process_without_an_ack(
    tmp_path: Path, error: Exception, words: str
) -> None:
    app = FakeApp()
    await consume(app, tmp_path, counting, messages(1))
    app.producer.sent[1].future.set_exception(error)
    await asyncio.sleep(0)
    assert len(app.ended) == 1
    assert words in app.ended[0]
    assert app.strict.acked == []


async def test_a_step_that_fails_once_is_tried_again_without_effects_of_the_first_try(tmp_path: Path) -> None:
    app, tries = FakeApp(), 0

    async def flaky(work: Work) -> None:
        nonlocal tries
        tries += 1
        await counting(work)
        if tries == 1:
            raise OSError("disk")

    await consume(app, tmp_path, flaky, messages(1))
    await app.producer.confirm()
    assert (tries, app.strict.acked) == (2, [0])
    assert [sent.value for sent in app.producer.sent] == [b"1", b"1"]


async def test_poison_becomes_a_dead_letter_and_the_next_message_is_processed(tmp_path: Path) -> None:
    app = FakeApp()

    async def poisoned(work: Work) -> None:
        if work.message.offset == 0:
            work.put("subjects", "anna", b"never")
            raise ZeroDivisionError("division by zero")
        await counting(work)

    guarded, metrics = guard_of(app, WINDOW, poisoned, {"subjects": table_of(app, tmp_path)}, step_attempts=3)
    await guarded.consume(FakeStream(app, messages(2)))
    await app.producer.confirm()
    assert app.strict.acked == [0, 1]
    letter = DeadLetter.from_json(app.producer.sent[0].value)
    assert (letter.letter_id, letter.code, letter.attempts) == ("cgm.readings/0/0/window", "failed", 3)
    assert base64.b64decode(letter.value_base64 or "") == b"0"
    assert [sent.value for sent in app.producer.sent[1:]] == [b"1", b"1"]
    text = metrics.exposition().decode()
    assert 'glucast_events_total{outcome="dead_lettered",step="window"} 1.0' in text
    assert 'glucast_events_total{outcome="retried",step="window"} 2.0' in text
    assert 'glucast_events_total{outcome="processed",step="window"} 1.0' in text


async def test_a_rejection_is_not_tried_again(tmp_path: Path) -> None:
    app, tries = FakeApp(), 0

    async def rejecting(work: Work) -> None:
        nonlocal tries
        tries += 1
        raise ImplausibleError("2000 mg/dL cannot be right")

    await consume(app, tmp_path, rejecting, messages(1))
    letter = DeadLetter.from_json(app.producer.sent[0].value)
    assert (tries, letter.code, letter.attempts, letter.reason) == (1, "implausible", 1, "2000 mg/dL cannot be right")


@pytest.mark.parametrize("where", ["table", "send"])
async def test_a_value_over_the_limit_is_a_dead_letter_and_has_no_other_effect(tmp_path: Path, where: str) -> None:
    app = FakeApp()
    large = bytes(topics.READING_OUTCOMES.max_message_bytes - ENVELOPE_BYTES + 1)

    async def growing(work: Work) -> None:
        work.send(topics.READING_OUTCOMES, "anna", large if where == "send" else b"small")
        work.put("subjects", "anna", large if where == "table" else b"small")

    await consume(app, tmp_path, growing, messages(1))
    assert [sent.topic for sent in app.producer.sent] == [topics.DEAD_LETTERS.name]
    assert DeadLetter.from_json(app.producer.sent[0].value).code == "too_large"


async def test_a_message_of_an_earlier_generation_has_no_effect(tmp_path: Path) -> None:
    app = FakeApp()

    async def overtaken(work: Work) -> None:
        await counting(work)
        app.consumer_generation_id = 2  # a rebalance while the step ran

    await consume(app, tmp_path, overtaken, messages(1))
    assert (app.producer.sent, app.strict.acked, app.strict.forgotten, len(app.in_flight)) == ([], [], [0], 0)


async def at_the_fence(app: FakeApp, home: Path) -> asyncio.Task[None]:
    """A message whose step has returned while the fence is closed, and the guard that waits there."""
    returned = asyncio.Event()

    async def step(work: Work) -> None:
        await counting(work)
        returned.set()

    app.now += 11.0  # a session timeout without an answer of the group
    running = asyncio.create_task(consume(app, home, step, messages(1)))
    await returned.wait()
    await asyncio.sleep(0.12)  # the fence is looked at every 0.05 s
    assert not running.done()
    assert (app.producer.sent, app.strict.acked) == ([], [])
    return running


async def test_effects_wait_at_the_fence_and_leave_when_it_opens(tmp_path: Path) -> None:
    app = FakeApp()
    running = await at_the_fence(app, tmp_path)
    app.fence.prove()  # the group has answered: the partition is still ours
    await asyncio.wait_for(running, 10)
    assert [sent.value for sent in app.producer.sent] == [b"1", b"1"]
    await app.producer.confirm()
    assert (app.strict.acked, app.strict.forgotten, len(app.in_flight)) == ([0], [], 0)


@pytest.mark.parametrize("opens", [False, True], ids=["closed", "opens"])
@pytest.mark.parametrize("how", ["revoked", "rebalanced"])
async def test_what_is_taken_away_at_the_fence_is_given_back_without_effect(
    tmp_path: Path, how: str, opens: bool
) -> None:
    app = FakeApp()
    running = await at_the_fence(app, tmp_path)
    if how == "revoked":
        app.strict.ledgers.clear()
    else:
        app.consumer_generation_id += 1
    if opens:
        app.fence.prove()
    await asyncio.wait_for(running, 10)
    assert (app.producer.sent, app.strict.acked, app.strict.forgotten, len(app.in_flight)) == ([], [], [0], 0)
    assert app.fence.closed is not opens


async def test_a_step_that_is_cancelled_gives_its_message_back(tmp_path: Path) -> None:
    app, began = FakeApp(), asyncio.Event()

    async def stuck(work: Work) -> None:
        await counting(work)
        began.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(consume(app, tmp_path, stuck, messages(1)))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (app.producer.sent, app.strict.acked, app.strict.forgotten, len(app.in_flight)) == ([], [], [0], 0)


async def test_a_header_without_a_value_stops_nobody(tmp_path: Path) -> None:
    app = FakeApp()

    async def rejecting(work: Work) -> None:
        raise ImplausibleError(str(sorted(work.message.headers.items())))

    message = dataclasses.replace(messages(1)[0], headers=(("trace", None), ("from", b"x")))
    await consume(app, tmp_path, rejecting, [message])
    letter = DeadLetter.from_json(app.producer.sent[0].value)
    assert (letter.headers, letter.reason) == ({"trace": "", "from": "x"}, "[('from', b'x'), ('trace', b'')]")
    assert app.ended == []


async def test_a_message_whose_key_and_headers_do_not_fit_a_letter_becomes_a_bare_one(tmp_path: Path) -> None:
    app = FakeApp()

    async def failing(work: Work) -> None:
        raise ImplausibleError("no")

    huge = dataclasses.replace(messages(1)[0], key=bytes(900_000), headers=(("h" * 200_000, b"x"),))
    await consume(app, tmp_path, failing, [huge])
    (sent,) = app.producer.sent
    letter = DeadLetter.from_json(sent.value)
    assert (letter.letter_id, letter.key_base64, letter.headers) == ("cgm.readings/0/0/window", None, {})
    assert len(sent.key or b"") + len(sent.value or b"") < 10_000
    await app.producer.confirm()
    assert app.strict.acked == [0]


async def test_what_has_to_be_told_first_is_confirmed_before_the_table_is_written(tmp_path: Path) -> None:
    app = FakeApp()

    async def telling(work: Work) -> None:
        work.sends_first = True
        await counting(work)

    await consume(app, tmp_path, telling, messages(1))
    assert [sent.topic for sent in app.producer.sent] == ["cgm.reading-outcomes"]
    await app.producer.confirm()
    await idle()
    assert [sent.topic for sent in app.producer.sent[1:]] == ["glucast-ingest-subjects-changelog"]
    assert app.strict.acked == []
    await app.producer.confirm()
    assert app.strict.acked == [0]


async def test_nothing_is_written_when_what_was_told_first_is_not_confirmed_or_the_partition_has_gone(
    tmp_path: Path,
) -> None:
    async def telling(work: Work) -> None:
        work.sends_first = True
        await counting(work)

    for number, refused in enumerate((True, False)):
        app = FakeApp()
        await consume(app, tmp_path / str(number), telling, messages(1))
        if refused:
            app.producer.sent[0].future.set_exception(RuntimeError("refused"))
        else:
            app.consumer_generation_id += 1
            await app.producer.confirm()
        await idle()
        assert len(app.producer.sent) == 1
        assert app.ended
        assert app.strict.acked == []


async def test_who_waits_for_a_confirmation_holds_back_no_reader_and_is_overtaken_by_no_write(tmp_path: Path) -> None:
    app = FakeApp()

    async def telling(work: Work) -> None:
        work.sends_first = work.message.offset != 1
        await counting(work)

    await asyncio.wait_for(consume(app, tmp_path, telling, messages(3)), 30.0)
    assert [sent.topic for sent in app.producer.sent] == ["cgm.reading-outcomes"] * 3
    assert [sent.value for sent in app.producer.sent] == [b"1", b"2", b"3"], "nobody's sends overtake another's"
    await app.producer.confirm(3)
    await idle()
    assert [sent.topic for sent in app.producer.sent[3:]] == ["glucast-ingest-subjects-changelog"] * 3
    assert [sent.value for sent in app.producer.sent[3:]] == [b"1", b"2", b"3"]
    assert app.strict.acked == []
    await app.producer.confirm()
    await idle()
    assert (app.strict.acked, app.ended, len(app.in_flight)) == ([0, 1, 2], [], 0)


async def test_nothing_is_written_behind_a_work_that_could_not_be_told(tmp_path: Path) -> None:
    app = FakeApp()

    async def telling(work: Work) -> None:
        work.sends_first = work.message.offset == 0
        await counting(work)

    await asyncio.wait_for(consume(app, tmp_path, telling, messages(3)), 30.0)
    app.producer.sent[0].future.set_exception(RuntimeError("refused"))
    await idle()
    assert [sent.topic for sent in app.producer.sent] == ["cgm.reading-outcomes"] * 3
    assert "refused" in app.ended[0]
    assert app.strict.acked == []


async def test_a_step_may_wait_until_what_came_before_is_committed(tmp_path: Path) -> None:
    app = FakeApp()
    seen = []

    async def settling(work: Work) -> None:
        if work.message.offset == 3:
            await work.settled()
        seen.append((work.message.offset, work.committed))
        await counting(work)

    consuming = asyncio.create_task(consume(app, tmp_path, settling, messages(4)))
    await idle()
    assert seen == [(0, 0), (1, 0), (2, 0)]
    await app.producer.confirm()
    await consuming
    assert seen[-1] == (3, 3)


async def test_what_waits_to_be_sent_counts_as_on_its_way(tmp_path: Path) -> None:
    """A first send may wait for the broker's metadata: a partition given away meanwhile must end the process."""
    app, gate = FakeApp(), asyncio.Event()
    send = app.producer.send

    async def slow(*arguments: object) -> object:
        await gate.wait()
        return await send(*arguments)

    app.producer.send = slow
    consuming = asyncio.create_task(consume(app, tmp_path, counting, messages(1)))
    await idle()
    assert (app.producer.sent, app.in_flight.unconfirmed) == ([], 1)
    gate.set()
    await consuming
    await idle()
    assert (len(app.producer.sent), app.in_flight.unconfirmed) == (2, 2)
    await app.producer.confirm(2)
    assert (len(app.strict.acked), app.in_flight.unconfirmed) == (1, 0)
