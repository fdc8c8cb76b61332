"""A forecast of the past beside what came of it."""

import dataclasses
import datetime

from query_api.projections.fan_charts import ChartRow
from query_api.read_model import ReadModel
from schemas.errors import NoForecastError
from schemas.fan_chart import FanChart
from schemas.grid import HORIZON_STEPS, STEP_SECONDS


@dataclasses.dataclass(frozen=True, slots=True)
class PastForecast:
    """The chart with the truth as far as it was measured by now, and when the kept ones beside it were made."""

    chart: FanChart
    earlier: datetime.datetime | None
    later: datetime.datetime | None


def past_forecast(model: ReadModel, subject_id: str, at: datetime.datetime) -> PastForecast:
    """The last kept forecast whose last known point is not after `at`. Raises `NoForecastError` where none is."""
    of_time: dict[int, ChartRow] = {}
    for row in model.fan_charts.history(subject_id, None, None):
        known = of_time.get(row.issue_seconds)
        if known is None or known.began_ms <= row.began_ms:
            of_time[row.issue_seconds] = row
    times = sorted(of_time)
    before = [seconds for seconds in times if seconds <= at.timestamp()]
    if not before:
        raise NoForecastError(
            "no forecast of that time is kept: see /subjects/{subject_id}/forecasts for those that are"
        )
    place = len(before) - 1
    chart = of_time[times[place]].chart
    return PastForecast(
        chart.model_copy(update={"truth_mgdl": _truth(model, subject_id, chart)}),
        earlier=_time(times[place - 1]) if place else None,
        later=_time(times[place + 1]) if place + 1 < len(times) else None,
    )


def _truth(model: ReadModel, subject_id: str, chart: FanChart) -> tuple[float | None, ...]:
    """What counts as measured at each target time, as the window took it: of two devices the preferred one's."""
    first = round(chart.first_target_time.timestamp() / STEP_SECONDS)
    history = model.days.history(subject_id)
    measured = dict(history.between(first, first + HORIZON_STEPS)) if history else {}
    return tuple(measured.get(first + step) for step in range(HORIZON_STEPS))


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
