"""What is remembered of one subject: the newest readings on UTC 5-minute slots, and the windows they make.

A reading belongs to the slot nearest to its time. Of several in a slot the one nearest to the slot's time holds it, of
two as near the earlier one; of two at the same time with different values the one that came later, a correction.
Up to two missing slots (gaps to 15 minutes) are interpolated linearly. So the slots do not depend on the order in
which readings arrive, corrections aside.

Messages are delivered at least once, and a table write may survive where what should have been sent did not. So a slot
remembers the offset of its message, and a message is judged by the slots of its own offset and lower ones: delivered
again, it has the effects it had.
"""

import dataclasses
import datetime
import struct
from typing import Literal, NamedTuple

from agents.core.fingerprint import input_hash, to_centi
from agents.core.local_time import spoken
from agents.core.plausibility import implausible_change
from schemas.grid import PAST_POINTS, STEP_SECONDS

FURTHEST_STEP = 3  # slots between two readings that still make one stretch
REDELIVERY_SLOTS = 20  # kept beyond what windows need, so that messages delivered again find their window

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_STEP_MICROSECONDS = STEP_SECONDS * 1_000_000
_VERSION = 1
_HEAD = struct.Struct("<Bq")  # version, first slot
_ROW = struct.Struct("<Hiiqh")  # slot - first slot, microseconds from the slot's time, hundredths, offset, zone minutes


class Held(NamedTuple):
    """The reading of a slot. `zone_minutes` is the offset from UTC that it came with."""

    shift_microseconds: int
    centi: int
    message_offset: int
    zone_minutes: int


class Issue(NamedTuple):
    """A window to be forecast: its last slot, local end time, 96 values, and how many of them are interpolated."""

    slot: int
    zone_minutes: int
    end_seconds: int
    past_centi: list[int]
    interpolated: int

    @property
    def input_hash(self) -> str:
        return input_hash(self.end_seconds, self.past_centi)


class Verdict(NamedTuple):
    """What becomes of a reading; `issues` are windows to be forecast, oldest first."""

    status: Literal["forecast_requested", "no_forecast", "duplicate"]
    issues: list[Issue]
    code: str | None = None
    reason: str | None = None


Slots = dict[int, Held]


def place(time: datetime.datetime, glucose_mgdl: float, message_offset: int) -> tuple[int, Held]:
    """The slot of a reading, and the reading as the slot holds it."""
    microseconds = (time - _EPOCH) // _MICROSECOND
    slot = (microseconds + _STEP_MICROSECONDS // 2) // _STEP_MICROSECONDS
    zone = (time.utcoffset() or datetime.timedelta()) // datetime.timedelta(minutes=1)
    return slot, Held(microseconds - slot * _STEP_MICROSECONDS, to_centi(glucose_mgdl), message_offset, zone)


def slot_time(slot: int, zone_minutes: int) -> datetime.datetime:
    """The time of a slot, on the clock of its reading."""
    zone = datetime.timezone(datetime.timedelta(minutes=zone_minutes))
    return datetime.datetime.fromtimestamp(slot * STEP_SECONDS, zone)


@dataclasses.dataclass(slots=True)
class RollingWindow:
    """The slots of one subject. `late_slots`: how far before the newest slot a window's end may be to be issued."""

    slots: Slots
    late_slots: int

    @property
    def capacity(self) -> int:
        """Slots kept before the newest: a window that ended `late_slots` ago, what it leans on, a margin."""
        return self.late_slots + PAST_POINTS + FURTHEST_STEP - 1 + REDELIVERY_SLOTS

    @classmethod
    def from_bytes(cls, data: bytes | None, late_slots: int) -> "RollingWindow":
        """Inverse of `to_bytes`. Raises ValueError for another version's bytes."""
        if not data:
            return cls({}, late_slots)
        version, first = _HEAD.unpack_from(data)
        if version != _VERSION:
            raise ValueError(f"rolling window of version {version}, this is version {_VERSION}")
        rows = _ROW.iter_unpack(memoryview(data)[_HEAD.size :])
        return cls({first + row[0]: Held._make(row[1:]) for row in rows}, late_slots)

    def to_bytes(self) -> bytes:
        """20 bytes a slot, oldest first."""
        ordered = sorted(self.slots.items())
        first = ordered[0][0] if ordered else 0
        return _HEAD.pack(_VERSION, first) + b"".join([_ROW.pack(slot - first, *held) for slot, held in ordered])

    def accept(self, slot: int, reading: Held) -> tuple[Verdict, bool]:
        """What becomes of a reading, and whether the slots changed by it."""
        newest = max(self.slots, default=slot)
        if slot < newest - self.capacity:
            return _too_old(newest - slot), False
        known = {s: held for s, held in self.slots.items() if held.message_offset < reading.message_offset}
        verdict = self._judge(known, slot, reading)
        holder = self.slots.get(slot)
        delivered_again = holder is not None and holder.message_offset >= reading.message_offset
        if delivered_again or verdict.code in ("duplicate", "superseded"):
            return verdict, False
        self.slots[slot] = reading
        if slot > newest:
            oldest = slot - self.capacity
            self.slots = {s: held for s, held in self.slots.items() if s >= oldest}
        return verdict, True

    def _judge(self, known: Slots, slot: int, reading: Held) -> Verdict:
        """The verdict where `known` is all that came before."""
        holder = known.get(slot)
        if holder is not None:
            if holder[:2] == reading[:2]:
                return Verdict("duplicate", [], "duplicate", "the same value at the same time is known")
            if holder[0] != reading[0] and _nearness(holder) < _nearness(reading):
                return Verdict("no_forecast", [], "superseded", "another reading is nearer to this 5-minute slot")
        after = known | {slot: reading}
        newest = max(after)
        issues = []
        for end in range(max(slot, newest - self.late_slots), min(slot + PAST_POINTS + 1, newest) + 1):
            issue = window(after, end)
            if issue and (end == slot or issue != window(known, end)):
                issues.append(issue)
        plausible = [issue for issue in issues if implausible_change(issue.past_centi) is None]
        if plausible:
            return Verdict("forecast_requested", plausible)
        if issues:
            return Verdict("no_forecast", [], "implausible_change", implausible_change(issues[-1].past_centi))
        if slot < newest - self.late_slots:
            return _too_old(newest - slot)
        return _unready(after, slot)


def window(slots: Slots, end: int) -> Issue | None:
    """The 96 values up to the slot `end`; None where it has no reading or a gap breaks them."""
    last = slots.get(end)
    if last is None:
        return None
    values = [last.centi]
    position, newer = end, last.centi
    while len(values) < PAST_POINTS:
        for step in range(1, FURTHEST_STEP + 1):
            held = slots.get(position - step)
            if held is not None:
                break
        else:
            return None
        for between in range(step - 1, 0, -1):
            values.append(held.centi + (2 * (newer - held.centi) * between + step) // (2 * step))
        values.append(held.centi)
        position, newer = position - step, held.centi
    past = values[PAST_POINTS - 1 :: -1]
    interpolated = PAST_POINTS - len(slots.keys() & set(range(end - PAST_POINTS + 1, end + 1)))
    return Issue(end, last.zone_minutes, end * STEP_SECONDS + last.zone_minutes * 60, past, interpolated)


def _nearness(held: Held) -> tuple[int, int]:
    return abs(held.shift_microseconds), held.shift_microseconds


def _too_old(slots_late: int) -> Verdict:
    late = spoken(slots_late * STEP_SECONDS // 60)
    return Verdict(
        "no_forecast", [], "too_old", f"the reading is {late} older than the newest: no forecast waits for it"
    )


def _unready(slots: Slots, end: int) -> Verdict:
    """Why there is no window up to `end`: a gap within the last 8 hours, or readings have only begun."""
    position, missing = end, 0
    while missing < FURTHEST_STEP:
        if position - missing - 1 in slots:
            position, missing = position - missing - 1, 0
        else:
            missing += 1
    have = spoken((end - position) * STEP_SECONDS // 60)
    older = max((slot for slot in slots if slot < position), default=None)
    if older is None:
        reason = f"{have} of gap-free readings so far; a forecast needs 8 h"
        return Verdict("no_forecast", [], "warming_up", reason)
    gap = spoken((position - older) * STEP_SECONDS // 60)
    reason = f"{have} of readings since a gap of {gap}; a forecast needs 8 h with no gap over 15 min"
    return Verdict("no_forecast", [], "gap", reason)
