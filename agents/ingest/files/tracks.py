"""Which readings of a file may be joined, and when they were measured.

A track is what one sensor measured on one clock. Readings of two tracks are never joined. They part where two sources
say different things at the same time, and where a clock was set back by an hour that the file's zone does not know of.
Where the zone does know, the two passes of the repeated hour are told apart by the file's own order, and left out where
that cannot tell. Everything is then told in one clock of a fixed offset, in which no hour is missing or comes twice.
"""

import bisect
import datetime
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from agents.core.local_time import offset_text, zone
from agents.ingest.files.format import VendorFormat
from agents.ingest.files.plausible import is_code
from agents.ingest.files.rows import Rows
from schemas.errors import ImplausibleError

if TYPE_CHECKING:
    import polars as pl

_DAY = 86_400
_GAP_SECONDS = 1800
"""More than any gap that is filled: what lies around it is never one stretch."""
_MANY_READINGS = 2000
"""A week of one in five minutes. To leave fewer out saves less than it costs where what remains does not suffice."""
_MOST_SEGMENTS = 20
_NEAR_SECONDS = 150
"""Half of the five minutes between readings of most sensors."""
_SHOWN_TWICE_MGDL, _NOISE_MGDL, _SCAN_NOISE_MGDL, _MGDL_A_MINUTE = 5.0, 10.0, 25.0, 4.0
"""By how much two readings of the same time may differ: of a sensor shown by two devices, of one sensor, where one of
them may be a scan (those of a Libre 3 over two weeks: 24 at most), and for each minute between them."""
_STRONG, _WEAK = 4, 6
"""So many pairs of readings that disagree strongly where one may be a scan, or weakly, are two series and no noise."""


class Change(NamedTuple):
    """A change of a zone's clocks, in Unix seconds, and the offsets around it."""

    at: int
    before: int
    after: int


class Clock(NamedTuple):
    """The one clock of a file's tracks: its offset, and the changes of the zone's own clocks in the file's time."""

    timezone: str
    base: int = 0
    changes: tuple[Change, ...] = ()

    def named(self, start_seconds: int, end_seconds: int) -> tuple[str, int]:
        """The zone of a stretch and its start in that: the file's; the offset at its end if clocks change around it."""
        if not self.changes:
            return self.timezone, start_seconds
        first, last = start_seconds - self.base, end_seconds - self.base
        offset = next((change.after for change in reversed(self.changes) if change.at <= last), self.changes[0].before)
        changed = any(  # or a point's wall clock comes twice, and by its zone would be the earlier one
            change.at <= last and first < change.at + max(0, change.before - change.after) for change in self.changes
        )
        fixed = datetime.timezone(datetime.timedelta(seconds=offset))
        timezone = offset_text(datetime.datetime.fromtimestamp(last, fixed)) if changed else self.timezone
        return timezone, first + offset


class Tracks(NamedTuple):
    """`frame`: the file's events, with the number of their `track`, in `clock`."""

    frame: "pl.DataFrame"
    clock: Clock
    notes: list[str]
    readings: "pl.DataFrame | None"
    """The readings as the file lists them, with `time` (seconds in the clock), `track` and `strict`."""
    older: "pl.DataFrame | None" = None
    """The readings that `frame` lacks: they end before a gap that nothing joins, and what follows may suffice."""

    def check(self, track: int, start_seconds: int, end_seconds: int) -> None:
        """Raises `ImplausibleError` where a track holds two series in this time."""
        import polars as pl

        if self.readings is None:
            return
        used = self.readings.filter(
            (pl.col("track") == track) & pl.col("time").is_between(start_seconds, end_seconds)
        ).sort("time", "mgdl")
        pairs = _near_pairs(used).filter(pl.col("block") == pl.col("block_next"))
        more = pl.col("apart") - _MGDL_A_MINUTE * pl.col("seconds") / 60
        strong = pairs.filter(more > _NOISE_MGDL)
        glaring = strong.filter(pl.col("strict") | (more > _SCAN_NOISE_MGDL))
        weak = pairs.filter((pl.col("apart") > 1) & pl.col("closer") & pl.col("strict"))
        if glaring.height or strong.height >= _STRONG or weak.height >= _WEAK:
            raise ImplausibleError(
                f"the file holds readings of the same minutes that disagree, {max(strong.height, weak.height)} times "
                "in what would be used: of two devices, or from before and after a change of the clock. Export one "
                "device, or a time range without the change, and send that"
            )


def tracks_of(text: str, vendor_format: VendorFormat, timezone: str, enough_minutes: int | None = None) -> Tracks:
    """The events of a file by track. Raises what the format's `parse` does.

    `enough_minutes`: of a long file of one track the end may be read alone, from the last gap that so much glucose
    follows. To be asked again without it where that does not suffice.
    """
    import polars as pl

    rows = rows_of(text, vendor_format)
    text = text if rows is None or rows.text is None else rows.text
    if rows is None or rows.readings.is_empty():
        return Tracks(vendor_format.parse(text).with_columns(track=pl.lit(0)), Clock(timezone), [], None)
    readings, clock, notes = _timed(rows, timezone)
    notes = [*notes, *rows.notes]
    regular = ~pl.col("block").is_in(list(rows.irregular))
    readings = _tracked(readings.with_columns(strict=pl.lit(rows.strict) & regular))
    shifts = readings.select("track", "shift").unique().sort("track", "shift")
    if readings.height == rows.readings.height and shifts.rows() == [(0, 0)]:
        older = 0 if enough_minutes is None else _older(readings["time"], enough_minutes)
        if older:
            newest = readings[older:]
            text = rows.only(pl.concat([newest["row"], _since(rows.others, newest["wall"][0])]))
        frame = vendor_format.parse(text).with_columns(track=pl.lit(0))
        return Tracks(frame, clock, notes, readings, readings[:older] if older else None)
    if readings["track"].max():
        notes.append(
            "SOURCES: The file holds readings of the same time that disagree, of two devices or from before and after "
            "a change of the clock; one of them is used, the one with the newest readings that suffices"
        )
    frames = []
    seen: set[int] = set()
    for track, shift in shifts.iter_rows():
        chosen = readings.filter((pl.col("track") == track) & (pl.col("shift") == shift))["row"]
        others = rows.others["row"]
        part = vendor_format.parse(rows.only(chosen if track in seen else pl.concat([chosen, others])))
        seen.add(track)
        moved = [pl.col(name) + pl.duration(seconds=shift) for name in ("datetime", "original_datetime")]
        frames.append(part.with_columns(*moved, track=pl.lit(track)))
    return Tracks(pl.concat(frames), clock, notes, readings)


def _older(time: "pl.Series", enough_minutes: int) -> int:
    """How many readings, in the order of time, lie before the newest part between gaps that is long enough; 0 for a
    file of which little would be left out."""
    starts = [0, *(time.diff() > _GAP_SECONDS).arg_true()]
    ends = [*starts[1:], len(time)]
    long_enough = (
        start for start, end in zip(starts, ends, strict=True) if time[end - 1] - time[start] >= 60 * enough_minutes
    )
    newest = max(long_enough, default=0)
    return newest if newest >= _MANY_READINGS else 0


def _since(others: "pl.DataFrame", first: datetime.datetime) -> "pl.Series":
    """Rows that are no readings: all but those known to be from earlier than `first`."""
    import polars as pl

    return others.filter(pl.col("wall").is_null() | (pl.col("wall") >= first))["row"]


def rows_of(text: str, vendor_format: VendorFormat) -> Rows | None:
    """A file's readings in its own order, where that is known."""
    from polars.exceptions import PanicException

    try:
        return vendor_format.rows(text)
    except MemoryError:
        raise
    except (Exception, PanicException):
        return None  # whether it can be read at all is the parser's business


# the zone's clock


def _timed(rows: Rows, timezone: str) -> tuple["pl.DataFrame", Clock, list[str]]:
    """The readings with `time` and `shift` (from the wall clock to it), each stream in the order of time."""
    import polars as pl

    readings = rows.readings.with_columns(
        seconds=pl.col("wall").dt.epoch("s"),
        stream=pl.struct("source", "block").rank("dense"),
        order=pl.int_range(pl.len()),
    )
    step = pl.col("seconds").diff()
    backwards = ((step < 0).sum() > (step > 0).sum()).over("stream")
    readings = readings.with_columns(order=pl.when(backwards).then(-pl.col("order")).otherwise("order")).sort("order")
    first, last = int(readings["seconds"].min()), int(readings["seconds"].max())  # type: ignore[arg-type]
    place = zone(timezone)
    changes = tuple(_changes(place, first - _DAY, last + _DAY))
    if rows.utc:
        base = _offset(place, last)
        timed = readings.with_columns(time=pl.col("seconds") + base, shift=pl.lit(base, pl.Int64))
        return timed, Clock(timezone, base, tuple(change for change in changes if first < change.at <= last)), []
    changes = tuple(
        change for change in changes if first < change.at + max(change[1:]) and change.at + min(change[1:]) <= last
    )
    if not changes:
        return readings.with_columns(time=pl.col("seconds"), shift=pl.lit(0, pl.Int64)), Clock(timezone), []
    offset = pl.lit(changes[0].before, pl.Int64)
    lost = pl.lit(False)
    fallen = (pl.col("seconds").diff().over("stream") < 0).fill_null(False)
    repeated = pl.lit(False)
    for change in changes:
        low, high = change.at + min(change[1:]), change.at + max(change[1:])
        within = pl.col("seconds").is_between(low, high, closed="left")
        after = pl.col("seconds") >= high
        if change.after > change.before:
            lost |= within
        else:
            falls = fallen & within & within.shift(1).over("stream").fill_null(False)
            repeated |= falls
            once = falls.sum().over("stream") == 1
            lost |= within & ~once
            after |= within & once & (falls.cum_sum().over("stream") > 0)
        offset = pl.when(after).then(change.after).otherwise(offset)
    # The order says which pass it is only where it is the order of time everywhere else.
    unordered = (fallen & ~repeated).any().over("stream")
    within_any = pl.any_horizontal(
        pl.col("seconds").is_between(change.at + change.after, change.at + change.before, closed="left")
        for change in changes
    )
    timed = readings.with_columns(offset=offset, lost=lost | (within_any & unordered))
    left_out = int(timed["lost"].sum())
    timed = timed.filter(~pl.col("lost"))
    if timed.is_empty():
        raise ImplausibleError(
            f"all readings lie in an hour that the clocks of {timezone} repeat or skip: export a longer time range"
        )
    instants = timed["seconds"] - timed["offset"]
    base = int(timed["offset"][instants.arg_max() or 0])
    timed = timed.with_columns(shift=base - pl.col("offset")).with_columns(time=pl.col("seconds") + pl.col("shift"))
    notes = [
        f"CLOCK: {left_out} readings lie in an hour that the clocks of {timezone} repeat or skip, and the file does "
        "not tell when they were measured; they were left out"
    ]
    skipping = [change for change in changes if change.after > change.before]
    if left_out and skipping:
        # A clock that showed a skipped hour was not changed then: what follows is not known to follow at once.
        timed = timed.with_columns(epoch=pl.sum_horizontal(pl.col("time") - base >= change.at for change in skipping))
    return timed, Clock(timezone, base, changes), notes if left_out else []


def _offset(place: datetime.tzinfo, at: int) -> int:
    return int((datetime.datetime.fromtimestamp(at, place).utcoffset() or datetime.timedelta()).total_seconds())


def _changes(place: datetime.tzinfo, first: int, last: int) -> Iterator[Change]:
    """The changes of a zone's offset between two Unix times, found by days and then by halves."""

    def changed_after(day: int) -> Callable[[int], bool]:
        return lambda seconds: _offset(place, day + seconds) != _offset(place, day)

    if not isinstance(place, datetime.timezone):
        for day, next_day in itertools.pairwise(range(first, last + _DAY, _DAY)):
            before, after = _offset(place, day), _offset(place, next_day)
            if before != after:
                yield Change(day + bisect.bisect_left(range(_DAY), True, key=changed_after(day)), before, after)


# sources


def _tracked(readings: "pl.DataFrame") -> "pl.DataFrame":
    """With the `track` of each reading."""
    import polars as pl

    if "epoch" not in readings.columns:
        readings = readings.with_columns(epoch=pl.lit(0))
    fallen = (pl.col("time").diff().over("stream") < 0).fill_null(False)
    segment = fallen.cum_sum().over("stream")
    segment = pl.when(segment.max().over("stream") < _MOST_SEGMENTS).then(segment).otherwise(0)
    readings = readings.with_columns(segment=segment).sort("time", "mgdl", maintain_order=True)
    pairs = _near_pairs(readings)
    others = (pl.col("source") != pl.col("source_next")) & (
        pl.col("apart") > _SHOWN_TWICE_MGDL + _MGDL_A_MINUTE * pl.col("seconds") / 60
    )
    set_back = (
        (pl.col("source") == pl.col("source_next"))
        & (pl.col("segment") != pl.col("segment_next"))
        & (pl.col("block") == pl.col("block_next"))
        & pl.col("closer")
        & ((pl.col("seconds") > 0) | (pl.col("apart") > 0))
    )
    label = [pl.col("epoch")]
    label += [pl.col("source")] if pairs.select(others.any()).item() else []
    label += [pl.col("segment")] if pairs.select(set_back.any()).item() else []
    return readings.with_columns(track=pl.struct(label).rank("dense").cast(pl.Int64) - 1)


def _near_pairs(ordered: "pl.DataFrame") -> "pl.DataFrame":
    """Neighbours that are close in time, with what lies between: `seconds`, `apart` (mg/dL), and `closer`: whether that
    is less than half of what is usual between readings of one stream. What is a code says nothing against anybody."""
    import polars as pl

    ordered = ordered.filter(~is_code(pl.col("mgdl")))
    stream_steps = ordered.select(pl.col("time").diff().over("stream")).to_series()
    usual = float(stream_steps.filter(stream_steps > 0).median() or 300.0)  # type: ignore[arg-type]
    following = [pl.col(name).shift(-1).alias(f"{name}_next") for name in ("source", "segment", "block")]
    return (
        ordered.with_columns(
            *following,
            seconds=pl.col("time").shift(-1) - pl.col("time"),
            apart=(pl.col("mgdl").shift(-1) - pl.col("mgdl")).abs(),
        )
        .filter(pl.col("seconds") <= min(max(usual / 2, _NEAR_SECONDS), 3 * _NEAR_SECONDS))
        .with_columns(closer=pl.col("seconds") <= min(max(usual / 2, 15.0), 3 * _NEAR_SECONDS))
    )
