"""A subject's days: what a report of weeks needs of each accepted reading, long after its slot has left the window.

A slot of a day is as the window had it last. What a crash has lost of a day is there with the next reading: that looks
whether the reading before it is in its day, and brings the whole window into its days where it is not.
"""

import contextlib

from agents.core.rolling_window import RollingWindow
from agents.work import Work
from schemas.errors import MalformedRecordError
from schemas.glucose_day import GlucoseDay, slot_of_row, with_slot
from schemas.grid import STEPS_A_DAY
from schemas.tables import DAYS_TABLE as TABLE
from schemas.tables import day_key, day_of, days_prefix


def remember(work: Work, subject_id: str, window: RollingWindow, slot: int, kept_days: int, began_ms: int) -> None:
    """Bring the reading that the window has just taken into its day.

    With the first reading of a day older ones than `kept_days` go. `began_ms` is for days that begin here: after every
    order to forget that came before.
    """
    others = [(held.message_offset, other) for other, held in window.slots.items() if other != slot]
    _, before = max(others, default=(0, None))
    if before is not None and _known(work, subject_id, before) != window.slots[before].centi:
        for each in sorted(window.slots):
            _put(work, subject_id, window, each, kept_days, began_ms)
    else:
        _put(work, subject_id, window, slot, kept_days, began_ms)


def make_anew(work: Work, subject_id: str, window: RollingWindow, kept_days: int, began_ms: int) -> None:
    """Of before an order the days have nothing: what is left is of readings behind it, which is all the window has.

    Days that began behind it stay, long after their readings have left the window: an order may be delivered again.
    Where nothing came behind it no day did, whatever their clocks say.
    """
    kept = set[str]()
    for key in list(work.keys(TABLE, days_prefix(subject_id))):
        if window.slots and _began_ms(work, key) >= began_ms:
            kept.add(key)
        else:
            work.delete(TABLE, key)
    for slot in sorted(window.slots):
        if day_key(subject_id, slot // STEPS_A_DAY) not in kept:
            _put(work, subject_id, window, slot, kept_days, began_ms)


def forget(work: Work, subject_id: str) -> None:
    """All days of a subject go."""
    for key in list(work.keys(TABLE, days_prefix(subject_id))):
        work.delete(TABLE, key)


def _began_ms(work: Work, key: str) -> int:
    """Of a day that cannot be read, before everything."""
    with contextlib.suppress(MalformedRecordError):
        return GlucoseDay.from_bytes(work.get(TABLE, key)).began_ms
    return -1


def _known(work: Work, subject_id: str, slot: int) -> int:
    day, place = divmod(slot, STEPS_A_DAY)
    return slot_of_row(work.get(TABLE, day_key(subject_id, day)), place)


def _put(work: Work, subject_id: str, window: RollingWindow, slot: int, kept_days: int, began_ms: int) -> None:
    day, place = divmod(slot, STEPS_A_DAY)
    held, key = window.slots[slot], day_key(subject_id, day)
    row = work.get(TABLE, key)
    newest = max(window.slots)
    if row is None:
        oldest = newest // STEPS_A_DAY - kept_days
        for known in list(work.keys(TABLE, days_prefix(subject_id))):
            if day_of(known) < oldest:
                work.delete(TABLE, known)
        row = GlucoseDay(began_ms, held.zone_minutes).to_bytes()
    zone = held.zone_minutes if slot == newest or _is_last(window, slot) else None
    work.put(TABLE, key, with_slot(row, place, held.centi, zone))


def _is_last(window: RollingWindow, slot: int) -> bool:
    """Whether a slot is the last of its day."""
    return not any(slot < other and other // STEPS_A_DAY == slot // STEPS_A_DAY for other in window.slots)
