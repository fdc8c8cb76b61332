"""What the notify role measures. No label names a webhook: their number is somebody else's choice."""

import math
from collections.abc import Callable
from typing import Protocol, get_args

from schemas import metrics as catalogue
from schemas.webhook import Delivery, DeliveryStatus
from streams.collectors import Collectors
from streams.notify.outbox import Outbox
from streams.notify.registry import Registry


class _Connection(Protocol):
    connected: bool


class _Reader(Protocol):
    skipped: int

    def lag(self) -> int: ...


class NotifyMetrics:
    """Gauges are read at each scrape."""

    def __init__(self, registry: Registry, outbox: Outbox, reader: _Reader) -> None:
        self.collectors = Collectors()
        self._steps = self.collectors.counter(catalogue.DELIVERIES)
        for status in get_args(
            DeliveryStatus
        ):  # from 0 on: a series that begins with its first event shows no increase
            self._steps.labels(status)
        self._gauge(catalogue.DELIVERIES_WAITING, outbox.count)
        webhooks = self.collectors.gauge(catalogue.WEBHOOKS)
        states = registry.states
        webhooks.labels("working").set_function(
            lambda: sum(not (each.failing_since or each.disabled_at) for each in states.values())
        )
        webhooks.labels("failing").set_function(
            lambda: sum(bool(each.failing_since) and not each.disabled_at for each in states.values())
        )
        webhooks.labels("disabled").set_function(lambda: sum(bool(each.disabled_at) for each in states.values()))
        self._gauge(catalogue.NOTIFY_LAG, reader.lag)
        self._gauge(catalogue.NOTIFY_SKIPPED, lambda: reader.skipped)
        self._mqtt = self.collectors.gauge(catalogue.MQTT_CONNECTED)
        self._mqtt.set(math.nan)

    def _gauge(self, metric: catalogue.Metric, value: Callable[[], float]) -> None:
        self.collectors.gauge(metric).set_function(value)

    def of_mqtt(self, connection: _Connection) -> None:
        """Report whether MQTT is connected from here on."""
        self._mqtt.set_function(lambda: connection.connected)

    def step(self, delivery: Delivery) -> None:
        """Count a step of a delivery."""
        self._steps.labels(delivery.status).inc()

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return self.collectors.exposition()
