"""On a real Kafka: whoever follows events and resumes, and whoever receives webhooks, misses nothing of any kill."""

import asyncio
import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.bench import faults_told
from deploy.bench.faults_acts import Reviver
from deploy.bench.faults_told import Heard, Listeners
from deploy.bench.roles import Roles
from deploy.brokers.local_kafka import LocalKafka
from deploy.roles import variables
from schemas.reading import Reading, ReadingOutcome
from schemas.record import Record
from schemas.topics import ALERTS, FAN_CHARTS, READING_OUTCOMES, Topic
from streams.kafka.connection import producer_options
from streams.settings import Settings
from tests.kit.alerts import alert
from tests.kit.brokers import local_kafka, soon_forgotten
from tests.kit.charts import fan_chart
from tests.kit.waiting import until_async

QUICK: dict[str, object] = {"session_timeout_seconds": 3.0, "heartbeat_seconds": 1.0}
EVERY_SECONDS = 0.1
PEOPLE = 5
MINUTE = datetime.timedelta(minutes=1)


class Told:
    """Publishes for some people, until it is stopped: a reading's outcome, an alert and a forecast of each in turn."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._enough = asyncio.Event()
        self.outcomes: list[str] = []
        self.alerts: list[str] = []

    async def run(self) -> None:
        options = producer_options(self._settings) | {"enable_idempotence": True, "request_timeout_ms": 60_000}
        producer = AIOKafkaProducer(**options)
        await producer.start()
        confirmations = []
        try:
            while not self._enough.is_set():
                number = len(self.outcomes)
                for topic, key, record in self._of(number, f"person-{number % PEOPLE}"):
                    confirmations.append(await producer.send(topic.name, record.to_json(), key=key.encode()))
                await asyncio.sleep(EVERY_SECONDS)
            await asyncio.gather(*confirmations)
        finally:
            await producer.stop()

    def more_than(self, count: int) -> Callable[[], bool]:
        """Whether so many were published."""
        return lambda: len(self.outcomes) > count

    def _of(self, number: int, whose: str) -> list[tuple[Topic, str, Record]]:
        now = datetime.datetime.now(datetime.UTC)
        reading = Reading(subject_id=whose, time=now, glucose=118, unit="mg/dL")
        digest = f"{number:064x}"
        outcome = ReadingOutcome(
            outcome_id=digest, subject_id=whose, status="forecast_requested", time=now, reading=reading
        )
        chart = fan_chart(
            chart_id=digest, subject_id=whose, series_key=whose, issue_time=now, first_target_time=now + 5 * MINUTE
        )
        self.outcomes.append(digest)
        self.alerts.append(f"alert_{digest}_raised")
        told = alert(alert_id=digest, subject_id=whose, issue_time=now)
        return [(READING_OUTCOMES, whose, outcome), (ALERTS, whose, told), (FAN_CHARTS, whose, chart)]

    def stop(self) -> None:
        self._enough.set()


def everything_until_now(told: Told, listeners: Listeners) -> Callable[[], bool]:
    """Whether all that is published at the time of the call has come."""
    readings, alerts = set(told.outcomes), set(told.alerts)

    def has_come() -> bool:
        events = {event.data["outcome_id"] for event in listeners.events if event.kind == "reading"}
        return readings <= events and alerts <= {delivery.id for delivery in listeners.deliveries}

    return has_come


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_a_kill_of_the_api_of_notify_and_of_the_broker_loses_nothing_and_tells_nothing_under_two_ids(
    tmp_path: Path,
) -> None:
    with soon_forgotten(), local_kafka(tmp_path) as (broker, settings):
        report = asyncio.run(_killed(broker, settings, tmp_path))
    assert report.clean, report
    assert report.streams >= 2, "the follower was cut off and came back"
    assert report.events > 50
    assert report.webhooks > 50


async def _killed(broker: LocalKafka, settings: Settings, home: Path) -> Heard:
    file = home / "webhooks"
    environment = variables(dict(broker.settings_overrides) | QUICK) | faults_told.environment(file)
    with Roles(settings.broker, home / "roles", environment) as roles:
        api, notify = roles.api(), roles.notify()
        await asyncio.to_thread(roles.wait_until_ready)
        told, reviver = Told(settings), Reviver(roles, again_seconds=1.0)
        async with faults_told.listening(api.url, file) as listeners, asyncio.TaskGroup() as group:
            publishing = group.create_task(told.run())
            try:
                for kill in (api.kill, notify.kill, broker.kill):
                    await until_async(everything_until_now(told, listeners), "all is told before the next kill", 60)
                    await asyncio.to_thread(kill)
                    await until_async(told.more_than(len(told.outcomes) + 5), "events go on meanwhile")
                    if kill == broker.kill:
                        await asyncio.to_thread(broker.restart)
                    reviver.revive()
                    await until_async(_revived(reviver, everything_until_now(told, listeners)), "all is told", 60)
            finally:
                told.stop()
            await publishing
            await until_async(_revived(reviver, everything_until_now(told, listeners)), "the last is told", 60)
            return await faults_told.heard(settings, listeners, forecasts=False)


def _revived(reviver: Reviver, condition: Callable[[], bool]) -> Callable[[], bool]:
    """The condition, with whoever has ended meanwhile started again, as `glucast up` does it."""

    def checked() -> bool:
        reviver.revive()
        return condition()

    return checked
