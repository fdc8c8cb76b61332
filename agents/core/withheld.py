"""Of which windows the forecast holds no more: the one rule of all who show the present one."""

from collections.abc import Iterable

from schemas.grid import HORIZON_STEPS, slot_of
from schemas.reading import ReadingOutcome


def withheld(known: Iterable[int], outcome: ReadingOutcome) -> frozenset[int]:
    """The last slots of such windows behind an outcome, where those of before it are known.

    What was forecast of a window that ended longer ago is no present one: it is let go.
    """
    named = {slot_of(time) for time in outcome.withheld_times}
    issued = {slot_of(time) for time in outcome.issue_times}
    found = {*known, *named} - issued
    newest = max(found | issued, default=0)
    return frozenset(end for end in found if end > newest - HORIZON_STEPS)
