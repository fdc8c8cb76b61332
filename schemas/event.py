"""What a message says of itself beside its bytes: CloudEvents 1.0 in Kafka's binary form, and W3C Trace Context.

Public records carry ``ce_specversion``, ``ce_id``, ``ce_source``, ``ce_type`` and, where a step made them, ``ce_time``,
with ``content-type`` (CloudEvents Kafka protocol binding 1.0.2, 3.2): about 0.2 kB a record. `ce_id` is the record's
own id, and with the source tells a repeat. Time is when what the record was made from came, by the broker's clock: so
a message that is processed again says the same. ``traceparent`` (68 bytes; Trace Context 1, 3.2) goes from a message
to all that is made of it. None is made up here: who wants to follow a reading gives one.
"""

import datetime
import hashlib
import re
from collections.abc import Mapping
from typing import Protocol

TRACEPARENT = "traceparent"
SPECVERSION, ID, SOURCE, TYPE, TIME, CONTENT = (
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "content-type",
)

_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class PublicRecord(Protocol):
    """A record that others read."""

    @property
    def event_id(self) -> str:
        """Equal for records that say the same of the same."""

    def to_json(self) -> bytes: ...


def traceparent_of(value: bytes | None) -> bytes | None:
    """What a header holds, if it is a traceparent of version 00. Others are not passed on: they may be anything."""
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None


def traced(headers: Mapping[str, bytes]) -> dict[str, bytes]:
    """Of a message's headers what is made of it carries on."""
    found = traceparent_of(headers.get(TRACEPARENT))
    return {} if found is None else {TRACEPARENT: found}


def message_event(record: str | None, key: bytes | None, value: bytes, source: str) -> dict[str, bytes]:
    """The headers of a record that its sender was told, not one that a step makes: its id is of key and bytes, so that
    what is sent again says the same."""
    digest = hashlib.sha256(b"glucast-event-v1\n" + (key or b"") + b"\n" + value).hexdigest()
    return cloud_event(record, digest, source)


def cloud_event(record: str | None, event_id: str, source: str, time_ms: int | None = None) -> dict[str, bytes]:
    """The headers of one public record. `source`: which step or role made it; `time_ms`: Unix time."""
    found = {
        SPECVERSION: b"1.0",
        ID: event_id.encode(),
        SOURCE: f"/glucast/{source}".encode(),
        TYPE: f"glucast.{record}".encode(),
        CONTENT: b"application/json",
    }
    if time_ms is not None:
        time = _EPOCH + datetime.timedelta(milliseconds=time_ms)
        found[TIME] = time.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
    return found
