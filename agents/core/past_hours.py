"""What came before a window: the mean of each of the 168 hours that end where its 96 points begin.

Readings are summed by the hour of their slot's clock (12 slots each), and a window may begin anywhere in an hour. With
`p` slots of a clock hour h before the window, an hour of the past holds `p` slots of h and 12 - p of the one before: it
takes that share of the sums S and of the counts n of both,

    mean = (p S_h + (12 - p) S_(h-1)) / (p n_h + (12 - p) n_(h-1))        in hundredths of mg/dL, ties upwards

and is unknown where neither has a reading. So three bytes an hour tell a week. The newest clock hour may reach up to
55 minutes into the window, never beyond it: nothing after a window's last point is in its hours.
"""

from collections.abc import Iterable, Mapping

from schemas.grid import PAST_HOURS, PAST_POINTS, STEP_SECONDS

HOURS_VERSION = 1
"""Of the rule above, in the requests that carry the hours."""
SLOTS_AN_HOUR = 3600 // STEP_SECONDS

Sum = tuple[int, int]
"""Sum of an hour's readings in hundredths of mg/dL, and how many they are."""
_NONE: Sum = (0, 0)


def add(sums: dict[int, Sum], readings: Iterable[tuple[int, int]]) -> None:
    """Adds readings (slot, hundredths of mg/dL) to the sums of their hours (slot // 12); a full hour takes no more."""
    for slot, centi in readings:
        total, count = sums.get(slot // SLOTS_AN_HOUR, _NONE)
        if count < SLOTS_AN_HOUR:
            sums[slot // SLOTS_AN_HOUR] = total + centi, count + 1


def newest_hour(end_slot: int) -> int:
    """The clock hour of the last slot before the window that ends at `end_slot`."""
    return (end_slot - PAST_POINTS) // SLOTS_AN_HOUR


def hours_before(sums: Mapping[int, Sum], end_slot: int) -> list[int | None]:
    """The hours before the window that ends at `end_slot`, oldest first, from the first that is known on.

    At most 168; None inside where nothing is known.
    """
    newest = newest_hour(end_slot)
    share = (end_slot - PAST_POINTS) % SLOTS_AN_HOUR + 1
    rest = SLOTS_AN_HOUR - share
    means: list[int | None] = []
    before = max(newest - PAST_HOURS, min(sums, default=newest) - 1)
    total_before, count_before = sums.get(before, _NONE)
    for hour in range(before + 1, newest + 1):
        total, count = sums.get(hour, _NONE)
        weight = share * count + rest * count_before
        if weight:
            means.append((2 * (share * total + rest * total_before) + weight) // (2 * weight))
        elif means:
            means.append(None)
        total_before, count_before = total, count
    return means
