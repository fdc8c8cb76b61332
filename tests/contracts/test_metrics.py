"""The catalogue of metrics and what processes expose are the same, both ways. The query API's: tests/api."""

import dataclasses
from collections import Counter

import pytest

from agents.work import Measurement
from schemas import metrics as metrics_of
from schemas.metrics import CALC, EVENTS, INFERENCE, LAG, METRICS, NOTIFY, WORKER, Metric
from streams.calc_metrics import MOST_MODELS, CalcMetrics
from streams.collectors import Collectors
from streams.inference_metrics import InferenceMetrics
from streams.metrics import Metrics
from streams.notify.metrics import NotifyMetrics
from streams.notify.outbox import Outbox
from streams.notify.registry import Registry
from tests.kit.exposition import buckets, declared, exposed, labels


def worker() -> Metrics:
    """A worker's metrics after one message."""
    metrics = Metrics()
    metrics.in_flight(lambda: 1.0)
    step = metrics.of_step("window")
    step.ended("processed")
    step.step_seconds(0.01)
    step.confirmed(0.02)
    metrics.partitions([("cgm.readings", 0, 3, 1, 2.5)])
    return metrics


def inference() -> Metrics:
    """An inference worker's metrics after one batch."""
    metrics = worker()
    own = InferenceMetrics(metrics, lambda lane: 2)
    own.model_loaded("gluformer", "f" * 64, lambda: {"allocated_bytes": 1.0})
    own.waited("live", 0.01)
    own.batch(groups=1, drawn=1, seconds=0.02, seconds_per_sample=0.002)
    own.ended("live", "answered")
    return metrics


def calc() -> Metrics:
    """A calc worker's metrics after one work that measured everything."""
    metrics = worker()
    CalcMetrics(metrics)
    metrics.of_step("calc").measured(
        [
            Measurement(metrics_of.FORECAST_ERROR_MGDL, (*MODEL, "60"), 12.0),
            Measurement(metrics_of.FORECAST_CRPS_MGDL, (*MODEL, "60"), 9.0),
            Measurement(metrics_of.FORECAST_INSIDE, (*MODEL, "60", "90")),
            Measurement(metrics_of.ALERTS_TOLD, ("low", "raised")),
        ]
    )
    return metrics


MODEL = "mlp", "5" * 64


class Connected:
    """In the places of the intake and of MQTT."""

    connected, skipped = True, 0

    def lag(self) -> int:
        return 3


def notify() -> NotifyMetrics:
    """Notify's metrics after one delivery."""
    metrics = NotifyMetrics(Registry(24), Outbox(10), Connected())
    metrics.of_mqtt(Connected())
    return metrics


ROLES = [(worker, WORKER), (inference, WORKER + INFERENCE), (calc, WORKER + CALC), (notify, NOTIFY)]


@pytest.mark.parametrize(("role", "metrics"), ROLES)
def test_a_worker_exposes_what_is_declared_of_it_and_nothing_else(role: object, metrics: tuple[Metric, ...]) -> None:
    text = role().exposition().decode()  # type: ignore[operator]
    assert exposed(text) == declared(metrics)
    for metric in metrics:
        assert labels(text)[metric.name] == {frozenset(metric.labels)}, metric.name
        assert buckets(text).get(metric.name, set()) == set(metric.buckets), metric.name


def test_names_say_whose_they_are_and_stand_once() -> None:
    assert [name for name, count in Counter(metric.name for metric in METRICS).items() if count > 1] == []
    for metric in METRICS:
        assert metric.name.startswith("glucast_")
        assert not metric.name.endswith(("_total", "_bucket", "_count", "_sum", "_created")), metric.name
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert sorted(set(metric.buckets)) == list(metric.buckets)


def test_what_the_catalogue_lacks_or_has_otherwise_cannot_be_exposed() -> None:
    collectors = Collectors()
    with pytest.raises(ValueError, match="glucast_made_up is not in the catalogue"):
        collectors.gauge(Metric("glucast_made_up", "gauge", "Not declared"))
    with pytest.raises(ValueError, match="not in the catalogue"):
        collectors.gauge(dataclasses.replace(LAG, labels=("topic", "partition", "subject")))
    with pytest.raises(ValueError, match="glucast_events is declared as a counter, not as a gauge"):
        collectors.gauge(EVENTS)
    collectors.counter(EVENTS)
    with pytest.raises(ValueError, match="Duplicated"):
        collectors.counter(EVENTS)


def test_how_messages_end_is_told_from_0_on() -> None:
    metrics = Metrics()
    metrics.of_step("calc")
    assert 'glucast_events_total{outcome="dead_lettered",step="calc"} 0.0' in metrics.exposition().decode()


def test_what_was_told_in_alerts_is_told_from_0_on() -> None:
    metrics = Metrics()
    CalcMetrics(metrics)
    assert 'glucast_alerts_total{kind="urgent_low",status="missed"} 0.0' in metrics.exposition().decode()


def test_whoever_names_models_cannot_make_the_metrics_grow() -> None:
    metrics = Metrics()
    CalcMetrics(metrics)
    before = None
    for number in range(3 * MOST_MODELS):
        one = Measurement(metrics_of.FORECAST_INSIDE, (f"model-{number}" * 100, f"{number:064d}", "60", "90"))
        metrics.of_step("calc").measured([one])
        if number == MOST_MODELS:
            before = len(metrics.exposition().splitlines())
    text = metrics.exposition().decode()
    assert len(text.splitlines()) == before
    assert f'fingerprint="other",minutes_ahead="60",model="other",percent="90"}} {2 * MOST_MODELS}.0' in text
    assert max(map(len, text.splitlines())) < 200
