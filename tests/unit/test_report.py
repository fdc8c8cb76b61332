"""A report says what the readings say, over which time, and whether that is enough."""

import datetime
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from query_api.read_model import Entry, ReadModel
from query_api.report.answer import answer_of
from query_api.report.numbers import Report, report_of, source_of
from query_api.report.page import page, percent
from query_api.style import Style
from schemas.errors import ImplausibleError, NoReadingsError
from schemas.grid import MGDL_PER_MMOLL, STEP, STEPS_A_DAY, highest_within
from schemas.reading import ReadingOutcome
from schemas.score_state import SUMMED_STEPS, ScoreState, Sums
from schemas.topics import READING_OUTCOMES
from streams.topology import SCORES_CHANGELOG
from tests.kit.charts import fan_chart
from tests.kit.days import BEGAN_MS, chart_entries, day_entries, everyday, read_model, slot_of

NOON = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)
FORTNIGHT = {slot: everyday(slot) for slot in range(slot_of(NOON) - 14 * STEPS_A_DAY, slot_of(NOON))}


@pytest.fixture
def model(tmp_path: Path) -> ReadModel:
    return read_model(tmp_path)


def report(model: ReadModel, days: int = 14, timezone: str | None = None) -> Report:
    return report_of(source_of(model, "anna"), days, timezone, NOON)


def test_the_numbers_are_those_of_the_readings_in_the_time_that_is_named(model: ReadModel) -> None:
    older = {slot - 14 * STEPS_A_DAY: 300.0 for slot in FORTNIGHT}
    model.apply(day_entries(older | FORTNIGHT), {})
    model.apply(day_entries({slot_of(NOON): 55.0}, "bert"), {})
    found = answer_of(report(model), "mg/dL")
    values = np.round(list(FORTNIGHT.values()), 2)
    assert (found.start, found.end) == (NOON - datetime.timedelta(days=14), NOON)
    assert found.start.utcoffset() == datetime.timedelta(hours=1)
    assert (found.readings, found.covered_days, found.sensor_active_percent) == (len(values), 14, 100)
    assert (found.representative, found.why_not_representative) == (True, None)
    assert found.mean_glucose == pytest.approx(values.mean(), abs=0.05)
    assert found.sd == pytest.approx(values.std(ddof=1), abs=0.05)
    inside = (values >= 70) & (values <= highest_within(180.0))  # not up to 180.00: what is shown as 180 is within
    assert found.ranges.from_70_to_180 == pytest.approx(100 * inside.mean(), abs=0.01)
    assert len(found.profile) == 96
    mmoll = answer_of(report(model), "mmol/L")
    assert mmoll.mean_glucose == pytest.approx(values.mean() / MGDL_PER_MMOLL, abs=0.005)
    assert (mmoll.gmi_percent, mmoll.ranges) == (found.gmi_percent, found.ranges)


def test_the_profile_is_on_the_persons_clock(model: ReadModel) -> None:
    """Glucose is 200 from 7 to 8 o'clock in Vienna, in winter and in summer."""
    change = slot_of(datetime.datetime(2026, 3, 29, tzinfo=datetime.UTC))
    glucose = {}
    for slot in range(change - 7 * STEPS_A_DAY, change + 7 * STEPS_A_DAY):
        hour = slot % STEPS_A_DAY // 12
        glucose[slot] = 200.0 if hour == (6 if slot < change else 5) else 100.0
    model.apply(day_entries(glucose), {})
    by_time = {each.time: each for each in answer_of(report(model, timezone="Europe/Vienna"), "mg/dL").profile}
    assert (by_time["07:30"].p05, by_time["07:30"].p95) == (200, 200)
    assert (by_time["06:30"].p95, by_time["08:30"].p95) == (100, 100)
    by_time = {each.time: each for each in answer_of(report(model, timezone="UTC"), "mg/dL").profile}
    assert (by_time["05:30"].p05, by_time["05:30"].p95) == (100, 200)


def test_too_few_data_are_said_to_be_too_few(model: ReadModel) -> None:
    model.apply(day_entries({slot: value for slot, value in FORTNIGHT.items() if slot % STEPS_A_DAY < 100}), {})
    found = report(model)
    assert found.why_not_representative is not None
    assert "less than 70 %" in found.why_not_representative
    assert "Too few data for conclusions" in page(found, "mg/dL")
    few = report(model, days=2)
    assert "2 of 14 days" in (few.why_not_representative or "")
    model.apply(day_entries(FORTNIGHT), {})
    assert "Too few data" not in page(report(model), "mg/dL")


def test_a_fortnight_is_14_whole_days(model: ReadModel) -> None:
    """13 days and five minutes are 13, also in what it says of them."""
    model.apply(day_entries({slot: FORTNIGHT[slot] for slot in list(FORTNIGHT)[-13 * STEPS_A_DAY - 1 :]}), {})
    found = answer_of(report(model), "mg/dL")
    assert (found.covered_days, found.representative) == (13, False)
    assert found.why_not_representative == "they cover 13 of 14 days"


def test_nobody_elses_readings_and_no_made_up_ones(model: ReadModel) -> None:
    model.apply(day_entries(FORTNIGHT, "ann"), {})
    with pytest.raises(NoReadingsError, match="publish some"):
        report(model)
    model.apply(day_entries({slot_of(NOON): 100.0}), {})
    assert answer_of(report(model), "mg/dL").readings == 1
    with pytest.raises(ImplausibleError, match="unknown timezone"):
        report(model, timezone="Mars/Olympus")


class Found(HTMLParser):
    """Tags that are open, and what a page would fetch."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in self.VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"rect", "line", "path", "circle"}:
            assert self.open.pop() == tag


@pytest.mark.parametrize("unit", ["mg/dL", "mmol/L"])
def test_the_page_is_whole_and_needs_nothing_from_anywhere(model: ReadModel, unit: str) -> None:
    model.apply(day_entries(FORTNIGHT), {})
    html = page(report(model, timezone="Europe/Vienna"), unit)  # type: ignore[arg-type]
    found = Found()
    found.feed(html)
    assert found.open == []
    assert found.fetched == ["data:,"]
    assert not found.tags & {"script", "iframe", "img", "object", "embed", "form"}
    assert not re.search(r"url\(|@import|https?:", html)
    assert "not for treatment decisions" in html
    assert "Battelino" in html
    assert "Europe/Vienna (UTC+01:00)" in html
    assert {"70 to 180 mg/dL", "3.9 to 10.0 mmol/L"} & {f"{words} {unit}" for words in ("70 to 180", "3.9 to 10.0")} & {
        words for words in ("70 to 180 mg/dL", "3.9 to 10.0 mmol/L") if words in html
    }  # fmt: skip
    assert len(html) < 200_000


def test_simulated_data_are_said_to_be_simulated(model: ReadModel) -> None:
    model.apply(day_entries(FORTNIGHT), {})
    assert "Simulated data" not in page(report(model), "mg/dL")
    model.apply(chart_entries([fan_chart(simulated=True)]), {})
    assert "Simulated data" in page(report(model), "mg/dL")


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0 %"), (0.0001, "&lt;0.1 %"), (0.004, "0.4 %"), (0.0096, "1 %"), (0.5, "50 %"), (1, "100 %")],
)
def test_little_is_not_nothing(share: float, words: str) -> None:
    assert percent(share) == words


def test_who_is_erased_has_no_days_and_what_came_after_stays(model: ReadModel) -> None:
    model.apply([*day_entries(FORTNIGHT), *day_entries(FORTNIGHT, "bert")], {})
    model.apply(day_entries({slot_of(NOON) + STEPS_A_DAY: 111.0}, began_ms=2 * BEGAN_MS), {})
    erased = ReadingOutcome(
        outcome_id="0" * 64, subject_id="anna", status="erased",
        time=datetime.datetime.fromtimestamp(1.5 * BEGAN_MS / 1000, datetime.UTC),
    )  # fmt: skip
    model.apply([Entry(READING_OUTCOMES.name, 0, 0, b"anna", erased.to_json())], {})
    assert answer_of(report(model), "mg/dL").mean_glucose == 111
    assert report_of(source_of(model, "bert"), 14, None, NOON).summary.readings == len(FORTNIGHT)


def test_how_the_forecasts_did_is_told_with_the_last_day(model: ReadModel) -> None:
    model.apply(day_entries(FORTNIGHT), {})
    assert "No forecast has been scored yet" in page(report(model), "mg/dL")
    state = ScoreState(newest=slot_of(NOON), scored=600)
    sums = Sums(targets=200, error_deci=200 * 123, crps_centi=200 * 870, width_deci=200 * 456, in_50=90, in_80=150,
                in_90=170, in_95=198, clarke_a=180, clarke_b=19, clarke_d=1)  # fmt: skip
    state.set_sums(slot_of(NOON) // STEPS_A_DAY, [sums] * len(SUMMED_STEPS))
    model.apply([Entry(SCORES_CHANGELOG.name, 0, 0, b"anna", state.to_bytes())], {})
    hour = datetime.timedelta(hours=1)
    charts = [
        fan_chart(issue_time=NOON - hour * n, first_target_time=NOON - hour * n + STEP, chart_id=f"{n:064x}")
        for n in (3, 2)
    ]
    model.apply(chart_entries(charts), {})
    found = answer_of(report(model), "mg/dL").forecasts
    assert [each.minutes_ahead for each in found] == [15, 30, 60]
    stopped = ScoreState(newest=slot_of(NOON) - 20 * STEPS_A_DAY, scored=600)
    stopped.set_sums(slot_of(NOON) // STEPS_A_DAY - 20, [sums] * len(SUMMED_STEPS))
    source = source_of(model, "anna")._replace(scores=stopped)
    assert report_of(source, 14, None, NOON).forecasts == [], "those of weeks ago are not of the last 14 days"
    assert (found[0].targets, found[0].mean_absolute_error, found[0].crps, found[0].width_90) == (200, 12.3, 8.7, 45.6)
    assert (found[0].covered_50_percent, found[0].covered_90_percent) == (45, 85)
    html = page(report(model), "mg/dL")
    for words in ("15 min ahead", "100 %", "12", "8.7", "of 24 measured values"):
        assert words in html
    assert f"<td>{Style('mmol/L').text(12.3)}" in page(report(model), "mmol/L").replace('<td class="number">', "<td>")
