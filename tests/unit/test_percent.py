"""No chance and no share is said to be none, or all, that is not."""

import datetime
import re

import pytest

from agents.calc.alerts import _reason
from agents.core.device_status import document_of
from agents.core.glucose_summary import why_not_representative
from query_api.day_figure import day_figure
from query_api.day_view import DayView
from query_api.figure import figure
from query_api.report.answer import _percent as reported
from query_api.report.forecast_drawings import coverage_drawing
from query_api.report.page import percent as on_the_report
from query_api.scorecard import HorizonCard
from query_api.style import Style
from schemas.alert import RecentAlert
from streams.notify.people import Person
from tests.kit.charts import ISSUE, fan_chart

NAMES = ("below_54", "below_70", "above_180", "above_250")


def path(low: float, high: float) -> dict[str, tuple[float, ...]]:
    return {name: (low if name.startswith("below") else high,) * 4 for name in NAMES}


def told(probability: float) -> str:
    alert = RecentAlert(
        alert_id="0" * 64, kind="low", status="raised", slot=1, probability=probability, horizon_minutes=30,
        glucose_mgdl=80.0,
    )  # fmt: skip
    return re.findall(r"is (\S+ %);", _reason(alert, "low", fan_chart()))[0]


@pytest.mark.parametrize(
    ("chance", "text"),
    [(0.0, "<1"), (0.0001, "<1"), (0.005, "<1"), (0.0051, "1"), (0.62, "62"), (0.9949, "99"), (0.995, ">99"),
     (0.9962, ">99"), (1.0, ">99")],
)  # fmt: skip
def test_what_a_forecast_says_is_never_certain(chance: float, text: str) -> None:
    assert told(chance) == f"{text} %"
    chart = fan_chart(p_path=path(chance, chance))
    escaped = text.replace("<", "&lt;").replace(">", "&gt;")
    title = figure(chart)["layout"]["title"]["text"]
    assert f"below 70: {escaped} %, above 180: {escaped} %" in title
    assert f"P(<70) {text}%" in document_of(chart, "openaps", 0.05)["openaps"]["suggested"]["reason"]


@pytest.mark.parametrize(
    ("chance", "number"),
    [(0.0, 0), (0.0001, 0.01), (0.005, 0.5), (0.0051, 1), (0.62, 62), (0.995, 99.5), (0.99999, 99.99), (1.0, 100)],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_a_number_has_decimals_where_it_would_be_certain_without(chance: float, number: float, is_known: bool) -> None:
    chart = fan_chart(p_path=path(chance, 0.0) if is_known else None, p_below_70=[chance] * 12)
    person = Person(partition=0)
    person.forecast(chart)
    state = person.state(ISSUE, "mg/dL")
    assert (state["low_percent_30"], state["low_percent_60"]) == (number, number)


def test_of_what_was_measured_all_is_all_and_almost_all_is_not() -> None:
    def said(low: int, inside: int) -> list[str]:
        values = [60.0] * low + [100.0] * inside
        readings = [(ISSUE + number * datetime.timedelta(minutes=5), value) for number, value in enumerate(values)]
        view = DayView(ISSUE, ISSUE + datetime.timedelta(days=1), False, readings, [])
        return re.findall(r"(?:&.t;)?\d+ %", day_figure(view, Style())["layout"]["title"]["text"])

    assert said(1, 287) == ["&gt;99 %", "&lt;1 %", "0 %"]
    assert said(0, 288) == ["100 %", "0 %", "0 %"]
    assert [reported(share) for share in (0.0, 1 / 25920, 0.5, 25919 / 25920, 1.0)] == [0, 0.01, 50, 99.99, 100]
    assert [on_the_report(share) for share in (287 / 288, 4031 / 4032, 0.9904)] == ["99.7 %", "&gt;99.9 %", "99 %"]
    assert "values <1 % of the time" in (why_not_representative(14, 0.002) or "")
    covered = dict.fromkeys(("50", "80", "90", "95"), 575 / 576)
    none = dict.fromkeys(("A", "B", "C", "D", "E"), 0.0)
    card = HorizonCard(
        minutes_ahead=60, targets=576, mae_mgdl=10, rmse_mgdl=10, crps_mgdl=7, covered=covered, width_90_mgdl=40,
        log_score_below_70=0, log_score_above_180=0, clarke=none, parkes=none,
    )  # fmt: skip
    assert coverage_drawing([card]).count("&gt;99 %") == 4
