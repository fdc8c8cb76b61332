"""Whose turn it is: lanes by priority, with a guaranteed share for each. Pure.

The highest lane that waits goes next, except that a lane that has been passed over for 7 turns takes the next one (the
lowest such lane first): each waiting lane gets at least an eighth of the turns in the long run, the lowest one at least
one of any 8 in a row.
"""

from collections.abc import Collection

from schemas.lanes import LANES, Lane

TURNS_PER_SHARE = 8


class Turns:
    """Counts how often each waiting lane was passed over."""

    def __init__(self) -> None:
        self._passed_over: dict[Lane, int] = dict.fromkeys(LANES, 0)

    def next(self, waiting: Collection[Lane]) -> Lane | None:
        """The lane whose turn it is of those that wait, None where none does. `taken` counts the turn."""
        ordered = [lane for lane in LANES if lane in waiting]
        owed = [lane for lane in ordered if self._passed_over[lane] >= TURNS_PER_SHARE - 1]
        return owed[-1] if owed else ordered[0] if ordered else None

    def taken(self, lane: Lane, waiting: Collection[Lane]) -> None:
        """A lane had its turn; `waiting` are those that wait after it."""
        for other in LANES:
            self._passed_over[other] = self._passed_over[other] + 1 if other in waiting and other != lane else 0
