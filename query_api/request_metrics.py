"""What the query layer measures of itself. Labels are route templates and statuses, so they cannot grow."""

from collections import deque
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RECENT = 1000


class RequestMetrics:
    """Requests by route, and gauges that other parts contribute; a registry an application, nothing global."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "glucast_http_requests", "Requests answered", ["route", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "glucast_http_seconds", "Time to answer", ["route"], buckets=BUCKETS_SECONDS, registry=self.registry
        )
        self.total = 0
        self.errors = 0
        self.recent_seconds: deque[float] = deque(maxlen=RECENT)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method if method in _METHODS else "other", str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self.total += 1
        self.errors += status >= 500
        self.recent_seconds.append(seconds)

    def gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Report `value()` whenever the metrics are read."""
        Gauge(name, about, registry=self.registry).set_function(value)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)


_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"})
