"""Whatever bytes a topic holds: what can be read is read, the rest is told exactly, and nothing ends the fetch."""

from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.topics import READINGS as READINGS_TOPIC
from streams.kafka.decoding import LenientRecords, RecordSet, Undecodable
from streams.kafka.unfolding import MOST_UNFOLDED_BYTES, UnfoldingError, unfold
from tests.kit.batches import ENCODERS, batch, legacy, record

READINGS = TopicPartition("cgm.readings", 0)
READ_COMMITTED = 1
GOOD = [record(number, b"anna", b"reading %d" % number, [(b"zone", b"UTC")]) for number in range(3)]


def fetched(data: bytes, position: int = 0) -> tuple[list[Any], int]:
    """What a fetch of these bytes from `position` brings, and where the next one begins."""
    records = LenientRecords(READINGS, RecordSet(data), None, position, None, None, True, READ_COMMITTED)
    return list(records), records.next_fetch_offset


def told(data: bytes, position: int = 0) -> tuple[list[bytes | tuple[int, int]], int]:
    """The same, each record by its value and each stand-in by its offsets."""
    records, following = fetched(data, position)
    return [
        (found.value.first, found.value.last) if isinstance(found.value, Undecodable) else found.value
        for found in records
    ], following


def sizes(data: bytes) -> list[tuple[int, int]]:
    """The offset of each record, and how long its value is."""
    return [(found.offset, len(found.value)) for found in fetched(data)[0]]


@pytest.mark.parametrize("codec", [0, *ENCODERS])
def test_sound_batches_are_read_as_they_are(codec: int) -> None:
    records, following = fetched(batch(GOOD, codec) + batch(GOOD, codec, 3), 1)
    assert [found.offset for found in records] == [1, 2, 3, 4, 5]
    assert records[0].headers == (("zone", b"UTC"),)
    assert (records[0].key, records[0].value, records[0].timestamp) == (b"anna", b"reading 1", 1_700_000_000_000)
    assert following == 6


def test_messages_of_old_formats_are_read_uncompressed() -> None:
    assert told(legacy(b"old") + legacy(b"older", base_offset=1, magic=0)) == ([b"old", b"older"], 2)
    assert told(legacy(b"packed", codec=1, base_offset=7) + batch(GOOD, 0, 8), 5)[0][:2] == [(5, 7), b"reading 0"]


@pytest.mark.parametrize("codec", [0, *ENCODERS])
def test_a_header_name_that_is_no_text_is_left_out_and_its_record_is_read(codec: int) -> None:
    odd = record(1, b"anna", b"odd", [(b"\xff\xfe", b"x"), (b"zone", b"UTC")])
    records, following = fetched(batch([GOOD[0], odd, GOOD[2]], codec))
    assert [found.value for found in records] == [b"reading 0", b"odd", b"reading 2"]
    assert [dict(found.headers) for found in records] == [{"zone": b"UTC"}] * 3
    assert records[1].timestamp == 1_700_000_000_000
    assert following == 3


def test_a_record_that_is_damaged_inside_is_the_only_one_that_is_lost() -> None:
    damaged = bytearray(GOOD[1])
    damaged[4] = 0x7E  # the length of its key
    assert told(batch([GOOD[0], bytes(damaged), GOOD[2]])) == ([b"reading 0", (1, 1), b"reading 2"], 3)


def test_where_a_length_is_damaged_the_rest_of_the_batch_cannot_be_told_apart() -> None:
    cut = batch([GOOD[0], b"\x7e" + GOOD[1][1:], GOOD[2]]) + batch(GOOD, 0, 3)
    assert told(cut) == ([b"reading 0", (1, 2), b"reading 0", b"reading 1", b"reading 2"], 6)
    assert told(cut, 2) == ([(2, 2), b"reading 0", b"reading 1", b"reading 2"], 6)


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 5, 7])
def test_a_batch_that_does_not_unfold_is_passed_whole(codec: int) -> None:
    broken = batch(GOOD, codec, 10, body=b"no codec has ever written this")
    assert told(broken + batch(GOOD, 0, 13), 10) == ([(10, 12), b"reading 0", b"reading 1", b"reading 2"], 16)


@pytest.mark.parametrize("codec", ENCODERS)
def test_a_batch_unfolds_to_so_much_and_no_further(codec: int) -> None:
    bomb = batch([record(0, None, bytes(MOST_UNFOLDED_BYTES + 1))], codec)
    assert len(bomb) < MOST_UNFOLDED_BYTES / 20
    assert told(bomb + batch(GOOD, codec, 1)) == ([(0, 0), b"reading 0", b"reading 1", b"reading 2"], 4)
    with pytest.raises(UnfoldingError):
        unfold(codec, ENCODERS[codec](bytes(1001)), 1000)
    assert unfold(codec, ENCODERS[codec](bytes(1000)), 1000) == bytes(1000)


@pytest.mark.parametrize("codec", [0, *ENCODERS])
def test_a_message_that_is_larger_than_its_topic_takes_once_it_is_unfolded_is_told_and_passed(codec: int) -> None:
    limit = READINGS_TOPIC.max_message_bytes
    largest = record(1, b"anna", bytes(limit - len(b"anna")))
    assert [size for _, size in sizes(batch([GOOD[0], largest, GOOD[2]], codec))] == [9, limit - 4, 9]
    larger = record(1, b"anna", bytes(limit), [(b"zone", b"UTC")])
    assert told(batch([GOOD[0], larger, GOOD[2]], codec)) == ([b"reading 0", (1, 1), b"reading 2"], 3)
    found = fetched(batch([larger], codec))[0][0]
    assert (found.key, found.headers) == (None, ())
    assert f"{limit + 4 + 4 + 3} bytes, and the topic takes {limit}" in str(found.value)


def test_a_fetch_ends_early_where_its_batches_unfold_to_much_together() -> None:
    large = [batch([record(0, None, bytes(MOST_UNFOLDED_BYTES // 2))], 4, number) for number in range(9)]
    records, following = fetched(b"".join(large))
    assert (len(records), following) == (2, 2) or (len(records), following) == (3, 3)
    assert len(fetched(b"".join(large[following:]), following)[0]) == len(records)


@pytest.mark.parametrize("at", [70, 16, 20])
def test_a_batch_with_a_wrong_checksum_is_passed_as_far_as_its_header_says(at: int) -> None:
    damaged = bytearray(batch(GOOD))
    damaged[at] ^= 0x40
    assert told(bytes(damaged) + batch(GOOD, 0, 3)) == ([(0, 2), b"reading 0", b"reading 1", b"reading 2"], 6)


@pytest.mark.parametrize("at", [24, 59])
def test_offset_by_offset_where_the_header_cannot_be_believed(at: int) -> None:
    damaged = bytearray(batch(GOOD))
    damaged[at] ^= 0x40
    log = bytes(damaged) + batch(GOOD, 0, 3)
    assert [told(log, position) for position in range(3)] == [([(0, 0)], 1), ([(1, 1)], 2), ([(2, 2)], 3)]


def test_where_a_length_is_none_nobody_knows_the_next_batch_of_the_fetch() -> None:
    damaged = bytearray(batch(GOOD))
    damaged[8] |= 0x80
    assert told(bytes(damaged) + batch(GOOD, 0, 3), 1) == ([(1, 2)], 3)


def test_a_batch_that_has_not_come_whole_waits_for_the_next_fetch() -> None:
    assert told(batch(GOOD) + batch(GOOD, 0, 3)[:-1]) == ([b"reading 0", b"reading 1", b"reading 2"], 3)
    assert not RecordSet(batch(GOOD)[:-1]).has_next()


def test_a_stand_in_says_what_why_and_which_bytes() -> None:
    [found], _ = fetched(batch(GOOD, 6))
    assert str(found.value).startswith("offsets 0 to 2 cannot be decoded: UnfoldingError: unknown codec 6 (")
    assert len(found.value.sha256) == 64
    assert found.key is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_ends_a_fetch_or_stops_it(data: st.DataObject) -> None:
    codec = data.draw(st.sampled_from([0, 1, 2, 3, 4]))
    damaged = bytearray(batch(GOOD, codec))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(8, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    data_of_log, position, passed = bytes(damaged) + batch(GOOD, 0, 3), 0, set()
    while position < 3:
        if not RecordSet(data_of_log).has_next():  # its length is larger than the log
            return
        records, following = fetched(data_of_log, position)
        assert following > position
        assert all(position <= found.offset < following for found in records)
        for found in records:
            first = found.value.first if isinstance(found.value, Undecodable) else found.offset
            passed |= set(range(first, found.offset + 1))
        position = following
    assert passed >= {0, 1, 2}, "each offset was read or told"


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200), codec=st.integers(0, 7), count=st.integers(1, 4))
@example(body=b"\x01", codec=0, count=1)
def test_no_body_with_a_right_checksum_ends_a_fetch(body: bytes, codec: int, count: int) -> None:
    records, following = fetched(batch([b""] * count, codec, body=body) + batch(GOOD, 0, count))
    assert [found.value for found in records[-3:]] == [b"reading 0", b"reading 1", b"reading 2"]
    assert following == count + 3
