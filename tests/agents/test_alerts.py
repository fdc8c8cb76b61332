"""Alerts out of the calc step: one before the low, in one work with its chart; its outcome; snooze and settings."""

import dataclasses
import datetime
import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from agents.calc.fan_chart import Ready, fan_chart, fan_charts
from query_api.told_alerts import alerts_answer
from schemas.alert import Alert, AlertSettings, AlertState, FallChange, RuleChange, Snooze
from schemas.command import CacheCommand
from schemas.dead_letter import REPLAY_OF
from schemas.errors import MalformedRecordError
from schemas.fan_chart_row import from_row, to_row
from schemas.tables import ALERTS_TABLE
from schemas.topics import ALERTS, FORECASTS
from tests.kit.falling import BEGIN_MS, STEP_MS, falling
from tests.kit.workbench import Built, Workbench, built, of

CALC, COMMANDS = built("calc"), built("chart_commands")


async def told(bench: Workbench, *steps: int, step: Built = CALC, late_ms: int = 0, **changes: object) -> list[Alert]:
    """The alerts that forecasts of the falling person bring, each as it arrives a second after its last point."""
    found = []
    for place in steps:
        forecast = dataclasses.replace(falling(place), **changes)  # type: ignore[arg-type]
        arrived = BEGIN_MS + place * STEP_MS + 1000 + late_ms
        sends = await bench.run(step, forecast.to_arrow(), timestamp_ms=arrived, offset=place)
        found += [Alert.from_json(value) for value in of(ALERTS, sends)]
    return found


async def test_a_falling_person_is_told_once_before_the_low_and_then_what_became_of_it() -> None:
    alerts = await told(Workbench(), *range(36))
    low = [each for each in alerts if each.kind == "low"]
    assert [each.status for each in low] == ["raised", "hit"]
    raised, hit = low
    assert raised.alert_id == hit.alert_id
    assert hit.onset_time is not None
    assert hit.onset_time > raised.issue_time == hit.issue_time
    assert hit.lead_minutes == (hit.onset_time - hit.issue_time) // datetime.timedelta(minutes=1) >= 10
    assert raised.reason.startswith("P(below 70 mg/dL (3.9 mmol/L) within 30 min) is ")
    assert raised.reason.endswith(" now and falling")
    assert sum(raised.first_crossing) == pytest.approx(1.0, abs=0.2)
    assert "Not a medical device" in raised.disclaimer


async def test_delivered_again_it_stays_one_alert() -> None:
    bench = Workbench()
    first = [each for place in range(36) for each in await told(bench, place, place, max(0, place - 1))]
    assert [each.status for each in first if each.kind == "low"] == ["raised", "hit"]


async def test_a_work_that_was_lost_says_the_same_again() -> None:
    raised = (await told(Workbench(), *range(24)))[0]
    bench = Workbench()
    forecast = next(each for each in map(falling, range(24)) if each.forecast_id == raised.forecast_id)
    arrived = round(raised.issue_time.timestamp() * 1000)
    lost = await bench.run(CALC, forecast.to_arrow(), apply=False, timestamp_ms=arrived)
    again = await bench.run(CALC, forecast.to_arrow(), timestamp_ms=arrived)
    assert of(ALERTS, lost) == of(ALERTS, again) == [raised.to_json()]


async def test_why_it_was_raised_is_remembered_with_what_became_of_it() -> None:
    bench = Workbench()
    low = [each for each in await told(bench, *range(36)) if each.kind == "low"]
    assert [each.status for each in low] == ["raised", "hit"]
    kept = AlertState.from_json(bench.rows(ALERTS_TABLE)["ada"])
    (one,) = [each for each in kept.recent if each.alert_id == low[0].alert_id]
    assert (one.status, one.reason, one.first_crossing) == ("hit", low[0].reason, low[0].first_crossing)
    assert sum(one.first_crossing) == pytest.approx(1.0, abs=0.2)
    (shown,) = [each for each in alerts_answer("ada", kept).recent if each.alert_id == one.alert_id]
    assert (shown.reason, shown.first_crossing) == (one.reason, one.first_crossing)


async def test_an_alert_of_the_past_is_none_but_a_simulated_person_has_a_clock_of_its_own() -> None:
    assert await told(Workbench(), *range(24), late_ms=16 * 60_000) == []
    simulated = await told(Workbench(), *range(24), late_ms=7 * 86_400_000, simulated=True)
    assert {each.simulated for each in simulated} == {True}


@pytest.mark.parametrize("changes", [{"model_serves": False}, {"kind": "sample", "handle": "e" * 64, "index": 12}])
async def test_only_live_charts_of_the_served_model_alert(changes: dict[str, object]) -> None:
    bench = Workbench()
    assert await told(bench, *range(24), **changes) == []
    assert bench.rows(ALERTS_TABLE) == {}


async def test_snoozed_nothing_is_told_and_settings_change_what_is() -> None:
    bench = Workbench()
    until = Snooze(direction="low", until_ms=BEGIN_MS + 100 * STEP_MS)
    await command(bench, "snooze", later_ms=-50 * STEP_MS, snooze=until)
    assert await told(bench, *range(36)) == []
    bench = Workbench()
    off = RuleChange(enabled=False)
    await command(bench, "alerts", alert_settings=AlertSettings(low=off, urgent_low=off))
    assert await told(bench, *range(36)) == []


async def test_a_threshold_of_ones_own_is_told_earlier_and_says_that_it_is_not_calibrated() -> None:
    common, *_ = [each for each in await told(Workbench(), *range(24)) if each.kind == "low"]
    bench = Workbench()
    await command(bench, "alerts", alert_settings=AlertSettings(low=RuleChange(threshold_mgdl=85.0)))
    own, *outcomes = [each for each in await told(bench, *range(36)) if each.kind == "low"]
    assert own.issue_time < common.issue_time
    assert (own.threshold_mgdl, own.calibrated, common.calibrated) == (85.0, False, True)
    assert own.reason.startswith("P(below 85 mg/dL (4.7 mmol/L) within 30 min) is about ")
    assert [(each.status, each.threshold_mgdl) for each in outcomes] == [("hit", 85.0)]


async def test_another_threshold_holds_from_the_next_forecast_on() -> None:
    """Who is below the old one and above the new one knows nothing of a low to come."""
    bench, off = Workbench(), RuleChange(enabled=False)
    wanted = AlertSettings(low=RuleChange(threshold_mgdl=100.0), urgent_low=off)
    await command(bench, "alerts", alert_settings=wanted)
    before = await told(bench, *range(20))
    await command(bench, "alerts", alert_settings=AlertSettings(urgent_low=off))
    after = [each for each in await told(bench, *range(20, 24)) if each.kind == "low" and each.status == "raised"]
    assert [each.threshold_mgdl for each in before if each.kind == "low"][:1] == [100.0]
    assert [each.threshold_mgdl for each in after] == [70.0]


async def test_a_snooze_that_is_prolonged_began_when_it_began() -> None:
    bench = Workbench()
    for later_ms, until_ms in ((0, 600_000), (300_000, 900_000), (1_000_000, 1_200_000)):
        snooze = Snooze(direction="low", until_ms=BEGIN_MS + 50 * STEP_MS + until_ms)
        await command(bench, "snooze", later_ms=later_ms, snooze=snooze)
        state = AlertState.from_json(bench.rows(ALERTS_TABLE)["ada"])
        expected = 0 if later_ms < 1_000_000 else later_ms
        assert state.snoozed_from_ms["low"] == BEGIN_MS + 50 * STEP_MS + expected


async def test_a_missed_low_has_no_horizon() -> None:
    bench = Workbench()
    hardly = RuleChange(probability=0.98, horizon_minutes=15)
    wanted = AlertSettings(urgent_low=RuleChange(enabled=False), low=hardly, falling_fast=FallChange(enabled=False))
    await command(bench, "alerts", alert_settings=wanted)
    (missed,) = await told(bench, *range(30))
    assert (missed.status, missed.probability, missed.horizon_minutes) == ("missed", None, None)


async def test_a_reset_takes_what_was_told_and_keeps_the_settings() -> None:
    bench = Workbench()
    wanted = AlertSettings(preset="early")
    await command(bench, "alerts", alert_settings=wanted)
    await told(bench, *range(20))
    assert AlertState.from_json(bench.rows(ALERTS_TABLE)["ada"]).recent
    await command(bench, "reset", up_to_ms=BEGIN_MS + 50 * STEP_MS)
    assert AlertState.from_json(bench.rows(ALERTS_TABLE)["ada"]) == AlertState(
        settings=wanted, began_ms=BEGIN_MS + 50 * STEP_MS, settings_ms=BEGIN_MS + 50 * STEP_MS
    )


@pytest.mark.parametrize("order", ["reset forecast", "forecast reset"])
async def test_an_alert_that_a_reset_took_holds_none_back_whatever_calc_reads_first(order: str) -> None:
    """The cooldown of one that nobody saw any more kept the next quiet: a low was told of late, or not at all."""
    bench = Workbench()
    assert [each.kind for each in await told(bench, *range(17))] == ["low"]
    again = []
    for what in order.split():
        if what == "reset":
            await command(bench, "reset", up_to_ms=BEGIN_MS + 16 * STEP_MS)
        else:
            again += await told(bench, 17)
    again += await told(bench, 18)
    assert [(each.kind, each.status) for each in again] == [("low", "raised")]


async def test_what_became_of_an_alert_is_of_the_alert_whatever_the_clock_of_a_broker_says() -> None:
    """A display takes an outcome of before the alert for that of another one, and went on to show it."""
    bench = Workbench()
    (raised,) = await told(bench, *range(17))
    behind = [each for place in range(17, 36) for each in await told(bench, place, began_ms=raised.began_ms - 30_000)]
    assert [(each.status, each.began_ms) for each in behind] == [("hit", raised.began_ms)]


@pytest.mark.parametrize("paper", ["README.md", "ARCHITECTURE.md"])
def test_the_alerts_in_the_papers_are_alerts(paper: str) -> None:
    text = Path(paper).read_text(encoding="utf-8")
    shown = [block for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL) if "alert_id" in block]
    assert len(shown) == 1
    jsonschema.validate(json.loads(shown[0]), json.loads(Path("schemas/json/Alert.schema.json").read_text()))
    assert Alert.from_json(shown[0].encode()).status == "raised"


async def test_a_command_that_changes_nothing_is_malformed() -> None:
    with pytest.raises(MalformedRecordError):
        await command(Workbench(), "snooze")


async def test_a_row_that_cannot_be_read_begins_anew() -> None:
    bench = Workbench()
    bench.tables.table(ALERTS_TABLE).rows["ada"] = b"{"
    assert [each.status for each in await told(bench, *range(24)) if each.kind == "low"][:1] == ["raised"]


def test_chances_of_the_path_are_in_chart_and_row_and_both_stay_small() -> None:
    chart = fan_chart(falling(16), datetime.datetime.now(datetime.UTC))
    assert chart.p_path is not None
    assert list(chart.p_path.below_70) == sorted(chart.p_path.below_70)
    assert all(np.less_equal(chart.p_path.below_54, chart.p_path.below_70))
    steps = (chart.p_below_54, chart.p_below_70, chart.p_above_180, chart.p_above_250)
    for path, marginal in zip(chart.p_path.rows(), steps, strict=True):
        assert all(path[quarter] >= max(marginal[: 3 * quarter + 3]) for quarter in range(4)), "at any time is no less"
    assert len(chart.to_json()) <= 4096
    assert len(to_row(chart)) <= 2048
    assert from_row(to_row(chart)) == chart


def test_the_same_forecast_has_the_same_chances_whatever_is_charted_with_it() -> None:
    now = datetime.datetime.now(datetime.UTC)
    together = fan_charts([Ready(falling(place), now) for place in (3, 16, 20)])
    assert together[1] == fan_chart(falling(16), now)


async def command(bench: Workbench, action: str, up_to_ms: int = 0, later_ms: int = 0, **fields: object) -> None:
    value = CacheCommand(action=action, command_id="c", up_to_ms=up_to_ms, series_key="ada", **fields)  # type: ignore[arg-type]
    await bench.run(COMMANDS, value.to_json(), timestamp_ms=BEGIN_MS + 50 * STEP_MS + later_ms)


async def test_a_slots_later_forecast_is_judged_again_and_a_repeat_of_it_never() -> None:
    """Of a sensor of a minute the first reading of a slot shows less of a fall than that at the slot's time."""
    bench, place, found = Workbench(), 18, []
    fall = falling(place)
    flat = dataclasses.replace(
        falling(0), end_seconds=fall.end_seconds, began_ms=fall.began_ms, past_centi_mgdl=fall.past_centi_mgdl
    )
    for offset, forecast in [(0, flat), (1, fall), (1, fall), (0, flat), (2, fall)]:
        at = BEGIN_MS + place * STEP_MS - 120_000 + offset * 60_000
        sends = await bench.run(
            CALC, forecast.to_arrow(), topic=FORECASTS["live"].name, timestamp_ms=at, offset=offset
        )  # fmt: skip
        found.append([Alert.from_json(value).kind for value in of(ALERTS, sends)])
    assert found == [[], ["low"], [], [], []]
    rows = dict(bench.rows(ALERTS_TABLE))
    letter = {REPLAY_OF: f"{FORECASTS['live'].name}/0/0/{BEGIN_MS}/calc".encode()}
    await bench.run(CALC, flat.to_arrow(), topic=FORECASTS["live"].name, timestamp_ms=at, offset=9, headers=letter)
    assert bench.rows(ALERTS_TABLE) == rows, "a dead letter of the first is none of now"
