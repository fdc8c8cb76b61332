"""What this API holds of one person, as Parquet files in a ZIP archive, with a manifest that says what is not there.

It is what the API answers from: readings of two days, the days of reports, forecasts and their windows, alerts, scores,
settings. What else Kafka holds, and for how long, is said by name: that is `glucast subject export`'s, which may read
every topic.
"""

import dataclasses
import datetime
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from query_api.projections.glucose_days import time_of
from query_api.projections.measured import decoded
from query_api.read_model import ReadModel
from schemas.alert import AlertSettings
from schemas.errors import NoReadingsError
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import from_row
from schemas.score_state import SUMMED_STEPS, ScoreState
from streams.subjects import sources

MANIFEST = "manifest.json"
_EPOCH = datetime.date(1970, 1, 1)

Columns = Mapping[str, str]
"""Name and kind, of those that `_schema` knows."""
_READINGS: Columns = {
    "time": "time", "offset_minutes": "integer", "glucose": "number", "unit": "text", "device": "text",
    "direction": "text", "noise": "integer", "reading_id": "text", "simulated": "flag",
}  # fmt: skip
_DAYS: Columns = {"time": "time", "glucose_mgdl": "number"}
_FORECASTS: Columns = {
    "issue_time": "time", "chart_id": "text", "model": "text", "model_serves": "flag", "record": "text"
}  # fmt: skip
_WINDOWS: Columns = {
    "issue_time": "time", "chart_id": "text", "past_mgdl": "numbers", "interpolated_points": "integers"
}  # fmt: skip
_ALERTS: Columns = {"alert_id": "text", "kind": "text", "status": "text", "issue_time": "time", "record": "text"}
_SCORES: Columns = {"on_trial": "flag", "day": "date", "minutes_ahead": "integer", "sums": "text"}


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """Rows of the read model of one person, as they lie there: taken together, so from one moment."""

    readings: Sequence[bytes]
    days: Sequence[tuple[int, float]]
    charts: Sequence[bytes]
    scores: Sequence[tuple[bool, ScoreState]]
    alerts: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]


def held(model: ReadModel, subject_id: str) -> Held:
    """Raises `NoReadingsError` where nothing is held."""
    history = model.days.history(subject_id)
    alerts, state = model.alerts.of(subject_id), model.sources.of(subject_id)
    scores = [(False, model.scores.of(subject_id)), (True, model.scores.on_trial(subject_id))]
    found = Held(
        readings=list(model.readings.measured.rows(subject_id)),
        days=[] if history is None else history.readings,
        charts=model.fan_charts.everything(subject_id),
        scores=[(on_trial, each) for on_trial, each in scores if each is not None],
        alerts=[each.model_dump(mode="json") for each in alerts.recent],
        settings={
            "alerts": alerts.settings.model_dump(mode="json"),
            "snoozed_until_ms": dict(alerts.snoozed_until_ms),
            "sources": state.policy.model_dump(mode="json"),
            "sensor_starts": [each.time.isoformat() for each in state.starts],
            "devices": list(state.devices),
            "webhooks": [
                each.model_dump(mode="json") for each in model.webhooks.all() if each.subject_id == subject_id
            ],
        },
    )
    settled = found.settings["devices"] or found.settings["webhooks"] or state.policies or state.starts
    settled = settled or alerts.snoozed_until_ms or alerts.settings != AlertSettings()
    if not (found.readings or found.days or found.charts or found.scores or found.alerts or settled):
        raise NoReadingsError(
            "nothing is held of this subject here; topics of Kafka may hold more: glucast subject export"
        )
    return found


def archive(found: Held, subject_id: str, now: datetime.datetime) -> bytes:
    """The files, stored: each is compressed in itself. A thread's work, not the event loop's."""
    import pyarrow as pa  # who only answers questions needs none of it
    import pyarrow.parquet as pq

    files = {
        "readings.parquet": (_READINGS, _readings(found.readings), "readings as they were sent, of the last two days"),
        "days.parquet": (_DAYS, _days(found.days), "glucose by slots of five minutes, of the days that reports cover"),
        "forecasts.parquet": (_FORECASTS, _forecasts(found.charts), "kept forecasts; record is a FanChart in JSON"),
        "windows.parquet": (_WINDOWS, _windows(found.charts), "the eight hours that each of them was made from"),
        "alerts.parquet": (_ALERTS, _alerts(found.alerts), "the latest alerts and what became of them"),
        "scores.parquet": (_SCORES, _scores(found.scores), "sums by day and horizon, of 14 days"),
    }
    written: list[dict[str, Any]] = []
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archived:
        for name, (columns, rows, about) in files.items():
            table = pa.Table.from_pylist(list(rows), _schema(columns))
            written.append({"file": name, "about": about, "rows": table.num_rows})
            data = io.BytesIO()
            pq.write_table(table, data, compression="zstd")
            archived.writestr(name, data.getvalue())
        manifest = {
            "subject_id": subject_id,
            "exported_at": now.isoformat(timespec="seconds"),
            "files": written,
            "settings": found.settings,
            "not_here": {
                "what": "records of these topics and tables as Kafka holds them, outcomes and dead letters among them; "
                "uploaded files and their forecasts belong to handles, which name nobody",
                "topics": [topic.name for topic in sources()],
                "how": f"glucast subject export {subject_id} --to DIRECTORY, where Kafka can be reached",
            },
        }
        archived.writestr(MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return into.getvalue()


def _schema(columns: Columns) -> Any:
    import pyarrow as pa

    kinds = {
        "time": pa.timestamp("us", "UTC"), "date": pa.date32(), "text": pa.string(), "number": pa.float64(),
        "integer": pa.int32(), "flag": pa.bool_(), "numbers": pa.list_(pa.float64()),
        "integers": pa.list_(pa.int32()),
    }  # fmt: skip
    return pa.schema([(name, kinds[kind]) for name, kind in columns.items()])


def _readings(rows: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    for each in sorted(decoded(rows, None), key=lambda reading: reading.time):
        offset = each.time.utcoffset() or datetime.timedelta()
        yield each.model_dump(include=set(_READINGS)) | {"offset_minutes": offset // datetime.timedelta(minutes=1)}


def _days(readings: Iterable[tuple[int, float]]) -> Iterable[dict[str, Any]]:
    return ({"time": time_of(slot), "glucose_mgdl": value} for slot, value in readings)


def _charts(rows: Iterable[bytes]) -> list[FanChart]:
    return sorted(map(from_row, rows), key=lambda chart: (chart.issue_time, chart.chart_id))


def _windows(rows: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    """Oldest point first, five minutes apart, the last of them at the time of issue."""
    return (chart.model_dump(include=set(_WINDOWS)) for chart in _charts(rows))


def _forecasts(rows: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    for chart in _charts(rows):
        yield {
            "issue_time": chart.issue_time, "chart_id": chart.chart_id, "model": chart.model,
            "model_serves": chart.model_serves, "record": chart.to_json().decode(),
        }  # fmt: skip


def _alerts(alerts: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for each in alerts:
        yield {
            "alert_id": each["alert_id"], "kind": each["kind"], "status": each["status"],
            "issue_time": time_of(each["slot"]), "record": json.dumps(each),
        }  # fmt: skip


def _scores(states: Iterable[tuple[bool, ScoreState]]) -> Iterable[dict[str, Any]]:
    for on_trial, state in states:
        for day in sorted(state.days):
            for steps, sums in zip(SUMMED_STEPS, state.sums_of(day), strict=True):
                yield {
                    "on_trial": on_trial, "day": _EPOCH + datetime.timedelta(days=day), "minutes_ahead": 5 * steps,
                    "sums": json.dumps(sums._asdict()),
                }  # fmt: skip
