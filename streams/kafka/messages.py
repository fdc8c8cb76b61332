"""What Kafka delivers as steps see it: the same message, whether Faust has fetched it or a client of our own."""

from typing import Any

from aiokafka.structs import ConsumerRecord

from agents.work import Message
from schemas.record import LATEST_MS


def of_faust(raw: Any) -> Message:
    """Of Faust's message, whose time is in seconds and whose headers may be None."""
    return _message(raw, raw.headers or (), round((raw.timestamp or 0.0) * 1000))


def of_record(record: ConsumerRecord[bytes, bytes]) -> Message:
    """Of aiokafka's record, whose time is in milliseconds already."""
    return _message(record, record.headers, record.timestamp)


def _message(raw: Any, headers: Any, timestamp_ms: int) -> Message:
    return Message(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        key=raw.key,
        value=raw.value,
        headers={name: value or b"" for name, value in headers},  # Kafka allows a header without a value
        timestamp_ms=min(max(timestamp_ms, 0), LATEST_MS),  # the producer's: Kafka allows any, and -1 for none
    )
