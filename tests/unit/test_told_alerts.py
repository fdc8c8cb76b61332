"""What people read of alerts that hold: none longer than its hour, and the most urgent first."""

import datetime

import pytest

from query_api.projections.fan_charts import ChartRow
from query_api.routers.alerts import FallBody, RuleBody
from query_api.told_alerts import alerts_answer
from query_api.units import settings_document, threshold_mgdl
from schemas.alert import (
    OWN_MGDL,
    AlertKind,
    AlertSettings,
    AlertState,
    Episode,
    FallChange,
    RecentAlert,
    RuleChange,
    time_of_slot,
)
from schemas.fan_chart_row import to_row
from schemas.grid import MGDL_PER_MMOLL, STEP, STEP_MINUTES, slot_of
from tests.kit.charts import fan_chart

HEX = "a" * 64


def holding(minutes_ago: int, *kinds: AlertKind, now: datetime.datetime | None = None) -> AlertState:
    """A row that says of these kinds, in their order, that they were raised so long before a time."""
    slot = slot_of(now or datetime.datetime.now(datetime.UTC)) - minutes_ago // STEP_MINUTES
    state = AlertState(slot=slot, episodes={kind: Episode(alert_id=HEX, slot=slot) for kind in kinds})
    return AlertState.from_json(state.to_row())


def test_the_hour_of_an_alert_is_over_though_no_forecast_follows() -> None:
    """A sensor that is gone brings none, so nothing ends the episode; that readings are missing goes on."""
    held: tuple[AlertKind, ...] = ("urgent_low", "falling_fast", "low", "urgent_high", "high")
    after = alerts_answer("ada", holding(65, *held, "sensor_error", "stale_data"))
    assert after.holding == ["sensor_error", "stale_data"]
    assert after.holding_until == {}
    found = alerts_answer("ada", holding(50, *held))
    assert found.holding == list(held)
    assert set(found.holding_until) == set(held)
    left = found.holding_until["low"] - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(minutes=5) < left < datetime.timedelta(minutes=15)


def test_the_most_urgent_one_that_holds_comes_first_whichever_was_raised_before() -> None:
    assert alerts_answer("ada", holding(5, "low", "urgent_low")).holding == ["urgent_low", "low"]
    assert alerts_answer("ada", holding(5, "urgent_high", "low")).holding == ["low", "urgent_high"]
    assert alerts_answer("ada", holding(5, "stale_data", "sensor_error", "high", "falling_fast")).holding == [
        "falling_fast", "high", "sensor_error", "stale_data"
    ]  # fmt: skip


@pytest.mark.parametrize("own", [datetime.timedelta(days=-300), datetime.timedelta(days=300)])
def test_the_hour_of_a_simulated_person_goes_by_its_own_clock(own: datetime.timedelta) -> None:
    now = datetime.datetime.now(datetime.UTC)
    state = holding(30, "low", now=now + own)

    def computed(minutes_ago: int) -> ChartRow:
        issue = time_of_slot(slot_of(now + own))
        chart = fan_chart(
            issue_time=issue, first_target_time=issue + STEP, simulated=True,
            computed_at=now - datetime.timedelta(minutes=minutes_ago),
        )  # fmt: skip
        return ChartRow(int(issue.timestamp()), chart.began_ms, chart.chart_id, to_row(chart))

    assert alerts_answer("ada", state, computed(minutes_ago=20)).holding == ["low"]
    assert alerts_answer("ada", state, computed(minutes_ago=35)).holding == []


def test_a_missed_alert_has_no_horizon() -> None:
    missed = RecentAlert(alert_id=HEX, kind="low", status="missed", slot=9, onset_slot=9, glucose_mgdl=65.0)
    raised = RecentAlert(alert_id=HEX, kind="low", status="raised", slot=9, probability=0.5, horizon_minutes=30)
    state = AlertState(slot=9, recent=(missed, raised))
    assert [each.horizon_minutes for each in alerts_answer("ada", state).recent] == [30, None]


def test_settings_in_mmol_come_back_as_they_were() -> None:
    """Whoever changes one of them sends all that was answered, and of a threshold that is another no alert holds."""
    for kind, (least, most) in OWN_MGDL.items():
        for own in [
            *range(int(least), int(most) + 1),
            *(threshold_mgdl(tenth / 10) for tenth in range(201)),
        ]:
            if least <= own <= most:
                settings = AlertSettings.model_construct(**{kind: RuleChange(threshold_mgdl=own)})
                sent = settings_document(settings, "mmol/L")[kind]
                assert RuleBody.model_validate(sent).threshold_mgdl == own
                assert abs(sent["threshold_mmoll"] - own / MGDL_PER_MMOLL) < 0.05
    for below in (80.0, 81.0, 144.13, 150.0, 600.0):
        settings = AlertSettings(falling_fast=FallChange(below_mgdl=below))
        sent = settings_document(settings, "mmol/L")["falling_fast"]
        assert FallBody.model_validate(sent).below_mgdl == below
