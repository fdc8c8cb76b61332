"""The bench of being told: how it reads a stream, and how it counts what came and what did not."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.bench.faults_load import subject_of
from deploy.bench.push import Plan, Report, Use
from deploy.bench.push_clients import blocks
from deploy.bench.push_crowd import ASKED, Seen

ANNA, BERT = subject_of(0), subject_of(1)


def report(**came: Any) -> Report:
    """Of two people and three followers, the third of whom follows the first person too."""
    records = {("reading", (ANNA, 300)): 10.0, ("reading", (BERT, 300)): 11.0, ("forecast", (ANNA, 300)): 99.5}
    return Report(
        Plan(people=2, followers=3), 5.0, 100.0, [Use("api-0", 100, 120, 130, 0.1, 0.5)], Seen(**came), records, {}
    )


def test_what_did_not_come_to_every_follower_is_counted_and_what_may_be_under_way_is_not() -> None:
    anna, bert = ("reading", ANNA, 300, 10.2), ("reading", BERT, 300, 11.1)
    assert report(events=[anna, anna, bert]).missing == 0
    assert report(events=[anna, bert]).missing == 1
    assert report().missing == 3


def test_times_are_from_the_record_to_the_client_and_answers_are_told_apart_by_part() -> None:
    answers = [(ASKED[0], 1.0, 0.010, 200), (ASKED[0], 50.0, 0.030, 200), (ASKED[0], 51.0, 9.0, 503)]
    lines = list(report(events=[("reading", ANNA, 300, 10.25)], answers=answers).lines())
    rows = {line[:38].strip(): line[38:].split() for line in lines}
    assert rows["event reading, from its record"] == ["250.0", "250.0", "250.0", "1"]
    assert rows["event forecast, from its record"] == ["none", "came"]
    assert rows["/health, alone"][0] == "10.0"
    assert rows["/health, told"] == ["30.0", "30.0", "30.0", "1"]
    assert "answers that are none: 1" in lines
    assert any(line.split()[:6] == ["api-0", "100", "120", "130", "10", "50"] for line in lines)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    whole = b'id: 1\nretry: 2000\n\n: heartbeat\n\nevent: reading\ndata: {"a": 1}\nid: 2\n\nevent: half'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), size):
            yield whole[start : start + size]

    found = [dict(fields) async for fields in blocks(pieces())]
    assert [each.get("id") for each in found] == ["1", None, "2"]
    assert found[2] == {"event": "reading", "data": '{"a": 1}', "id": "2"}


def test_what_came_once_a_troubled_webhook_answers_is_told_with_repeats() -> None:
    told = report(mended=[("/0", 12.5, "a"), ("/0", 13.0, "a"), ("/0", 14.0, "b"), ("/1", 20.0, "c")])
    assert not any("answers again" in line for line in told.lines())
    told.mended_at, told.after = 10.0, {"others": "4 do well"}
    lines = list(told.lines())
    assert "webhook 0 answers again: first after 2.5 s, 2 deliveries, 1 again" in lines
    assert "webhook 1 answers again: first after 10.0 s, 1 deliveries, 0 again" in lines
    assert "then webhook others: 4 do well" in lines
