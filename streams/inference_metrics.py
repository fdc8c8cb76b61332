"""What the inference role measures: lanes, batches, the model and its device."""

from collections.abc import Callable
from functools import partial

from prometheus_client import Counter, Gauge, Histogram

from schemas.command import LANES, Lane
from streams.metrics import BUCKETS_SECONDS, Metrics

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class InferenceMetrics:
    """Registered beside the worker's own metrics."""

    def __init__(self, metrics: Metrics, depth: Callable[[Lane], int]) -> None:
        """`depth` tells how many requests wait in a lane."""
        registry = metrics.registry
        waiting = Gauge("glucast_lane_depth", "Requests that wait in memory", ["lane"], registry=registry)
        self._wait = Histogram(
            "glucast_lane_wait_seconds", "From a request's arrival until its batch starts", ["lane"],
            buckets=BUCKETS_SECONDS, registry=registry,
        )  # fmt: skip
        for lane in LANES:
            waiting.labels(lane).set_function(partial(depth, lane))
            self._wait.labels(lane)
        self._requests = Counter(
            "glucast_requests", "Requests by how they ended", ["lane", "outcome"], registry=registry
        )
        self._batch_windows = Histogram(
            "glucast_batch_windows", "Windows in a micro-batch", buckets=BATCH_BUCKETS, registry=registry
        )
        self._batch_seconds = Histogram(
            "glucast_batch_seconds", "Time of a micro-batch", buckets=BUCKETS_SECONDS, registry=registry
        )
        self._windows = Counter("glucast_windows_sampled", "Windows that the model has answered", registry=registry)
        self._cost = Gauge("glucast_seconds_per_sample", "Measured cost of one Monte Carlo sample", registry=registry)
        self._model = Gauge("glucast_model", "The loaded forecaster", ["name", "fingerprint"], registry=registry)
        self._engine = Gauge("glucast_engine", "What the forecaster says of itself", ["figure"], registry=registry)

    def model_loaded(self, name: str, fingerprint: str, stats: Callable[[], dict[str, float]]) -> None:
        """`stats`: plain numbers such as memory on the device, read at each scrape."""
        self._model.labels(name, fingerprint[:12]).set(1)
        for figure in stats():
            self._engine.labels(figure).set_function(partial(_figure, stats, figure))

    def waited(self, lane: Lane, seconds: float) -> None:
        self._wait.labels(lane).observe(max(0.0, seconds))

    def ended(self, lane: Lane, outcome: str) -> None:
        """Count one of answered, expired, failed, rejected, malformed."""
        self._requests.labels(lane, outcome).inc()

    def batch(self, groups: int, drawn: int, seconds: float, seconds_per_sample: float) -> None:
        """`groups` computations, of which `drawn` were not remembered."""
        self._batch_windows.observe(groups)
        self._batch_seconds.observe(seconds)
        self._windows.inc(drawn)
        self._cost.set(seconds_per_sample)


def _figure(stats: Callable[[], dict[str, float]], name: str) -> float:
    return stats().get(name, 0.0)
