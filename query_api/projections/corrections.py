"""Readings that changed windows of which no forecast was made anew: what was forecast of these before holds no more.

g/<subject>   the last of them, in the order in which they came: slot, hundredths of mg/dL, the slots at which windows
              wait for a forecast without what the reading took away, its time and why there is none

A jump that no body makes spoils the windows that end with it and `LAST_STEPS` after it, so no others wait.
"""

import datetime
from typing import NamedTuple

import orjson

from agents.core.fingerprint import to_centi
from agents.core.plausibility import LAST_STEPS
from agents.core.rolling_window import place
from query_api.store import Store
from schemas.fan_chart import FanChart
from schemas.grid import slot_of
from schemas.reading import OTHER_DEVICE, ReadingOutcome

KEPT = 16
_BACK_SLOTS = 12
"""Before the newest reading: forecasts of windows that ended longer ago are no present ones."""
_UNKEPT = ("superseded", "too_old", OTHER_DEVICE)
"""Codes of accepted readings that change no window that was forecast."""
_LATER = "the glucose changes after it as no body does"


class Correction(NamedTuple):
    """A reading, and the last slots of the windows that it spoilt."""

    slot: int
    centi: int
    waiting: tuple[int, ...]
    time: datetime.datetime
    reason: str

    def spoils(self, chart: FanChart) -> bool:
        """Whether a chart is of a window as it was before the reading."""
        end = slot_of(chart.issue_time)
        if end not in self.waiting:
            return False
        return end == self.slot or to_centi(chart.past_mgdl[self.slot - end - 1]) != self.centi


class Corrections:
    """The rows and their view."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, outcome: ReadingOutcome, newest: datetime.datetime | None) -> None:
        """Stage what an accepted reading changes. `newest`: the newest before it."""
        if outcome.status not in ("forecast_requested", "no_forecast") or outcome.reading is None:
            return
        if outcome.code in _UNKEPT:
            return
        slot, held = place(outcome.reading.time, outcome.reading.glucose_mgdl, 0)
        issued = {slot_of(time) for time in outcome.issue_times}
        known = self.of(outcome.subject_id)
        found = [each._replace(waiting=tuple(end for end in each.waiting if end not in issued)) for each in known]
        last = slot if newest is None else slot_of(newest)
        waiting = tuple(end for end in range(slot, min(slot + LAST_STEPS, last) + 1) if end not in issued)
        if newest is not None and waiting:
            found.append(Correction(slot, held.centi, waiting, outcome.reading.time, outcome.reason or _LATER))
        kept = [each for each in found if each.waiting and each.slot > max(slot, last) - _BACK_SLOTS][-KEPT:]
        if kept != known:
            self._store.stage(_row(outcome.subject_id), orjson.dumps([[*each] for each in kept]) if kept else None)

    def forget(self, subject_id: str) -> None:
        """Stage the end of all of a subject."""
        self._store.stage(_row(subject_id), None)

    def spoilt(self, subject_id: str, chart: FanChart) -> Correction | None:
        """The latest reading that the chart does not know, and that left its window without a forecast."""
        return next((each for each in reversed(self.of(subject_id)) if each.spoils(chart)), None)

    def of(self, subject_id: str) -> list[Correction]:
        """Those of a subject that are known, in the order in which they came."""
        row = self._store.get(_row(subject_id))
        return [] if row is None else [_read(*each) for each in orjson.loads(row)]


def _read(slot: int, centi: int, waiting: list[int], time: str, reason: str) -> Correction:
    return Correction(slot, centi, tuple(waiting), datetime.datetime.fromisoformat(time), reason)


def _row(subject_id: str) -> bytes:
    return b"g/" + subject_id.encode()
