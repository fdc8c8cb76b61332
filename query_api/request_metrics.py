"""What the query layer measures of itself. Labels are route templates and statuses, so they cannot grow."""

from collections import deque
from collections.abc import Callable

from schemas.metrics import HTTP_REQUESTS, HTTP_SECONDS, Metric
from streams.collectors import Collectors

RECENT = 1000


class RequestMetrics:
    """Requests by route, and gauges that other parts contribute; a registry an application, nothing global."""

    def __init__(self) -> None:
        self._collectors = Collectors()
        self._requests = self._collectors.counter(HTTP_REQUESTS)
        self._seconds = self._collectors.histogram(HTTP_SECONDS)
        self.total = 0
        self.errors = 0
        self.unsuccessful = 0
        """Answers that say what is wrong, whoever's fault it is: 4xx and 5xx."""
        self.recent_seconds: deque[float] = deque(maxlen=RECENT)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method if method in _METHODS else "other", str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self.total += 1
        self.errors += status >= 500
        self.unsuccessful += status >= 400
        self.recent_seconds.append(seconds)

    def gauge(self, metric: Metric, value: Callable[[], float]) -> None:
        """Report `value()` whenever the metrics are read."""
        self._collectors.gauge(metric).set_function(value)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return self._collectors.exposition()


_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"})
