"""A subject's days: what a report of weeks needs of each accepted reading, long after its slot has left the window.

The rows follow the window: a slot of a day is as the window has it, for as long as that keeps the slot. Each work
brings all slots of the window into their days, so what a crash has lost of one is there with the next reading.
"""

from collections import defaultdict

from agents.core.rolling_window import RollingWindow
from agents.work import Work
from schemas.glucose_day import GlucoseDay
from schemas.grid import STEPS_A_DAY
from schemas.tables import DAYS_TABLE as TABLE
from schemas.tables import day_key, day_of, days_prefix


def remember(work: Work, subject_id: str, window: RollingWindow, kept_days: int, began_ms: int) -> None:
    """Bring the window's slots into their days; with the first reading of a day let older ones than `kept_days` go.

    `began_ms` is for days that begin here: after every order to forget that came before.
    """
    days: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for slot, held in window.slots.items():
        days[slot // STEPS_A_DAY][slot % STEPS_A_DAY] = held.centi
    begins = False
    for day, found in days.items():
        row = work.get(TABLE, day_key(subject_id, day))
        known = GlucoseDay.from_bytes(row) if row else GlucoseDay(began_ms=began_ms)
        centi = list(known.centi)
        for place, value in found.items():
            centi[place] = value
        last = window.slots[day * STEPS_A_DAY + max(found)]
        renewed = GlucoseDay(known.began_ms, last.zone_minutes, tuple(centi)).to_bytes()
        if renewed != row:
            work.put(TABLE, day_key(subject_id, day), renewed)
        begins = begins or row is None
    if begins:
        oldest = max(days) - kept_days
        for key in list(work.keys(TABLE, days_prefix(subject_id))):
            if day_of(key) < oldest:
                work.delete(TABLE, key)


def forget(work: Work, subject_id: str) -> None:
    """Let all days of a subject go."""
    for key in list(work.keys(TABLE, days_prefix(subject_id))):
        work.delete(TABLE, key)
