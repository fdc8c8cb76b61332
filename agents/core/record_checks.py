"""What must hold of a record in Arrow before anything is made of it: its columns have their types, and no more.

What does not say whose it is can have no outcome: it is malformed, and a dead letter. What says it and cannot be worked
with is implausible: whoever asked is told in an outcome.
"""

import re
from typing import Any

from agents.core import fingerprint
from agents.core.local_time import zone
from agents.core.past_hours import HOURS_VERSION
from schemas.errors import ImplausibleError, MalformedRecordError
from schemas.forecast import ForecastRequest, ForecastWindow
from schemas.grid import (
    CENTI,
    HIGHEST_MGDL,
    HORIZON_STEPS,
    LOWEST_MGDL,
    MOST_INTERPOLATED,
    PAST_HOURS,
    PAST_POINTS,
    STEP_SECONDS,
    WINDOW_POINTS,
)
from schemas.record import LATEST_MS, LONGEST_NAME, SUBJECT_PATTERN
from schemas.series import Series

MOST_SAMPLES = 200
MOST_POINTS = 20_160 * 60 // STEP_SECONDS + 1
"""Of a series: the longest that `maximum_wanted_duration` lets a file give."""
EARLIEST_SECONDS, LATEST_SECONDS = -2_208_988_800, 253_370_764_799
"""Local times from 1900 to 9998: what lies a day around them can still be named as a date."""
_DIGEST = re.compile("[0-9a-f]{64}")
_SUBJECT = re.compile(SUBJECT_PATTERN)
_LOWEST, _HIGHEST = round(LOWEST_MGDL * CENTI), round(HIGHEST_MGDL * CENTI)


def is_digest(value: Any) -> bool:
    """Whether it is a SHA-256 digest in lower-case hexadecimal."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def is_name(value: Any) -> bool:
    """Whether an id or key that others chose is one."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable() and "/" not in value


def is_glucose(centi: int | None) -> bool:
    """Whether it is a number of hundredths of mg/dL that a living person can have."""
    return centi is not None and _LOWEST <= centi <= _HIGHEST


def check_names(window: ForecastWindow) -> None:
    """Raises `MalformedRecordError` for a window that not even an outcome could answer."""
    what = window.arrow_name
    names = (window.request_id, window.series_key, window.subject_id or "-", window.demand_id or "-")
    if not all(isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable() for name in names):
        raise MalformedRecordError(f"not a valid {what}: its ids are missing or too long")
    if "/" in window.series_key:  # it separates the parts of keys
        raise MalformedRecordError(f"not a valid {what}: its series_key holds a slash")
    if window.replay_id is not None and not (is_name(window.replay_id) and window.kind == "live"):
        raise MalformedRecordError(f"not a valid {what}: replayed are live forecasts, under a name of the replay")
    if window.handle is not None and not is_digest(window.handle):
        raise MalformedRecordError(f"not a valid {what}: handle is no SHA-256 digest")
    if window.kind == "live":
        if window.subject_id != window.series_key or not _SUBJECT.fullmatch(window.series_key):
            raise MalformedRecordError(f"not a valid {what}: a live one is keyed by its subject's id")
    elif window.kind != "sample" or window.handle is None or window.index is None:
        raise MalformedRecordError(f"not a valid {what}: it is neither live nor a sample of a handle with its index")


def check_window(window: ForecastWindow) -> None:
    """Raises `ImplausibleError`, in words for whoever asked, for a window that no forecast can be made of."""
    past = window.past_centi_mgdl
    if past is None or len(past) != PAST_POINTS or None in past:
        raise ImplausibleError(f"a window has {PAST_POINTS} known points, this one has not")
    truth = window.truth_centi_mgdl
    if truth is None or len(truth) > HORIZON_STEPS:
        raise ImplausibleError(f"at most {HORIZON_STEPS} points may follow a window")
    known = [*past, *(value for value in truth if value is not None)]
    if min(known) < _LOWEST or max(known) > _HIGHEST:
        raise ImplausibleError(f"glucose of a window must lie in {LOWEST_MGDL:.0f}..{HIGHEST_MGDL:.0f} mg/dL")
    if not 2 <= (window.num_samples or 0) <= MOST_SAMPLES:
        raise ImplausibleError(f"num_samples must lie in 2..{MOST_SAMPLES}")
    end, began_ms = window.end_seconds, window.began_ms
    if window.seed is None or end is None or not EARLIEST_SECONDS <= end <= LATEST_SECONDS:
        raise ImplausibleError("the window's time or the seed is missing or out of range")
    if began_ms is None or not 0 <= began_ms <= LATEST_MS or window.timezone is None or window.simulated is None:
        raise ImplausibleError("when the request began, its timezone or its kind of clock is missing or out of range")
    if window.revision is None or window.revision < 0:
        raise ImplausibleError("which revision of its time the window is is missing or out of range")
    zone(window.timezone)
    _check_interpolated(window.interpolated_points)
    changed = window.changed_points
    if (
        changed is None
        or len(changed) > PAST_POINTS
        or not all(type(place) is int and 0 <= place < PAST_POINTS for place in changed)
    ):
        raise ImplausibleError(f"another sensor begins at places from 0 to {PAST_POINTS - 1}")
    if window.warnings is None or None in window.warnings:
        raise ImplausibleError("the warnings of a window are texts")


def _check_interpolated(places: list[int] | None) -> None:
    if places is None or not all(type(place) is int and 0 <= place < WINDOW_POINTS for place in places):
        raise ImplausibleError(f"interpolated points have places from 0 to {WINDOW_POINTS - 1}")
    past = sum(place < PAST_POINTS for place in set(places))
    if past > MOST_INTERPOLATED:
        raise ImplausibleError(
            f"{past} of the last {PAST_POINTS} points are interpolated, {MOST_INTERPOLATED} may be: a forecast needs a "
            "reading every quarter of an hour"
        )


def check_hours(request: ForecastRequest) -> None:
    """Raises `ImplausibleError` for hours before a window that are none, or made by a rule that is not known here."""
    hours, version = request.hours_centi_mgdl, request.hours_version
    if hours is None or len(hours) > PAST_HOURS or version != (HOURS_VERSION if hours else 0):
        raise ImplausibleError(
            f"the hours before a window are at most {PAST_HOURS}, of version {HOURS_VERSION}: this request has "
            f"{len(hours or ())} of version {version}; update the inference workers where that is newer"
        )
    if hours and (hours[0] is None or not all(hour is None or is_glucose(hour) for hour in hours)):
        raise ImplausibleError("the hours before a window begin with one that is known, and are glucose")


def check_series(series: Series) -> None:
    """Raises `RejectedError` for a series that is none, or not the one that its handle and key name."""
    if not all(map(is_digest, (series.upload_id, series.handle, series.series_key))):
        raise MalformedRecordError("not a valid series: upload_id, handle and series_key are SHA-256 digests")
    if series.owner is not None and not is_digest(series.owner):
        raise MalformedRecordError("not a valid series: its owner is not a SHA-256 digest")
    if series.timezone is None or series.warnings_json is None or series.force is None:
        raise MalformedRecordError("not a valid series: timezone, warnings_json or force is missing")
    if series.began_ms is None or not 0 <= series.began_ms <= LATEST_MS:
        raise MalformedRecordError("not a valid series: when its upload began is missing or out of range")
    centi, start = series.glucose_centi_mgdl, series.start_seconds
    if centi is None or not PAST_POINTS <= len(centi) <= MOST_POINTS or not all(map(is_glucose, centi)):
        raise MalformedRecordError(
            f"not a valid series: it has {PAST_POINTS} to {MOST_POINTS} points of {LOWEST_MGDL:.0f} to "
            f"{HIGHEST_MGDL:.0f} mg/dL"
        )
    interpolated = series.interpolated_points
    if interpolated is None or not all(place is not None and 0 <= place < len(centi) for place in interpolated):
        raise MalformedRecordError("not a valid series: an interpolated point has no place in it")
    if start is None or not EARLIEST_SECONDS <= start <= LATEST_SECONDS - len(centi) * STEP_SECONDS:
        raise MalformedRecordError("not a valid series: its time is missing or out of range")
    zone(series.timezone)
    handle = fingerprint.handle_of(series.timezone, start, centi)
    if series.handle != fingerprint.owned(handle, series.owner):
        raise MalformedRecordError("not a valid series: its handle is not the hash of its points")
    tail = fingerprint.tail_key(fingerprint.suffix_chain(start, centi))
    if series.series_key != fingerprint.owned(tail, series.owner):
        raise MalformedRecordError("not a valid series: its series_key is not the hash of its last points")
