"""What is stored of uploads that share their last points: the series themselves and what was asked for each.

One table row holds all series of one tail, so that a series and every longer one whose suffix it may be lie together.
"""

import dataclasses
import json
from bisect import bisect_left
from typing import Any

from agents.core import fingerprint
from agents.core.local_time import wall_clock
from agents.core.past_hours import HOURS_VERSION, Sum, add, hours_before
from schemas.errors import UnknownHandleError
from schemas.forecast import ForecastRequest
from schemas.grid import (
    CENTI,
    HIGHEST_MGDL,
    HORIZON_STEPS,
    LOWEST_MGDL,
    PAST_POINTS,
    STEP_SECONDS,
    WINDOW_POINTS,
)
from schemas.series import Series
from schemas.upload import ProcessingWarnings, UploadOutcome

MOST_ENTRIES = 8
MOST_UPLOADS = 32
BETWEEN = "IMPUTATION: The last known point lies between two readings, of which this forecast has seen the later one"
_VERSION = 1
_LOWEST, _HIGHEST = round(LOWEST_MGDL * CENTI), round(HIGHEST_MGDL * CENTI)


@dataclasses.dataclass(slots=True, kw_only=True)
class StoredSeries:
    """One series. `asked` maps a recipe (model, number of samples, seed) to the offset of the message that asked.

    `warnings` are of the file that gave it first; `own_warnings` of an upload whose file had others.
    """

    handle: str
    timezone: str
    start_seconds: int
    centi: list[int]
    began_ms: int
    upload_ids: list[str]
    warnings: dict[str, Any]
    own_warnings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    asked: dict[str, int] = dataclasses.field(default_factory=dict)
    served_by: str | None = None
    interpolated_points: list[int] = dataclasses.field(default_factory=list)
    owner: str | None = None
    _sums: dict[int, Sum] = dataclasses.field(init=False, default_factory=dict)

    @classmethod
    def of(cls, series: Series) -> "StoredSeries":
        return cls(
            handle=series.handle,
            timezone=series.timezone,
            start_seconds=series.start_seconds,
            centi=list(series.glucose_centi_mgdl),
            began_ms=series.began_ms,
            upload_ids=[],
            warnings=_warnings_of(series),
            interpolated_points=list(series.interpolated_points),
            owner=series.owner,
        )

    def came_again(self, series: Series) -> list[str]:
        """A file gave these points: the first, the same once more, or another.

        Returns the uploads that it lets go for it: nobody could retract them once they are not remembered.
        """
        self.began_ms = max(self.began_ms, series.began_ms)
        known = dict.fromkeys([*self.upload_ids, series.upload_id])
        let_go, self.upload_ids = [*known][:-MOST_UPLOADS], [*known][-MOST_UPLOADS:]
        found = {**self.own_warnings, series.upload_id: _warnings_of(series)}
        self.own_warnings = {
            upload: found[upload] for upload in self.upload_ids if found.get(upload, self.warnings) != self.warnings
        }
        return let_go

    @property
    def end_seconds(self) -> int:
        return self.start_seconds + (len(self.centi) - 1) * STEP_SECONDS

    @property
    def total_samples(self) -> int:
        """Windows whose target hour is recorded too: points - 107."""
        return max(0, len(self.centi) - PAST_POINTS - HORIZON_STEPS + 1)

    @property
    def first_index(self) -> int:
        """The oldest index: -(N - 1); positive where less than one target hour is recorded."""
        return PAST_POINTS + HORIZON_STEPS - len(self.centi)

    def indexes(self) -> list[int]:
        """All indexes in the order of their urgency: 0, 12, then -1 and older, then 11 to 1."""
        order = [0, HORIZON_STEPS, *range(-1, self.first_index - 1, -1), *range(HORIZON_STEPS - 1, 0, -1)]
        return [index for index in order if index >= self.first_index]

    def is_suffix_of(self, longer: "StoredSeries") -> bool:
        """Whether `longer` ends in these points at these times of the same timezone, by their chained hashes."""
        own, other = len(self.centi), len(longer.centi)
        if own >= other or self.timezone != longer.timezone or self.end_seconds != longer.end_seconds:
            return False
        chain = fingerprint.suffix_chain(self.start_seconds, self.centi)
        return chain[own] == fingerprint.suffix_chain(longer.start_seconds, longer.centi)[own]

    def outcome(self, upload_id: str, series_key: str) -> UploadOutcome:
        """The outcome of one of its uploads."""
        return UploadOutcome(
            upload_id=upload_id,
            status="accepted",
            handle=self.handle,
            series_key=series_key,
            began_ms=self.began_ms,
            points=len(self.centi),
            total_samples=self.total_samples,
            first_time=wall_clock(self.start_seconds).isoformat(),
            last_time=wall_clock(self.end_seconds).isoformat(),
            timezone=self.timezone,
            served_by=self.served_by,
            warnings=ProcessingWarnings.model_validate(self.own_warnings.get(upload_id, self.warnings)),
            owner=self.owner,
        )

    def request(
        self, series_key: str, index: int, num_samples: int, seed: int, force: str | None = None
    ) -> ForecastRequest:
        """The request for one index. `force` names the demand for a computation whose result may be known.

        Raises IndexError outside `first_index`..12.
        """
        if not self.first_index <= index <= HORIZON_STEPS:
            raise IndexError(f"index {index} is outside {self.first_index}..{HORIZON_STEPS}")
        end = len(self.centi) - 1 - HORIZON_STEPS + index
        start = end - PAST_POINTS + 1
        past = self.centi[start : end + 1]
        end_seconds = self.start_seconds + end * STEP_SECONDS
        hours = hours_before(self._hour_sums(), end_seconds // STEP_SECONDS)
        digest = fingerprint.input_hash(end_seconds, past, hours)
        place = fingerprint.handle_place(self.handle, index)
        interpolated = self._interpolated_in(start, start + WINDOW_POINTS)
        return ForecastRequest(
            request_id=fingerprint.request_id("sample", series_key, place, digest, num_samples, seed, force),
            kind="sample",
            series_key=series_key,
            handle=self.handle,
            index=index,
            began_ms=self.began_ms,
            timezone=self.timezone,
            end_seconds=end_seconds,
            past_centi_mgdl=past,
            truth_centi_mgdl=list(self.centi[end + 1 : end + 1 + HORIZON_STEPS]),
            input_hash=digest,
            num_samples=num_samples,
            seed=seed,
            warnings=[*self.warnings.get("messages", ()), *([BETWEEN] if PAST_POINTS - 1 in interpolated else [])],
            interpolated_points=interpolated,
            force=force is not None,
            hours_version=HOURS_VERSION if hours else 0,
            hours_centi_mgdl=hours,
        )

    def _hour_sums(self) -> dict[int, Sum]:
        """Of all points, the interpolated ones too: the handle hashes the points, and not which of them they are."""
        if not self._sums:
            first = self.start_seconds // STEP_SECONDS
            add(self._sums, ((first + place, centi) for place, centi in enumerate(self.centi)))
        return self._sums

    def _interpolated_in(self, start: int, stop: int) -> list[int]:
        """Places counted from `start`, of the interpolated points up to `stop`."""
        places = self.interpolated_points
        return [place - start for place in places[bisect_left(places, start) : bisect_left(places, stop)]]


def _warnings_of(series: Series) -> dict[str, Any]:
    return ProcessingWarnings.from_json(series.warnings_json.encode()).model_dump(mode="json")


def _row(series: StoredSeries) -> dict[str, Any]:
    """As stored; `began_ms` keeps the name that rows of earlier versions have."""
    row = {field.name: getattr(series, field.name) for field in dataclasses.fields(series) if field.init}
    return row | {"epoch_ms": row.pop("began_ms")}


@dataclasses.dataclass(slots=True)
class Tail:
    """All series of one `series_key`, in the order in which they came."""

    series: list[StoredSeries] = dataclasses.field(default_factory=list)

    @classmethod
    def from_bytes(cls, data: bytes | None) -> "Tail":
        """Inverse of `to_bytes`. Raises ValueError for another version's bytes, and for damaged ones."""
        if not data:
            return cls()
        document = json.loads(data)
        if document["version"] != _VERSION:
            raise ValueError(f"stored series of version {document['version']}, this is version {_VERSION}")
        tail = cls([StoredSeries(began_ms=row.pop("epoch_ms"), **row) for row in document["series"]])
        if not all(type(each) is int and _LOWEST <= each <= _HIGHEST for held in tail.series for each in held.centi):
            raise ValueError("a stored series of glucose that cannot be: the row is damaged")
        return tail

    def to_bytes(self) -> bytes:
        document = {
            "version": _VERSION,
            "series": [_row(series) for series in self.series],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    def find(self, handle: str) -> StoredSeries:
        """Raises `UnknownHandleError`."""
        for series in self.series:
            if series.handle == handle:
                return series
        raise UnknownHandleError("nothing is stored under this handle: upload the file again")

    def longer_than(self, short: StoredSeries) -> str | None:
        """The handle of a stored series that ends in `short` and is not itself served by another."""
        for series in self.series:
            if series.served_by is None and short.is_suffix_of(series):
                return series.handle
        return None

    def remove(self, handles: set[str]) -> tuple[list[StoredSeries], list[StoredSeries]]:
        """Take series out: those removed, and those that stay but were served by a removed one."""
        removed = [series for series in self.series if series.handle in handles]
        self.series = [series for series in self.series if series.handle not in handles]
        orphans = [series for series in self.series if series.served_by in handles]
        for orphan in orphans:
            orphan.served_by = None
        return removed, orphans
