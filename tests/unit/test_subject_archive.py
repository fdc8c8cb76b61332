"""The export of the API: everything that it holds of one person, of nobody else, and words on what it does not hold."""

import datetime
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from query_api.export import MANIFEST, archive, held
from query_api.read_model import ReadModel
from schemas.alert import AlertSettings, AlertState, RecentAlert
from schemas.errors import NoReadingsError
from schemas.fan_chart import FanChart
from schemas.score_state import SUMMED_STEPS, ScoreState, Sums
from schemas.sources import DecidedPolicy, SourcePolicy, SourceState
from streams.subjects import sources
from streams.topology import ALERTS_CHANGELOG, SCORES_CHANGELOG, SOURCES_CHANGELOG
from tests.kit import days
from tests.kit.charts import fan_chart
from tests.kit.followed import Followed, forecast, reading

NOW = datetime.datetime(2026, 3, 2, tzinfo=datetime.UTC)


@pytest.fixture
def model(tmp_path: Path) -> ReadModel:
    followed = Followed(tmp_path)
    alert = RecentAlert(alert_id="a" * 64, kind="low", status="hit", slot=5_000_000)
    state = ScoreState(scored=3)
    state.set_sums(20_000, [Sums(targets=2 + place) for place in range(len(SUMMED_STEPS))])
    alerts = AlertState(slot=1, recent=(alert,), settings=AlertSettings(preset="early"))
    policy = DecidedPolicy(offset=1, policy=SourcePolicy(preferred_device="arm"))
    for who in ("anna", "bert"):
        followed.apply(
            *(reading(who, step) for step in (2, 0, 1)), *(forecast(who, step) for step in range(3)),
            (ALERTS_CHANGELOG.name, who, who, alerts.to_row()),
            (SCORES_CHANGELOG.name, who, who, state.to_bytes()),
            (SOURCES_CHANGELOG.name, who, who, SourceState(policies=(policy,), devices=("arm", "leg")).to_row()),
        )  # fmt: skip
    followed.model.apply(days.day_entries({5_800_000 + place: 100.0 + place for place in range(5)}), {})
    return followed.model


def files_of(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archived:
        assert archived.testzip() is None
        return {
            name: json.loads(archived.read(name)) if name == MANIFEST
            else pq.read_table(io.BytesIO(archived.read(name))).to_pylist()
            for name in archived.namelist()
        }  # fmt: skip


def test_everything_of_one_person_and_nothing_of_another(model: ReadModel) -> None:
    data = archive(held(model, "anna"), "anna", NOW)
    files = files_of(data)
    manifest = files[MANIFEST]
    assert [(each["glucose"], each["unit"], each["offset_minutes"]) for each in files["readings.parquet"]] == [
        (100.0, "mg/dL", 60), (101.0, "mg/dL", 60), (102.0, "mg/dL", 60),
    ]  # fmt: skip
    assert [each["glucose_mgdl"] for each in files["days.parquet"]] == [100.0, 101.0, 102.0, 103.0, 104.0]
    charts = [FanChart.from_json(each["record"].encode()) for each in files["forecasts.parquet"]]
    assert [chart.subject_id for chart in charts] == ["anna"] * 3
    assert [chart.issue_time for chart in charts] == [each["issue_time"] for each in files["forecasts.parquet"]]
    assert charts[0].median_mgdl == fan_chart().median_mgdl
    windows = [(each["chart_id"], tuple(each["past_mgdl"])) for each in files["windows.parquet"]]
    assert windows == [(chart.chart_id, chart.past_mgdl) for chart in charts]
    assert [(each["kind"], each["status"]) for each in files["alerts.parquet"]] == [("low", "hit")]
    sums = [(each["minutes_ahead"], json.loads(each["sums"])["targets"]) for each in files["scores.parquet"]]
    assert sums == [(15, 2), (30, 3), (60, 4)]
    assert manifest["settings"]["alerts"]["preset"] == "early"
    assert manifest["settings"]["sources"]["preferred_device"] == "arm"
    assert manifest["settings"]["devices"] == ["arm", "leg"]
    assert {each["file"]: each["rows"] for each in manifest["files"]} == {
        name: len(rows) for name, rows in files.items() if name != MANIFEST
    }
    assert b"bert" not in data


def test_it_says_what_it_lacks_and_how_to_get_it(model: ReadModel) -> None:
    missing = files_of(archive(held(model, "bert"), "bert", NOW))[MANIFEST]["not_here"]
    assert missing["topics"] == [topic.name for topic in sources()]
    assert missing["how"].startswith("glucast subject export bert --to ")


def test_of_nobody_there_is_no_archive(model: ReadModel) -> None:
    with pytest.raises(NoReadingsError, match="nothing is held"):
        held(model, "eve")


@pytest.mark.parametrize(
    "alerts",
    [AlertState(settings=AlertSettings(preset="early")), AlertState(snoozed_until_ms={"low": 1_800_000_000_000})],
    ids=["settings", "snooze"],
)
def test_settings_of_somebody_without_readings_are_held_too(tmp_path: Path, alerts: AlertState) -> None:
    """Who had set nothing but their alerts was told that nothing is held of them."""
    followed = Followed(tmp_path)
    followed.apply((ALERTS_CHANGELOG.name, "eve", "eve", alerts.to_row()))
    settings = held(followed.model, "eve").settings
    assert (settings["alerts"], settings["snoozed_until_ms"]) == (
        alerts.settings.model_dump(mode="json"), alerts.snoozed_until_ms,
    )  # fmt: skip
