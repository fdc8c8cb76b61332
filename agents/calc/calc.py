"""Samples in; a fan chart into the table and onto ``cgm.fan-charts``, or one outcome that says why not."""

import datetime
from typing import Protocol

from agents.core.deletions import is_deleted, of_subject
from agents.core.outcomes import ended
from agents.work import StepFunction, Work
from schemas.errors import ImplausibleError, RejectedError
from schemas.forecast import Forecast
from schemas.outcome import RequestStatus
from schemas.tables import FAN_CHARTS_TABLE as TABLE
from schemas.topics import FAN_CHARTS, REQUEST_OUTCOMES


class History(Protocol):
    """How many forecasts are kept a subject."""

    @property
    def subject_history_steps(self) -> int: ...


def build(settings: History) -> StepFunction:
    """The step of ``cgm.forecasts``. Raises `MalformedRecordError` for a message that is no forecast."""
    from agents.calc.chart_rows import store
    from agents.calc.fan_chart import fan_chart

    async def step(work: Work) -> None:
        forecast = Forecast.from_arrow(work.message.value)
        if is_deleted(work, TABLE, forecast.handle or of_subject(forecast.series_key), forecast.began_ms):
            _end(work, forecast, "dropped", "what it was made from was deleted while the forecast was computed")
            return
        try:
            chart = fan_chart(forecast, _time_of(work.message.timestamp_ms))
        except ImplausibleError as error:
            _end(work, forecast, "implausible", str(error))
            return
        except RejectedError as error:
            _end(work, forecast, "failed", str(error))
            return
        store(work, chart, settings.subject_history_steps)
        work.send(FAN_CHARTS, chart.series_key, chart.to_json())

    return step


def _end(work: Work, forecast: Forecast, status: RequestStatus, reason: str) -> None:
    work.send(REQUEST_OUTCOMES, forecast.series_key, ended(forecast, status, reason).to_json())


def _time_of(timestamp_ms: int) -> datetime.datetime:
    """When the samples were ready: the message's own time, so that it is the same when delivered again."""
    return datetime.datetime.fromtimestamp(timestamp_ms / 1000, datetime.UTC)
