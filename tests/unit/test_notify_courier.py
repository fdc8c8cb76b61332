"""The courier of one webhook: tries again, gives up what it has to, and brings back nothing that has ended."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator

import pytest

from schemas.webhook import Delivery
from streams.notify import courier as courier_module
from streams.notify import schedule
from streams.notify.courier import DAMAGED, DISABLED, Courier, Steps, utc_now
from streams.notify.events import event_of_alert
from streams.notify.outbox import REPLACED, Outbox
from streams.notify.registry import Changes, Registry
from streams.notify.sender import Attempt, Sender
from streams.notify.webhook_file import Endpoint
from tests.kit.alerts import alert, endpoint
from tests.kit.waiting import until_async

OK, BROKEN = Attempt(204, None), Attempt(500, "it answers 500")
GONE = Attempt(410, "it answers 410", over="it answers 410: it wants nothing more")


class Scripted:
    """In the place of the sender: answers as it is told, then well; `hold` makes it hang."""

    def __init__(self, *attempts: Attempt) -> None:
        self.attempts, self.sent, self.hold = list(attempts), list[Delivery](), asyncio.Event()
        self.hold.set()

    async def send(self, delivery: Delivery, _: datetime.datetime) -> Attempt:
        self.sent.append(delivery)
        attempt = self.attempts.pop(0) if self.attempts else OK
        await self.hold.wait()
        return attempt

    async def close(self) -> None:
        """Nothing to close."""


class Work:
    """A courier with what stands around it, and everything that it published."""

    def __init__(self, sender: Scripted | Sender, disable_hours: float = 24, to: Endpoint | None = None) -> None:
        self.sender = sender
        self.endpoint = to or endpoint(added_at=utc_now() - datetime.timedelta(hours=1))
        self.outbox, self.registry = Outbox(10), Registry(disable_hours)
        self.registry.load([self.endpoint], utc_now())
        self.steps: list[Delivery] = []
        self.changes: list[Changes] = []
        self.courier = Courier(self.endpoint, self.outbox, self.registry, sender, self.publish)  # type: ignore[arg-type]

    async def publish(self, steps: Steps, changes: Changes) -> None:
        self.steps += [delivery for _, delivery in steps]
        self.changes += [changes] if changes else []

    def tell(self, digit: str = "9", status: str = "raised") -> None:
        event = event_of_alert(alert(alert_id=digit * 64, status=status, issue_time=utc_now()), utc_now())
        made = self.outbox.plan(event, 0, [self.endpoint], utc_now())
        self.steps += made
        self.outbox.release(made)
        self.courier.wake()

    def history(self, digit: str = "9", status: str = "raised") -> list[str]:
        return [step.status for step in self.steps if step.event_id == f"alert_{digit * 64}_{status}"]

    async def until(self, *steps: str, digit: str = "9") -> None:
        await until_async(lambda: self.history(digit) == list(steps), f"{steps} of {digit}", 10)


@contextlib.asynccontextmanager
async def running(work: Work) -> AsyncIterator[Work]:
    task = asyncio.create_task(work.courier.run())
    try:
        yield work
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "FIRST_PAUSE_SECONDS", 0.01)


async def test_what_fails_is_tried_again_until_it_is_delivered() -> None:
    async with running(Work(Scripted(BROKEN, BROKEN))) as work:
        work.tell()
        await work.until("queued", "failing", "failing", "delivered")
    assert [each.delivery_id for each in work.sender.sent] == [work.steps[0].delivery_id] * 3
    assert (work.steps[-1].attempts, work.steps[-1].response_status) == (3, 204)
    first, last = [changes["home"] for changes in work.changes]
    assert first is not None
    assert last is not None
    assert (first.reason, last.reason, last.failing_since) == ("it answers 500", None, None)


async def test_a_receiver_that_is_gone_is_disabled_and_all_that_waits_is_given_up() -> None:
    sender = Scripted(GONE)
    sender.hold.clear()
    async with running(Work(sender)) as work:
        work.tell("1")
        await until_async(lambda: sender.sent, "the first is under way")
        work.tell("2")
        sender.hold.set()
        await work.until("queued", "failing", "dropped", digit="1")
        await work.until("queued", "dropped", digit="2")
    assert work.steps[-1].reason == DISABLED
    state = work.changes[-1]["home"]
    assert state is not None
    assert state.disabled_at is not None
    assert work.registry.active() == []


@pytest.mark.parametrize("body", ["{", "[]", '{"data": 5}', '{"type": "alert.raised", "data": {"kind": []}}'])
async def test_what_nobody_of_ours_has_planned_is_dropped_and_stops_nobody(body: str) -> None:
    to = endpoint(channel="ntfy", events=["alert"], secret=None, added_at=utc_now() - datetime.timedelta(hours=1))
    work = Work(Sender(to, 5, ()), to=to)
    (queued,) = Outbox(10).plan(event_of_alert(alert(issue_time=utc_now()), utc_now()), 0, [to], utc_now())
    damaged = [queued.model_copy(update={"delivery_id": digit * 64, "body": body}) for digit in "12"]
    work.outbox.restore(0, damaged, utc_now())
    async with running(work):
        await until_async(lambda: len(work.steps) == 2, "both have ended", 10)
    assert {(step.delivery_id, step.status, step.reason) for step in work.steps} == {
        (digit * 64, "dropped", DAMAGED) for digit in "12"
    }
    assert not work.changes, "the webhook is not to blame"


async def test_who_has_failed_too_long_is_disabled() -> None:
    async with running(Work(Scripted(*[BROKEN] * 1000), disable_hours=1e-6)) as work:
        work.tell()
        await until_async(lambda: work.registry.active() == [], "it is disabled", 10)
        await until_async(lambda: work.history()[-1:] == ["dropped"], "what waited is given up", 10)


async def test_what_ends_while_it_is_tried_does_not_begin_again() -> None:
    sender = Scripted(BROKEN)
    sender.hold.clear()
    async with running(Work(sender)) as work:
        work.tell()
        await until_async(lambda: sender.sent, "it is under way")
        work.tell(status="false")
        sender.hold.set()
        await until_async(lambda: work.history(status="false") == ["queued", "delivered"], "the outcome is sent", 10)
    assert work.history() == ["queued", "expired"]


async def test_what_no_longer_holds_is_given_up_on_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Work(Scripted(BROKEN))) as work:
        monkeypatch.setattr(schedule, "FIRST_PAUSE_SECONDS", 1000.0)
        work.tell()
        await work.until("queued", "failing")
        monkeypatch.setattr(courier_module, "utc_now", lambda: utc_now() + datetime.timedelta(hours=1))
        work.courier.wake()
        await work.until("queued", "failing", "expired")


@pytest.mark.parametrize("is_restored", [True, False], ids=["it waits when the role starts", "it is planned meanwhile"])
async def test_a_name_that_is_given_to_somebody_else_takes_nothing_along(is_restored: bool) -> None:
    bens = endpoint(subject_id="ben", added_at=utc_now() - datetime.timedelta(minutes=1))
    work = Work(Scripted(), to=bens)
    annas = endpoint(subject_id="anna", added_at=utc_now() - datetime.timedelta(hours=1))
    planned_at = utc_now() - datetime.timedelta(minutes=5 if is_restored else 0)
    planned = (Outbox(10) if is_restored else work.outbox).plan(
        event_of_alert(alert(issue_time=utc_now()), planned_at), 0, [annas], planned_at
    )
    if is_restored:
        work.outbox.restore(0, planned, utc_now())
    work.outbox.release(planned)
    async with running(work):
        await until_async(lambda: work.history() == ["dropped"], "it is given up", 10)
        event = event_of_alert(alert(alert_id="8" * 64, subject_id="ben", issue_time=utc_now()), utc_now())
        made = work.outbox.plan(event, 0, [bens], utc_now())
        work.outbox.release(made)
        work.courier.wake()
        await until_async(lambda: work.history("8") == ["delivered"], "what is for ben is sent", 10)
    assert [each.subject_id for each in work.sender.sent] == ["ben"]
    assert work.steps[0].reason == REPLACED


async def test_how_the_last_attempt_ends_says_nothing_of_who_has_the_name_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule, "FIRST_PAUSE_SECONDS", 1000.0)
    sender = Scripted(GONE)
    sender.hold.clear()
    async with running(Work(sender)) as work:
        work.tell()
        await until_async(lambda: sender.sent, "it is under way")
        work.registry.load([endpoint("home", subject_id="ben", added_at=utc_now())], utc_now())
        sender.hold.set()
        await until_async(lambda: work.history() == ["queued", "failing"], "it has failed", 10)
    assert work.changes == []
    assert len(work.registry.active()) == 1


async def test_enabling_a_webhook_that_fails_keeps_what_waits_for_it() -> None:
    to = endpoint(added_at=utc_now() - datetime.timedelta(hours=1))
    work = Work(Scripted(), to=to.model_copy(update={"enabled_at": utc_now()}))
    queued_at = utc_now() - datetime.timedelta(minutes=5)
    work.outbox.restore(
        0, Outbox(10).plan(event_of_alert(alert(issue_time=utc_now()), queued_at), 0, [to], queued_at), utc_now()
    )
    async with running(work):
        await until_async(lambda: work.history() == ["delivered"], "it is sent", 10)
