"""The newest gap-free stretch of a file that is long enough, on a 5-minute grid.

Gaps and grid are cgm-format's: gaps up to 15 minutes are interpolated linearly, half a step more included, because
sensors that show a value every quarter of an hour do not keep it to the second; the grid starts at the first event of a
stretch, rounded to a minute. How long a stretch is its glucose decides, whatever other events stand around it.
"""

from typing import TYPE_CHECKING, NamedTuple

from agents.core.local_time import spoken
from schemas.errors import ImplausibleError, TooShortError
from schemas.grid import HIGHEST_MGDL, LOWEST_MGDL, STEP_MINUTES, STEP_SECONDS

if TYPE_CHECKING:
    import polars as pl

SMALL_GAP_MAX_MINUTES = 15 + STEP_MINUTES / 2
"""17 min 30 s: what is 15 minutes on the grid."""


class Stretch(NamedTuple):
    """Points 5 minutes apart, oldest first."""

    start_seconds: int
    """The first point's wall clock, counted from 1970-01-01T00:00."""
    values_mgdl: list[float]
    flags: dict[str, str]
    """What the cleaning found: cgm-format's name of each warning and its description."""
    interpolated_points: list[int]
    """Places of points between readings, which nobody measured."""
    track: int = 0
    passed_over: tuple[int, int] | None = None
    """Of the newest stretch, where it is too short: its minutes, and its end in the clock of `start_seconds`."""

    @property
    def end_seconds(self) -> int:
        return self.start_seconds + (len(self.values_mgdl) - 1) * STEP_SECONDS


def newest_stretch(frame: "pl.DataFrame", minimum_minutes: int, maximum_minutes: int) -> Stretch:
    """The newest stretch of one `track` of `minimum_minutes`, cut to its newest `maximum_minutes`.

    Its length is what the glucose rows span, on the grid: (points - 1) * 5 minutes. Raises `TooShortError` where none
    is long enough, `ImplausibleError` for a grid that cannot be told.
    """
    import polars as pl

    frame = _in_sequences(frame)
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
        if minutes > minimum_minutes - STEP_MINUTES:  # the grid may round by one step
            found = _on_grid(frame.filter(pl.col("sequence_id") == sequence_id), maximum_minutes)
            minutes = (len(found.values_mgdl) - 1) * STEP_MINUTES
            if minutes >= minimum_minutes:
                return found._replace(track=sequence_id // _SEQUENCES, passed_over=skipped[0] if skipped else None)
        longest = max(longest, minutes)
        skipped.append((minutes, last))
    split = "; gaps over 17 min 30 s end a stretch" if len(skipped) > 1 else ""
    raise TooShortError(
        f"{spoken(longest)} of gap-free glucose; a forecast needs {spoken(minimum_minutes)}{split}: "
        "send a file with more data"
    )


_SEQUENCES = 1 << 32
"""Numbers of sequences that each track has for itself."""


def _in_sequences(frame: "pl.DataFrame") -> "pl.DataFrame":
    """The events with the number of the gap-free sequence that they belong to, without their track."""
    import polars as pl
    from cgm_format import FormatProcessor

    # cgm-format measures gaps in whole seconds and places readings to the millisecond: of 5 min 0.9 s it fills no gap,
    # and after enough of them one point of the grid is nobody's.
    frame = frame.with_columns(pl.col("datetime", "original_datetime").dt.truncate("1s"))
    tracks = []
    for number in sorted(frame["track"].unique()):
        track = FormatProcessor.detect_and_assign_sequences(
            frame.filter(pl.col("track") == number).drop("track"), large_gap_threshold_minutes=SMALL_GAP_MAX_MINUTES
        )
        tracks.append(track.with_columns(pl.col("sequence_id") + number * _SEQUENCES))
    joined: pl.DataFrame = pl.concat(tracks)
    return joined


def _on_grid(stretch: "pl.DataFrame", maximum_minutes: int) -> Stretch:
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
    kept = points.slice(breaks[-1] if len(breaks) else 0).tail(maximum_minutes // STEP_MINUTES + 1)
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
    places = ((kept["quality"] & Quality.IMPUTATION.value) != 0).arg_true().to_list()
    return Stretch(int(seconds[-len(kept)]), values, flags, places)
