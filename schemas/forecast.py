"""A request for one forecast and the samples that answer it. Each carries all the data that the next step needs."""

import dataclasses
from typing import ClassVar

import pyarrow as pa

from schemas.arrow_record import ArrowRecord


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ForecastWindow(ArrowRecord):
    """Whose window it is, and the window: what a request and its answer have in common.

    `interpolated_points` are the places of points that were interpolated and not measured: 0..95 in `past_centi_mgdl`,
    96..107 in `truth_centi_mgdl`; `changed_points` those in `past_centi_mgdl` at which another sensor begins. With a
    `replay_id` it is made again for that replay alone: its answer goes to ``cgm.replays``.
    """

    arrow_attributes: ClassVar[dict[str, str]] = {"epoch_ms": "began_ms"}
    arrow_fields: ClassVar[dict[str, pa.DataType]] = {
        "request_id": pa.string(),
        "kind": pa.string(),
        "series_key": pa.string(),
        "subject_id": pa.string(),
        "handle": pa.string(),
        "index": pa.int32(),
        "epoch_ms": pa.int64(),
        "demand_id": pa.string(),
        "timezone": pa.string(),
        "end_seconds": pa.int64(),
        "past_centi_mgdl": pa.list_(pa.int32()),
        "truth_centi_mgdl": pa.list_(pa.int32()),
        "input_hash": pa.string(),
        "num_samples": pa.int32(),
        "seed": pa.int64(),
        "simulated": pa.bool_(),
        "warnings": pa.list_(pa.string()),
        "interpolated_points": pa.list_(pa.int32()),
        "replay_id": pa.string(),
        "changed_points": pa.list_(pa.int32()),
        "revision": pa.int64(),
    }

    request_id: str
    kind: str
    series_key: str
    subject_id: str | None = None
    handle: str | None = None
    index: int | None = None
    began_ms: int = 0
    demand_id: str | None = None
    timezone: str = "UTC"
    end_seconds: int
    past_centi_mgdl: list[int]
    truth_centi_mgdl: list[int | None]
    input_hash: str
    num_samples: int
    seed: int
    simulated: bool = False
    warnings: list[str] = dataclasses.field(default_factory=list)
    interpolated_points: list[int] = dataclasses.field(default_factory=list)
    replay_id: str | None = None
    changed_points: list[int] = dataclasses.field(default_factory=list)
    revision: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRequest(ForecastWindow):
    """On ``cgm.forecast-requests.<lane>``, keyed by `series_key`: forecast the hour after one window.

    `past_centi_mgdl` has 96 values, the last at `end_seconds` (local time of `timezone`, an IANA name or an offset
    like ``+02:00``); `truth_centi_mgdl` up to 12 values that follow, None where unknown. `request_id` hashes whose
    window it is and the window itself, so that a repeated delivery is the same request.

    `deadline_ms` is the Unix time from which on nobody waits for a sample, or a live forecast is no longer the present
    one. Of a subject's live requests for one time the one of the highest `revision` counts.

    `hours_centi_mgdl`, at most 168, are means of the hours before the 96 points, oldest first from the first that is
    known on, None where nothing is; `hours_version` names the rule that they were made by, 0 where there are none.

    `replay_model`: the first digits of the fingerprint of the model that a replay asks; None: of the one that serves.
    """

    arrow_name: ClassVar[str] = "forecast-request"
    arrow_fields: ClassVar[dict[str, pa.DataType]] = ForecastWindow.arrow_fields | {
        "force": pa.bool_(),
        "deadline_ms": pa.int64(),
        "hours_version": pa.int32(),
        "hours_centi_mgdl": pa.list_(pa.int32()),
        "replay_model": pa.string(),
    }

    force: bool = False
    deadline_ms: int | None = None
    hours_version: int = 0
    hours_centi_mgdl: list[int | None] = dataclasses.field(default_factory=list)
    replay_model: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(ForecastWindow):
    """On ``cgm.forecasts``, keyed by `series_key`: the request's window and the samples of the model.

    `samples_mgdl` is row-major (num_samples, 12); `residual_sd_mgdl` (12,) is the spread that the samples do not show;
    `calibration_json` is an `agents.core.calibration.Calibration` or empty.
    """

    arrow_name: ClassVar[str] = "forecast"
    arrow_fields: ClassVar[dict[str, pa.DataType]] = ForecastWindow.arrow_fields | {
        "forecast_id": pa.string(),
        "model": pa.string(),
        "model_fingerprint": pa.string(),
        "model_serves": pa.bool_(),
        "samples_mgdl": pa.list_(pa.float32()),
        "residual_sd_mgdl": pa.list_(pa.float32()),
        "calibration_json": pa.string(),
    }

    forecast_id: str
    model: str
    model_fingerprint: str
    samples_mgdl: list[float]
    residual_sd_mgdl: list[float]
    calibration_json: str = ""
    model_serves: bool = True
