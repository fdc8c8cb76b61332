"""Readings that changed windows of which no forecast was made anew: what was forecast of these before holds no more.

g/<subject>   the last of them, in the order in which they came: the last slots of the windows that wait for a forecast
              without what the reading took away, its time and why there is none
"""

import datetime
from typing import NamedTuple

import orjson

from agents.core.withheld import withheld
from query_api.store import Store
from schemas.fan_chart import FanChart
from schemas.grid import slot_of
from schemas.reading import ReadingOutcome

_LATER = "the glucose changes after it as no body does, or readings that count are too far apart there"


class Correction(NamedTuple):
    """A reading, and the last slots of the windows that it spoilt."""

    waiting: tuple[int, ...]
    time: datetime.datetime
    reason: str


class Corrections:
    """The rows and their view."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, outcome: ReadingOutcome) -> None:
        """Stage what a reading changes."""
        known = self.of(outcome.subject_id)
        waiting = withheld((end for each in known for end in each.waiting), outcome)
        new = {slot_of(time) for time in outcome.withheld_times} & waiting
        found = [each._replace(waiting=tuple(end for end in each.waiting if end in waiting - new)) for each in known]
        if new and outcome.time is not None:
            found.append(Correction(tuple(sorted(new)), outcome.time, outcome.reason or _LATER))
        kept = [each for each in found if each.waiting]
        if kept != known:
            self._store.stage(_row(outcome.subject_id), orjson.dumps([[*each] for each in kept]) if kept else None)

    def forget(self, subject_id: str) -> None:
        """Stage the end of all of a subject."""
        self._store.stage(_row(subject_id), None)

    def spoilt(self, subject_id: str, chart: FanChart) -> Correction | None:
        """The reading that left the window of a chart without a forecast."""
        end = slot_of(chart.issue_time)
        return next((each for each in self.of(subject_id) if end in each.waiting), None)

    def of(self, subject_id: str) -> list[Correction]:
        """Those of a subject that are known, in the order in which they came."""
        row = self._store.get(_row(subject_id))
        return [] if row is None else [_read(*each[-3:]) for each in orjson.loads(row)]


def _read(waiting: list[int], time: str, reason: str) -> Correction:
    """Rows of before told the slot and the value of the reading too."""
    return Correction(tuple(waiting), datetime.datetime.fromisoformat(time), reason)


def _row(subject_id: str) -> bytes:
    return b"g/" + subject_id.encode()
