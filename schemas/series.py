"""A unified series: gap-free glucose on the 5-minute grid, on its way from a file to its windows."""

import dataclasses
from typing import ClassVar

import pyarrow as pa

from schemas.arrow_record import ArrowRecord


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Series(ArrowRecord):
    """On ``cgm.series``, keyed by `series_key`. Points are 5 minutes apart, oldest first.

    `start_seconds` counts from 1970-01-01T00:00 in the file's own local time; `timezone` says which that is: an IANA
    name, or the offset at the last point where the clocks change between the first and the last.
    `interpolated_points` are the places, oldest first from 0, of points that were interpolated and not measured.
    `warnings_json` is a `schemas.upload.ProcessingWarnings`. `owner` is that of the upload (`fingerprint.owner_of`).
    """

    arrow_name: ClassVar[str] = "series"
    arrow_attributes: ClassVar[dict[str, str]] = {"epoch_ms": "began_ms"}
    arrow_fields: ClassVar[dict[str, pa.DataType]] = {
        "upload_id": pa.string(),
        "handle": pa.string(),
        "series_key": pa.string(),
        "timezone": pa.string(),
        "start_seconds": pa.int64(),
        "glucose_centi_mgdl": pa.list_(pa.int32()),
        "warnings_json": pa.string(),
        "epoch_ms": pa.int64(),
        "force": pa.bool_(),
        "interpolated_points": pa.list_(pa.int32()),
        "owner": pa.string(),
    }

    upload_id: str
    handle: str
    series_key: str
    timezone: str
    start_seconds: int
    glucose_centi_mgdl: list[int]
    warnings_json: str
    began_ms: int
    force: bool = False
    interpolated_points: list[int] = dataclasses.field(default_factory=list)
    owner: str | None = None
