"""Trends by the names and numbers that Nightscout's clients know."""

from collections.abc import Sequence

from schemas.reading import Reading

NUMBERS = {
    "DoubleUp": 1,
    "SingleUp": 2,
    "FortyFiveUp": 3,
    "Flat": 4,
    "FortyFiveDown": 5,
    "SingleDown": 6,
    "DoubleDown": 7,
    "NOT COMPUTABLE": 8,
    "RATE OUT OF RANGE": 9,
}
KNOWN = frozenset((*NUMBERS, "NONE", "TripleUp", "TripleDown"))
UNKNOWN = "NOT COMPUTABLE"
LONGEST_SECONDS = 15 * 60
"""Readings further apart say nothing about the trend now."""
_FROM = ((3, "Double"), (2, "Single"), (1, "FortyFive"))
"""From so many mg/dL a minute on."""


def number(direction: str) -> int:
    """8, which is no trend, for a name without a number."""
    return NUMBERS.get(direction, NUMBERS[UNKNOWN])


def direction_of(newest_first: Sequence[Reading]) -> str:
    """The sender's own word for the first reading; without one, from the change since the reading before it."""
    if newest_first and newest_first[0].direction is not None:
        return newest_first[0].direction
    change = change_of(newest_first)
    if change is None:
        return UNKNOWN
    minutes = (newest_first[0].time - newest_first[1].time).total_seconds() / 60
    rate = change / minutes
    steepness = next((word for least, word in _FROM if abs(rate) >= least), None)
    return "Flat" if steepness is None else steepness + ("Up" if rate > 0 else "Down")


def change_of(newest_first: Sequence[Reading]) -> float | None:
    """mg/dL from the reading before to the first; None where there is none that is near enough, or of this device."""
    if len(newest_first) < 2:
        return None
    now, before = newest_first[:2]
    if now.device != before.device or not 0 < (now.time - before.time).total_seconds() <= LONGEST_SECONDS:
        return None
    return now.glucose_mgdl - before.glucose_mgdl
