"""The row of a rolling window: its readings by slot, what has left their slots, sums of hours, where sources differed.

A row is a byte of version and the first slot, then 3 bytes an hour, 20 bytes a slot, 6 bytes for each run of slots of
one source, 34 bytes a displaced reading and 16 bytes a disagreement, each but the last behind its count. Rows of
version 3 and before know neither sources nor disagreements, those of version 2 no hours, those of version 1 no
displaced readings either.
"""

import functools
import itertools
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from agents.core.past_hours import Sum
from agents.core.sources import UNNAMED, Disagreement
from schemas.grid import CENTI, EARLIEST_SLOT, HIGHEST_MGDL, LATEST_SLOT, LOWEST_MGDL, STEP_SECONDS

VERSION = 4
_HEAD = struct.Struct("<Bq")  # version, first slot
_HOURS = struct.Struct("<iH")  # first hour, hours
_HOUR = struct.Struct("<HB")  # the lower 16 bits and the upper 8 of sum * 16 + count; 12 readings sum up to 20 bits
_COUNT = struct.Struct("<H")  # slots, runs, displaced readings
_ROW = struct.Struct("<Hiiqh")  # slot - first slot, microseconds from the slot's time, hundredths, offset, zone minutes
_RUN = struct.Struct("<HI")  # slots, their source
_DISPLACED = struct.Struct("<iiiqhIq")  # slot, and as above; the offset that displaced it
_DISAGREEMENT = struct.Struct("<iqi")  # slot, the offset that told of it, hundredths
_DISPLACED_3 = struct.Struct("<iiiqhq")  # without its source
_LOWEST, _HIGHEST = round(LOWEST_MGDL * CENTI), round(HIGHEST_MGDL * CENTI)
_MOST_HOURS = 0xFFFF
_FURTHEST_SHIFT = STEP_SECONDS * 500_000
"""Microseconds between a reading and its slot, which is the nearest."""


class Held(NamedTuple):
    """The reading of a slot. `zone_minutes` is the offset from UTC it came with, `source` the device it names."""

    shift_microseconds: int
    centi: int
    message_offset: int
    zone_minutes: int
    source: int = UNNAMED


_held: Callable[[Iterable[int]], Held] = functools.partial(tuple.__new__, Held)


class Displaced(NamedTuple):
    """A reading that has left its slot, and the offset of the message that made it leave."""

    slot: int
    held: Held
    by_offset: int


Slots = dict[int, Held]


class Row(NamedTuple):
    """What a row holds."""

    slots: Slots
    displaced: list[Displaced]
    hours: dict[int, Sum]
    disagreements: list[Disagreement]


def packed(row: Row) -> bytes:
    """Everything oldest first."""
    ordered = sorted(row.slots.items())
    first = ordered[0][0] if ordered else 0
    by_source = itertools.groupby([held.source for _, held in ordered])
    runs = [_RUN.pack(len(list(slots)), source) for source, slots in by_source]
    return b"".join(
        [
            _HEAD.pack(VERSION, first),
            _packed_hours(row.hours),
            _COUNT.pack(len(ordered)),
            *(_ROW.pack(slot - first, *held[:-1]) for slot, held in ordered),
            _COUNT.pack(len(runs)),
            *runs,
            _COUNT.pack(len(row.displaced)),
            *(_DISPLACED.pack(each.slot, *each.held, each.by_offset) for each in row.displaced),
            *(_DISAGREEMENT.pack(*each) for each in row.disagreements),
        ]
    )


def unpacked(data: bytes) -> Row:
    """Inverse of `packed`; reads earlier versions too.

    Raises ValueError for another version's bytes, and for glucose or a time that cannot be: the bytes are damaged.
    """
    row = _unpacked(data)
    held = [*row.slots.values(), *[each.held for each in row.displaced]]
    centi = [each.centi for each in held]
    if not (
        _within(_LOWEST, centi, _HIGHEST)
        and all(_LOWEST * count <= total <= _HIGHEST * count for total, count in row.hours.values())
    ):
        raise ValueError("a row of glucose that cannot be")
    shifts = [each.shift_microseconds for each in held]
    slots = [*row.slots, *[each.slot for each in row.displaced]]
    if not (_within(EARLIEST_SLOT, slots, LATEST_SLOT) and _within(-_FURTHEST_SHIFT, shifts, _FURTHEST_SHIFT)):
        raise ValueError("a row of times that cannot be")
    return row


def _within(lowest: int, numbers: list[int], highest: int) -> bool:
    return not numbers or (lowest <= min(numbers) and max(numbers) <= highest)


def _unpacked(data: bytes) -> Row:
    version, first = _HEAD.unpack_from(data)
    rest = memoryview(data)[_HEAD.size :]
    hours: dict[int, Sum] = {}
    if version not in (1, 2, 3, VERSION):
        raise ValueError(f"rolling window of version {version}, this is version {VERSION}")
    if version >= 3:
        hours, rest = _unpacked_hours(rest)
    if version == 1:
        rows, rest = rest, rest[:0]
    else:
        rows, rest = _counted(rest, _ROW)
    if version < VERSION:
        left = [
            Displaced(each[0], Held._make((*each[1:5], UNNAMED)), each[5]) for each in _DISPLACED_3.iter_unpack(rest)
        ]
        return Row({first + row[0]: Held._make((*row[1:], UNNAMED)) for row in _ROW.iter_unpack(rows)}, left, hours, [])
    runs, rest = _counted(rest, _RUN)
    displaced, rest = _counted(rest, _DISPLACED)
    sources = itertools.chain.from_iterable(itertools.repeat(source, slots) for slots, source in _RUN.iter_unpack(runs))
    slots, *columns = zip(*_ROW.iter_unpack(rows), strict=True) if rows else ((),) * 5
    held = map(_held, zip(*columns, sources, strict=True))  # a hundred of them for each reading: no Python is run
    return Row(
        dict(zip(map(first.__add__, slots), held, strict=True)),
        [Displaced(each[0], Held._make(each[1:6]), each[6]) for each in _DISPLACED.iter_unpack(displaced)],
        hours,
        [Disagreement._make(each) for each in _DISAGREEMENT.iter_unpack(rest)],
    )


def _counted(data: memoryview, kind: struct.Struct) -> tuple[memoryview, memoryview]:
    """What is behind a count, and what follows it."""
    (count,) = _COUNT.unpack_from(data)
    end = _COUNT.size + count * kind.size
    return data[_COUNT.size : end], data[end:]


def _packed_hours(hours: dict[int, Sum]) -> bytes:
    first, last = min(hours, default=0), max(hours, default=-1)
    if last - first >= _MOST_HOURS:
        raise ValueError("a row of hours that lie too far apart")
    rows = [total << 4 | count for total, count in (hours.get(at, (0, 0)) for at in range(first, last + 1))]
    return b"".join([_HOURS.pack(first, len(rows)), *(_HOUR.pack(each & 0xFFFF, each >> 16) for each in rows)])


def _unpacked_hours(data: memoryview) -> tuple[dict[int, Sum], memoryview]:
    """The hours, and what follows them."""
    first, count = _HOURS.unpack_from(data)
    end = _HOURS.size + count * _HOUR.size
    rows = enumerate(_HOUR.iter_unpack(data[_HOURS.size : end]), first)
    return {hour: (high << 12 | low >> 4, low & 0xF) for hour, (low, high) in rows if low & 0xF}, data[end:]
