"""A subject's glucose on one day of UTC, on the five-minute grid: what reports and the view of a day are made of.

A row is, little endian: version, when it began, minutes of the offset from UTC that the day's last reading came with,
and 288 slots in hundredths of mg/dL, 0 where there is no reading: 587 bytes whatever comes. Nothing in it was
interpolated.
"""

import dataclasses
import struct

from schemas.errors import MalformedRecordError
from schemas.grid import CENTI, HIGHEST_MGDL, LOWEST_MGDL, STEPS_A_DAY

VERSION = 1
_HEAD = struct.Struct("<Bqh")
_SLOT = struct.Struct("<H")
_ROW = struct.Struct(f"{_HEAD.format}{STEPS_A_DAY}H")
_LOWEST, _HIGHEST = int(LOWEST_MGDL * CENTI), int(HIGHEST_MGDL * CENTI)
_FURTHEST_ZONE_MINUTES = 24 * 60


@dataclasses.dataclass(frozen=True, slots=True)
class GlucoseDay:
    """`centi` by slot of the day, 0 without a reading. `began_ms`: Unix milliseconds of the message that began it."""

    began_ms: int = 0
    zone_minutes: int = 0
    centi: tuple[int, ...] = (0,) * STEPS_A_DAY

    def to_bytes(self) -> bytes:
        """The row."""
        return _ROW.pack(VERSION, self.began_ms, self.zone_minutes, *self.centi)

    @classmethod
    def from_bytes(cls, row: bytes | None) -> "GlucoseDay":
        """Inverse of `to_bytes`; an empty day where there is no row. Raises `MalformedRecordError`."""
        if not row:
            return cls()
        if len(row) != _ROW.size or row[0] != VERSION:
            raise MalformedRecordError(f"not a row of the table of days, version {VERSION}")
        _, began_ms, zone_minutes, *centi = _ROW.unpack(row)
        if abs(zone_minutes) >= _FURTHEST_ZONE_MINUTES or any(
            value and not _LOWEST <= value <= _HIGHEST for value in centi
        ):
            raise MalformedRecordError("a row of the table of days with glucose or an offset that cannot be")
        return cls(began_ms, zone_minutes, tuple(centi))


def slot_of_row(row: bytes | None, place: int) -> int:
    """One slot of a row without reading the others; 0 where there is no row."""
    found: int = _SLOT.unpack_from(row, _HEAD.size + place * _SLOT.size)[0] if row else 0
    return found


def with_slot(row: bytes, place: int, centi: int, zone_minutes: int | None) -> bytes:
    """The row with another value in one slot, and where one is given with another offset."""
    changed = bytearray(row)
    _SLOT.pack_into(changed, _HEAD.size + place * _SLOT.size, centi)
    if zone_minutes is not None:
        version, began_ms, _ = _HEAD.unpack_from(row)
        _HEAD.pack_into(changed, 0, version, began_ms, zone_minutes)
    return bytes(changed)
