"""A vendor's export in, one gap-free series of glucose on a 5-minute grid out. Blocking: run it off the event loop.

bytes ─▶ decoding ─▶ catalogue: whose format? ─▶ its rows ─▶ tracks, its parser ─▶ plausible ─▶ stretch, on the grid
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from agents.core.fingerprint import to_centi
from agents.core.local_time import spoken, wall_clock, zone
from agents.ingest.files.catalogue import FORMATS, recognised, supported
from agents.ingest.files.decoding import decoded
from agents.ingest.files.format import VendorFormat
from agents.ingest.files.plausible import plausible
from agents.ingest.files.stretch import Stretch, newest_stretch
from agents.ingest.files.tracks import Clock, Tracks, rows_of, tracks_of
from schemas.errors import RejectedError, TooShortError, UnknownFormatError
from schemas.upload import ProcessingWarnings

if TYPE_CHECKING:
    import polars as pl


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """How much gap-free glucose is needed, and how much of it, counted from its end, is used."""

    minimum_minutes: int = 540
    maximum_minutes: int = 1080


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UnifiedFile:
    """The newest usable stretch of a file: points 5 minutes apart, in hundredths of mg/dL, oldest first.

    `interpolated_points` are the places of those that nobody measured.

    `start_seconds` is the file's own wall clock, counted from 1970-01-01T00:00; `timezone` says which that is. Where
    the clocks change between the first and the last point, it is the fixed offset in force at the last.
    """

    format_name: str
    timezone: str
    start_seconds: int
    centi: list[int]
    interpolated_points: list[int]
    warnings: ProcessingWarnings


def unify_file(
    raw: bytes | None, timezone: str, rules: Rules, formats: Sequence[VendorFormat] = FORMATS
) -> UnifiedFile:
    """Read a file of any of the formats.

    Raises `UnknownFormatError`, `TooShortError` or `ImplausibleError` (a timezone that does not exist included), and
    nothing else: whatever a parser stumbles over is a file that cannot be read.
    """
    from polars.exceptions import PanicException

    zone(timezone)
    text, notes = decoded(raw, supported(formats))
    vendor_format = _recognised(text, formats)
    try:
        text, cut = vendor_format.whole(text)
        tracks = tracks_of(text, vendor_format, timezone, rules.minimum_minutes)
        try:
            stretch, times, coded = _used(tracks, rules)
        except TooShortError:
            if tracks.older is None:
                raise
            tracks = tracks_of(text, vendor_format, timezone)
            stretch, times, coded = _used(tracks, rules)
        notes += vendor_format.notes(text, times) + cut + tracks.notes + coded
        tracks.check(stretch.track, stretch.start_seconds, stretch.end_seconds)
        timezone, start_seconds = tracks.clock.named(stretch.start_seconds, stretch.end_seconds)
        flags = stretch.flags | _passed_over(stretch, tracks.clock)
    except (RejectedError, MemoryError):
        raise
    except (Exception, PanicException):
        raise _unreadable(vendor_format) from None
    return UnifiedFile(
        format_name=vendor_format.name,
        timezone=timezone,
        start_seconds=start_seconds,
        centi=[to_centi(value) for value in stretch.values_mgdl],
        interpolated_points=stretch.interpolated_points,
        warnings=_warnings(flags, notes),
    )


def _used(tracks: Tracks, rules: Rules) -> "tuple[Stretch, pl.Series, list[str]]":
    """The stretch that is used, the times of the file's events, and what has to be said about codes of errors."""
    frame, times, coded = plausible(tracks.frame, tracks.older)
    return newest_stretch(frame, rules.minimum_minutes, rules.maximum_minutes), times, coded


def _passed_over(stretch: Stretch, clock: Clock) -> dict[str, str]:
    """What has to be said about a newer stretch that is too short: in its own clock, and where that is another's."""
    if stretch.passed_over is None:
        return {}
    minutes, newest = stretch.passed_over
    ends = []
    for end in (newest, stretch.end_seconds):
        timezone, seconds = clock.named(end, end)
        ends.append(f"{wall_clock(seconds)}{'' if timezone == clock.timezone else f' {timezone}'}")
    return {
        "QUALITY": f"The newest gap-free stretch, {spoken(minutes)} until {ends[0]}, is too short; an older one until "
        f"{ends[1]} is used"
    }


class Converted(NamedTuple):
    """A file in the unified CSV format, and what has to be said about it."""

    text: str
    notes: list[str]


def to_unified_csv(raw: bytes | None, formats: Sequence[VendorFormat] = FORMATS) -> Converted:
    """The whole file in the unified CSV format, not cleaned. Raises `UnknownFormatError`."""
    from cgm_format import FormatParser
    from polars.exceptions import PanicException

    text, notes = decoded(raw, supported(formats))
    vendor_format = _recognised(text, formats)
    try:
        text, cut = vendor_format.whole(text)
        rows = rows_of(text, vendor_format)
        text = text if rows is None or rows.text is None else rows.text
        converted = str(FormatParser.to_csv_string(vendor_format.parse(text)))
        clock = ["CLOCK: The times are UTC: send the result with timezone UTC"] if rows and rows.utc else []
        return Converted(converted, notes + cut + clock + list(rows.notes if rows else ()))
    except (RejectedError, MemoryError):
        raise
    except (Exception, PanicException):
        raise _unreadable(vendor_format) from None


def _recognised(text: str, formats: Sequence[VendorFormat]) -> VendorFormat:
    logging.getLogger("cgm_format").setLevel(logging.ERROR)  # its warnings quote rows of the file
    return recognised(text, formats)


def _unreadable(vendor_format: VendorFormat) -> UnknownFormatError:
    return UnknownFormatError(
        f"the file looks like {vendor_format.name}, but its rows or columns are incomplete or damaged, or hold no "
        "glucose: export it again and send it unedited"
    )


def _warnings(flags: dict[str, str], notes: list[str]) -> ProcessingWarnings:
    messages = tuple([f"{name}: {text}" for name, text in flags.items()] + notes)
    return ProcessingWarnings(
        has_warnings=bool(messages),
        calibration="CALIBRATION" in flags,
        quality="QUALITY" in flags,
        imputation="IMPUTATION" in flags,
        out_of_range=any(message.startswith("OUT_OF_RANGE") for message in messages),
        time_duplicates="TIME_DUPLICATES" in flags,
        messages=messages,
    )
