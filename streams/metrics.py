"""Counters, gauges and histograms of a worker, in its own registry; seconds, and labels that cannot grow."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class StepMetrics:
    """What one step reports."""

    def __init__(self, metrics: "Metrics", step: str) -> None:
        self._events = metrics.events
        self._step = step
        self._run = metrics.step_seconds.labels(step)
        self._confirm = metrics.confirm_seconds.labels(step)

    def ended(self, outcome: str) -> None:
        """Count one of processed, rejected, dead_lettered, retried, held."""
        self._events.labels(self._step, outcome).inc()

    def step_seconds(self, seconds: float) -> None:
        """The step's own work on a message."""
        self._run.observe(seconds)

    def confirmed(self, seconds: float) -> None:
        """From delivery until the broker has confirmed every effect."""
        self._confirm.observe(seconds)


class Metrics:
    """A worker's metrics; other parts of a role may register their own in `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "glucast_events", "Messages by step and how they ended", ["step", "outcome"], registry=self.registry
        )
        self.step_seconds = Histogram(
            "glucast_step_seconds", "A step's own work", ["step"], buckets=BUCKETS_SECONDS, registry=self.registry
        )
        self.confirm_seconds = Histogram(
            "glucast_confirm_seconds", "From delivery to confirmed effects", ["step"],
            buckets=BUCKETS_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.rewinds = Counter("glucast_rewinds", "Partitions fetched again after a loss", registry=self.registry)
        self._lag = Gauge("glucast_lag", "Messages not yet committed", ["topic", "partition"], registry=self.registry)
        self._outstanding = Gauge(
            "glucast_outstanding", "Deliveries not yet committed", ["topic", "partition"], registry=self.registry
        )
        self._steps: dict[str, StepMetrics] = {}

    def of_step(self, step: str) -> StepMetrics:
        if (found := self._steps.get(step)) is None:
            found = self._steps[step] = StepMetrics(self, step)
        return found

    def in_flight(self, count: Callable[[], float]) -> None:
        """Report the events in flight from here on."""
        gauge = Gauge("glucast_in_flight", "Events whose effects are not confirmed", registry=self.registry)
        gauge.set_function(count)

    def partitions(self, rows: Iterable[tuple[str, int, int, int]]) -> None:
        """Replace lag and outstanding by rows of (topic, partition, lag, outstanding)."""
        self._lag.clear()
        self._outstanding.clear()
        for topic, partition, lag, outstanding in rows:
            self._lag.labels(topic, str(partition)).set(lag)
            self._outstanding.labels(topic, str(partition)).set(outstanding)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
