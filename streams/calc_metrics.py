"""What the steps of calc measure: how forecasts did once the truth was known, and what was told in alerts.

Counts of all subjects of a worker since its start, in whatever order they come; no label names anybody. A work that is
done again after a crash may count again: what is exact stands on ``cgm.scores`` and ``cgm.alerts``, by id.
"""

from collections.abc import Callable, Iterable
from typing import get_args

from agents.work import Measurement
from schemas import metrics as catalogue
from schemas.alert import AlertKind, AlertStatus
from schemas.metrics import Metric
from streams.collectors import Collectors
from streams.metrics import Metrics

MOST_MODELS = 8
"""Models that are told apart, in the order of their first score; forecasts of further ones count under OTHER."""
OTHER = ("other", "other")


class CalcMetrics:
    """Built beside the worker's own metrics, which hand it what steps measure."""

    def __init__(self, metrics: Metrics) -> None:
        collectors = metrics.collectors
        self._models: set[tuple[str, ...]] = set()
        self._kinds: dict[str, Callable[..., Callable[[float], None]]] = {
            metric.name: _counted(collectors, metric) if metric.kind == "counter" else _observed(collectors, metric)
            for metric in catalogue.CALC
        }
        self._adds: dict[tuple[str, tuple[str, ...]], Callable[[float], None]] = {}
        for kind in get_args(AlertKind):  # from 0 on: a series that begins with its first event shows no increase
            for status in get_args(AlertStatus):
                self.take([Measurement(catalogue.ALERTS_TOLD, (kind, status), 0.0)])
        metrics.of_steps = self.take

    def take(self, measurements: Iterable[Measurement]) -> None:
        """Count them. Raises KeyError for a metric that the role does not have."""
        for each in measurements:
            series = each.metric.name, self._bounded(each)
            if (add := self._adds.get(series)) is None:  # looked up once: each chart brings some thirty
                add = self._adds[series] = self._kinds[series[0]](*series[1])
            add(each.value)

    def _bounded(self, each: Measurement) -> tuple[str, ...]:
        """Whoever writes forecasts names their model: so names are shortened, and no more than so many."""
        if each.metric.labels[:1] != ("model",):
            return each.labels
        model = each.labels[0][:LONGEST_NAME], each.labels[1][:FINGERPRINT_DIGITS]
        if model not in self._models:
            if len(self._models) >= MOST_MODELS:
                model = OTHER
            else:
                self._models.add(model)
        return *model, *each.labels[2:]


def _counted(collectors: Collectors, metric: Metric) -> Callable[..., Callable[[float], None]]:
    counter = collectors.counter(metric)
    return lambda *labels: counter.labels(*labels).inc


def _observed(collectors: Collectors, metric: Metric) -> Callable[..., Callable[[float], None]]:
    histogram = collectors.histogram(metric)
    return lambda *labels: histogram.labels(*labels).observe


LONGEST_NAME = 32
FINGERPRINT_DIGITS = 12
"""As in the metric of the loaded model."""
