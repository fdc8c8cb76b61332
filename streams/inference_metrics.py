"""What the inference role measures: lanes, batches, the model and its device."""

from collections.abc import Callable
from functools import partial

from schemas import metrics as catalogue
from schemas.lanes import LANES, Lane
from schemas.metrics import LaneOutcome
from streams.metrics import Metrics


class InferenceMetrics:
    """Built beside the worker's own metrics."""

    def __init__(self, metrics: Metrics, depth: Callable[[Lane], int]) -> None:
        """`depth` tells how many requests wait in a lane."""
        collectors = metrics.collectors
        waiting = collectors.gauge(catalogue.LANE_DEPTH)
        self._wait = collectors.histogram(catalogue.LANE_WAIT_SECONDS)
        for lane in LANES:
            waiting.labels(lane).set_function(partial(depth, lane))
            self._wait.labels(lane)
        self._requests = collectors.counter(catalogue.REQUESTS)
        self._batch_windows = collectors.histogram(catalogue.BATCH_WINDOWS)
        self._batch_seconds = collectors.histogram(catalogue.BATCH_SECONDS)
        self._windows = collectors.counter(catalogue.WINDOWS_SAMPLED)
        self._cost = collectors.gauge(catalogue.SECONDS_PER_SAMPLE)
        self._model = collectors.gauge(catalogue.MODEL)
        self._engine = collectors.gauge(catalogue.ENGINE)

    def model_loaded(self, name: str, fingerprint: str, stats: Callable[[], dict[str, float]]) -> None:
        """`stats`: plain numbers such as memory on the device, read at each scrape."""
        self._model.labels(name, fingerprint[:12]).set(1)
        for figure in stats():
            self._engine.labels(figure).set_function(partial(_figure, stats, figure))

    def waited(self, lane: Lane, seconds: float) -> None:
        self._wait.labels(lane).observe(max(0.0, seconds))

    def ended(self, lane: Lane, outcome: LaneOutcome) -> None:
        """Count how a request ended."""
        self._requests.labels(lane, outcome).inc()

    def batch(self, groups: int, drawn: int, seconds: float, seconds_per_sample: float) -> None:
        """`groups` computations, of which `drawn` were not remembered."""
        self._batch_windows.observe(groups)
        self._batch_seconds.observe(seconds)
        self._windows.inc(drawn)
        self._cost.set(seconds_per_sample)


def _figure(stats: Callable[[], dict[str, float]], name: str) -> float:
    return stats().get(name, 0.0)
