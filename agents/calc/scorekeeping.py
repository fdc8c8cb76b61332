"""The score of a subject's forecasts, and the recalibration of the next one: pure, one forecast at a time.

A live forecast brings the truth of those before it: its 96 points of the past are what the model saw, on its grid and
after its rejections. A target is decided by the first forecast issued SETTLED_STEPS or more after it, so once, and
readings that come late, twice or corrected within that time count the same in any order. What is not measured in that
forecast ends as unmeasured; what lies before its past, behind a gap of the sensor, is as the last forecast before the
gap showed it. Of several forecasts for one time the last counts: of
readings that came in one millisecond that of the higher revision.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agents.core import fan_scores, fingerprint, recalibration
from agents.core.error_grid import clarke_zone, parkes_zone
from schemas.fan_chart import MEDIAN, FanCalibration, FanChart
from schemas.grid import (
    CENTI,
    PAST_POINTS,
    STEP_MINUTES,
    STEP_SECONDS,
    STEPS_A_DAY,
    THRESHOLDS_MGDL,
    highest_within,
    slot_of,
)
from schemas.score import HorizonScore, TargetScore, Zone
from schemas.score_state import (
    EVENT_STEPS,
    KEPT_DAYS,
    KEPT_STEPS,
    MOST_FORECASTS,
    NO_CHANCE,
    NO_CHANCES,
    SCORED_STEPS,
    SETTLED_STEPS,
    SUMMED_STEPS,
    EventSums,
    KnownForecast,
    ScoreState,
    Sums,
    Target,
    packed_shifts,
    shifts_of_step,
    unpacked_shifts,
)

Array = NDArray[np.float64]
LOW_MGDL, HIGH_MGDL = 70.0, 180.0
MODEL_BYTES = CHART_BYTES = 8
_DECI, _TEN_THOUSAND = 10.0, 10_000.0
_SHAPE = (len(SCORED_STEPS), -1)
_OF_TRUTHS = (2, *_SHAPE)
_PACKED = "<f4"
_SCORED = [step - 1 for step in SCORED_STEPS]
_ZONES: tuple[Zone, ...] = ("A", "B", "C", "D", "E")
_ONE_OF_ZONE = {zone: tuple(int(zone == other) for other in _ZONES) for zone in _ZONES}


def keep(state: ScoreState, chart: FanChart, recalibrate: bool) -> tuple[FanChart, list[TargetScore]]:
    """Score by what the chart shows of the past, then publish the chart: recalibrated, and to be scored itself.

    `chart` is the live chart as its model made it; `state`, that of this model or an empty one, is changed. A chart
    that was here before changes nothing, scores nothing and is published as it was; but where another took its place
    meanwhile, and a later reading brought it back, it is the one that counts again.
    """
    slot, name = slot_of(chart.issue_time), chart_name(chart)
    if (known := state.forecasts.get(name)) is not None:
        again = dataclasses.replace(known, began_ms=chart.began_ms, revision=chart.revision, targets={})
        if again.is_later_than(known) and slot > state.newest - KEPT_STEPS:  # a correction was taken back
            _open(state, chart, name, again)
        return _published(chart, known), []
    if not state.model.strip(b"\0"):
        state.since_ms = chart.began_ms
    state.model = model_name(chart)
    scores = _advance(state, chart, slot) if slot > state.newest else []
    known = KnownForecast(slot, chart.began_ms, {}, revision=chart.revision)
    readings = state.readings
    if recalibrate and readings > 0.0:
        median = np.array([chart.median_mgdl[at] for at in _SCORED])
        shifts = recalibration.shifts(_weights_of(state), median)
        known.readings = readings
        known.shifts = packed_shifts(np.rint(shifts * 100).astype(int).ravel().tolist())
    if slot > state.newest - KEPT_STEPS:
        _open(state, chart, name, known)
    return _published(chart, known), scores


def is_let_go(state: ScoreState, chart: FanChart) -> bool:
    """Whether a chart is from before all that the state remembers: nothing of it is to be scored any more."""
    return chart_name(chart) not in state.forecasts and slot_of(chart.issue_time) <= state.newest - KEPT_STEPS


def as_known(state: ScoreState, chart: FanChart) -> FanChart:
    """The chart as it was published when the state of its model came to know it; as it is where it does not."""
    known = state.forecasts.get(chart_name(chart))
    return chart if known is None else _published(chart, known)


def model_name(chart: FanChart) -> bytes:
    """What the model of a chart is known by in the state."""
    return bytes.fromhex(chart.model_fingerprint)[:MODEL_BYTES]


def chart_name(chart: FanChart) -> bytes:
    """What a forecast is known by in the state."""
    return bytes.fromhex(chart.chart_id)[:CHART_BYTES]


def calibrated_as(chart: FanChart, calibration: FanCalibration | None) -> FanChart:
    """The chart that a base chart becomes by a calibration; itself where there is none."""
    if calibration is None:
        return chart
    return _fitted(chart, calibration, np.array(calibration.score_shifts))


def _fitted(chart: FanChart, calibration: FanCalibration, shifts: Array) -> FanChart:
    base = np.array([quantiles for _, quantiles in chart.levels()]).T
    published = recalibration.recalibrated(base, recalibration.over_horizon(shifts))
    fan = [tuple(row) for row in published.T.tolist()]
    outer = (*fan[:MEDIAN], *fan[MEDIAN + 1 :])
    return chart.model_copy(update={"median_mgdl": fan[MEDIAN], "quantiles_mgdl": outer, "calibration": calibration})


def _published(chart: FanChart, known: KnownForecast) -> FanChart:
    if known.readings <= 0.0:
        return chart
    shifts = np.array(unpacked_shifts(known.shifts)).reshape(_SHAPE) / 100
    calibration = FanCalibration(
        version=recalibration.VERSION,
        readings=known.readings,
        score_shifts=tuple([tuple(row) for row in shifts.tolist()]),
    )
    return _fitted(chart, calibration, shifts)


def _open(state: ScoreState, chart: FanChart, name: bytes, known: KnownForecast) -> None:
    """Remember a chart; its targets that can still be decided are open, and those of the one that it replaces not."""
    rivals = [other for other in state.forecasts.values() if other.slot == known.slot]
    if not any(other.is_later_than(known) for other in rivals):
        for other in rivals:
            other.targets, other.chances = {}, NO_CHANCES
        known.chances = _chances(chart)
        if known.slot == state.newest:
            last = range(PAST_POINTS - SETTLED_STEPS, PAST_POINTS)
            unmeasured = set(chart.interpolated_points)
            state.shown = tuple([0 if at in unmeasured else round(chart.past_mgdl[at] * CENTI) for at in last])
        steps = [step for step in SCORED_STEPS if known.slot + step > state.newest - SETTLED_STEPS]
        levels = [quantiles for _, quantiles in chart.levels()]
        known.targets = {
            step: Target(
                tuple([round(quantiles[step - 1] * _DECI) for quantiles in levels]),
                round(chart.p_below_70[step - 1] * _TEN_THOUSAND),
                round(chart.p_above_180[step - 1] * _TEN_THOUSAND),
            ).to_bytes()
            for step in steps
        }
    state.forecasts[name] = known
    while len(state.forecasts) > MOST_FORECASTS:
        replaced = (other for other, each in state.forecasts.items() if not each.targets)
        del state.forecasts[next(replaced)]  # at most KEPT_STEPS forecasts have targets, one a slot


def _chances(chart: FanChart) -> tuple[int, ...]:
    """Of what alerts go by: of crossing the thresholds that glucose is not beyond already, ten-thousandths."""
    if chart.p_path is None:
        return NO_CHANCES
    quarter = EVENT_STEPS // 3 - 1
    now = chart.past_mgdl[-1]
    return tuple(
        NO_CHANCE if _is_beyond(place, now) else round(row[quarter] * _TEN_THOUSAND)
        for place, row in enumerate(chart.p_path.rows())
    )


def _is_beyond(place: int, glucose_mgdl: float) -> bool:
    """By place in THRESHOLDS_MGDL."""
    threshold = THRESHOLDS_MGDL[place]
    return glucose_mgdl < threshold if threshold <= LOW_MGDL else glucose_mgdl > highest_within(threshold)


@dataclasses.dataclass(frozen=True, slots=True)
class _Decision:
    """One open target that is decided now."""

    slot: int
    step: int
    name: bytes
    known: KnownForecast
    target: Target


def _advance(state: ScoreState, chart: FanChart, slot: int) -> list[TargetScore]:
    """Let time pass up to a slot and decide what is due by then. One record a target time that was measured."""
    weights = recalibration.decayed(_weights_of(state), min(slot - state.newest, 1 << 16))
    first = slot - PAST_POINTS + 1
    behind = {state.newest - ago: centi / CENTI for ago, centi in enumerate(reversed(state.shown)) if centi}
    truths = {at: value for at, value in behind.items() if at < first} | _measured(chart, slot)
    state.newest = slot
    due = [_Decision(known.slot + step, step, name, known, Target.from_bytes(target))
           for name, known in state.forecasts.items() for step, target in known.targets.items()
           if known.slot + step <= slot - SETTLED_STEPS]  # fmt: skip
    for each in due:
        del each.known.targets[each.step]
    over = [known for known in state.forecasts.values() if known.slot <= slot - KEPT_STEPS]
    _sum_up_events(state, [known for known in over if known.slot + 1 >= first], truths)
    state.forecasts = {name: known for name, known in state.forecasts.items() if known.slot > slot - KEPT_STEPS}
    met = sorted((each for each in due if each.slot in truths), key=lambda each: (each.slot, each.step))
    state.unmeasured += len(due) - len(met)
    records = []
    if met:
        truth = np.array([truths[each.slot] for each in met])
        scores = _scored(met, truth, weights, slot)
        state.scored += len(met)
        _sum_up(state, met, truth, scores)
        records = list(_records(chart, met, truth, scores))
    first_day = slot // STEPS_A_DAY - KEPT_DAYS
    state.days = {day: sums for day, sums in state.days.items() if day > first_day}
    state.events = {day: sums for day, sums in state.events.items() if day > first_day}
    state.weights = weights.astype(_PACKED).tobytes()
    return records


def _weights_of(state: ScoreState) -> Array:
    """As the recalibration takes them: (2, 5, 18)."""
    return np.frombuffer(state.weights, _PACKED).astype(np.float64).reshape(_OF_TRUTHS)


def _measured(chart: FanChart, slot: int) -> dict[int, float]:
    """The points of a chart's past that are readings, by slot."""
    first = slot - PAST_POINTS + 1
    found = dict(zip(range(first, slot + 1), chart.past_mgdl, strict=True))
    for place in chart.interpolated_points:
        found.pop(first + place, None)  # places behind the past are those of the truth
    return found


def _scored(met: Sequence[_Decision], truth: Array, weights: Array, slot: int) -> list[HorizonScore]:
    """The score of each decision; its place in the base fan is added to `weights`."""
    places = [SCORED_STEPS.index(each.step) for each in met]
    base = np.array([each.target.base for each in met]) / _DECI
    shifts = np.array([shifts_of_step(each.known.shifts, place) for each, place in zip(met, places, strict=True)])
    published = recalibration.recalibrated(base, shifts / 100)
    base_scores = fan_scores.normal_scores(base, truth)
    aged = recalibration.decayed(np.ones(len(met)), slot - np.array([each.slot for each in met]))
    recalibration.count(weights, np.array(places), base_scores, base[:, MEDIAN], aged)
    median = published[:, MEDIAN]
    low, high = fan_scores.INTERVALS[90]
    columns = (
        truth.tolist(),
        median.tolist(),
        (median - truth).round(2).tolist(),
        fan_scores.crps(published, truth).round(2).tolist(),
        fan_scores.inside(published, truth).tolist(),
        (published[:, high] - published[:, low]).round(1).tolist(),
        fan_scores.chances(base_scores).round(4).tolist(),
    )
    return [
        HorizonScore(
            minutes_ahead=each.step * STEP_MINUTES,
            chart=each.name.hex(),
            median_mgdl=of_median,
            error_mgdl=error,
            crps_mgdl=crps,
            in_50=inside[0],
            in_80=inside[1],
            in_90=inside[2],
            in_95=inside[3],
            width_90_mgdl=width,
            pit=pit,
            log_score_below_70=_log_score(each.target.low, met_mgdl < LOW_MGDL),
            log_score_above_180=_log_score(each.target.high, met_mgdl > highest_within(HIGH_MGDL)),
            clarke=_ZONES[clarke_zone(met_mgdl, of_median)],
            parkes=_ZONES[parkes_zone(met_mgdl, of_median)],
        )
        for each, met_mgdl, of_median, error, crps, inside, width, pit in zip(met, *columns, strict=True)
    ]


def _log_score(chance: int, happened: bool) -> float:
    """Of a chance in ten-thousandths."""
    return round(fan_scores.log_score(chance / _TEN_THOUSAND, happened), 3) + 0.0  # no negative zero


def _sum_up(state: ScoreState, met: Sequence[_Decision], truth: Array, scores: Sequence[HorizonScore]) -> None:
    summed: dict[int, list[Sums]] = {}
    for each, value, score in zip(met, truth.tolist(), scores, strict=True):
        if each.step in SUMMED_STEPS:
            day, place = each.slot // STEPS_A_DAY, SUMMED_STEPS.index(each.step)
            if day not in summed:
                summed[day] = state.sums_of(day)
            summed[day][place] = summed[day][place].plus(_sums_of(score, value))
    for day, sums in summed.items():
        state.set_sums(day, sums)


def _sum_up_events(state: ScoreState, over: Sequence[KnownForecast], truths: Mapping[int, float]) -> None:
    """Whether what each forecast said of the path has happened: at any measured point of the next EVENT_STEPS."""
    for known in over:
        met = [truths[slot] for slot in range(known.slot + 1, known.slot + EVENT_STEPS + 1) if slot in truths]
        if not met or known.chances == NO_CHANCES:
            continue
        lowest, highest = min(met), max(met)
        sums = state.events_of(known.slot // STEPS_A_DAY)
        for place, chance in enumerate(known.chances):
            if chance != NO_CHANCE:
                happened = _is_beyond(place, lowest) or _is_beyond(place, highest)
                square = (chance / _TEN_THOUSAND - happened) ** 2
                log_milli = round(_log_score(chance, happened) * 1000)
                new = EventSums(1, happened, chance, round(square * _TEN_THOUSAND), log_milli)
                sums[place] = sums[place].plus(new)
        state.set_events(known.slot // STEPS_A_DAY, sums)


def _sums_of(score: HorizonScore, truth: float) -> Sums:
    error = abs(score.median_mgdl - truth)
    return Sums(
        1, round(error * 10), round(error * error), round(score.crps_mgdl * 100), round(score.width_90_mgdl * 10),
        round(score.log_score_below_70 * 1000), round(score.log_score_above_180 * 1000),
        score.in_50, score.in_80, score.in_90, score.in_95,
        *_ONE_OF_ZONE[score.clarke], *_ONE_OF_ZONE[score.parkes],
    )  # fmt: skip


def _records(
    chart: FanChart, met: Sequence[_Decision], truth: Array, scores: Sequence[HorizonScore]
) -> Iterable[TargetScore]:
    """One a target time, oldest first."""
    for slot in dict.fromkeys(each.slot for each in met):
        rows = [row for row, each in enumerate(met) if each.slot == slot]
        yield TargetScore(
            score_id=fingerprint.score_id(chart.series_key, slot, (scores[row].chart for row in rows)),
            series_key=chart.series_key,
            subject_id=chart.subject_id,
            target_time=datetime.datetime.fromtimestamp(slot * STEP_SECONDS, chart.issue_time.tzinfo),
            truth_mgdl=float(truth[rows[0]]),
            model=chart.model,
            model_fingerprint=chart.model_fingerprint,
            model_serves=chart.model_serves,
            simulated=chart.simulated,
            scores=tuple(scores[row] for row in rows),
        )
