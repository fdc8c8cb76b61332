"""A vendor's export in, one gap-free series of glucose on a 5-minute grid out. Blocking: run it off the event loop.

Formats, gaps and the grid are cgm-format's: gaps up to 15 minutes are interpolated linearly, the grid starts at the
first event of a stretch, rounded to a minute. What it lets pass is decided here: bytes that are no text, impossible
glucose, a unit that the header does not say, stretches whose length only other events make up.
"""

import dataclasses
import datetime
import json
import logging
import re
from typing import TYPE_CHECKING

from agents.core.fingerprint import to_centi
from agents.core.local_time import spoken, wall_clock, zone
from schemas.errors import ImplausibleError, RejectedError, TooShortError, UnknownFormatError
from schemas.grid import HIGHEST_MGDL, LOWEST_MGDL, STEP_MINUTES, STEP_SECONDS
from schemas.upload import ProcessingWarnings

if TYPE_CHECKING:
    import polars as pl

SMALL_GAP_MAX_MINUTES = 15
MOST_LINES, MOST_COLUMNS, LONGEST_LINE = 250_000, 80, 8192
_EARLIEST_YEAR, _LATEST_YEAR = 1900, 2200
_SUPPORTED = "Dexcom Clarity, FreeStyle Libre (LibreView), Medtronic CareLink, Nightscout and unified CSV"
_NAMES = {
    "dexcom": "Dexcom Clarity",
    "libre": "FreeStyle Libre",
    "medtronic": "Medtronic CareLink",
    "nightscout": "Nightscout",
    "unified": "unified CSV",
}
_BINARY = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a Parquet file",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """How much gap-free glucose is needed, and how much of it, counted from its end, is used."""

    minimum_minutes: int = 540
    maximum_minutes: int = 1080


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UnifiedFile:
    """The newest usable stretch of a file: points 5 minutes apart, in hundredths of mg/dL, oldest first.

    `start_seconds` is the file's own wall clock, counted from 1970-01-01T00:00; `timezone` says which that is.
    """

    format_name: str
    timezone: str
    start_seconds: int
    centi: list[int]
    warnings: ProcessingWarnings


def unify_file(raw: bytes | None, timezone: str, rules: Rules) -> UnifiedFile:
    """Read a file of any supported vendor.

    Raises `UnknownFormatError`, `TooShortError` or `ImplausibleError` (a timezone that does not exist included), and
    nothing else: whatever a parser stumbles over is a file that cannot be read.
    """
    from polars.exceptions import PanicException

    zone(timezone)
    text, notes = _decode(raw)
    format_name, frame = _parse(text)
    try:
        frame = _plausible(frame)
        notes += _date_order(format_name, text, frame)
        start_seconds, values, flags = _newest_stretch(frame, rules)
    except RejectedError:
        raise
    except (Exception, PanicException):
        raise _unreadable(format_name) from None
    return UnifiedFile(
        format_name=format_name,
        timezone=timezone,
        start_seconds=start_seconds,
        centi=[to_centi(value) for value in values],
        warnings=_warnings(flags, notes),
    )


def to_unified_csv(raw: bytes | None) -> str:
    """The whole file in the unified CSV format, not cleaned. Raises `UnknownFormatError`."""
    from cgm_format import FormatParser
    from polars.exceptions import PanicException

    text, _ = _decode(raw)
    format_name, frame = _parse(text)
    try:
        return str(FormatParser.to_csv_string(frame))
    except (Exception, PanicException):
        raise _unreadable(format_name) from None


def _decode(raw: bytes | None) -> tuple[str, list[str]]:
    """The file as text, and what has to be said about that."""
    if not raw or not raw.strip():
        raise UnknownFormatError("the file is empty: export it again and send the whole file")
    for magic, what in _BINARY.items():
        if raw.startswith(magic):
            raise UnknownFormatError(f"this is {what}, not a CGM export: send the CSV file of {_SUPPORTED}")
    head = raw[:4096]
    encoding = None
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif head[1::2].count(0) > len(head) // 4:
        encoding = "utf-16-le"
    elif head[0::2].count(0) > len(head) // 4:
        encoding = "utf-16-be"
    if encoding:
        try:
            return raw.decode(encoding).lstrip("\ufeff"), ["ENCODING: The file was in UTF-16 and was converted"]
        except UnicodeDecodeError:
            raise UnknownFormatError("the file looks like UTF-16 text and is damaged: save it as UTF-8 CSV") from None
    if b"\x00" in head:
        raise UnknownFormatError(f"the file is not text: send the CSV file of {_SUPPORTED}")
    from cgm_format import FormatParser

    text = str(FormatParser.decode_raw_data(raw))
    if text.count("\ufffd", 0, 4096) > 400:
        raise UnknownFormatError(f"the file is not text: send the CSV file of {_SUPPORTED}")
    return text, []


def _parse(text: str) -> tuple[str, "pl.DataFrame"]:
    """The vendor's name and the file in cgm-format's core columns, one row an event."""
    from cgm_format import FormatParser, FormatProcessor, MultiTrackSourceError
    from cgm_format import UnknownFormatError as NoFormatError
    from polars.exceptions import PanicException

    logging.getLogger("cgm_format").setLevel(logging.ERROR)  # its warnings quote rows of the file
    name = "Nightscout"
    is_json = re.match(r"\s*[\[{]", text) is not None
    if not is_json:
        _check_shape(text)
    try:
        if is_json:
            json.loads(text)  # what is not JSON would be read as a table, whatever its shape
            return name, FormatProcessor.to_core_df(FormatParser.parse_nightscout(text))
        vendor_format = FormatParser.detect_format(text)
        name = _NAMES.get(vendor_format.value.split("_")[0], vendor_format.value)
        return name, FormatProcessor.to_core_df(FormatParser.parse_to_unified(text, vendor_format))
    except NoFormatError:
        raise UnknownFormatError(
            f"no supported format was recognised: send the unedited CSV file of {_SUPPORTED}"
        ) from None
    except MultiTrackSourceError:
        raise UnknownFormatError("the file holds two sensors side by side: send one file a sensor") from None
    except (Exception, PanicException):
        raise _unreadable(name) from None


def _check_shape(text: str) -> None:
    """A table of more cells than any vendor writes would take minutes and gigabytes to find out that it is none."""
    if text.count("\n") > MOST_LINES or any(
        len(line) > LONGEST_LINE or max(map(line.count, ",;\t")) >= MOST_COLUMNS for line in text.split("\n")
    ):
        raise UnknownFormatError(
            f"the file is no CGM export: it has over {MOST_LINES} lines, {MOST_COLUMNS} columns or {LONGEST_LINE} "
            f"characters in a line; send the unedited CSV file of {_SUPPORTED}"
        )


def _unreadable(name: str) -> UnknownFormatError:
    return UnknownFormatError(
        f"the file looks like {name}, but its rows or columns are incomplete or damaged, or hold no glucose: "
        "export it again and send it unedited"
    )


def _plausible(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Rows with a time, glucose rows with a number. Raises `ImplausibleError` for impossible numbers and times."""
    import polars as pl

    reading = pl.col("event_type") == "EGV_READ"
    frame = frame.with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in ("glucose", "original_glucose")
    ).filter(pl.col("original_datetime").is_not_null() & (~reading | pl.col("glucose").is_not_null()))
    frame = frame.with_columns(pl.coalesce("original_glucose", "glucose").alias("original_glucose"))
    readings = frame.filter(reading)
    if readings.is_empty():
        raise TooShortError("the file holds no glucose readings: choose a time range with sensor data and export again")
    for name in ("glucose", "original_glucose"):
        _check_glucose(readings[name])
    years = frame["original_datetime"].dt.year()
    if not years.is_between(_EARLIEST_YEAR, _LATEST_YEAR).all():
        raise ImplausibleError(f"the file holds times outside {_EARLIEST_YEAR}..{_LATEST_YEAR}: export it again")
    return frame


def _date_order(format_name: str, text: str, frame: "pl.DataFrame") -> list[str]:
    """What has to be said where the dates of a file read as well with day and month exchanged."""
    days_first_or_months = format_name == _NAMES["libre"] or (
        format_name == _NAMES["nightscout"] and "/" in text[:4096]
    )
    if not days_first_or_months or int(frame["original_datetime"].dt.day().max()) > 12:  # type: ignore[arg-type]
        return []
    first: datetime.datetime = frame["original_datetime"].min()  # type: ignore[assignment]
    return [f"DATES: No day is after the 12th, so day and month may be exchanged; read as {first:%d %B %Y} onwards"]


def _check_glucose(values: "pl.Series") -> None:
    mean = float(values.mean() or 0.0)  # type: ignore[arg-type]
    if mean > HIGHEST_MGDL:
        raise ImplausibleError(
            f"the mean glucose would be {mean:.0f} mg/dL: the values look like mg/dL under a mmol/L header; "
            "set the unit in the vendor's software and export again"
        )
    if 0 < mean < LOWEST_MGDL:
        raise ImplausibleError(
            f"the mean glucose would be {mean:.1f} mg/dL: the values look like mmol/L under a mg/dL header; "
            "set the unit in the vendor's software and export again"
        )
    impossible = values.filter(~values.is_between(LOWEST_MGDL, HIGHEST_MGDL))
    if len(impossible):
        raise ImplausibleError(
            f"{len(impossible)} of {len(values)} glucose readings are impossible, the first is {impossible[0]:.0f} "
            f"mg/dL (possible is {LOWEST_MGDL:.0f} to {HIGHEST_MGDL:.0f}): correct or remove them and send it again"
        )


def _newest_stretch(frame: "pl.DataFrame", rules: Rules) -> tuple[int, list[float], dict[str, str]]:
    """First time (wall clock seconds), values and warnings of the newest stretch that is long enough.

    Its length is what the glucose rows span, on the grid: (points - 1) * 5 minutes.
    """
    import polars as pl
    from cgm_format import FormatProcessor

    frame = FormatProcessor.detect_and_assign_sequences(frame, large_gap_threshold_minutes=SMALL_GAP_MAX_MINUTES)
    time = pl.col("original_datetime").dt.epoch("s")
    stretches = (
        frame.filter(pl.col("event_type") == "EGV_READ")
        .group_by("sequence_id")
        .agg(first=time.min(), last=time.max())
        .sort("last", descending=True)
    )
    longest = 0
    skipped: list[tuple[int, int]] = []
    for sequence_id, first, last in stretches.iter_rows():
        minutes = (last - first) // 60
        if minutes > rules.minimum_minutes - STEP_MINUTES:  # the grid may round by one step
            start, values, flags = _on_grid(frame.filter(pl.col("sequence_id") == sequence_id), rules)
            minutes = (len(values) - 1) * STEP_MINUTES
            if minutes >= rules.minimum_minutes:
                if skipped:
                    flags["QUALITY"] = (
                        f"The newest gap-free stretch, {spoken(skipped[0][0])} until {wall_clock(skipped[0][1])}, is "
                        f"too short; an older one until {wall_clock(start + minutes * 60)} is used"
                    )
                return start, values, flags
        longest = max(longest, minutes)
        skipped.append((minutes, last))
    split = f"; gaps over {SMALL_GAP_MAX_MINUTES} min end a stretch" if len(skipped) > 1 else ""
    raise TooShortError(
        f"{spoken(longest)} of gap-free glucose; a forecast needs {spoken(rules.minimum_minutes)}{split}: "
        "send a file with more data"
    )


def _on_grid(stretch: "pl.DataFrame", rules: Rules) -> tuple[int, list[float], dict[str, str]]:
    """One stretch on its grid, cut to the newest wanted minutes: first time, values, warnings by name."""
    import polars as pl
    from cgm_format import FormatProcessor, ProcessingWarning, Quality, WarningDescription

    stretch = FormatProcessor.interpolate_gaps(
        stretch, expected_interval_minutes=STEP_MINUTES, small_gap_max_minutes=SMALL_GAP_MAX_MINUTES
    )
    stretch = FormatProcessor.synchronize_timestamps(stretch, expected_interval_minutes=STEP_MINUTES)
    rows = stretch.filter(pl.col("event_type") == "EGV_READ").sort("datetime")
    points = rows.unique("datetime", keep="first", maintain_order=True)
    seconds = points["datetime"].dt.epoch("s")
    breaks = (seconds.diff() != STEP_SECONDS).arg_true()
    kept = points.slice(breaks[-1] if len(breaks) else 0).tail(rules.maximum_minutes // STEP_MINUTES + 1)
    values: list[float] = kept["glucose"].to_list()
    if any(value is None or not LOWEST_MGDL <= value <= HIGHEST_MGDL for value in values):
        raise ImplausibleError("the glucose between the readings cannot be told: export the file again")
    first, last = kept["datetime"][0], kept["datetime"][-1]
    used = rows.filter(pl.col("datetime") >= first)
    quality = used["quality"].to_list()
    calibrations = stretch.filter(
        (pl.col("event_type") == "CALIBRAT") & pl.col("datetime").is_between(first, last)
    ).height
    found = {
        ProcessingWarning.CALIBRATION: calibrations or any(q & Quality.SENSOR_CALIBRATION.value for q in quality),
        ProcessingWarning.OUT_OF_RANGE: any(q & Quality.OUT_OF_RANGE.value for q in quality),
        ProcessingWarning.IMPUTATION: any(q & Quality.IMPUTATION.value for q in quality),
        ProcessingWarning.TIME_DUPLICATES: used.height > kept.height,
        ProcessingWarning.SYNCHRONIZATION: (used["datetime"] != used["original_datetime"]).any(),
    }
    flags = {str(flag.name): str(WarningDescription[str(flag.name)].value) for flag, seen in found.items() if seen}
    return int(seconds[-len(kept)]), values, flags


def _warnings(flags: dict[str, str], notes: list[str]) -> ProcessingWarnings:
    messages = tuple([f"{name}: {text}" for name, text in flags.items()] + notes)
    return ProcessingWarnings(
        has_warnings=bool(messages),
        calibration="CALIBRATION" in flags,
        quality="QUALITY" in flags,
        imputation="IMPUTATION" in flags,
        out_of_range="OUT_OF_RANGE" in flags,
        time_duplicates="TIME_DUPLICATES" in flags,
        messages=messages,
    )
