"""The query role reads orders before the tables' changelogs: what began before one comes back by no row behind it."""

import datetime
import types
from pathlib import Path
from typing import Any, cast

import pytest

from agents.work import CLOCKS_DIFFER_MS
from query_api import subject_forecast
from query_api.projections.orders import KEPT_MS
from query_api.read_model import Entry
from query_api.services import Services
from query_api.subject_forecast import forecast_of
from schemas.alert import AlertState
from schemas.errors import NoForecastError
from schemas.fan_chart_row import to_row
from schemas.glucose_day import GlucoseDay
from schemas.grid import STEP, STEP_SECONDS, STEPS_A_DAY
from schemas.score_state import KnownForecast, ScoreState
from schemas.sources import DecidedPolicy, SourcePolicy, SourceState
from schemas.tables import day_key, trial_key
from streams.settings import Settings
from streams.topology import ALERTS_CHANGELOG, CHART_CHANGELOGS, DAYS_CHANGELOG, SCORES_CHANGELOG, SOURCES_CHANGELOG
from tests.kit.charts import fan_chart
from tests.kit.followed import Followed, reading

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
SLOT = int(NOW.timestamp()) // STEP_SECONDS
NEWEST = datetime.datetime.fromtimestamp(SLOT * STEP_SECONDS, datetime.UTC)
ORDERED = NOW - datetime.timedelta(seconds=2)
ORDERED_MS = int(ORDERED.timestamp() * 1000)
BEFORE, AFTER = ORDERED_MS - 2000, ORDERED_MS + 1

Row = tuple[str, str, str, bytes | None]


@pytest.fixture(autouse=True)
def as_when_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times here are of then: in a whole run this file has its turn a quarter of an hour later."""

    class Then(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Then":
            return cls.fromtimestamp(NOW.timestamp(), tz)

    clock = types.SimpleNamespace(datetime=Then, UTC=datetime.UTC, timedelta=datetime.timedelta)
    monkeypatch.setattr(subject_forecast, "datetime", clock)


def chart(began_ms: int, steps_ago: int = 0, **more: Any) -> Row:
    issue = NEWEST - steps_ago * STEP
    made = fan_chart(issue_time=issue, first_target_time=issue + STEP, computed_at=NOW, began_ms=began_ms, **more)
    return CHART_CHANGELOGS["live"].name, "anna", f"subject/anna/{steps_ago}/m", to_row(made)


def order(status: str) -> Row:
    return reading("anna", 0, status=status, time=ORDERED, reading=None, reason=f"the subject was {status}")


def after(step: int, status: str = "no_forecast", reason: str | None = "5 min of gap-free readings so far") -> Row:
    return reading("anna", 0, status=status, time=NEWEST - step * STEP, reading=None, reason=reason)


def uses(followed: Followed) -> Services:
    fields = {"read_model": followed.model, "settings": Settings(), "follower": followed.follower}
    return cast("Services", types.SimpleNamespace(**fields))


@pytest.mark.parametrize("status", ["reset", "erased"])
def test_a_forecast_from_before_an_order_is_served_to_nobody(tmp_path: Path, status: str) -> None:
    """Also where the next reading has come, and whether the chart is read before the order or behind it."""
    followed = Followed(tmp_path)
    followed.apply(after(1, "forecast_requested", None), chart(BEFORE, 1))
    assert forecast_of(uses(followed), "anna")
    followed.apply(order(status))
    followed.apply(after(90))
    followed.apply(chart(BEFORE, 0), chart(BEFORE, 3, model_serves=False))
    with pytest.raises(NoForecastError, match="gap-free readings so far"):
        forecast_of(uses(followed), "anna")
    charts = followed.model.fan_charts
    assert (charts.subjects(), charts.everything("anna"), followed.model.skipped) == ([], [], 0)
    followed.apply(after(0, "forecast_requested", None), chart(AFTER))
    assert forecast_of(uses(followed), "anna").row.began_ms == AFTER


def test_a_late_row_takes_the_place_of_none_from_before_it(tmp_path: Path) -> None:
    """Of the ring: what it held is over, and the latest is another."""
    followed = Followed(tmp_path)
    followed.apply(order("reset"), chart(AFTER, 2), chart(AFTER, 1))
    topic, subject, key, _ = chart(AFTER, 1)
    followed.apply((topic, subject, key, chart(BEFORE, 1)[3]))
    latest = followed.model.fan_charts.latest("anna")
    assert latest is not None
    assert latest.issue_seconds == (NEWEST - 2 * STEP).timestamp()


def rows(began_ms: int) -> tuple[Row, ...]:
    score = ScoreState(newest=SLOT, scored=7)
    score.forecasts[bytes(8)] = KnownForecast(SLOT, began_ms, {})
    policy = DecidedPolicy(offset=1, policy=SourcePolicy(preferred_device="arm"))
    day = GlucoseDay(began_ms, 0, (12000,) * STEPS_A_DAY)
    return (
        (ALERTS_CHANGELOG.name, "anna", "anna", AlertState(slot=SLOT, began_ms=began_ms).to_row()),
        (SCORES_CHANGELOG.name, "anna", "anna", score.to_bytes()),
        (SCORES_CHANGELOG.name, "anna", trial_key("anna"), score.to_bytes()),
        (SOURCES_CHANGELOG.name, "anna", "anna", SourceState(began_ms=began_ms, policies=(policy,)).to_row()),
        (DAYS_CHANGELOG.name, "anna", day_key("anna", SLOT // STEPS_A_DAY), day.to_bytes()),
    )


def held(followed: Followed) -> tuple[bool, ...]:
    model = followed.model
    return (
        model.alerts.of("anna") != AlertState(), model.scores.of("anna") is not None,
        model.scores.on_trial("anna") is not None, model.sources.of("anna") != SourceState(),
        model.days.history("anna") is not None,
    )  # fmt: skip


def test_nothing_of_who_was_erased_comes_back_by_a_row_read_behind_it(tmp_path: Path) -> None:
    followed = Followed(tmp_path)
    followed.apply(order("erased"))
    followed.apply(*rows(BEFORE))
    assert held(followed) == (False,) * 5
    assert [key for key, value in followed.model._store.scan(b"") if b"anna" in key + value] == []
    followed.apply(*rows(AFTER))
    assert held(followed) == (True,) * 5


def test_after_a_reset_what_is_kept_beside_the_forecasts_stays(tmp_path: Path) -> None:
    """Settings of alerts and devices outlive it: their rows began before."""
    followed = Followed(tmp_path)
    followed.apply(order("reset"), *rows(BEFORE))
    assert held(followed) == (True,) * 5


def test_an_order_is_remembered_no_longer_than_something_is_under_way(tmp_path: Path) -> None:
    followed = Followed(tmp_path)
    days = datetime.timedelta(milliseconds=KEPT_MS)
    later = reading("bob", 0, status="reset", time=ORDERED + days + datetime.timedelta(hours=1), reading=None)
    followed.apply(order("erased"))
    followed.apply(order("reset"))  # an earlier one is not forgotten over it
    followed.apply(*rows(BEFORE))
    assert held(followed) == (False,) * 5
    followed.apply(later)
    followed.apply(chart(BEFORE))
    assert followed.model.fan_charts.subjects() == ["anna"]


def test_an_order_of_a_clock_that_is_ahead_hides_nothing_to_come(tmp_path: Path) -> None:
    followed = Followed(tmp_path)
    topic, _, _, value = reading("anna", 0, status="reset", time=NOW + datetime.timedelta(days=3), reading=None)
    followed.model.apply([Entry(topic, 0, 0, b"anna", value, ORDERED_MS)], {})
    followed.apply(chart(ORDERED_MS + CLOCKS_DIFFER_MS))
    assert followed.model.fan_charts.subjects() == []
    followed.apply(chart(ORDERED_MS + CLOCKS_DIFFER_MS + 1))
    assert followed.model.fan_charts.subjects() == ["anna"]
