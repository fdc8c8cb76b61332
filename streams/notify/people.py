"""What a display of each person shows now: newest reading, present forecast, alerts that hold. Pure.

Nothing is shown longer than it holds: a reading and a forecast for a quarter of an hour, an alert until it is known
what became of it, of a level or a fast fall for its hour at most.
"""

import dataclasses
import datetime
import itertools
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from agents.core.directions import LONGEST, direction_of
from agents.core.percent import percent_number
from agents.core.withheld import withheld
from schemas.alert import URGENT_FIRST, Alert
from schemas.fan_chart import DISCLAIMER, FanChart
from schemas.grid import MGDL_PER_MMOLL, PRESENT, STEP, slot_of
from schemas.reading import OTHER_DEVICE, Reading, ReadingOutcome, Unit
from schemas.record import SUBJECT_PATTERN
from streams.notify.events import LONGEST_HOLDS, TELLING, alert_ends, began_at

_ACCEPTED = ("forecast_requested", "no_forecast")
_HALF_HOUR, _HOUR = 5, 11
"""Places in the horizon."""
_MOST_BEFORE = 17
"""Readings: of a minute each, the fastest that sensors are."""


@dataclasses.dataclass(slots=True)
class Person:
    """What is known of one subject."""

    partition: int
    readings: tuple[Reading, ...] = ()
    """The newest and those before it that its trend is told from, the newest first."""
    reading_ends: datetime.datetime | None = None
    chart: FanChart | None = None
    chart_ends: datetime.datetime | None = None
    alerts: dict[str, tuple[Alert, datetime.datetime]] = dataclasses.field(default_factory=dict)
    """By alert id, with the time at which each is over."""
    alerts_began: dict[str, datetime.datetime] = dataclasses.field(default_factory=dict)
    unforecast: datetime.datetime | None = None
    """The newest reading's time, if it got no forecast."""
    withheld: frozenset[int] = frozenset()
    """The last slots of windows whose forecasts hold no more."""
    number: int = dataclasses.field(default_factory=itertools.count().__next__, compare=False)
    """Of no other person that this process has known, nor of this one before it was forgotten."""

    def read(self, outcome: ReadingOutcome, came_at: datetime.datetime) -> bool:
        """Whether an outcome changes what is shown: by a newer reading, or by a correction.

        Of two readings of one time the later one counts, as in the window that is forecast.
        """
        reading = outcome.reading
        if reading is None or outcome.status not in _ACCEPTED:
            return False
        known = self.readings[0] if self.readings else None
        before, self.withheld = self.withheld, withheld(self.withheld, outcome)
        if outcome.code == OTHER_DEVICE:
            return self.withheld != before
        if known is not None and (reading.time < known.time or reading == known):
            return self._put_in_place(reading) or self.withheld != before
        self.unforecast = reading.time if outcome.status == "no_forecast" else None
        is_correction = known is not None and reading.time == known.time
        others = self.readings[1:] if is_correction else self.readings[:_MOST_BEFORE]
        self.readings = (reading, *(each for each in others if reading.time - each.time <= LONGEST))
        self.reading_ends = (max(reading.time, came_at) if reading.simulated else reading.time) + PRESENT
        return True

    def _put_in_place(self, reading: Reading) -> bool:
        """Whether a reading from before the newest changes what the trend is told from."""
        others = [each for each in self.readings if each.time != reading.time]
        ordered = sorted((reading, *others), key=lambda each: each.time, reverse=True)
        kept = tuple(each for each in ordered[: _MOST_BEFORE + 1] if ordered[0].time - each.time <= LONGEST)
        is_new, self.readings = kept != self.readings, kept
        return is_new

    def forecast(self, chart: FanChart) -> bool:
        """Whether a chart is newer, or made of more than the one before."""
        if self.chart is not None:
            known, came = ((each.issue_time, each.began_ms, each.revision) for each in (self.chart, chart))
            if came < known or (came == known and chart.chart_id == self.chart.chart_id):
                return False
        counted = max(chart.issue_time, chart.computed_at) if chart.simulated else chart.issue_time
        self.chart, self.chart_ends = chart, counted + PRESENT
        return True

    def tell(self, alert: Alert, came_at: datetime.datetime) -> bool:
        """Whether an alert begins, goes on or ends."""
        if alert.status in TELLING:
            self.alerts[alert.alert_id] = alert, alert_ends(alert, came_at)
            self.alerts_began[alert.alert_id] = began_at(alert, came_at)
            return True
        held = self.alerts.get(alert.alert_id)
        if held is not None and 0 < alert.began_ms < held[0].began_ms:
            return False  # it became of the one before a reset, which has the same id
        return self.alerts.pop(alert.alert_id, None) is not None

    def next_end(self, now: datetime.datetime) -> datetime.datetime | None:
        """When something that is shown now no longer holds."""
        ends = (self.reading_ends, self.chart_ends, *(end for _, end in self.alerts.values()))
        return min((end for end in ends if end is not None and end > now), default=None)

    def tidy(self, now: datetime.datetime) -> None:
        """Forget alerts that are over."""
        self.alerts = {key: held for key, held in self.alerts.items() if held[1] > now}
        self.alerts_began = {key: began for key, began in self.alerts_began.items() if key in self.alerts}

    def forget(self, up_to: datetime.datetime) -> bool:
        """What is of before an order goes, all readings that were read with it; whether anything is left."""
        self.readings, self.reading_ends, self.unforecast, self.withheld = (), None, None, frozenset()
        if self.chart is not None and self.chart.began_ms <= up_to.timestamp() * 1000:
            self.chart = self.chart_ends = None
        self.alerts = {key: held for key, held in self.alerts.items() if self.alerts_began[key] > up_to}
        return bool(self.chart or self.alerts)

    def state(self, now: datetime.datetime, unit: Unit) -> dict[str, Any]:
        """What is shown; null for what is not known or does not hold any more."""
        reading = self.readings[0] if self.readings and self.reading_ends and now < self.reading_ends else None
        chart = self._present_chart(now)
        alert = self._holding(now)
        return {
            "glucose": None if reading is None else _shown(reading.glucose_mgdl, unit),
            "unit": unit,
            "trend": None if reading is None else direction_of(self.readings),
            "measured_at": self.readings[0].time.isoformat() if self.readings else None,
            "median_30": None if chart is None else _shown(chart.median_mgdl[_HALF_HOUR], unit),
            "median_60": None if chart is None else _shown(chart.median_mgdl[_HOUR], unit),
            "low_percent_30": None if chart is None else _low_percent(chart, _HALF_HOUR),
            "low_percent_60": None if chart is None else _low_percent(chart, _HOUR),
            "forecast_until": None if chart is None or self.chart_ends is None else self.chart_ends.isoformat(),
            "alert": "OFF" if alert is None else "ON",
            "alert_kind": "none" if alert is None else alert.kind,
            "alert_reason": None if alert is None else alert.reason,
            "simulated": bool(self.readings and self.readings[0].simulated),
            "disclaimer": DISCLAIMER,
        }

    def _present_chart(self, now: datetime.datetime) -> FanChart | None:
        """The forecast while it holds: as `query_api.present` has it, not once a newer reading got none, nor one of
        its own was corrected and it was not made anew."""
        chart = self.chart
        if chart is None or self.chart_ends is None or now >= self.chart_ends:
            return None
        if self.unforecast is not None and self.unforecast > chart.issue_time + STEP / 2:
            return None
        return None if slot_of(chart.issue_time) in self.withheld else chart

    def _holding(self, now: datetime.datetime) -> Alert | None:
        holding = [alert for alert, end in self.alerts.values() if now < end]
        return min(holding, key=lambda alert: _rank(alert.kind), default=None)


class _Order(NamedTuple):
    """To forget what is of up to a time; read under a partition. `erased_at`: up to when all was erased, if it was."""

    up_to: datetime.datetime
    partition: int
    erased_at: datetime.datetime | None


class People:
    """All persons whose records come to this process, by subject."""

    def __init__(self, subjects: Iterable[str]) -> None:
        """`subjects`: whose; with ``*`` among them everybody's."""
        self._wanted = frozenset(subjects)
        self._persons: dict[str, Person] = {}
        self._ordered: dict[str, _Order] = {}
        """How each was forgotten last: topics are read side by side."""

    @property
    def wanted(self) -> bool:
        """Whether anybody's state is shown at all."""
        return bool(self._wanted)

    def wants(self, subject_id: str | None) -> bool:
        """Whether somebody's state is shown. An id that is none could name topics of MQTT that are not ours."""
        if subject_id is None or not re.match(SUBJECT_PATTERN, subject_id):
            return False
        return bool({"*", subject_id} & self._wanted)

    def of(self, subject_id: str, partition: int) -> Person:
        """The person, known from now on."""
        person = self._persons.setdefault(subject_id, Person(partition))
        person.partition = partition
        return person

    def find(self, subject_id: str) -> Person | None:
        return self._persons.get(subject_id)

    def is_shown(self, subject_id: str, now: datetime.datetime) -> bool:
        """Whether anything is to be shown of a person; an alert also of one whose last reading is long ago.

        Not of one who was erased, before a reading comes: calc may still have had an alert in hand.
        """
        person = self._persons.get(subject_id)
        if person is None or person.readings:
            return person is not None
        ordered = self._ordered.get(subject_id)
        erased_at = None if ordered is None else ordered.erased_at
        if erased_at is not None and erased_at > now - LONGEST_HOLDS:
            return False
        return bool(person.chart or person.alerts)

    def subjects(self) -> list[str]:
        return list(self._persons)

    def forget_subject(
        self, subject_id: str, up_to: datetime.datetime, partition: int, now: datetime.datetime, *, erases: bool
    ) -> None:
        """Forget what is of before an order; what is read behind it is asked for by `is_over`."""
        self._ordered = {key: each for key, each in self._ordered.items() if each.up_to > now - LONGEST_HOLDS}
        known = self._ordered.get(subject_id, _Order(up_to, partition, None))
        erased_at = max(up_to, known.erased_at or up_to) if erases else known.erased_at
        self._ordered[subject_id] = _Order(max(up_to, known.up_to), partition, erased_at)
        person = self._persons.get(subject_id)
        if person is not None and not person.forget(up_to):
            del self._persons[subject_id]

    def is_over(self, subject_id: str, began_at: datetime.datetime) -> bool:
        """Whether what began then was forgotten since."""
        ordered = self._ordered.get(subject_id)
        return ordered is not None and began_at <= ordered.up_to

    def forget(self, partition: int) -> None:
        """Another process takes this partition over."""
        self._persons = {name: person for name, person in self._persons.items() if person.partition != partition}
        self._ordered = {name: ordered for name, ordered in self._ordered.items() if ordered.partition != partition}


def _shown(glucose_mgdl: float, unit: Unit) -> float:
    return round(glucose_mgdl) if unit == "mg/dL" else round(glucose_mgdl / MGDL_PER_MMOLL, 1)


def _low_percent(chart: FanChart, place: int) -> float:
    """P(below 70 mg/dL at any time until then): of the path, or where a chart has none the highest of the steps'."""
    if chart.p_path is not None:
        return percent_number(chart.p_path.below_70[(place + 1) // 3 - 1])
    return percent_number(max(chart.p_below_70[: place + 1]))


def _rank(kind: str) -> int:
    return URGENT_FIRST.index(kind) if kind in URGENT_FIRST else len(URGENT_FIRST)
