"""The windows that slots make: 96 values five minutes apart, up to a slot's reading.

Values are told from the slots' readings by their own times. Gaps to 15 minutes between two, and half a step more, are
interpolated linearly; a longer one ends what is behind it.
"""

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from agents.core import sources
from agents.core.fingerprint import input_hash
from agents.core.plausibility import LAST_STEPS, implausible_change
from agents.core.window_row import Slots
from schemas.grid import PAST_POINTS, STEP_SECONDS

FURTHEST_STEP = 3
"""Steps between two readings that still make one stretch: a quarter of an hour."""
LONGEST_GAP = datetime.timedelta(seconds=(2 * FURTHEST_STEP + 1) * STEP_SECONDS // 2)
"""Between their own times: half a step more, because no sensor is punctual to the second."""
FURTHEST_SLOTS = FURTHEST_STEP + 1  # readings so far apart may lie in slots that are further apart

_MICROSECOND = datetime.timedelta(microseconds=1)
_STEP_MICROSECONDS = STEP_SECONDS * 1_000_000
_PUNCTUAL_MICROSECONDS = 30 * 1_000_000  # no sensor is punctual to the second


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
    """The 96 values up to the reading of the slot `end`; None where it has none or a gap breaks them.

    They are five minutes apart, counted back from that reading's own time: what a sensor measures more often lies on
    either side of its slot's time, and a step of three minutes taken for five would be a fall of half as much again.
    """
    last = slots.get(end)
    if last is None:
        return None
    first, position = end - PAST_POINTS + 1, end
    readings = [(sources.time_of(end, last), last.centi)]
    while (older := before(slots, position)) is not None:
        readings.append((sources.time_of(older, slots[older]), slots[older].centi))
        if position <= first:  # one more, for a first value that lies between two
            break
        position = older
    if position > first:
        return None
    interpolated_points = [place for place in range(PAST_POINTS) if first + place not in slots]
    end_seconds = end * STEP_SECONDS + last.zone_minutes * 60
    return Issue(end, last.zone_minutes, end_seconds, _five_minutes_apart(readings), interpolated_points)


def _five_minutes_apart(newest_first: Sequence[tuple[int, int]]) -> list[int]:
    """Values, oldest first, at whole steps before the newest of readings (Unix microseconds, hundredths of mg/dL).

    A reading's own where one is near enough, else on the line between two.
    """
    values = []
    newer, older = newest_first[0], newest_first[0]
    following = iter(newest_first[1:])
    for step in range(PAST_POINTS):
        time = newest_first[0][0] - step * _STEP_MICROSECONDS
        while older[0] > time and (found := next(following, None)) is not None:
            newer, older = older, found
        apart, after = newer[0] - older[0], time - older[0]
        nearest = older if 2 * after <= apart else newer
        if after < 0 or abs(nearest[0] - time) <= _PUNCTUAL_MICROSECONDS:
            values.append(nearest[1])
        else:
            values.append(older[1] + (2 * (newer[1] - older[1]) * after + apart) // (2 * apart))
    return values[::-1]


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
    while (older := before(slots, position)) is not None:
        position = older
    return position


def before(slots: Slots, slot: int) -> int | None:
    """The slot of the reading before that of a slot; None where a gap lies between them."""
    for other in range(slot - 1, slot - FURTHEST_SLOTS - 1, -1):
        held = slots.get(other)
        if held is not None:
            apart = sources.time_of(slot, slots[slot]) - sources.time_of(other, held)
            return other if apart <= LONGEST_GAP // _MICROSECOND else None
    return None
