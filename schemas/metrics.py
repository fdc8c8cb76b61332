"""Every metric that a process exposes at ``/metrics``: what it tells, in which unit, under which labels.

A label's values are steps, lanes, topics, routes, statuses and the like, never what people send, so that they cannot
grow; models, which whoever writes forecasts names, are bounded in `streams.calc_metrics`. What does not stand here
cannot be exposed: collectors are built from these entries alone. Dashboards and alerts are held to them.
"""

import dataclasses
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
EventOutcome = Literal["processed", "rejected", "dead_lettered", "retried"]
"""How a step's message ended; retried is a try that another follows.

Rejected and dead_lettered messages are both in ``cgm.dead-letters``: the one for its sender to mend, the other for us.
"""
LaneOutcome = Literal["answered", "expired", "superseded", "deferred", "failed", "rejected", "malformed", "left"]
"""How a forecast request ended; deferred is a live one that goes on in the backfill lane, left is one that asks another
model."""


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    `name` is without what the exposition adds: ``_total`` to a counter; ``_bucket``, ``_sum`` and ``_count`` to a
    histogram; ``_created``, the Unix time since which either counts. `buckets` are a histogram's upper bounds, in the
    unit of its name.
    """

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ANSWER_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MGDL_BUCKETS = (2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0, 120.0)
WINDOW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

EVENTS = Metric("glucast_events", "counter", "Messages by step and how they ended", ("step", "outcome"))
STEP_SECONDS = Metric("glucast_step_seconds", "histogram", "A step's own work", ("step",), STEP_BUCKETS)
CONFIRM_SECONDS = Metric(
    "glucast_confirm_seconds", "histogram", "From delivery to confirmed effects", ("step",), STEP_BUCKETS
)
REWINDS = Metric("glucast_rewinds", "counter", "Partitions fetched again after a loss")
LAG = Metric("glucast_lag", "gauge", "Messages not yet committed", ("topic", "partition"))
OUTSTANDING = Metric("glucast_outstanding", "gauge", "Deliveries not yet committed", ("topic", "partition"))
STANDING_SECONDS = Metric(
    "glucast_standing_seconds", "gauge", "Since a partition with messages waiting committed one", ("topic", "partition")
)
IN_FLIGHT = Metric("glucast_in_flight", "gauge", "Events whose effects are not confirmed")

LANE_DEPTH = Metric("glucast_lane_depth", "gauge", "Requests that wait in memory", ("lane",))
LANE_WAIT_SECONDS = Metric(
    "glucast_lane_wait_seconds", "histogram", "From a request's arrival until its batch starts", ("lane",), STEP_BUCKETS
)
REQUESTS = Metric("glucast_requests", "counter", "Requests by how they ended", ("lane", "outcome"))
BATCH_WINDOWS = Metric("glucast_batch_windows", "histogram", "Windows in a micro-batch", (), WINDOW_BUCKETS)
BATCH_SECONDS = Metric("glucast_batch_seconds", "histogram", "Time of a micro-batch", (), STEP_BUCKETS)
WINDOWS_SAMPLED = Metric("glucast_windows_sampled", "counter", "Windows that the model has answered")
SECONDS_PER_SAMPLE = Metric("glucast_seconds_per_sample", "gauge", "Measured cost of one Monte Carlo sample")
MODEL = Metric("glucast_model", "gauge", "The loaded forecaster", ("name", "fingerprint"))
ENGINE = Metric("glucast_engine", "gauge", "What the forecaster says of itself", ("figure",))

_OF_MODEL = ("model", "fingerprint", "minutes_ahead")
FORECAST_ERROR_MGDL = Metric(
    "glucast_forecast_error_mgdl", "histogram", "Scored forecasts, by |median - truth|", _OF_MODEL, MGDL_BUCKETS
)
FORECAST_CRPS_MGDL = Metric(
    "glucast_forecast_crps_mgdl", "histogram", "Scored forecasts, by the CRPS of their fan", _OF_MODEL, MGDL_BUCKETS
)
FORECAST_INSIDE = Metric(
    "glucast_forecast_inside",
    "counter",
    "Scored forecasts whose interval of so many percent holds the truth",
    (*_OF_MODEL, "percent"),
)
ALERTS_TOLD = Metric("glucast_alerts", "counter", "Alerts by kind and what is told of them", ("kind", "status"))

HTTP_REQUESTS = Metric("glucast_http_requests", "counter", "Requests answered", ("route", "method", "status"))
HTTP_SECONDS = Metric("glucast_http_seconds", "histogram", "Time to answer", ("route",), ANSWER_BUCKETS)
READ_MODEL_LAG = Metric("glucast_read_model_lag", "gauge", "Messages between Kafka and the read model")
READ_MODEL_CONNECTED = Metric("glucast_read_model_connected", "gauge", "1 while Kafka answers")
READ_MODEL_SKIPPED = Metric("glucast_read_model_skipped", "gauge", "Messages that were no records")
HANDLES = Metric("glucast_handles", "gauge", "Stored handles")
WAITERS = Metric("glucast_waiters", "gauge", "Requests that wait for workers")
EVENT_CLIENTS = Metric("glucast_event_clients", "gauge", "Clients that follow events over HTTP")
COMPUTATIONS = Metric("glucast_computations", "gauge", "What they wait for, each once")
PICTURES_DRAWN = Metric("glucast_pictures_drawn", "gauge", "Pictures drawn by Chromium")
PICTURES_REUSED = Metric("glucast_pictures_reused", "gauge", "Pictures and figures from the cache")

DELIVERIES = Metric("glucast_deliveries", "counter", "Steps of deliveries to webhooks", ("status",))
DELIVERIES_WAITING = Metric("glucast_deliveries_waiting", "gauge", "Deliveries that wait for a webhook")
WEBHOOKS = Metric("glucast_webhooks", "gauge", "Webhooks by how they do", ("state",))
NOTIFY_LAG = Metric("glucast_notify_lag", "gauge", "Messages that notify has still to read")
NOTIFY_SKIPPED = Metric("glucast_notify_skipped", "gauge", "Messages that were no records")
MQTT_CONNECTED = Metric(
    "glucast_mqtt_connected", "gauge", "1 while the broker of MQTT is connected; NaN where none is set"
)

WORKER: tuple[Metric, ...] = (
    EVENTS,
    STEP_SECONDS,
    CONFIRM_SECONDS,
    REWINDS,
    LAG,
    OUTSTANDING,
    STANDING_SECONDS,
    IN_FLIGHT,
)
"""Of every worker: ingest, inference and calc."""
INFERENCE: tuple[Metric, ...] = (
    LANE_DEPTH,
    LANE_WAIT_SECONDS,
    REQUESTS,
    BATCH_WINDOWS,
    BATCH_SECONDS,
    WINDOWS_SAMPLED,
    SECONDS_PER_SAMPLE,
    MODEL,
    ENGINE,
)
"""Of an inference worker, beside those of every worker."""
CALC: tuple[Metric, ...] = (FORECAST_ERROR_MGDL, FORECAST_CRPS_MGDL, FORECAST_INSIDE, ALERTS_TOLD)
"""Of a calc worker, beside those of every worker: of all subjects together, as the steps find them."""
QUERY: tuple[Metric, ...] = (
    HTTP_REQUESTS,
    HTTP_SECONDS,
    READ_MODEL_LAG,
    READ_MODEL_CONNECTED,
    READ_MODEL_SKIPPED,
    HANDLES,
    WAITERS,
    EVENT_CLIENTS,
    COMPUTATIONS,
    PICTURES_DRAWN,
    PICTURES_REUSED,
)
"""Of the query API."""
NOTIFY: tuple[Metric, ...] = (
    DELIVERIES,
    DELIVERIES_WAITING,
    WEBHOOKS,
    NOTIFY_LAG,
    NOTIFY_SKIPPED,
    MQTT_CONNECTED,
)
"""Of the notify role."""
METRICS: tuple[Metric, ...] = WORKER + INFERENCE + CALC + QUERY + NOTIFY
