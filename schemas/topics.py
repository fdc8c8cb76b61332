"""Every topic: what it carries, who may rely on it, how it is kept. Faust's changelogs are topics like any other."""

import dataclasses
import functools
from typing import Literal

from schemas.lanes import LANES, Lane

Encoding = Literal["json", "arrow", "bytes"]
KeyedBy = Literal[
    "subject id", "series key", "series or subject", "upload id", "table key", "webhook", "role of a model",
    "the message's own",
]  # fmt: skip
SUBJECT_KEYS: tuple[KeyedBy, ...] = ("subject id", "series or subject", "table key", "webhook", "the message's own")
"""Of topics that may hold records of a subject: those are exported. The others name nobody."""
MIB = 1 << 20
DAY_MS = 24 * 3600 * 1000

DELETIONS_KEPT_MS = DAY_MS
"""How long a compacted topic shows that a key was deleted: its ``delete.retention.ms``, at least."""

DELETIONS_READ_WITHIN_SECONDS = 20 * 3600
"""A copy of a compacted topic that is older is read anew: it could keep what was deleted. The rest of the day is for
the reading itself."""

FILES_CLOSED_MS = DAY_MS
"""Kafka deletes and compacts whole files (segments): so long, at most, it writes to one, or waits to compact it."""

CLOCK_SLACK_SECONDS = 600
"""So far clocks may be set back without a doubt about how old such a copy is."""


def may_lack_deletions(age_seconds: float) -> bool:
    """Whether a copy of a compacted topic that was complete so long ago has to be read anew.

    A clock that was set back makes the age negative, and hides how long the copy slept.
    """
    return not -CLOCK_SLACK_SECONDS <= age_seconds <= DELETIONS_READ_WITHIN_SECONDS


@dataclasses.dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `record` is the class in ``schemas`` that its messages are; None for raw bytes.

    `max_message_bytes` is checked before a message is sent and is the topic's ``max.message.bytes``. `stamped`: when a
    message came is told by the broker's clock (``LogAppendTime``), whatever its sender says. Every topic whose
    message times a step looks at has it.
    """

    name: str
    encoding: Encoding
    record: str | None
    key: KeyedBy
    about: str
    public: bool = False
    compacted: bool = False
    stamped: bool = False
    retention_ms: int = DAY_MS
    max_message_bytes: int = 1 * MIB


READINGS = Topic(
    "cgm.readings",
    "json",
    "Reading",
    "subject id",
    "readings as devices publish them",
    public=True,
    stamped=True,
    retention_ms=7 * DAY_MS,
)
UPLOADS = Topic(
    "cgm.uploads",
    "bytes",
    None,
    "upload id",
    "vendor exports: the file's bytes; headers timezone, force, owner",
    public=True,
    stamped=True,
    max_message_bytes=12 * MIB,
)
SERIES = Topic("cgm.series", "arrow", "Series", "series key", "unified series, on their way to their windows")
DEMANDS = Topic("cgm.forecast-demands", "json", "ForecastDemand", "series key", "forecasts that somebody waits for")
CACHE_COMMANDS = Topic(
    "cgm.cache-commands",
    "json",
    "CacheCommand",
    "series or subject",
    "delete, flush, restore, reset",
    stamped=True,
)
INTERACTIVE = Topic(
    "cgm.forecast-requests.interactive",
    "arrow",
    "ForecastRequest",
    "series or subject",
    "requests that somebody waits for",
)
LIVE = Topic(
    "cgm.forecast-requests.live",
    "arrow",
    "ForecastRequest",
    "series or subject",
    "requests of accepted readings",
    retention_ms=7 * DAY_MS,  # so far back they can be replayed
)
BACKFILL = Topic(
    "cgm.forecast-requests.backfill",
    "arrow",
    "ForecastRequest",
    "series or subject",
    "the other windows of uploads",
)
FORECASTS: dict[Lane, Topic] = {
    lane: Topic(
        f"cgm.forecasts.{lane}",
        "arrow",
        "Forecast",
        "series or subject",
        f"Monte Carlo samples of the {lane} lane",
        stamped=True,
    )
    for lane in LANES
}
FAN_CHARTS = Topic(
    "cgm.fan-charts", "json", "FanChart", "series or subject", "forecasts for people and other systems", public=True,
    retention_ms=7 * DAY_MS,
)  # fmt: skip
SCORES = Topic(
    "cgm.scores", "json", "TargetScore", "subject id", "how forecasts did, once the truth is known", public=True,
    retention_ms=7 * DAY_MS,
)  # fmt: skip
REPLAYS = Topic(
    "cgm.replays",
    "json",
    "ReplayedForecast",
    "subject id",
    "what `glucast replay` asked to have computed again: never served, scored or alerted by",
)
READINGS_SHOWN_DAYS = 2
"""So far back the API shows readings as they were sent; outcomes carry them, and are kept as long."""

READING_OUTCOMES = Topic(
    "cgm.reading-outcomes",
    "json",
    "ReadingOutcome",
    "subject id",
    "what became of each reading, and the reading where it is a possible one",
    public=True,
    retention_ms=READINGS_SHOWN_DAYS * DAY_MS,
)
UPLOAD_OUTCOMES = Topic(
    "cgm.upload-outcomes",
    "json",
    "UploadOutcome",
    "upload id",
    "what became of each upload",
    public=True,
    compacted=True,
)
REQUEST_OUTCOMES = Topic(
    "cgm.request-outcomes",
    "json",
    "RequestOutcome",
    "series or subject",
    "requests that end without a forecast",
    public=True,
)
ALERTS = Topic(
    "cgm.alerts",
    "json",
    "Alert",
    "subject id",
    "alerts before lows and highs, and what became of each; not a medical device",
    public=True,
    retention_ms=7 * DAY_MS,
)
ARRIVALS = Topic("cgm.arrivals", "json", "Arrival", "subject id", "that readings arrive, and that time passes")
WEBHOOKS = Topic(
    "cgm.webhooks", "json", "Webhook", "webhook", "webhooks and how they do, without their secrets", public=True,
    compacted=True,
)  # fmt: skip
WEBHOOK_DELIVERIES = Topic(
    "cgm.webhook-deliveries", "json", "Delivery", "subject id", "what is to be sent to webhooks, and what became of it"
)
MODEL_CHOICES = Topic(
    "cgm.model-choices",
    "json",
    "ModelChoice",
    "role of a model",
    "which model serves, once `glucast model` has been asked to change it",
    compacted=True,
)
DEAD_LETTERS = Topic(
    "cgm.dead-letters",
    "json",
    "DeadLetter",
    "the message's own",
    "messages that a step could not process",
    public=True,
    retention_ms=7 * DAY_MS,
)

LANE_TOPICS: dict[Lane, Topic] = {"interactive": INTERACTIVE, "live": LIVE, "backfill": BACKFILL}

TOPICS: tuple[Topic, ...] = (
    READINGS,
    UPLOADS,
    SERIES,
    DEMANDS,
    CACHE_COMMANDS,
    INTERACTIVE,
    LIVE,
    BACKFILL,
    *FORECASTS.values(),
    FAN_CHARTS,
    SCORES,
    REPLAYS,
    MODEL_CHOICES,
    ALERTS,
    WEBHOOKS,
    WEBHOOK_DELIVERIES,
    READING_OUTCOMES,
    UPLOAD_OUTCOMES,
    ARRIVALS,
    REQUEST_OUTCOMES,
    DEAD_LETTERS,
)


@functools.cache
def largest_message(name: str) -> int:
    """Bytes of the largest message that the topic of this name takes; of a changelog, or of somebody else's, 1 MiB."""
    return next((topic.max_message_bytes for topic in TOPICS if topic.name == name), MIB)


def longest_kept_ms(topic: Topic) -> int:
    """How long a record may be found on a topic that is not compacted; on a compacted one, after it was deleted."""
    return FILES_CLOSED_MS + (DELETIONS_KEPT_MS if topic.compacted else topic.retention_ms)


def changelog(app_id: str, table: str) -> Topic:
    """The changelog topic that Faust expects of a table."""
    name, about = f"{app_id}-{table}-changelog", f"changelog of the {table} table"
    return Topic(name, "bytes", None, "table key", about, compacted=True)
