"""A read model that is told of records one by one, as the follower would tell it, without a broker."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition

from query_api.event_streams import Client, EventStreams
from query_api.follow import Follower
from query_api.read_model import Entry, ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas import topics
from schemas.alert import AlertState
from schemas.glucose_day import GlucoseDay
from schemas.grid import CENTI, STEP_SECONDS, STEPS_A_DAY
from schemas.reading import Reading, ReadingOutcome
from schemas.score_state import ScoreState
from schemas.tables import day_key
from streams.kafka.partitioning import partition_of
from streams.settings import Settings
from streams.topology import ALERTS_CHANGELOG, CHART_CHANGELOGS, DAYS_CHANGELOG, SCORES_CHANGELOG
from tests.kit.charts import ISSUE, STEP, fan_chart

MIB = 1 << 20


class Followed:
    """The table in `directory` and who follows events from it; offsets count up from those of `like`."""

    def __init__(self, directory: Path, settings: Settings | None = None, like: "Followed | None" = None) -> None:
        self.settings = settings or Settings(partitions=2)
        self.model = ReadModel(Store(directory, MIB, MIB), Subscriptions())
        self.model.belongs_to("cluster")
        self.follower = Follower(self.settings, self.model)
        self.follower._has_caught_up = True
        self.streams = EventStreams(self.settings, self.model, self.follower)
        self._ends: Counter[TopicPartition] = Counter() if like is None else like._ends
        for (topic, partition), offset in self.model.positions().items():
            self.follower._next[TopicPartition(topic, partition)] = offset

    def apply(self, *records: tuple[str, str, str, bytes | None]) -> None:
        """Topic, subject, key and value of each, in one write."""
        entries = []
        for topic, subject, key, value in records:
            at = TopicPartition(topic, partition_of(subject.encode(), self.settings.partitions))
            entries.append(Entry(topic, at.partition, self._ends[at], key.encode(), value))
            self._ends[at] += 1
            self.follower._next[at] = self._ends[at]
        positions = {(at.topic, at.partition): offset for at, offset in self.follower._next.items()}
        self.model.apply(entries, positions)

    def stream(self, *subjects: str, last: str | None = None, **options: Any) -> AsyncIterator[bytes]:
        client = Client(options.pop("caller", "anonymous"), frozenset(subjects) or None, **options)
        return self.streams.stream(client, last)


def reading(subject: str, step: int, **changes: Any) -> tuple[str, str, str, bytes]:
    time = ISSUE + step * STEP
    fields: dict[str, Any] = {
        "outcome_id": f"{step:064x}", "subject_id": subject, "status": "forecast_requested", "time": time,
        "reading": Reading(subject_id=subject, time=time, glucose=100 + step, unit="mg/dL"),
    }  # fmt: skip
    outcome = ReadingOutcome.model_validate(fields | changes)
    return topics.READING_OUTCOMES.name, subject, subject, outcome.to_json()


def day(subject: str, glucose: dict[int, float]) -> tuple[str, str, str, bytes]:
    """The day of `ISSUE` with what counts at so many steps after it."""
    first = round(ISSUE.timestamp()) // STEP_SECONDS
    centi = [0] * STEPS_A_DAY
    for step, value in glucose.items():
        centi[(first + step) % STEPS_A_DAY] = round(value * CENTI)
    row = GlucoseDay(began_ms=1, zone_minutes=60, centi=tuple(centi)).to_bytes()
    return DAYS_CHANGELOG.name, subject, day_key(subject, first // STEPS_A_DAY), row


def forecast(subject: str, step: int, made: int = 0, began_ms: int = 0) -> tuple[str, str, str, bytes]:
    chart = fan_chart(
        series_key=subject, subject_id=subject, chart_id=f"{1000 * made + step:064x}",
        issue_time=ISSUE + step * STEP, first_target_time=ISSUE + (step + 1) * STEP, began_ms=began_ms,
    )  # fmt: skip
    return CHART_CHANGELOGS["live"].name, subject, f"subject/{subject}/{step}/m", chart.to_json()


def alerts(subject: str, slot: int) -> tuple[str, str, str, bytes]:
    return ALERTS_CHANGELOG.name, subject, subject, AlertState(slot=slot).to_row()


def scores(subject: str, scored: int) -> tuple[str, str, str, bytes]:
    return SCORES_CHANGELOG.name, subject, subject, ScoreState(scored=scored, newest=5_000_000).to_bytes()
