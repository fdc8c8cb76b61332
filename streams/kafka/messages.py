"""What Kafka delivers as steps see it: the same message, whether Faust has fetched it or a client of our own.

A broker that stamps messages makes their times sound. Tansu takes the setting and keeps the sender's time all the
same, so a time that lies further ahead than clocks differ counts as now. Such a message, delivered again, is judged by
a later now: a reading that was refused as too early may then be taken, and none that was taken is ever refused. Every
other message has the same time at every delivery.
"""

import datetime
import time
from typing import Any

from aiokafka.structs import ConsumerRecord

from agents.work import CLOCKS_DIFFER_MS, Message
from schemas.record import LATEST_MS


def of_faust(raw: Any) -> Message:
    """Of Faust's message, whose time is in seconds and whose headers may be None."""
    return _message(raw, raw.headers or (), round((raw.timestamp or 0.0) * 1000))


def of_record(record: ConsumerRecord[bytes, bytes]) -> Message:
    """Of aiokafka's record, whose time is in milliseconds already."""
    return _message(record, record.headers, record.timestamp)


def moment_of(timestamp_ms: int) -> datetime.datetime:
    """When a message came, as its sender says where the broker does not: within the years that a calendar has."""
    return datetime.datetime.fromtimestamp(min(max(timestamp_ms, 0), LATEST_MS) / 1000, datetime.UTC)


def _message(raw: Any, headers: Any, timestamp_ms: int) -> Message:
    return Message(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        key=raw.key,
        value=raw.value,
        headers={name: value or b"" for name, value in headers},  # Kafka allows a header without a value
        timestamp_ms=_sound(timestamp_ms),
    )


def _sound(timestamp_ms: int) -> int:
    """A producer may have said anything, and -1 for nothing."""
    now_ms = int(time.time() * 1000)
    return min(now_ms if timestamp_ms > now_ms + CLOCKS_DIFFER_MS else max(timestamp_ms, 0), LATEST_MS)
