"""Rows of the scores table: of each subject one of the served model, and beside it one of the model on trial.

Both are scored by the same truths, so their scorecards compare. A model that is promoted brings its row along, and the
one before keeps its own as the model on trial: each fan goes on as it was fitted, whichever is served.
"""

from agents.calc import scorekeeping
from agents.calc.chart_rows import same_stored
from agents.work import Work
from schemas.errors import MalformedRecordError
from schemas.fan_chart import FanChart
from schemas.grid import slot_of
from schemas.metrics import FORECAST_CRPS_MGDL, FORECAST_ERROR_MGDL, FORECAST_INSIDE
from schemas.score import TargetScore
from schemas.score_state import ScoreState
from schemas.tables import SCORES_TABLE, trial_key
from schemas.topics import SCORES


def score(work: Work, chart: FanChart, recalibrate: bool, history_steps: int) -> FanChart:
    """Score by a live chart the forecasts of its model before it, and fit it to what they met, in one work with it.

    Scores are confirmed before the state that says that they were sent. One that comes again when the state has let go
    of it already, after a burst of its subject's forecasts, is what it was when it was stored.
    """
    found = _row_for(work, chart)
    if isinstance(found, FanChart):
        return found
    if scorekeeping.is_let_go(found, chart) and (stored := same_stored(work, chart, history_steps)) is not None:
        return scorekeeping.calibrated_as(chart, stored.calibration)
    published, scores = scorekeeping.keep(found, chart, recalibrate)
    work.put(SCORES_TABLE, _own_key(chart), found.to_bytes())
    for each in scores:
        work.publish(SCORES, each.series_key, each)
        _measure(work, each)
    work.sends_first = work.sends_first or bool(scores)
    return published


def _measure(work: Work, target: TargetScore) -> None:
    for each in target.scores:
        of = target.model, target.model_fingerprint, str(each.minutes_ahead)
        work.measure(FORECAST_ERROR_MGDL, *of, value=abs(each.error_mgdl))
        work.measure(FORECAST_CRPS_MGDL, *of, value=each.crps_mgdl)
        for percent, inside in (("50", each.in_50), ("80", each.in_80), ("90", each.in_90), ("95", each.in_95)):
            if inside:
                work.measure(FORECAST_INSIDE, *of, percent)


def forget(work: Work, subject_id: str, up_to_ms: int) -> None:
    """Both rows go, but one of forecasts that began since."""
    for key in (subject_id, trial_key(subject_id)):
        if _state(work, key).since_ms <= up_to_ms:
            work.delete(SCORES_TABLE, key)


def _row_for(work: Work, chart: FanChart) -> ScoreState | FanChart:
    """The state that the chart is scored by; or the chart as it is published, where it changes nothing.

    The latter are charts from before their model changed its role, delivered late or again.
    """
    own, other = _own_key(chart), _other_key(chart)
    state, model = _state(work, own), scorekeeping.model_name(chart)
    if state.model == model:
        return state
    elsewhere, is_newest = _state(work, other), slot_of(chart.issue_time) > state.newest
    if elsewhere.model != model:
        return ScoreState() if is_newest else chart
    if not (chart.model_serves and is_newest):
        return scorekeeping.as_known(elsewhere, chart)
    if state.newest:  # promoted: the one before goes on beside it
        work.put(SCORES_TABLE, other, state.to_bytes())
    else:
        work.delete(SCORES_TABLE, other)
    return elsewhere


def _own_key(chart: FanChart) -> str:
    return chart.series_key if chart.model_serves else trial_key(chart.series_key)


def _other_key(chart: FanChart) -> str:
    return trial_key(chart.series_key) if chart.model_serves else chart.series_key


def _state(work: Work, key: str) -> ScoreState:
    """Of a row that cannot be read nothing is known: a forecast is worth more than how earlier ones did."""
    try:
        return ScoreState.from_bytes(work.get(SCORES_TABLE, key))
    except MalformedRecordError:
        return ScoreState()
