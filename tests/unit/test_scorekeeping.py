"""Who is scored, when, once, and by which truth."""

import datetime
import math
import random

import pytest

from agents.calc.scorekeeping import calibrated_as, keep
from agents.core.rolling_window import RollingWindow, place
from query_api.scorecard import scorecard
from schemas import score_state
from schemas.fan_chart import FanChart, PathChances
from schemas.grid import PAST_POINTS, STEP, STEP_SECONDS
from schemas.score import TargetScore
from schemas.score_state import EVENT_STEPS, KEPT_STEPS, SCORED_STEPS, SETTLED_STEPS, SUMMED_STEPS, ScoreState
from tests.kit.live_charts import START, chart_at

FIRST = int(START.timestamp()) // STEP_SECONDS
DAY = 8 * 12 + 288


def glucose(step: int) -> float:
    return 120.0 + (step * 7) % 50


class Person:
    """Readings through the rolling window, its forecasts through the scorekeeping: as the stream does, rows and all."""

    def __init__(self, *, recalibrate: bool = True) -> None:
        self.row: bytes | None = None
        self.window = RollingWindow({}, 24)
        self.recalibrate = recalibrate
        self.scores: list[TargetScore] = []
        self.charts: list[FanChart] = []
        self.offset = 0

    def read(self, step: int, value: float | None = None) -> None:
        self.offset += 1
        slot, held = place(START + step * STEP, glucose(step) if value is None else value, self.offset)
        verdict, _ = self.window.accept(slot, held, self.offset)
        for issue in verdict.issues:
            past = [centi / 100 for centi in issue.past_centi]
            missing = frozenset(issue.interpolated_points)
            self.show(chart_at(issue.slot - FIRST, past=past, level=past[-1], version=self.offset, missing=missing))

    def show(self, chart: FanChart) -> FanChart:
        state = ScoreState.from_bytes(self.row)
        published, scores = keep(state, chart, self.recalibrate)
        self.row = state.to_bytes()
        self.scores += scores
        self.charts.append(chart)
        return published

    @property
    def state(self) -> ScoreState:
        return ScoreState.from_bytes(self.row)


def of(person: Person) -> dict[tuple[datetime.datetime, int], tuple[float, float, float]]:
    """Truth, error and place in the base fan of each target and horizon that was scored."""
    return {
        (record.target_time, score.minutes_ahead): (record.truth_mgdl, score.median_mgdl, score.pit)
        for record in person.scores
        for score in record.scores
    }


def test_every_target_of_a_day_is_scored_once_at_each_horizon() -> None:
    person = Person()
    for step in range(DAY):
        person.read(step)
    pairs = [(record.target_time, score.minutes_ahead) for record in person.scores for score in record.scores]
    forecasts = DAY - PAST_POINTS + 1
    decided = sum(forecasts - ahead - SETTLED_STEPS for ahead in SCORED_STEPS)
    assert len(pairs) == len(set(pairs)) == decided == person.state.scored
    assert len({record.score_id for record in person.scores}) == len(person.scores)
    assert person.state.unmeasured == 0
    for record in person.scores:
        step = (record.target_time - START) // STEP
        assert record.truth_mgdl == glucose(step)
        for score in record.scores:
            assert score.chart == chart_name(person, step - score.minutes_ahead // 5)
    summed = [sums for day in person.state.days for sums in person.state.sums_of(day)]
    assert sum(sums.targets for sums in summed) == sum(forecasts - step - SETTLED_STEPS for step in SUMMED_STEPS)


def chart_name(person: Person, step: int) -> str:
    """Of the last forecast for a time."""
    (*_, last) = [chart.chart_id[:16] for chart in person.charts if chart.issue_time == START + step * STEP]
    return last


def test_duplicates_and_readings_up_to_half_an_hour_late_give_the_same_scores() -> None:
    plain = Person(recalibrate=False)
    for step in range(DAY):
        plain.read(step)
    rng = random.Random(3)
    order = sorted(range(DAY), key=lambda step: step + rng.uniform(0, SETTLED_STEPS - 1))
    assert order != list(range(DAY))
    shuffled = Person(recalibrate=False)
    for step in order:
        shuffled.read(step)
        if step % 5 == 0:
            shuffled.read(step)
    last = START + (DAY - 2 * SETTLED_STEPS) * STEP  # both have decided all up to here
    expected, found = ({key: value for key, value in of(each).items() if key[0] < last} for each in (plain, shuffled))
    assert found == expected
    pairs = [(record.target_time, score.minutes_ahead) for record in shuffled.scores for score in record.scores]
    assert len(pairs) == len(set(pairs))


def test_a_chart_that_comes_again_scores_nothing_and_is_the_same() -> None:
    person = Person()
    for step in range(PAST_POINTS + 60):
        person.read(step)
    past = [glucose(step) for step in range(60, 60 + PAST_POINTS)]
    first = person.show(chart_at(PAST_POINTS + 60, past=past))
    assert first.calibration is not None
    later = [person.show(chart_at(PAST_POINTS + 60 + more, past=[200.0] * 96)) for more in (1, 2, 3)]
    assert later[-1].calibration != first.calibration
    row, scored = person.row, len(person.scores)
    assert person.show(chart_at(PAST_POINTS + 60, past=past)) == first
    assert (person.row, len(person.scores)) == (row, scored)


def test_what_nobody_measured_is_counted_and_not_scored() -> None:
    person = Person()
    person.show(chart_at(0, past=[120.0] * 96))
    missing = frozenset({95 - SETTLED_STEPS - 12 + 3})  # 15 minutes after the forecast
    person.show(chart_at(12 + SETTLED_STEPS, past=[130.0] * 96, missing=missing))
    assert [record.target_time for record in person.scores] == [START + step * STEP for step in (1, 6, 9, 12)]
    assert (person.state.scored, person.state.unmeasured) == (4, 1)


def test_seven_hours_without_a_forecast_end_scored_and_eight_unmeasured() -> None:
    for hours, scored in ((7, 5), (9, 0)):
        person = Person()
        person.show(chart_at(0, past=[120.0] * 96))
        person.show(chart_at(12 * hours, past=[130.0] * 96))
        assert (person.state.scored, person.state.unmeasured) == (scored, 5 - scored)


def test_the_forecast_that_replaced_another_is_the_one_that_is_scored() -> None:
    person = Person()
    person.show(chart_at(0, past=[120.0] * 96, level=120, version=1))
    person.show(chart_at(0, past=[120.0] * 96, level=150, version=2))
    person.show(chart_at(0, past=[120.0] * 96, level=120, version=1))
    person.show(chart_at(0, past=[120.0] * 96, level=90, version=0))
    person.show(chart_at(40, past=[130.0] * 96))
    assert {score.median_mgdl for record in person.scores for score in record.scores} == {150.0}
    assert person.state.scored == 5


def test_of_forecasts_of_one_millisecond_the_one_of_the_later_reading_is_scored() -> None:
    """They come by different lanes, so in any order."""
    full = 2**32  # what a row has of them
    for order in ((10, 11), (11, 10), (full - 1, full), (full, full - 1)):
        person = Person()
        for revision in order:
            chart = chart_at(0, past=[120.0] * 96, level=100.0 + 11.0 * (revision == max(order)), version=0)
            person.show(chart.model_copy(update={"revision": revision}))
        person.show(chart_at(40, past=[130.0] * 96))
        assert {score.median_mgdl for record in person.scores for score in record.scores} == {111.0}, order


def test_a_forecast_that_a_later_reading_brings_back_is_the_one_that_is_scored() -> None:
    """100, 101 and 100 mg/dL in one slot, as of a sensor of a minute: the third window is the first again."""
    first = chart_at(0, past=[120.0] * 96, level=120, version=1)
    other = chart_at(0, past=[120.0] * 96, level=150, version=2)
    back = first.model_copy(update={"began_ms": other.began_ms + 1, "revision": 3})
    person = Person()
    for chart in (first, other, back, other, first, back):
        person.show(chart)
    person.show(chart_at(12, past=[130.0] * 96))
    assert person.state.scored == 3
    person.show(back.model_copy(update={"began_ms": other.began_ms + 2}))  # what is decided stays so
    person.show(chart_at(40, past=[130.0] * 96))
    of_first = [score for record in person.scores for score in record.scores if score.chart == first.chart_id[:16]]
    assert (len(of_first), {score.median_mgdl for score in of_first}) == (5, {120.0})
    assert not [score for record in person.scores for score in record.scores if score.chart == other.chart_id[:16]]


def test_a_high_fan_is_fitted_to_what_was_foretold_high() -> None:
    """Right for a day at 120 mg/dL, and 40 off for some hours at 300."""
    person = Person()
    past = [120.0] * PAST_POINTS
    for step in range(DAY):
        person.show(chart_at(step, past=past, level=120.0))
    for step in range(DAY, DAY + 80):
        past = [*past[1:], 300.0]
        person.show(chart_at(step, past=past, level=260.0 if step % 2 else 340.0))
    before, charts = person.row, [chart_at(DAY + 80, past=past, level=level) for level in (120.0, 300.0)]
    widths, published = [], []
    for chart in charts:
        person.row = before
        published.append(person.show(chart))
        assert person.show(chart) == published[-1], "delivered again it is the same"
        fan, base = ([each.quantiles_mgdl[place][-1] for place in (3, 4)] for each in (published[-1], chart))
        widths.append((fan[1] - fan[0]) / (base[1] - base[0]))  # from 25 to 75 %
    assert widths[0] < 1.0 < widths[1]
    for chart, fitted in zip(charts, published, strict=True):
        assert calibrated_as(chart, fitted.calibration) == fitted, "the record says all that it takes"


def test_switched_off_the_chart_is_the_models_own() -> None:
    person = Person(recalibrate=False)
    for step in range(PAST_POINTS + 40):
        person.read(step)
    chart = chart_at(PAST_POINTS + 40, past=[120.0] * 96)
    assert person.show(chart) == chart
    assert person.state.readings > 0


def test_event_probabilities_are_those_of_the_base_fan() -> None:
    person = Person()
    for step in range(PAST_POINTS + 60):
        person.read(step)
    chart = chart_at(PAST_POINTS + 60, past=[120.0] * 96)
    published = person.show(chart)
    assert published.quantiles_mgdl != chart.quantiles_mgdl
    assert published.p_below_70 == chart.p_below_70
    assert published.calibration is not None
    assert published.calibration.readings == pytest.approx(sum(1 for _ in range(61 - 12 - 6)), abs=3)


LAST_BEFORE_GAP = PAST_POINTS + 40


def with_a_gap(*, correct: bool = False) -> Person:
    """Readings up to a gap of 25 minutes, and eight hours of them after it; one before the gap may be corrected."""
    person = Person()
    for step in range(LAST_BEFORE_GAP + 1):
        person.read(step)
    if correct:
        person.read(LAST_BEFORE_GAP - 2, 177.0)
    for step in range(LAST_BEFORE_GAP + 5, LAST_BEFORE_GAP + 5 + PAST_POINTS + KEPT_STEPS):
        person.read(step)
    return person


def test_what_was_measured_up_to_a_gap_is_scored_and_only_what_lies_in_it_is_not() -> None:
    person = with_a_gap()
    scored = {(time, ahead) for time, ahead in of(person) if time <= START + LAST_BEFORE_GAP * STEP}
    first = PAST_POINTS - 1
    assert scored == {
        (START + target * STEP, 5 * ahead)
        for ahead in SCORED_STEPS
        for target in range(first + ahead, LAST_BEFORE_GAP + 1)
    }
    assert {truth for key, (truth, *_) in of(person).items() if key in scored} <= {glucose(step) for step in range(50)}
    in_the_gap = sum(min(ahead, 4) for ahead in SCORED_STEPS)
    assert person.state.unmeasured == in_the_gap, "four times that nobody measured, each as often as it was foretold"


def test_a_correction_just_before_a_gap_is_the_truth_there() -> None:
    truths = {time: truth for (time, _), (truth, *_) in of(with_a_gap(correct=True)).items()}
    assert truths[START + (LAST_BEFORE_GAP - 2) * STEP] == 177.0


def chances(low: float, high: float) -> PathChances:
    return PathChances(
        below_54=(0.0, low / 10, low / 5, low / 2), below_70=(0.0, low, low, low),
        above_180=(0.0, high, high, high), above_250=(0.0, 0.0, 0.0, 0.0),
    )  # fmt: skip


def test_what_alerts_go_by_is_scored_by_what_came_from_where_it_had_not_come_yet() -> None:
    def wave(step: int) -> float:
        return 100.0 + 45.0 * (step % 24 - 12) / 12  # 55 to 141: below 70 in four of 24 steps

    rng, said = random.Random(1), {}
    person = Person()
    for step in range(120):
        said[step] = round(rng.random(), 4)
        chart = chart_at(step, past=[wave(at) for at in range(step - 95, step + 1)])
        person.show(chart.model_copy(update={"p_path": chances(said[step], 0.2)}))
    spoken = [step for step in range(120 - KEPT_STEPS) if wave(step) >= 70]
    came = [any(wave(at) < 70 for at in range(step + 1, step + EVENT_STEPS + 1)) for step in spoken]
    totals = [score_state.EventSums()] * 4
    for day in person.state.events:
        totals = [total.plus(sums) for total, sums in zip(totals, person.state.events_of(day), strict=True)]
    assert (totals[1].forecasts, totals[1].happened) == (len(spoken), sum(came))
    brier = sum((said[step] - one) ** 2 for step, one in zip(spoken, came, strict=True))
    assert totals[1].brier == pytest.approx(10_000 * brier, abs=len(spoken))
    assert (totals[2].happened, totals[3].said) == (0, 0)
    low = next(each for each in scorecard("anna", person.state).windows[0].events if each.threshold_mgdl == 70)
    assert low.within_minutes == 30
    assert low.brier == pytest.approx(brier / len(spoken), abs=0.001)
    assert 0 < low.mean_probability < 1


@pytest.mark.parametrize(("glucose_mgdl", "is_high"), [(180.0, False), (180.16, False), (181.0, True), (181.96, True)])
def test_10_mmol_are_no_high_that_came_and_none_that_is_there(glucose_mgdl: float, is_high: bool) -> None:
    """P(> 180 mg/dL) of a step and of the path, in the unit of either sensor: 10.0 mmol/L are 180.16 mg/dL."""
    person = Person()
    for step in range(KEPT_STEPS + 2):
        chart = chart_at(step, past=[*[100.0] * (95 - step), *[glucose_mgdl] * (step + 1)])
        person.show(chart.model_copy(update={"p_path": chances(0.1, 0.2), "p_above_180": (0.2,) * 12}))
    log_scores = {score.log_score_above_180 for record in person.scores for score in record.scores}
    assert log_scores == {round(-math.log(0.2 if is_high else 0.8), 3)}
    highs = [person.state.events_of(day)[2] for day in person.state.events]
    assert bool(sum(each.forecasts for each in highs)) is not is_high, "of what is there already nothing is foretold"
    assert sum(each.happened for each in highs) == 0


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_row_of_before_is_read_and_goes_on(version: int) -> None:
    person = Person()
    for step in range(PAST_POINTS + 30):
        person.read(step)
    state = person.state
    assert not any(state.weights[score_state._WEIGHTS_BYTES :]), "nobody was foretold high"
    if version < 3:
        state.since_ms = 0
        for known in state.forecasts.values():
            known.revision = 0
    if version == 1:
        state.events, state.shown = {}, (0,) * SETTLED_STEPS
    new = state.to_bytes()
    at = score_state._HEAD.size
    old = bytes([version]) + new[1:at]
    rest = at + score_state._MORE.size
    old += new[at:rest] * (version > 1)
    at, rest = rest, rest + score_state._SINCE.size
    old, at = old + new[at:rest] * (version > 2), rest + score_state._WEIGHTS_BYTES
    old, at = old + new[rest:at], at + score_state._WEIGHTS_BYTES  # without those of high ones
    days = len(state.days) * (4 + score_state._DAY_BYTES) + len(state.events) * (4 + score_state._EVENT_DAY_BYTES)
    old, at = old + new[at : at + days], at + days
    for known in state.forecasts.values():
        head, whole = score_state._FORECASTS[1].size, score_state._FORECASTS[score_state.VERSION].size
        body = score_state._SHIFTS.size + len(known.targets) * score_state._TARGET.size
        revision = 4 * (version < 3)
        old += new[at : at + head] + new[at + head + revision : at + whole] * (version > 1)
        old, at = old + new[at + whole : at + whole + body], at + whole + body
    assert at == len(new)
    assert ScoreState.from_bytes(old) == state
    person.row = old
    scored = len(person.scores)
    person.read(PAST_POINTS + 30)
    assert len(person.scores) == scored + 1
