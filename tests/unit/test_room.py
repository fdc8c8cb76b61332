"""What is held in memory stays within the limit, and no flood of one topic or partition takes the room of others."""

from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.topics import MIB, READINGS, TOPICS, UPLOADS, largest_message
from streams import topology
from streams.kafka.fetched import MOST_TAKEN_BYTES
from streams.kafka.room import Room
from streams.settings import Settings

LEAST, USUAL = 20 * MIB, Settings().held_bytes
FILE_BYTES = 10 * MIB
INGEST = sorted({topic.name for step in topology.steps_of("ingest") for topic in step.reads})


def partitions(*names: str, count: int = 4) -> list[TP]:
    return [TP(name, number) for name in names for number in range(count)]


def test_a_topics_limit_is_known() -> None:
    assert {each.name: largest_message(each.name) for each in TOPICS} == {
        each.name: each.max_message_bytes for each in TOPICS
    }
    assert largest_message("somebody-elses") == MIB


def test_uploads_pass_one_by_one_where_the_room_is_small_and_readings_beside_them() -> None:
    ours = partitions(*INGEST)
    room = Room(LEAST, dict.fromkeys(ours, 0))
    uploads = [tp for tp in ours if tp.topic == UPLOADS.name]
    assert all(room.has(tp) for tp in ours)
    room.take(uploads[0], FILE_BYTES)
    assert not any(room.has(tp) for tp in uploads)
    assert all(room.has(tp) for tp in ours if tp.topic != UPLOADS.name)
    assert all(room.has(tp) for tp in partitions("glucast-ingest-subjects-changelog"))
    room = Room(LEAST, dict.fromkeys(ours, 0))  # the first has been read
    assert room.has(uploads[0])


def test_a_partition_that_is_flooded_leaves_room_for_the_others() -> None:
    readings = partitions(READINGS.name)
    room, taken = Room(USUAL, dict.fromkeys(partitions(*INGEST), 0)), 0
    while room.has(readings[0]):
        room.take(readings[0], MOST_TAKEN_BYTES)
        taken += MOST_TAKEN_BYTES
    assert taken >= MIB
    assert all(room.has(tp) for tp in readings[1:])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([LEAST, USUAL]),
    st.sampled_from([1, 4, 16]),
    st.lists(st.tuples(st.integers(0, 1 << 30), st.floats(0, 1), st.booleans()), max_size=100),
)
def test_all_that_is_held_stays_within_the_limit_and_whoever_holds_nothing_is_not_kept_out_for_ever(
    limit: int, count: int, takes: list[tuple[int, float, bool]]
) -> None:
    """Every take brings less than `MOST_TAKEN_BYTES` and one message, of any size that the topic takes."""
    held = dict.fromkeys(partitions(*INGEST, count=count), 0)
    for place, part, is_acked in takes:
        room, tp = Room(limit, held), list(held)[place % len(held)]
        if is_acked:
            held[tp] = 0
        elif room.has(tp):
            held[tp] += int(part * (MOST_TAKEN_BYTES - 1 + largest_message(tp.topic)))
        assert sum(held.values()) <= limit
    empty = Room(limit, dict.fromkeys(held, 0))
    assert all(empty.has(tp) for tp in held)
