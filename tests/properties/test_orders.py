"""Recorded readings in order, shuffled within half an hour, with repeats, and with three hours late in one block.

The steps are the real ones; the forecaster is arithmetic. Where a fan is fitted to its person, the fit knows what was
decided when a forecast was made, which depends on when readings came: so contents are compared without it, and which
forecasts and targets there are with it.
"""

import asyncio
import datetime
import json
import math
import random
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.rolling_window import RollingWindow, Slots
from schemas.alert import Alert
from schemas.fan_chart_row import from_row
from schemas.forecast import ForecastRequest
from schemas.score import TargetScore
from schemas.tables import FAN_CHART_TABLES, SUBJECTS_TABLE
from schemas.topics import ALERTS, BACKFILL, FORECASTS, LIVE, SCORES
from streams.settings import Settings
from tests.kit.small_pipeline import forecast_of
from tests.kit.workbench import Workbench, built, of

START = datetime.datetime(2024, 3, 14, 6, 0, tzinfo=datetime.UTC)
READINGS, FIRST = 160, 95
"""From the first forecast on the order is changed: that of the eight hours before is `test_rolling_window`'s."""
SHUFFLED_STEPS = 6
WINDOW = built("window", Settings(partitions=1))


class Left(NamedTuple):
    """What a recording leaves: readings of the table, the forecast of each slot, scores, and what became of alerts."""

    slots: dict[int, tuple[int, int]]
    forecasts: dict[int, str]
    scores: dict[str, bytes]
    truths: dict[datetime.datetime, float]
    onsets: set[tuple[str, datetime.datetime]]
    raised: list[str]


def glucose(step: int) -> float:
    """A wave of four hours with lows below 70 mg/dL."""
    return round(105 + 45 * math.sin(step / 7.6) + step % 3, 1)


def reading(step: int) -> bytes:
    time = START + datetime.timedelta(minutes=5 * step)
    fields = {"subject_id": "ada", "time": time.isoformat(), "glucose": glucose(step), "unit": "mg/dL"}
    return json.dumps(fields | {"simulated": True}).encode()


async def _played(order: Iterable[int], recalibrate: bool) -> Left:
    bench, calc = Workbench(), built("calc", Settings(recalibrate=recalibrate))
    came_ms = round(START.timestamp() * 1000) + 10**9
    for offset, step in enumerate(order):
        sends = await bench.run(WINDOW, reading(step), key=b"ada", offset=offset, timestamp_ms=came_ms + offset * 1000)
        for lane, topic in (("backfill", BACKFILL), ("live", LIVE)):
            for value in of(topic, sends):
                forecast = forecast_of(ForecastRequest.from_arrow(value)).to_arrow()
                at: dict[str, Any] = {"topic": FORECASTS[lane].name, "timestamp_ms": came_ms + offset * 1000 + 1}  # type: ignore[index]
                await bench.run(calc, forecast, **at)
    rows = [from_row(row) for table in FAN_CHART_TABLES.values() for row in bench.rows(table).values()]
    scores = [TargetScore.from_json(value) for value in of(SCORES, bench.sent)]
    alerts = [Alert.from_json(value) for value in of(ALERTS, bench.sent)]
    assert len({score.score_id for score in scores}) == len(scores)
    assert len({(alert.alert_id, alert.status) for alert in alerts}) == len(alerts)
    return Left(
        slots={slot: held[:2] for slot, held in _slots(bench).items()},
        forecasts={round(chart.issue_time.timestamp()) // 300: chart.forecast_id for chart in rows},
        scores={score.score_id: score.to_json() for score in scores},
        truths={score.target_time: score.truth_mgdl for score in scores},
        onsets={(alert.kind, alert.onset_time) for alert in alerts if alert.onset_time is not None},
        raised=[alert.alert_id for alert in alerts if alert.status == "raised"],
    )


def _slots(bench: Workbench) -> Slots:
    return RollingWindow.from_bytes(bench.rows(SUBJECTS_TABLE)["ada"], 24).slots


@lru_cache
def in_order(recalibrate: bool) -> Left:
    return asyncio.run(_played(range(READINGS), recalibrate))


def played(order: Iterable[int], recalibrate: bool = False) -> Left:
    return asyncio.run(_played(order, recalibrate))


def shuffled(seed: int) -> list[int]:
    """No reading comes before one that is half an hour older, nor the last before the others."""
    chance = random.Random(seed)
    steps = range(FIRST, READINGS - 1)
    last = sorted(steps, key=lambda step: step + chance.uniform(0, SHUFFLED_STEPS))
    return [*range(FIRST), *last, READINGS - 1]


def test_the_recording_has_what_is_compared() -> None:
    left = in_order(False)
    assert len(left.forecasts) == READINGS - FIRST
    assert len(left.scores) == READINGS - FIRST - 7
    assert left.onsets
    assert left.raised


@settings(max_examples=1, deadline=None)
@given(st.integers(0, 2**32))
def test_repeats_change_nothing_at_all(seed: int) -> None:
    chance = random.Random(seed)
    order = [step for step in range(READINGS) for _ in range(1 + (chance.random() < 0.2))]
    late = chance.sample(range(READINGS), 20)
    assert played([*order, *late], recalibrate=True) == in_order(True)


@settings(max_examples=1, deadline=None)
@given(st.integers(0, 2**32))
def test_shuffled_within_half_an_hour_table_forecasts_and_scores_are_the_same(seed: int) -> None:
    left, expected = played(shuffled(seed)), in_order(False)
    assert left.slots == expected.slots
    assert left.forecasts == expected.forecasts
    assert left.scores == expected.scores
    assert left.onsets == expected.onsets, "each low is told or missed, in every order"


def test_a_fitted_fan_changes_no_forecast_and_no_target() -> None:
    left, expected = played(shuffled(1), recalibrate=True), in_order(True)
    assert (left.slots, left.forecasts, left.truths) == (expected.slots, expected.forecasts, expected.truths)
    assert left.scores.keys() == expected.scores.keys()


def test_three_hours_that_come_late_are_in_the_table_and_contradict_nothing() -> None:
    late = range(100, 136)
    order = [step for step in range(late.stop + 1) if step not in late] + [*late, *range(late.stop + 1, READINGS)]
    left, expected = played(order), in_order(False)
    assert left.slots == expected.slots
    slot = round(START.timestamp()) // 300
    never = {slot + step for step in range(late.start, late.stop - 24)}  # older than forecasts are issued again for
    assert left.forecasts == {at: name for at, name in expected.forecasts.items() if at not in never}
    assert left.truths.items() <= expected.truths.items()
    missing = {round(time.timestamp()) // 300 - slot for time in expected.truths.keys() - left.truths.keys()}
    assert missing <= set(range(late.start, late.stop + 12))
    assert left.onsets <= expected.onsets
