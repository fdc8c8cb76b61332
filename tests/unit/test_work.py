"""The unit of work: reads see what is to be written, nothing happens before it is applied, sizes are checked early."""

import pytest

from agents.work import ENVELOPE_BYTES, Message, Work
from schemas.errors import MessageTooLargeError
from schemas.topics import FAN_CHARTS


class DictTable(dict[str, bytes]):
    """A table in memory."""


def work_over(table: DictTable) -> Work:
    return Work(Message(topic="t", key=b"k", value=b"v"), {"table": table})


def test_reads_see_own_writes_and_the_table_stays_untouched() -> None:
    table = DictTable(kept=b"1", gone=b"2")
    work = work_over(table)
    work.put("table", "new", b"3")
    work.delete("table", "gone")
    assert (work.get("table", "kept"), work.get("table", "new"), work.get("table", "gone")) == (b"1", b"3", None)
    assert table == {"kept": b"1", "gone": b"2"}


def test_a_message_over_the_topics_limit_is_refused_before_anything_is_collected() -> None:
    work = work_over(DictTable())
    with pytest.raises(MessageTooLargeError, match=r"cgm\.fan-charts"):
        work.send(FAN_CHARTS, "k", bytes(FAN_CHARTS.max_message_bytes - ENVELOPE_BYTES + 1))
    assert work.sends == []
    work.send(FAN_CHARTS, "k", bytes(FAN_CHARTS.max_message_bytes - ENVELOPE_BYTES))
    assert len(work.sends) == 1
