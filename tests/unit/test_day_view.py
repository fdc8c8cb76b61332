"""A day shows what was measured on it, and forecasts as they were made."""

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import pytest

from query_api.day_figure import day_figure
from query_api.day_view import day_view, held_by_bands
from query_api.read_model import ReadModel
from query_api.style import Style
from schemas.errors import NoReadingsError
from schemas.fan_chart import FanChart
from schemas.grid import STEP, STEPS_A_DAY
from tests.kit.charts import fan_chart
from tests.kit.days import chart_entries, day_entries, everyday, read_model, slot_of

NOON = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)
LAST = slot_of(NOON)


@pytest.fixture
def model(tmp_path: Path) -> ReadModel:
    model = read_model(tmp_path)
    model.apply(day_entries({slot: everyday(slot) for slot in range(LAST - 3 * STEPS_A_DAY, LAST)}), {})
    return model


def chart_at(time: datetime.datetime, **more: Any) -> FanChart:
    number = f"{slot_of(time):064x}"
    return fan_chart(issue_time=time, first_target_time=time + STEP, chart_id=number, forecast_id=number, **more)


def test_without_a_date_it_is_the_day_up_to_the_newest_reading(model: ReadModel) -> None:
    view = day_view(model, "anna", None, None, 60)
    assert (view.start, view.end) == (NOON - datetime.timedelta(days=1), NOON)
    assert view.start.utcoffset() == datetime.timedelta(hours=1), "as the newest reading came"
    wanted = [round(everyday(slot), 2) for slot in range(LAST - STEPS_A_DAY, LAST)]
    assert [value for _, value in view.readings] == wanted


@pytest.mark.parametrize(("date", "hours"), [((2026, 3, 28), 24), ((2026, 3, 29), 23), ((2026, 10, 25), 25)])
def test_a_calendar_day_is_as_long_as_the_clock_says(tmp_path: Path, date: tuple[int, int, int], hours: int) -> None:
    model = read_model(tmp_path)
    around = slot_of(datetime.datetime(*date, tzinfo=datetime.UTC))
    model.apply(day_entries(dict.fromkeys(range(around - 300, around + 600), 100.0)), {})
    view = day_view(model, "anna", datetime.date(*date), "Europe/Vienna", 60)
    assert len(view.readings) == 12 * hours
    assert {time.date() for time, _ in view.readings} == {datetime.date(*date)}
    shown = day_figure(view, Style(timezone="Europe/Vienna"))["layout"]["xaxis"]
    assert shown["range"] == [0, 60 * hours]
    assert len(shown["ticktext"]) == len({*shown["tickvals"]}) == 9
    assert "12:00" in shown["ticktext"]


def test_one_forecast_an_hour_as_it_was_made_then(model: ReadModel) -> None:
    charts = [chart_at(NOON - number * STEP) for number in range(1, 277)]  # the first from 13:00 on
    model.apply(chart_entries(charts), {})

    def shown(every: int) -> list[datetime.timedelta]:
        return [NOON - chart.issue_time for chart in day_view(model, "anna", None, None, every).forecasts]

    def hours(*hours: float) -> list[datetime.timedelta]:
        return [datetime.timedelta(hours=each) for each in hours]

    assert shown(60) == hours(*range(23, 0, -1))
    assert shown(30) == hours(*(half / 2 for half in range(46, 0, -1)))
    assert shown(240) == hours(23, 20, 16, 12, 8, 4)
    model.apply(chart_entries([chart_at(NOON - 279 * STEP)]), {})
    assert shown(60) == hours(23.25, *range(22, 0, -1)), "its hour is not half over at 13:00"
    earlier = day_view(model, "anna", (NOON - datetime.timedelta(days=2)).date(), None, 60)
    assert (earlier.forecasts, len(earlier.readings)) == ([], STEPS_A_DAY)


def test_a_forecast_from_before_the_start_counts_while_its_hour_lasts(model: ReadModel) -> None:
    start = NOON - datetime.timedelta(days=1)
    model.apply(chart_entries([chart_at(start - 12 * STEP), chart_at(start - 7 * STEP)]), {})
    assert [chart.issue_time for chart in day_view(model, "anna", None, None, 60).forecasts] == [start - 7 * STEP]


def test_a_day_without_anything_says_which_there_are(model: ReadModel) -> None:
    with pytest.raises(NoReadingsError, match="of 2026-02-26 to 2026-03-01"):
        day_view(model, "anna", datetime.date(2026, 3, 5), None, 60)
    with pytest.raises(NoReadingsError, match="publish some"):
        day_view(model, "nobody", None, None, 60)
    for date in (datetime.date.max, datetime.date.min):
        with pytest.raises(NoReadingsError):
            day_view(model, "anna", date, "Pacific/Kiritimati", 60)


def test_the_figure_joins_no_readings_over_a_gap_and_counts_what_the_bands_held(tmp_path: Path) -> None:
    model = read_model(tmp_path)
    gone = range(LAST - 100, LAST - 90)
    glucose = {slot: 120.0 for slot in range(LAST - STEPS_A_DAY, LAST) if slot not in gone}
    glucose[LAST - 1] = 300.0
    model.apply(day_entries(glucose), {})
    issue = NOON - 13 * STEP
    model.apply(chart_entries([chart_at(issue)]), {})
    view = day_view(model, "anna", None, None, 60)
    shown = day_figure(view, Style(unit="mmol/L"))
    (measured,) = [trace for trace in shown["data"] if trace["name"] == "measured"]
    assert measured["x"].count(None) == 1
    assert held_by_bands(view) == (11, 12)
    assert "held 11 of 12" in shown["layout"]["title"]["text"]
    outer, inner, medians = shown["data"][:3]
    begins = (issue - view.start) / datetime.timedelta(minutes=1)
    assert {trace["x"][0] for trace in (outer, inner, medians)} == {begins}
    assert max(y for y in outer["y"] if y is not None) > max(y for y in inner["y"] if y is not None)
    assert "not for treatment decisions" in shown["layout"]["annotations"][-1]["text"]


def test_another_reading_or_forecast_has_another_name(model: ReadModel) -> None:
    names = [day_view(model, "anna", None, None, 60).name]
    model.apply(chart_entries([chart_at(NOON - 20 * STEP)]), {})
    names.append(day_view(model, "anna", None, None, 60).name)
    model.apply(
        day_entries({slot: everyday(slot) + (slot == LAST - 7) for slot in range(LAST - STEPS_A_DAY, LAST)}), {}
    )
    names.append(day_view(model, "anna", None, None, 60).name)
    swapped = {LAST - 7: everyday(LAST - 9), LAST - 9: everyday(LAST - 7) + 1}
    model.apply(day_entries({slot: swapped.get(slot, everyday(slot)) for slot in range(LAST - STEPS_A_DAY, LAST)}), {})
    names.append(day_view(model, "anna", None, None, 60).name)  # as many, the same newest, and of the same sum
    model.apply(chart_entries([chart_at(NOON - 20 * STEP, median_mgdl=[121.0] * 12)]), {})
    names.append(day_view(model, "anna", None, None, 60).name)  # the same id
    assert len(set(names)) == 5


def test_a_day_and_the_same_hours_are_two_pictures(model: ReadModel) -> None:
    """They differ in their title alone."""
    day = day_view(model, "anna", NOON.date() - datetime.timedelta(days=1), "UTC", 60)
    hours = dataclasses.replace(day, is_calendar_day=False)
    assert day.is_calendar_day
    assert day_figure(day, Style())["layout"]["title"] != day_figure(hours, Style())["layout"]["title"]
    assert day.name != hours.name
