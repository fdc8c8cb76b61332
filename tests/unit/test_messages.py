import time
from types import SimpleNamespace
from typing import Any

from aiokafka.structs import ConsumerRecord

from agents.work import CLOCKS_DIFFER_MS, Message
from schemas import topics
from streams import subjects
from streams.kafka import messages
from streams.settings import Settings

PLACE: dict[str, Any] = {"topic": "cgm.readings", "partition": 3, "offset": 7, "key": b"anna", "value": None}
HEADERS = [("unit", b"mg/dL"), ("bare", None)]  # Kafka allows a header without a value


def test_a_step_sees_the_same_message_whoever_fetched_it() -> None:
    wanted = Message(**PLACE, headers={"unit": b"mg/dL", "bare": b""}, timestamp_ms=1_700_000_000_123)
    faust = SimpleNamespace(**PLACE, headers=HEADERS, timestamp=1_700_000_000.123)
    record = ConsumerRecord(
        **PLACE, headers=HEADERS, timestamp=1_700_000_000_123, timestamp_type=0, checksum=None,
        serialized_key_size=4, serialized_value_size=-1,
    )  # fmt: skip
    assert messages.of_faust(faust) == messages.of_record(record) == wanted


def test_a_message_has_a_time_that_can_be_named_whatever_its_producer_says() -> None:
    for said, found in ((-1, 0), (5, 5)):
        assert messages.of_faust(SimpleNamespace(**PLACE, headers=None, timestamp=said / 1000)).timestamp_ms == found


def test_a_message_of_faust_may_have_neither_time_nor_headers() -> None:
    message = messages.of_faust(SimpleNamespace(**PLACE, headers=None, timestamp=None))
    assert message == Message(**PLACE, headers={}, timestamp_ms=0)


def test_a_time_that_lies_ahead_is_no_time_and_counts_as_now() -> None:
    now_ms = int(time.time() * 1000)
    for ahead_ms, believed in ((CLOCKS_DIFFER_MS - 60_000, True), (CLOCKS_DIFFER_MS + 60_000, False)):
        then = now_ms + ahead_ms
        seen = messages.of_faust(SimpleNamespace(**PLACE, headers=None, timestamp=then / 1000)).timestamp_ms
        assert (seen == then) == believed
        assert believed or now_ms <= seen <= now_ms + 60_000
    assert messages.of_faust(SimpleNamespace(**PLACE, headers=None, timestamp=2.0**62)).timestamp_ms <= now_ms + 60_000


def test_an_export_tells_a_message_whose_time_no_calendar_has() -> None:
    for said, year in ((-1, 1970), (2**62, 9999), (-(2**62), 1970)):
        record = ConsumerRecord(
            **PLACE | {"topic": "cgm.alerts", "value": b"{}"}, headers=[], timestamp=said, timestamp_type=0,
            checksum=None, serialized_key_size=4, serialized_value_size=2,
        )  # fmt: skip
        told = subjects.exported(record, topics.ALERTS, "anna", Settings())
        assert told is not None
        assert (told["time"].year, told["record"]) == (year, "{}")
