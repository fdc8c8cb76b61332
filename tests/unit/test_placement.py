"""Which broker leads which partition of a new topic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.placement import assignments


@given(brokers=st.sets(st.integers(0, 50), min_size=2, max_size=9), partitions=st.integers(1, 64), data=st.data())
def test_every_partition_has_its_copies_on_different_brokers_and_all_lead_as_many(
    brokers: set[int], partitions: int, data: st.DataObject
) -> None:
    copies = data.draw(st.integers(1, len(brokers)))
    placed = assignments(dict.fromkeys(brokers), partitions, copies)
    assert placed is not None
    assert list(placed) == list(range(partitions))
    assert all(len(set(held)) == copies and set(held) <= brokers for held in placed.values())
    led = [sum(held[0] == broker for held in placed.values()) for broker in brokers]
    assert max(led) - min(led) <= 1


@pytest.mark.parametrize(
    ("brokers", "copies"),
    [({1: None}, 1), ({1: None, 2: None}, 3), ({1: "a", 2: "b", 3: "c"}, 3), ({}, 1)],
    ids=["one broker", "too few", "racks", "none told"],
)
def test_kafka_chooses_where_it_knows_more(brokers: dict[int, str | None], copies: int) -> None:
    assert assignments(brokers, 4, copies) is None
