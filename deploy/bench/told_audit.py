"""Whether every forecast was scored and every episode told, once: the topics against the pure steps.

The reference is the fan charts themselves. Put through scorekeeping and the policy of alerts again, in the order in
which they stand on ``cgm.fan-charts``, they say which records have to be on ``cgm.scores`` and ``cgm.alerts``, by id:
an id of scores is of a target and its forecasts, whatever their fans say. So a target whose forecasts were scored twice
over, or not at all, shows as an id too many or too few. Alerts of readings that stay away, or are errors, come from no
chart: of them each is raised once, and ends once at most.
"""

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import get_args

import orjson

from agents.calc import scorekeeping
from agents.calc.alerts import consider
from agents.memory import MemoryTables
from agents.work import Message, Work
from schemas.alert import Alert, AlertKind
from schemas.fan_chart import FanChart
from schemas.score import TargetScore
from schemas.score_state import ScoreState
from schemas.tables import ALERTS_TABLE
from streams import topology

_OF_CHARTS = frozenset(get_args(AlertKind)) - {"stale_data", "sensor_error"}


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """Counts of scores and alerts. All but those of records and of those told again have to be 0."""

    scores: int
    scores_lost: int
    scores_again: int
    scores_wrong: int
    """Targets, or forecasts at a target, that no chart leads to or that have two contents."""
    alerts: int
    alerts_lost: int
    alerts_again: int
    alerts_wrong: int
    """Records that no chart leads to, that have two contents, or decide what was not raised."""

    @property
    def clean(self) -> bool:
        return not (self.scores_lost + self.scores_wrong + self.alerts_lost + self.alerts_wrong)

    def lines(self) -> Iterator[str]:
        yield _line("scores of targets", self.scores, self.scores_lost, self.scores_again, self.scores_wrong)
        yield _line("records of alerts", self.alerts, self.alerts_lost, self.alerts_again, self.alerts_wrong)


def _line(what: str, records: int, lost: int, again: int, wrong: int) -> str:
    return f"{what}: {records}; {lost} lost, {again} again, {wrong} wrong"


class ToldAudit:
    """Takes the charts in the order of each partition, then the scores and alerts in any."""

    def __init__(self) -> None:
        self._states: dict[str, ScoreState] = {}
        self._alerts = MemoryTables()
        self._step = topology.step_of("calc")
        self._targets: set[str] = set()
        self._events: dict[tuple[str, str], bytes] = {}
        self._scored: dict[str, bytes] = {}
        self._pairs: set[tuple[str, int]] = set()
        self._told: dict[tuple[str, str], bytes] = {}
        self._scores_again = self._scores_wrong = self._alerts_again = self._alerts_wrong = 0

    def chart(self, value: bytes | None) -> None:
        """A record of ``cgm.fan-charts``."""
        chart = FanChart.from_json(value)
        if chart.kind != "live" or not chart.model_serves:
            return
        state = self._states.setdefault(chart.series_key, ScoreState())
        self._targets |= {score.score_id for score in scorekeeping.keep(state, chart, recalibrate=False)[1]}
        came_ms = round(chart.computed_at.timestamp() * 1000)
        message = Message(topic="", key=None, value=None, timestamp_ms=came_ms)
        work = Work(message, {ALERTS_TABLE: self._alerts.table(ALERTS_TABLE)}, self._step, lambda _: 0)
        consider(work, chart, chart)  # the fitted fan tells the same: nobody here has a threshold of their own
        for send in self._alerts.apply(work):
            alert = Alert.from_json(send.value)
            if alert.status == "repeated":  # an alert may have three of them, under one id
                continue
            self._events[alert.alert_id, alert.status] = _digest(send.value)

    def score(self, value: bytes | None) -> None:
        """A record of ``cgm.scores``."""
        record, digest = TargetScore.from_json(value), _digest(value)
        if record.score_id in self._scored:
            self._scores_again += 1
            self._scores_wrong += self._scored[record.score_id] != digest
            return
        self._scored[record.score_id] = digest
        pairs = {(each.chart, each.minutes_ahead) for each in record.scores}
        self._scores_wrong += len(pairs & self._pairs)
        self._pairs |= pairs

    def alert(self, value: bytes | None) -> None:
        """A record of ``cgm.alerts``."""
        record, digest = Alert.from_json(value), _digest(value)
        if record.status == "repeated":
            return
        event = record.alert_id, record.status
        if event in self._told:
            self._alerts_again += 1
            self._alerts_wrong += self._told[event] != digest
            return
        self._told[event] = digest
        if record.kind not in _OF_CHARTS:
            self._alerts_wrong += record.status == "ended" and (record.alert_id, "raised") not in self._told
        else:
            self._alerts_wrong += self._events.get(event) != digest

    def counts(self) -> Told:
        """When everything was taken."""
        return Told(
            scores=len(self._scored),
            scores_lost=len(self._targets - self._scored.keys()),
            scores_again=self._scores_again,
            scores_wrong=self._scores_wrong + len(self._scored.keys() - self._targets),
            alerts=len(self._told),
            alerts_lost=len(self._events.keys() - self._told.keys()),
            alerts_again=self._alerts_again,
            alerts_wrong=self._alerts_wrong,
        )


def _digest(value: bytes | None) -> bytes:
    return hashlib.sha256(orjson.dumps(orjson.loads(value or b"null"), option=orjson.OPT_SORT_KEYS)).digest()[:16]
