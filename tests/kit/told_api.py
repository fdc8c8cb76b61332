"""The application over a read model that is told of records one by one: no broker, and nothing in the background."""

import contextlib
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agents.ingest.files.readers import Readers
from query_api.app import create_app
from query_api.image import Images
from query_api.pipeline_status import PipelineWatch
from query_api.plots import Plots
from query_api.publish import Publisher
from query_api.request_metrics import RequestMetrics
from query_api.services import CONVERSIONS, CONVERSIONS_WAITING, Services
from query_api.submit import Submit
from schemas import topics
from schemas.reading import Reading, ReadingOutcome
from streams.settings import Settings
from streams.topology import CHART_CHANGELOGS
from tests.kit.charts import STEP, fan_chart
from tests.kit.followed import Followed
from tests.kit.query import Client

Told = tuple[str, str, str, bytes]
"""A record of a followed topic: topic, subject, key and value."""


@contextlib.asynccontextmanager
async def told_api(settings: Settings, directory: Path, *records: Told, **options: Any) -> AsyncIterator[Client]:
    """A client of it. What has to be sent to Kafka is 503."""
    followed = Followed(directory / "read-model", settings)
    followed.apply(*records)
    publisher, images = Publisher(settings), Images(waiters=settings.waiters, start_after_seconds=0)
    pipeline = PipelineWatch(settings, followed.follower)
    conversions = Readers(settings, CONVERSIONS, CONVERSIONS_WAITING)
    app = create_app(settings, directory)
    app.state.services = Services(
        settings, followed.model, followed.follower, publisher,
        Submit(settings, followed.model, followed.follower, publisher), images, Plots(images), pipeline, conversions,
        RequestMetrics(), followed.streams,
    )  # fmt: skip
    try:
        async with Client(app, **options) as client:
            yield client
    finally:
        await pipeline.close()
        await conversions.close()
        followed.model.close()


def now() -> datetime.datetime:
    """Of a reading that has just come."""
    return datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0)


def told_forecast(subject: str, time: datetime.datetime) -> Told:
    """A live forecast whose last known point is of that time."""
    slot = int(time.timestamp()) // 300
    chart = fan_chart(
        series_key=subject, subject_id=subject, chart_id=f"{slot:064x}", issue_time=time, first_target_time=time + STEP,
        computed_at=time,
    )  # fmt: skip
    return CHART_CHANGELOGS["live"].name, subject, f"subject/{subject}/{slot}/m", chart.to_json()


def told_reading(subject: str, time: datetime.datetime, glucose: float = 120, **changes: Any) -> Told:
    """An accepted reading."""
    fields: dict[str, Any] = {
        "outcome_id": f"{int(time.timestamp()):064x}", "subject_id": subject, "status": "forecast_requested",
        "time": time, "reading": Reading(subject_id=subject, time=time, glucose=glucose, unit="mg/dL"),
    }  # fmt: skip
    outcome = ReadingOutcome.model_validate(fields | changes)
    return topics.READING_OUTCOMES.name, subject, subject, outcome.to_json()
