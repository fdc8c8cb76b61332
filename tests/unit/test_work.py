"""The unit of work: reads see what is to be written, and nothing is collected that the page does not declare."""

from functools import partial

import pytest

from agents.memory import MemoryTable
from agents.work import Message, Work
from schemas import topics
from schemas.errors import UndeclaredEffectError
from schemas.tables import DELETIONS_TABLE as TABLE
from streams import topology
from streams.topology import STEPS, Step


def work_over(rows: dict[str, bytes], step: Step | None = None) -> Work:
    table = MemoryTable()
    table.rows = rows
    return Work(Message(topic="t", key=b"k", value=b"v"), {TABLE: table}, step or topology.step_of("calc"), lambda _: 0)


def test_reads_see_own_writes_and_the_table_stays_untouched() -> None:
    rows = {"kept": b"1", "gone": b"2"}
    work = work_over(rows)
    work.put(TABLE, "new", b"3")
    work.delete(TABLE, "gone")
    assert (work.get(TABLE, "kept"), work.get(TABLE, "new"), work.get(TABLE, "gone")) == (b"1", b"3", None)
    assert rows == {"kept": b"1", "gone": b"2"}


def test_keys_are_those_under_a_prefix_in_order_with_own_writes() -> None:
    work = work_over({"a/1": b"", "a/3": b"", "b/1": b""})
    work.put(TABLE, "a/2", b"")
    work.delete(TABLE, "a/3")
    assert list(work.keys(TABLE, "a/")) == ["a/1", "a/2"]
    for key in work.keys(TABLE, ""):
        work.delete(TABLE, key)
    assert list(work.keys(TABLE, "")) == []


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_topic_that_the_page_does_not_give_a_step_is_refused(step: Step) -> None:
    work = work_over({}, step)
    for topic in (*topology.all_topics(), topics.DEAD_LETTERS):
        if topic in step.writes:
            work.send(topic, "k", b"v")
        else:
            with pytest.raises(UndeclaredEffectError, match=f"{step.name} does not declare.*{topic.name}"):
                work.send(topic, "k", b"v")
    assert [send.topic for send in work.sends] == [topic for topic in topology.all_topics() if topic in step.writes]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_table_that_the_page_does_not_give_a_step_is_refused(step: Step) -> None:
    work = work_over({}, step)
    for table in {name for other in STEPS for name in other.tables} - set(step.tables):
        reaches = (partial(work.get, table), partial(work.keys, table), partial(work.delete, table))
        for reach in (*reaches, partial(work.put, table, value=b"v")):
            with pytest.raises(UndeclaredEffectError, match=f"{step.name} does not declare the table {table}"):
                reach("k") if reach.func != work.put else reach(key="k")
    assert work.writes == {}
