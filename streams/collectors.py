"""Counters, gauges and histograms of the catalogue's metrics: the only place that builds any."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from schemas.metrics import METRICS, Kind, Metric


class Collectors:
    """What one process exposes, in a registry of its own.

    Each method builds a metric from its entry, once. Raises `ValueError` for an entry of another kind, for one that the
    catalogue lacks, and for one that is built already: mistakes of the code.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

    def counter(self, metric: Metric) -> Counter:
        _check(metric, "counter")
        return Counter(metric.name, metric.about, metric.labels, registry=self._registry)

    def gauge(self, metric: Metric) -> Gauge:
        _check(metric, "gauge")
        return Gauge(metric.name, metric.about, metric.labels, registry=self._registry)

    def histogram(self, metric: Metric) -> Histogram:
        _check(metric, "histogram")
        return Histogram(metric.name, metric.about, metric.labels, buckets=metric.buckets, registry=self._registry)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)


def _check(metric: Metric, kind: Kind) -> None:
    if metric not in METRICS:
        raise ValueError(f"{metric.name} is not in the catalogue: declare it in schemas/metrics.py")
    if metric.kind != kind:
        raise ValueError(f"{metric.name} is declared as a {metric.kind}, not as a {kind}")
