"""What a worker measures of its steps and partitions; seconds, and labels that cannot grow."""

from collections.abc import Callable, Iterable, Sequence
from typing import get_args

from agents.work import Measurement
from schemas import metrics as catalogue
from schemas.metrics import EventOutcome
from streams.collectors import Collectors


class StepMetrics:
    """What one step reports."""

    def __init__(self, metrics: "Metrics", step: str) -> None:
        self._metrics = metrics
        self._events = metrics.events
        self._step = step
        self._run = metrics.step_seconds.labels(step)
        self._confirm = metrics.confirm_seconds.labels(step)
        for outcome in get_args(EventOutcome):  # from 0 on: a series that begins with its first event shows no increase
            self._events.labels(step, outcome)

    def ended(self, outcome: EventOutcome) -> None:
        """Count how a message ended, or a try that is followed by another."""
        self._events.labels(self._step, outcome).inc()

    def measured(self, measurements: Sequence[Measurement]) -> None:
        """What the step itself has measured."""
        if measurements:
            self._metrics.of_steps(measurements)

    def step_seconds(self, seconds: float) -> None:
        """The step's own work on a message."""
        self._run.observe(seconds)

    def confirmed(self, seconds: float) -> None:
        """From delivery until the broker has confirmed every effect."""
        self._confirm.observe(seconds)


class Metrics:
    """A worker's metrics; other parts of a role build their own with `collectors`."""

    def __init__(self) -> None:
        self.collectors = Collectors()
        self.events = self.collectors.counter(catalogue.EVENTS)
        self.step_seconds = self.collectors.histogram(catalogue.STEP_SECONDS)
        self.confirm_seconds = self.collectors.histogram(catalogue.CONFIRM_SECONDS)
        self.rewinds = self.collectors.counter(catalogue.REWINDS)
        self._lag = self.collectors.gauge(catalogue.LAG)
        self._outstanding = self.collectors.gauge(catalogue.OUTSTANDING)
        self._standing = self.collectors.gauge(catalogue.STANDING_SECONDS)
        self._steps: dict[str, StepMetrics] = {}
        self.of_steps: Callable[[Sequence[Measurement]], None] = _not_taken
        """Takes what steps measure; a role whose steps measure anything sets it."""

    def of_step(self, step: str) -> StepMetrics:
        if (found := self._steps.get(step)) is None:
            found = self._steps[step] = StepMetrics(self, step)
        return found

    def in_flight(self, count: Callable[[], float]) -> None:
        """Report the events in flight from here on."""
        self.collectors.gauge(catalogue.IN_FLIGHT).set_function(count)

    def partitions(self, rows: Iterable[tuple[str, int, int, int, float]]) -> None:
        """Replace what is told by partition by rows of (topic, partition, lag, outstanding, seconds it stands)."""
        for gauge in (self._lag, self._outstanding, self._standing):
            gauge.clear()
        for topic, partition, lag, outstanding, standing in rows:
            self._lag.labels(topic, str(partition)).set(lag)
            self._outstanding.labels(topic, str(partition)).set(outstanding)
            self._standing.labels(topic, str(partition)).set(standing)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return self.collectors.exposition()


def _not_taken(measurements: Sequence[Measurement]) -> None:
    """Of a process that exposes none of them: a bench, or a step on its own."""
