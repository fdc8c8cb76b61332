"""Trends by the names and numbers that Nightscout's clients know.

Both trend and change are of about five minutes, whatever the sensor's step: of readings a minute apart the last two say
little but noise, and of readings a quarter of an hour apart the difference is no change of five minutes.
"""

import collections
import datetime
from collections.abc import Iterator, Sequence

from agents.core.slot_windows import LONGEST_GAP
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
LONGEST = LONGEST_GAP
"""Readings further apart say nothing about the trend now. What a window interpolates has one: no sensor of a
quarter of an hour is punctual."""
_STEP = datetime.timedelta(minutes=5)
_NEARLY = datetime.timedelta(seconds=30)  # no sensor is punctual to the second
_FROM = ((3, "Double"), (2, "Single"), (1, "FortyFive"))
"""From so many mg/dL a minute on."""


def number(direction: str) -> int:
    """8, which is no trend, for a name without a number."""
    return NUMBERS.get(direction, NUMBERS[UNKNOWN])


def with_before(newest_first: Iterator[Reading]) -> Iterator[Sequence[Reading]]:
    """Each reading with those of the 17.5 minutes before it, which its trend is told from."""
    held: collections.deque[Reading] = collections.deque()
    for reading in newest_first:
        while held and held[0].time - reading.time > LONGEST:
            yield tuple(held)
            held.popleft()
        held.append(reading)
    while held:
        yield tuple(held)
        held.popleft()


def direction_of(newest_first: Sequence[Reading]) -> str:
    """The sender's own word for the first reading; without one, from its change."""
    if newest_first and newest_first[0].direction is not None:
        return newest_first[0].direction
    before = _before(newest_first)
    if before is None:
        return UNKNOWN
    now = newest_first[0]
    rate = (now.glucose_mgdl - before.glucose_mgdl) / ((now.time - before.time).total_seconds() / 60)
    steepness = next((word for least, word in _FROM if abs(rate) >= least), None)
    return "Flat" if steepness is None else steepness + ("Up" if rate > 0 else "Down")


def change_of(newest_first: Sequence[Reading]) -> float | None:
    """mg/dL in five minutes, up to the first reading; None where no reading before it can tell.

    The difference to a reading of about five minutes before as it is, any other made one of five minutes.
    """
    before = _before(newest_first)
    if before is None:
        return None
    apart = newest_first[0].time - before.time
    change = newest_first[0].glucose_mgdl - before.glucose_mgdl
    return change if abs(apart - _STEP) <= _NEARLY else change * (_STEP / apart)


def _before(newest_first: Sequence[Reading]) -> Reading | None:
    """The newest of the first reading's device that is about five minutes older, or more; else the oldest near enough.

    Less than half of the five minutes would make much of little.
    """
    if not newest_first:
        return None
    now = newest_first[0]
    older = [each for each in newest_first[1:] if each.device == now.device and now.time - each.time <= LONGEST]
    found = next((each for each in older if now.time - each.time >= _STEP - _NEARLY), older[-1] if older else None)
    return found if found is not None and now.time - found.time >= _STEP / 2 else None
