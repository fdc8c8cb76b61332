"""Samples in; a fan chart into its lane's table and onto ``cgm.fan-charts``, or one outcome that says why not."""

import datetime
from collections.abc import Sequence
from typing import Protocol

from agents.calc.alerts import consider
from agents.calc.chart_rows import store
from agents.core.deletions import begun, is_deleted, of_subject
from agents.core.outcomes import end
from agents.core.record_checks import check_names
from agents.work import Message, Work
from schemas.errors import ImplausibleError, MalformedRecordError, RejectedError
from schemas.fan_chart import FanChart
from schemas.forecast import Forecast
from schemas.lanes import Lane
from schemas.replay import ReplayedForecast
from schemas.tables import DELETIONS_TABLE
from schemas.topics import FAN_CHARTS, FORECASTS, REPLAYS

LANE_OF: dict[str, Lane] = {topic.name: lane for lane, topic in FORECASTS.items()}


class History(Protocol):
    """How many forecasts are kept a subject."""

    @property
    def subject_history_steps(self) -> int: ...


class Charting(History, Protocol):
    """And whether their fans are fitted to the subject's own truths."""

    @property
    def recalibrate(self) -> bool: ...


Charted = tuple[Forecast, FanChart | RejectedError]


class Calc:
    """The step of ``cgm.forecasts.<lane>``. What it is told ahead it charts together, at a third of the cost."""

    def __init__(self, settings: Charting) -> None:
        from agents.calc import fan_chart, score_rows  # numpy and scipy: loaded with the step, not its first message

        self._score = score_rows.score
        self._recalibrate = settings.recalibrate
        self._history_steps = settings.subject_history_steps
        self._ahead: dict[tuple[str, int, int], Charted | MalformedRecordError] = {}
        self._maths = fan_chart

    def prepare(self, messages: Sequence[Message]) -> None:
        """Chart the forecasts that come next. What was prepared earlier and did not come is forgotten."""
        self._ahead = {
            (message.topic, message.partition, message.offset): charted
            for message, charted in zip(messages, self._charted(messages), strict=True)
        }

    async def __call__(self, work: Work) -> None:
        """Raises `MalformedRecordError` for a message that is no forecast."""
        message = work.message
        charted = self._ahead.get((message.topic, message.partition, message.offset)) or self._charted([message])[0]
        if isinstance(charted, MalformedRecordError):
            raise charted
        forecast, chart = charted
        if isinstance(chart, RejectedError):
            end(work, forecast, "implausible" if isinstance(chart, ImplausibleError) else "failed", str(chart))
        elif is_deleted(work, DELETIONS_TABLE, forecast.handle or of_subject(forecast.series_key), forecast.began_ms):
            end(work, forecast, "dropped", "what it was made from was deleted while the forecast was computed")
        elif forecast.replay_id is not None:
            work.send(REPLAYS, chart.series_key, _replayed(forecast, forecast.replay_id, chart).to_json())
        else:
            if (began_ms := begun(work, chart.began_ms)) != chart.began_ms:
                chart = chart.model_copy(update={"began_ms": began_ms})
            base = chart
            if chart.kind == "live":
                chart = self._score(work, chart, self._recalibrate, self._history_steps)
            store(work, LANE_OF.get(message.topic, "backfill"), chart, self._history_steps)
            work.publish(FAN_CHARTS, chart.series_key, chart)
            consider(work, chart, base)

    def _charted(self, messages: Sequence[Message]) -> list[Charted | MalformedRecordError]:
        decoded = [_decoded(message) for message in messages]
        ready = [
            self._maths.Ready(forecast, _time_of(message.timestamp_ms))
            for message, forecast in zip(messages, decoded, strict=True)
            if isinstance(forecast, Forecast)
        ]
        charts = iter(self._maths.fan_charts(ready))
        return [(each, next(charts)) if isinstance(each, Forecast) else each for each in decoded]


def build(settings: Charting) -> Calc:
    """The step of ``cgm.forecasts.<lane>``."""
    return Calc(settings)


def _decoded(message: Message) -> Forecast | MalformedRecordError:
    try:
        forecast = Forecast.from_arrow(message.value)
        check_names(forecast)
        return forecast
    except MalformedRecordError as error:
        return error


def _replayed(forecast: Forecast, replay_id: str, chart: FanChart) -> ReplayedForecast:
    return ReplayedForecast(
        replay_id=replay_id,
        request_id=forecast.request_id,
        series_key=forecast.series_key,
        status="charted",
        chart=chart,
    )


def _time_of(timestamp_ms: int) -> datetime.datetime:
    """When the samples were ready: the message's own time, so that it is the same when delivered again."""
    return datetime.datetime.fromtimestamp(timestamp_ms / 1000, datetime.UTC)
