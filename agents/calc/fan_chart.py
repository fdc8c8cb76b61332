"""Samples in, fan charts out: calibrated quantiles and event probabilities of many forecasts at once. Pure numpy.

A chart does not depend on the forecasts beside it: every operation runs over rows of its own.
"""

import datetime
import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from agents.core import compression, fingerprint, path_events, predictive
from agents.core.calibration import Calibration
from agents.core.fan_scores import told_apart
from agents.core.local_time import wall_clock, zone
from agents.core.record_checks import check_window, is_digest
from schemas.errors import ImplausibleError, MalformedRecordError, RejectedError
from schemas.fan_chart import MEDIAN, FanChart, PathChances
from schemas.forecast import Forecast
from schemas.grid import CENTI, HORIZON_STEPS, STEP, THRESHOLDS_MGDL, slot_of

Array = NDArray[np.float64]

FARTHEST_MGDL = (-600.0, 1200.0)  # one sample beyond, and the spread of all says nothing of a body
LEAST_INSIDE = 0.01  # of the probability at any step: a model that says less has left what it knows


class Ready(NamedTuple):
    """A forecast to be charted, and when its samples were there."""

    forecast: Forecast
    computed_at: datetime.datetime


def fan_charts(ready: Sequence[Ready]) -> list[FanChart | RejectedError]:
    """The chart of each forecast, or why there is none.

    `MalformedRecordError` where its numbers are not S x 12 finite ones, `ImplausibleError` where they leave what a
    sensor can show.
    """
    found: list[FanChart | RejectedError] = [MalformedRecordError("not charted")] * len(ready)
    alike: defaultdict[tuple[int, str], list[tuple[int, Array, Array]]] = defaultdict(list)
    for place, (forecast, _) in enumerate(ready):
        try:
            check_window(forecast)
            _check_ids(forecast)
            samples, residual = _numbers(forecast)
            _calibration(forecast.calibration_json)
            alike[forecast.num_samples, forecast.calibration_json].append((place, samples, residual))
        except RejectedError as error:
            found[place] = error
    for (_, calibration), members in alike.items():
        statistics = _statistics(
            np.stack([samples for _, samples, _ in members]),
            np.stack([residual for _, _, residual in members]),
            _calibration(calibration),
        )
        paths = _paths([ready[place].forecast for place, _, _ in members], members, statistics)
        for row, (place, _, _) in enumerate(members):
            try:
                found[place] = _chart(*ready[place], statistics, row, paths.get(row))
            except RejectedError as error:
                found[place] = error
            except ValidationError:  # it must not take along those that are charted with it
                found[place] = MalformedRecordError("the forecast's fields make no fan chart that can be")
    return found


def fan_chart(forecast: Forecast, computed_at: datetime.datetime) -> FanChart:
    """The chart of one forecast. Raises what `fan_charts` gives in place of a chart."""
    (found,) = fan_charts([Ready(forecast, computed_at)])
    if isinstance(found, RejectedError):
        raise found
    return found


class _Statistics(NamedTuple):
    """What is published of B forecasts, as lists of Python numbers, with `inside` (B,) and `beyond` (B, 4, 12)."""

    inside: Array
    beyond: Array
    quantiles: list[list[tuple[float, ...]]]
    below: list[list[tuple[float, ...]]]
    above: list[list[tuple[float, ...]]]
    mean: list[tuple[float, ...]]
    epistemic_sd: list[tuple[float, ...]]
    total_sd: list[tuple[float, ...]]


def _statistics(samples: Array, residual: Array, calibration: Calibration) -> _Statistics:
    """Of samples (B, S, H) and residual spread (B, H)."""
    shown, plain = predictive.range_and_below(samples, residual, calibration, THRESHOLDS_MGDL)
    quantiles = predictive.quantiles(samples, residual, calibration, shown)
    below = plain if calibration.lows is None else calibration.lows.published(plain)
    # The chances of the path have a step of their own behind them, which was fitted on what is plain.
    beyond = np.concatenate([plain[:, :2], 1.0 - plain[:, 2:]], axis=1)
    moments = predictive.moments(samples, residual, shown)
    return _Statistics(
        inside=shown.inside.min(axis=-1),
        beyond=beyond,
        quantiles=_lists(told_apart(quantiles, level_axis=1), 1),
        below=_lists(below[:, :2], 4),
        above=_lists(1.0 - below[:, 2:], 4),
        mean=_rows(moments.mean, 1),
        epistemic_sd=_rows(moments.epistemic_sd, 2),
        total_sd=_rows(moments.total_sd, 2),
    )


def _paths(
    forecasts: Sequence[Forecast], members: Sequence[tuple[int, Array, Array]], of: _Statistics
) -> dict[int, PathChances]:
    """By row, of live forecasts: what nobody alerts by is not computed.

    Never less than the published chance of a single step: both stand in one record, and at any time is no less than at
    one. On real windows that lifts one in two hundred by more than 0.02; evaluations are made without it.
    """
    rows = [row for row, forecast in enumerate(forecasts) if forecast.kind == "live"]
    if not rows:
        return {}
    chances = path_events.path_events().probabilities(
        of.beyond[rows],
        np.array([forecasts[row].past_centi_mgdl for row in rows], dtype=np.float64) / CENTI,
        np.stack([members[row][1].mean(axis=0) for row in rows]),
        np.stack([members[row][2] for row in rows]),
    )
    steps = np.array([[*of.below[row], *of.above[row]] for row in rows])  # by threshold, as the chances of the path
    chances = np.maximum(chances, np.maximum.accumulate(steps, axis=2)[:, :, 2::3])
    names = tuple(PathChances.model_fields)
    return {
        row: PathChances(**dict(zip(names, chance, strict=True)))
        for row, chance in zip(rows, _lists(chances, 4), strict=True)
    }


def _chart(
    forecast: Forecast, computed_at: datetime.datetime, of: _Statistics, row: int, path: PathChances | None
) -> FanChart:
    if of.inside[row] < LEAST_INSIDE:
        raise _leaves_range()
    issue = wall_clock(forecast.end_seconds).replace(tzinfo=zone(forecast.timezone))
    truth = [None if value is None else value / 100 for value in forecast.truth_centi_mgdl[:HORIZON_STEPS]]
    quantiles = of.quantiles[row]
    past = tuple([value / 100 for value in forecast.past_centi_mgdl])
    suspicions = compression.warnings_of(past, forecast.interpolated_points, issue) if forecast.kind == "live" else ()
    return FanChart(
        chart_id=fingerprint.chart_id(
            forecast.forecast_id, forecast.kind, forecast.series_key, _place(forecast, issue)
        ),
        forecast_id=forecast.forecast_id,
        kind="live" if forecast.kind == "live" else "sample",
        series_key=forecast.series_key,
        subject_id=forecast.subject_id,
        handle=forecast.handle,
        index=forecast.index,
        began_ms=forecast.began_ms,
        revision=forecast.revision,
        demand_id=forecast.demand_id,
        input_hash=forecast.input_hash,
        model=forecast.model,
        model_fingerprint=forecast.model_fingerprint,
        model_serves=forecast.model_serves,
        num_samples=forecast.num_samples,
        seed=forecast.seed,
        simulated=forecast.simulated,
        issue_time=issue,
        computed_at=computed_at,
        first_target_time=(issue.astimezone(datetime.UTC) + STEP).astimezone(issue.tzinfo),
        past_mgdl=past,
        truth_mgdl=tuple(truth + [None] * (HORIZON_STEPS - len(truth))),
        interpolated_points=tuple(forecast.interpolated_points),
        changed_points=tuple(forecast.changed_points),
        median_mgdl=quantiles[MEDIAN],
        quantiles_mgdl=tuple(quantiles[:MEDIAN] + quantiles[MEDIAN + 1 :]),
        p_below_54=of.below[row][0],
        p_below_70=of.below[row][1],
        p_above_180=of.above[row][0],
        p_above_250=of.above[row][1],
        p_path=path,
        mean_mgdl=of.mean[row],
        epistemic_sd_mgdl=of.epistemic_sd[row],
        total_sd_mgdl=of.total_sd[row],
        warnings=(*forecast.warnings, *suspicions),
    )


def _leaves_range() -> ImplausibleError:
    low, high = predictive.SENSOR_RANGE_MGDL
    return ImplausibleError(
        f"the forecast leaves the {low:.0f} to {high:.0f} mg/dL that a sensor can show: nothing can be said of the "
        "next hour from these readings"
    )


def _place(forecast: Forecast, issue: datetime.datetime) -> str:
    if forecast.kind == "live":
        return fingerprint.slot_place(slot_of(issue))
    if forecast.handle is None or forecast.index is None:
        raise MalformedRecordError("a sample's forecast needs handle and index")
    return fingerprint.handle_place(forecast.handle, forecast.index)


def _check_ids(forecast: Forecast) -> None:
    if not all(map(is_digest, (forecast.forecast_id, forecast.model_fingerprint, forecast.input_hash))):
        raise MalformedRecordError("not a valid forecast: its hashes are no SHA-256 digests")
    if not forecast.model or forecast.model_serves is None:
        raise MalformedRecordError("not a valid forecast: it does not say which model made it")


def _numbers(forecast: Forecast) -> tuple[Array, Array]:
    samples = np.asarray(forecast.samples_mgdl, dtype=np.float64)
    residual = np.asarray(forecast.residual_sd_mgdl or [0.0] * HORIZON_STEPS, dtype=np.float64)
    if samples.size == 0 or samples.size != forecast.num_samples * HORIZON_STEPS or residual.size != HORIZON_STEPS:
        raise MalformedRecordError(
            f"{samples.size} values and {residual.size} residual spreads for {forecast.num_samples} samples of 12 steps"
        )
    if not (np.isfinite(samples).all() and np.isfinite(residual).all()):
        raise MalformedRecordError("the forecaster's numbers are not all finite")
    if residual.min() < 0.0:
        raise MalformedRecordError("the forecaster's residual spread is negative")
    low, high = FARTHEST_MGDL
    if samples.min() < low or samples.max() > high or residual.max() > high:
        raise _leaves_range()
    return samples.reshape(forecast.num_samples, HORIZON_STEPS), residual


@functools.lru_cache(maxsize=8)
def _calibration(text: str) -> Calibration:
    if not text:
        return Calibration.identity()
    try:
        calibration = Calibration.from_json(text)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MalformedRecordError("the forecast's calibration cannot be read") from None
    if calibration.horizon != HORIZON_STEPS:
        raise MalformedRecordError(f"the forecast's calibration is of {calibration.horizon} steps")
    return calibration


def _rows(values: Array, decimals: int) -> list[tuple[float, ...]]:
    """(B, H) as rounded tuples."""
    return [tuple(row) for row in np.round(values, decimals).tolist()]


def _lists(values: Array, decimals: int) -> list[list[tuple[float, ...]]]:
    """(B, K, H) as rounded tuples."""
    return [[tuple(row) for row in rows] for rows in np.round(values, decimals).tolist()]
