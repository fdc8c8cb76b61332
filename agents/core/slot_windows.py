"""The windows that slots make: 96 values, those of the slots up to one that has a reading.

Gaps to 15 minutes between two readings' own times, and half a step more, are interpolated linearly; a longer one ends
what is behind it.
"""

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from agents.core.fingerprint import input_hash
from agents.core.plausibility import LAST_STEPS, implausible_change
from agents.core.window_row import Slots
from schemas.grid import PAST_POINTS, STEP_SECONDS

FURTHEST_STEP = 3
"""Steps between two readings that still make one stretch: a quarter of an hour."""
LONGEST_GAP = datetime.timedelta(seconds=(2 * FURTHEST_STEP + 1) * STEP_SECONDS // 2)
"""Between their own times: half a step more, because no sensor is punctual to the second."""
FURTHEST_SLOTS = FURTHEST_STEP + 1  # readings so far apart may lie in slots that are further apart

_STEP_MICROSECONDS = STEP_SECONDS * 1_000_000
_LONGEST_GAP_MICROSECONDS = LONGEST_GAP // datetime.timedelta(microseconds=1)


class Issue(NamedTuple):
    """A window to be forecast: its last slot, local end time, 96 values, and the places of those interpolated."""

    slot: int
    zone_minutes: int
    end_seconds: int
    past_centi: list[int]
    interpolated_points: list[int]
    hours_centi: Sequence[int | None] = ()
    """Means of the hours before, oldest known first."""
    changed_points: Sequence[int] = ()
    """Places at which another sensor begins, the newest of them."""
    warnings: Sequence[str] = ()
    """What is to be said of its sources."""

    @property
    def input_hash(self) -> str:
        return input_hash(self.end_seconds, self.past_centi, self.hours_centi)


def window(slots: Slots, end: int) -> Issue | None:
    """The 96 values up to the slot `end`; None where it has no reading or a gap breaks them."""
    last = slots.get(end)
    if last is None:
        return None
    values = [last.centi]
    position = end
    while len(values) < PAST_POINTS:
        if (held := slots.get(position - 1)) is not None:  # as most are: neighbours are never too far apart
            values.append(held.centi)
            position -= 1
            continue
        older = before(slots, position)
        if older is None:
            return None
        step, held, newer = position - older, slots[older], slots[position]
        for between in range(step - 1, 0, -1):
            values.append(held.centi + (2 * (newer.centi - held.centi) * between + step) // (2 * step))
        values.append(held.centi)
        position = older
    past = values[PAST_POINTS - 1 :: -1]
    first = end - PAST_POINTS + 1
    interpolated_points = [place for place in range(PAST_POINTS) if first + place not in slots]
    return Issue(end, last.zone_minutes, end * STEP_SECONDS + last.zone_minutes * 60, past, interpolated_points)


def next_end(slots: Slots) -> int:
    """The last slot of the first new window that can be forecast, if a reading like the newest comes to each slot."""
    newest = max(slots)
    end = max(newest + 1, begin(slots, newest) + PAST_POINTS - 1)
    latest = end + LAST_STEPS  # a jump that no body makes has left the last steps by then
    later = slots | dict.fromkeys(range(newest + 1, latest + 1), slots[newest])
    for last in range(end, latest):
        issue = window(later, last)
        if issue is not None and implausible_change(issue.past_centi) is None:
            return last
    return latest


def begin(slots: Slots, end: int) -> int:
    """The slot of the first reading of the stretch without a gap that ends at `end`."""
    position = end
    while True:
        while position - 1 in slots:
            position -= 1
        older = before(slots, position)
        if older is None:
            return position
        position = older


def before(slots: Slots, slot: int) -> int | None:
    """The slot of the reading before that of a slot; None where a gap lies between them."""
    for step in range(1, FURTHEST_SLOTS + 1):
        held = slots.get(slot - step)
        if held is not None:
            apart = step * _STEP_MICROSECONDS + slots[slot].shift_microseconds - held.shift_microseconds
            return slot - step if apart <= _LONGEST_GAP_MICROSECONDS else None
    return None
