import struct
from typing import Any

import pytest
from aiokafka.protocol import fetch, produce

from deploy.brokers.fetch_frames import FETCH, PRODUCE, Head, brings_nothing, fetch_of, head_of, produced_by

FETCH_VERSIONS, PRODUCE_VERSIONS = range(4, 12), range(3, 9)
CLIENT = b"anna"


def frame_of(key: int, version: int, body: bytes) -> bytes:
    return struct.pack(">hhih", key, version, 7, len(CLIENT)) + CLIENT + body


def fetch_frame(version: int, wait_milliseconds: int = 250, turned: bool = False) -> bytes:
    topics = [("cgm.readings", [(0, 5, 1 << 20), (3, 9, 1 << 20)]), ("cgm.uploads", [(1, 0, 1 << 20)])]
    ordered = topics[::-1] if turned else topics
    built = fetch.FetchRequest(wait_milliseconds, 1, 1 << 22, 1, ordered).build(
        getattr(fetch, f"FetchRequest_v{version}")
    )
    return frame_of(FETCH, version, built.encode())


def produce_frame(version: int) -> bytes:
    topics = [("cgm.readings", [(0, b"r" * 300), (3, b"")]), ("cgm.uploads", [(1, b"\0" * 9)])]
    built = produce.ProduceRequest(None, -1, 1000, topics).build(getattr(produce, f"ProduceRequest_v{version}"))
    return frame_of(PRODUCE, version, built.encode())


def answer_frame(version: int, records: bytes | None, error: int = 0) -> bytes:
    """An answer for three partitions, of which the last has the records and the error."""

    def partition(number: int, error: int, records: bytes | None) -> tuple[Any, ...]:
        ends = (4, 4, 0) if version >= 5 else (4, 4)
        replica = (-1,) if version >= 11 else ()
        return (number, error, *ends, [(1, 2)], *replica, records)

    topics = [("a", [partition(0, 0, None), partition(1, 0, b"")]), ("b", [partition(2, error, records)])]
    head = (0, 0, 0) if version >= 7 else (0,)
    schema = getattr(fetch, f"FetchResponse_v{version}").SCHEMA
    return struct.pack(">i", 7) + bytes(schema.encode((*head, topics)))


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_a_fetch_is_read_and_can_be_asked_with_less_time_and_the_newest_first(version: int) -> None:
    frame = fetch_frame(version)
    head = head_of(frame)
    assert head == Head(FETCH, version, 7)
    found = fetch_of(head, frame)
    assert found is not None
    assert (found.wait_milliseconds, found.topics) == (250, {b"cgm.readings", b"cgm.uploads"})
    asked = fetch_frame(version, wait_milliseconds=10)
    assert found.look(frame, 10, lambda _: 0) == asked, "none of them is newer"
    assert found.look(frame, 10, {b"cgm.readings": 7, b"cgm.uploads": 3}.__getitem__) == asked
    turned = found.look(frame, 10, {b"cgm.readings": 3, b"cgm.uploads": 7}.__getitem__)
    assert turned == fetch_frame(version, wait_milliseconds=10, turned=True)


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
def test_the_topics_that_are_added_to_are_read(version: int) -> None:
    frame = produce_frame(version)
    assert produced_by(head_of(frame), frame) == {b"cgm.readings", b"cgm.uploads"}


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_an_answer_without_records_and_errors_brings_nothing(version: int) -> None:
    head = Head(FETCH, version, 7)
    assert brings_nothing(head, answer_frame(version, None))
    assert brings_nothing(head, answer_frame(version, b""))
    assert not brings_nothing(head, answer_frame(version, b"record"))
    assert not brings_nothing(head, answer_frame(version, None, error=1))


def test_what_is_of_another_version_or_cut_off_is_handed_on() -> None:
    frame = fetch_frame(11)
    assert fetch_of(Head(FETCH, 12, 7), frame) is None
    assert fetch_of(Head(PRODUCE, 8, 7), frame) is None
    assert fetch_of(head_of(frame), frame[:30]) is None
    frame = produce_frame(8)
    assert produced_by(Head(PRODUCE, 9, 7), frame) is None
    assert produced_by(head_of(frame), frame[:30]) is None
    assert not brings_nothing(Head(FETCH, 11, 7), answer_frame(11, None)[:30])


def test_a_fetch_of_a_session_names_only_changes_and_is_handed_on() -> None:
    frame = bytearray(fetch_frame(7))
    session = frame.index(b"\xff\xff\xff\xff", 30)  # the epoch
    frame[session : session + 4] = b"\0\0\0\1"
    assert fetch_of(head_of(bytes(frame)), bytes(frame)) is None
