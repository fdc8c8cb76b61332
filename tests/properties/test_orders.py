"""Recorded readings in order, shuffled within half an hour, with repeats, and with three hours late in one block.

The steps are the real ones; the forecaster is arithmetic. Where a fan is fitted to its person, the fit knows what was
decided when a forecast was made, which depends on when readings came: so contents are compared without it, and which
forecasts and targets there are with it. Readings are of a made-up wave, and of a real person where there is a table of
recordings beside the checkout. ORDER_EXAMPLES in the environment asks for more than one order of each kind.
"""

import asyncio
import datetime
import json
import math
import os
import random
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
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
EXAMPLES = int(os.environ.get("ORDER_EXAMPLES", "1"))
TABLE = Path(__file__).parents[2].parent / "shared" / "data" / "cgm" / "open.parquet"

Recording = tuple[tuple[datetime.datetime, float], ...]


class Left(NamedTuple):
    """What a recording leaves: readings of the table, the forecast of each slot, scores, and what became of alerts."""

    slots: dict[int, tuple[int, int]]
    forecasts: dict[int, str]
    scores: dict[str, bytes]
    truths: dict[datetime.datetime, float]
    onsets: set[tuple[str, datetime.datetime]]
    raised: list[str]
    outcomes: dict[str, tuple[str, int | None]]
    """By alert: what became of it, and how many minutes after it."""


def glucose(step: int) -> float:
    """A wave of four hours with lows below 70 mg/dL."""
    return round(105 + 45 * math.sin(step / 7.6) + step % 3, 1)


@lru_cache
def wave() -> Recording:
    return tuple((START + datetime.timedelta(minutes=5 * step), glucose(step)) for step in range(READINGS))


@lru_cache
def recorded() -> Recording:
    """The first stretch without a gap of a real person in which a low begins where the order is changed."""
    if not TABLE.is_file():
        pytest.skip(f"no recordings: {TABLE} is missing")
    person = pl.scan_parquet(TABLE).filter(pl.col("dataset") == "AZT1D").select("subject", "time", "mg_dl").collect()
    for (_,), rows in person.group_by("subject", maintain_order=True):
        times = [time.replace(tzinfo=datetime.UTC) for time in rows["time"].to_list()]
        values = [float(value) for value in rows["mg_dl"].to_list()]
        slots = [round(time.timestamp() / 300) for time in times]
        for first in range(len(times) - READINGS):
            stretch = slice(first, first + READINGS)
            low = values[stretch][110:145]
            falls = low[0] > 80 and any(max(low[at : at + 3]) < 68 for at in range(len(low) - 3))
            if falls and slots[stretch] == list(range(slots[first], slots[first] + READINGS)):
                return tuple(zip(times[stretch], values[stretch], strict=True))
    pytest.fail("the table of recordings has no such stretch")


def reading(time: datetime.datetime, value: float) -> bytes:
    fields = {"subject_id": "ada", "time": time.isoformat(), "glucose": value, "unit": "mg/dL"}
    return json.dumps(fields | {"simulated": True}).encode()


async def _played(recording: Recording, order: Iterable[int], recalibrate: bool) -> Left:
    bench, calc = Workbench(), built("calc", Settings(recalibrate=recalibrate))
    came_ms = round(recording[-1][0].timestamp() * 1000) + 10**9
    for offset, step in enumerate(order):
        at_ms = came_ms + offset * 1000
        sends = await bench.run(WINDOW, reading(*recording[step]), key=b"ada", offset=offset, timestamp_ms=at_ms)
        for lane, topic in (("backfill", BACKFILL), ("live", LIVE)):
            for value in of(topic, sends):
                forecast = forecast_of(ForecastRequest.from_arrow(value)).to_arrow()
                at: dict[str, Any] = {"topic": FORECASTS[lane].name, "timestamp_ms": at_ms + 1}  # type: ignore[index]
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
        outcomes={
            alert.alert_id: (alert.status, alert.lead_minutes)
            for alert in alerts
            if alert.status in ("hit", "false", "unknown")
        },
    )


def _slots(bench: Workbench) -> Slots:
    return RollingWindow.from_bytes(bench.rows(SUBJECTS_TABLE)["ada"], 24).slots


@lru_cache
def in_order(recalibrate: bool, recording: Recording) -> Left:
    return asyncio.run(_played(recording, range(len(recording)), recalibrate))


def played(order: Iterable[int], recalibrate: bool = False, recording: Recording | None = None) -> Left:
    return asyncio.run(_played(recording or wave(), order, recalibrate))


def shuffled(seed: int) -> list[int]:
    """No reading comes before one that is half an hour older, nor the last before the others."""
    chance = random.Random(seed)
    steps = range(FIRST, READINGS - 1)
    last = sorted(steps, key=lambda step: step + chance.uniform(0, SHUFFLED_STEPS))
    return [*range(FIRST), *last, READINGS - 1]


def repeated(seed: int) -> list[int]:
    chance = random.Random(seed)
    order = [step for step in range(READINGS) for _ in range(1 + (chance.random() < 0.2))]
    return [*order, *chance.sample(range(READINGS), 20)]


LATE = range(100, 136)
"""Three hours."""
LATE_ORDER = [*(step for step in range(LATE.stop + 1) if step not in LATE), *LATE, *range(LATE.stop + 1, READINGS)]


def agree(left: Left, expected: Left) -> None:
    """What does not depend on the order of readings within half an hour."""
    assert left.slots == expected.slots
    assert left.forecasts == expected.forecasts
    assert left.scores == expected.scores
    assert left.onsets == expected.onsets, "each low is told or missed, in every order"
    both = left.outcomes.keys() & expected.outcomes.keys()
    assert {each: left.outcomes[each] for each in both} == {each: expected.outcomes[each] for each in both}


def contradicts_nothing(left: Left, expected: Left, slot: int) -> None:
    """Of three hours that came late; `slot` is that of the first reading."""
    assert left.slots == expected.slots
    never = {slot + step for step in range(LATE.start, LATE.stop - 24)}  # older than forecasts are issued again for
    assert left.forecasts == {at: name for at, name in expected.forecasts.items() if at not in never}
    assert left.truths.items() <= expected.truths.items()
    missing = {round(time.timestamp()) // 300 - slot for time in expected.truths.keys() - left.truths.keys()}
    assert missing <= set(range(LATE.start, LATE.stop + 12))
    assert left.onsets <= expected.onsets
    both = left.outcomes.keys() & expected.outcomes.keys()
    decided = {each for each in both if left.outcomes[each][0] != "unknown"}
    assert {each: left.outcomes[each] for each in decided} == {each: expected.outcomes[each] for each in decided}


@pytest.mark.parametrize("recording", [wave, recorded])
def test_the_recording_has_what_is_compared(recording: Any) -> None:
    left = in_order(False, recording())
    assert len(left.forecasts) == READINGS - FIRST
    assert len(left.scores) == READINGS - FIRST - 7
    assert left.onsets
    assert left.raised
    assert left.outcomes


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32))
def test_repeats_change_nothing_at_all(seed: int) -> None:
    assert played(repeated(seed), recalibrate=True) == in_order(True, wave())


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32))
def test_shuffled_within_half_an_hour_table_forecasts_and_scores_are_the_same(seed: int) -> None:
    agree(played(shuffled(seed)), in_order(False, wave()))


def test_a_recorded_day_leaves_the_same_in_every_order() -> None:
    person = recorded()
    expected = in_order(False, person)
    assert played(repeated(2), recording=person) == expected
    agree(played(shuffled(3), recording=person), expected)
    contradicts_nothing(played(LATE_ORDER, recording=person), expected, round(person[0][0].timestamp() / 300))


def test_a_fitted_fan_changes_no_forecast_and_no_target() -> None:
    left, expected = played(shuffled(1), recalibrate=True), in_order(True, wave())
    assert (left.slots, left.forecasts, left.truths) == (expected.slots, expected.forecasts, expected.truths)
    assert left.scores.keys() == expected.scores.keys()


def test_three_hours_that_come_late_are_in_the_table_and_contradict_nothing() -> None:
    contradicts_nothing(played(LATE_ORDER), in_order(False, wave()), round(START.timestamp()) // 300)


def test_a_sensor_of_every_minute_leaves_what_one_of_every_five_leaves() -> None:
    """Of one curve, read at the same times and at those between: an alert may come a slot earlier or later."""
    minutes = tuple(
        (START + datetime.timedelta(minutes=minute), glucose_at(minute / 5)) for minute in range(5 * MINUTE_SLOTS - 2)
    )
    each, fifth = in_order(False, minutes), in_order(False, minutes[::5])
    assert each.slots == fifth.slots
    assert len(each.forecasts) == MINUTE_SLOTS - FIRST
    assert each.forecasts == fifth.forecasts
    assert each.scores == fifth.scores
    assert each.onsets == fifth.onsets
    assert each.onsets


MINUTE_SLOTS = 146


def glucose_at(step: float) -> float:
    """The wave without its steps."""
    return round(105 + 45 * math.sin(step / 7.6), 1)
