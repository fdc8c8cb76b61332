"""Handles as Parquet files: everything needed to serve them again from an empty cluster.

A file holds one row a sample, its fan chart as JSON, and in the schema's metadata the outcomes of the uploads that gave
the handle. The series itself is put together from the charts' windows and proven by the handle, which is its hash.
"""

import dataclasses
import datetime
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from agents.core.fingerprint import handle_of, owned, to_centi
from query_api.holders import EVERYBODY, Holder
from schemas.errors import RejectedError, UnknownHandleError
from schemas.fan_chart import FanChart
from schemas.grid import HORIZON_STEPS, PAST_POINTS, STEP_SECONDS
from schemas.upload import UploadOutcome

VERSION = 1
_METADATA = b"glucast-saved-handle"
_HANDLE = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True)
class SavedHandle:
    """A handle, the outcomes of its uploads (one a different file) and its fan charts by sample."""

    handle: str
    outcomes: tuple[UploadOutcome, ...]
    charts: Mapping[int, FanChart]

    @property
    def owner(self) -> str | None:
        """Whose it is; None: everybody's."""
        return self.outcomes[0].owner


@dataclasses.dataclass(frozen=True, slots=True)
class Points:
    """A unified series: glucose in hundredths of mg/dL, 5 minutes apart, from `start_seconds` of local time."""

    start_seconds: int
    centi: list[int]
    interpolated_points: list[int]
    """Places of those that were not measured, as far as the charts say."""


def checked_handle(text: str) -> str:
    """The text if it is a handle. Raises `RejectedError`: nothing else may ever become part of a path."""
    if not _HANDLE.fullmatch(text):
        raise RejectedError("a handle is 64 hexadecimal digits")
    return text


def points_of(saved: SavedHandle) -> Points:
    """The series behind the charts. Raises `RejectedError` where they do not cover it or do not give its hash."""
    outcome = saved.outcomes[0]
    known: dict[int, float] = {}
    interpolated: set[int] = set()
    start_seconds = 0
    for index, chart in saved.charts.items():
        first = outcome.points - PAST_POINTS - HORIZON_STEPS + index  # of the window, as a place in the series
        values = [*chart.past_mgdl, *chart.truth_mgdl]
        known.update({first + step: value for step, value in enumerate(values) if value is not None})
        interpolated.update(first + step for step in chart.interpolated_points)
        local = chart.issue_time.replace(tzinfo=datetime.UTC).timestamp()
        start_seconds = int(local) - (first + PAST_POINTS - 1) * STEP_SECONDS
    count = outcome.points
    if not all(place in known for place in range(count)):
        raise RejectedError("not enough samples of this handle have been computed to save it; try again when more are")
    centi = [to_centi(known[place]) for place in range(count)]
    if owned(handle_of(outcome.timezone, start_seconds, centi), outcome.owner) != saved.handle:
        raise RejectedError("the stored forecasts do not give the series that the handle names")
    return Points(start_seconds, centi, sorted(interpolated & set(range(count))))


def save(directory: Path, saved: SavedHandle) -> None:
    """Write ``<handle>.parquet``, an owner's in a directory of theirs, whole or not at all.

    Raises `RejectedError` for what could not be restored.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    points_of(saved)
    if saved.owner is not None:
        directory /= saved.owner
    path = _path(directory, saved.handle)
    about = {
        "version": VERSION,
        "handle": saved.handle,
        "outcomes": [item.to_json().decode() for item in saved.outcomes],
    }
    schema = pa.schema([("index", pa.int32()), ("fan_chart", pa.string())], {_METADATA: orjson.dumps(about)})
    rows = sorted(saved.charts.items())
    table = pa.table(
        [[index for index, _ in rows], [chart.to_json().decode() for _, chart in rows]], schema=schema
    )  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=directory, suffix=".part", delete=False) as part:
        try:
            pq.write_table(table, part, compression="zstd")
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).replace(path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def load(directory: Path, handle: str, holder: Holder = EVERYBODY) -> SavedHandle:
    """Raises `UnknownHandleError` without such a file, `RejectedError` for a file that is not one of these."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = next((path for place in _places(directory, holder) if (path := _path(place, handle)).is_file()), None)
    if path is None:
        raise UnknownHandleError("this handle has not been saved")
    try:
        table = pq.read_table(path, memory_map=False)
        about = orjson.loads((table.schema.metadata or {})[_METADATA])
        outcomes = tuple(UploadOutcome.from_json(text.encode()) for text in about["outcomes"])
        rows: Sequence[Mapping[str, str]] = table.to_pylist()
        charts = {int(row["index"]): FanChart.from_json(row["fan_chart"].encode()) for row in rows}
        saved = SavedHandle(handle, outcomes, charts)
        if not outcomes or not holder.holds(saved.owner):
            raise RejectedError("the saved file is of another handle")
        if about["handle"] != handle or any(
            (outcome.handle, outcome.owner) != (handle, saved.owner) for outcome in outcomes
        ):
            raise RejectedError("the saved file is of another handle")
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise RejectedError("the saved file is damaged or was not written by this version") from None
    points_of(saved)
    return saved


def saved_count(directory: Path, holder: Holder = EVERYBODY) -> int:
    """How many handles are saved that they hold."""
    found = (path for place in _places(directory, holder) for path in place.glob("*.parquet"))
    return sum(1 for path in found if _HANDLE.fullmatch(path.stem))


def forget(directory: Path, owner: str) -> None:
    """Remove all that is saved of an owner."""
    shutil.rmtree(directory / checked_handle(owner), ignore_errors=True)


def _places(directory: Path, holder: Holder) -> list[Path]:
    """Where files of theirs may lie."""
    if holder.owner is not None:
        return [directory / owner for owner in sorted(holder.owners)]
    return [directory, *(path for path in directory.glob("*") if path.is_dir() and _HANDLE.fullmatch(path.name))]


def _path(directory: Path, handle: str) -> Path:
    return directory / f"{checked_handle(handle)}.parquet"
