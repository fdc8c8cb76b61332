"""A fetch is taken by bytes as well as by count, and says under which leader of its partition it was written."""

from aiokafka import TopicPartition
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState

from streams.kafka.decoding import LenientRecords, RecordSet
from streams.kafka.fetched import MOST_TAKEN_BYTES, Fetched, size_of
from tests.kit.batches import batch, record

READINGS = TopicPartition("cgm.readings", 0)
READ_COMMITTED = 1


def answered(data: bytes, position: int = 0) -> tuple[Fetched, Assignment]:
    """A fetch of these bytes, and the assignment that knows where its partition goes on."""
    subscription = SubscriptionState()
    subscription.assign_from_user({READINGS})
    assignment = subscription.subscription.assignment
    assignment.state_value(READINGS).seek(position)
    records = LenientRecords(READINGS, RecordSet(data), None, position, None, None, True, READ_COMMITTED)
    return Fetched(READINGS, assignment=assignment, partition_records=records, backoff=0), assignment


async def test_large_records_are_taken_a_few_at_a_time_and_none_is_left_out() -> None:
    large = [record(number, b"anna", bytes(MOST_TAKEN_BYTES // 2)) for number in range(5)]
    fetched, assignment = answered(batch(large))
    taken = []
    while fetched.has_more():
        found = fetched.getall(100)
        assert sum(map(size_of, found[:-1])) < MOST_TAKEN_BYTES
        taken.append([each.offset for each in found])
        assert assignment.state_value(READINGS).position == taken[-1][-1] + 1
    assert taken == [[0, 1], [2, 3], [4]]


async def test_small_records_are_taken_by_count() -> None:
    fetched, assignment = answered(batch([record(number, b"anna", b"reading") for number in range(5)]))
    assert [each.offset for each in fetched.getall(3)] == [0, 1, 2]
    assert [each.offset for each in fetched.getall(3)] == [3, 4]
    assert not fetched.has_more()
    assert assignment.state_value(READINGS).position == 5


async def test_the_leader_epoch_of_what_was_taken_is_known() -> None:
    records = [record(number, None, b"reading") for number in range(3)]
    fetched, assignment = answered(batch(records, epoch=4) + batch(records, 0, 3, epoch=7))
    epochs = []
    while fetched.has_more():
        if fetched.getall(2):
            epochs.append(assignment.state_value(READINGS).leader_epoch)
    assert epochs == [4, 7, 7]


def test_the_size_of_a_record_is_that_of_all_its_parts() -> None:
    records = LenientRecords(
        READINGS, RecordSet(batch([record(0, b"anna", b"reading", [(b"zone", b"UTC")]), record(1, None, None)])), None,
        0, None, None, True, READ_COMMITTED,
    )  # fmt: skip
    assert [size_of(each) for each in records] == [4 + 7 + 4 + 3, 0]
