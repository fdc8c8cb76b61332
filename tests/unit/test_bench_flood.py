"""A flood of readings: what it asks for, in which lane, and how little of it waits in front of somebody else."""

import dataclasses
import datetime
import itertools
from collections import Counter, defaultdict

import pytest

from agents.inference.batcher import OWNERS_WITH_ROOM, Batcher, Budget, Entry
from agents.inference.intake import entry_of
from deploy.bench import priority
from schemas.forecast import ForecastRequest
from schemas.reading import Reading
from schemas.topics import BACKFILL, LIVE
from streams.kafka.partitioning import partition_of
from streams.settings import Settings
from tests.kit.workbench import Workbench, built, of

NOW = datetime.datetime(2026, 3, 14, 12, tzinfo=datetime.UTC)
NOW_MS = int(NOW.timestamp() * 1000)
EACH = 110
"""Readings of a subject, of which the first 95 make no forecast."""
CHARTS = EACH - 95
PRESENT_SLOTS = 3
ROOM = 64
SHARE = ROOM // OWNERS_WITH_ROOM


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Reading]:
    monkeypatch.setattr(priority, "FLOOD", EACH)
    assert priority.charts_of_flood() == 2 * CHARTS
    return list(priority.flood("1", "priority-1", 4, NOW))


def kind_of(reading: Reading) -> str:
    return reading.subject_id.rsplit("-", 1)[0]


def test_all_of_it_lies_in_the_partition_of_the_one_who_waits(readings: list[Reading]) -> None:
    assert Counter(map(kind_of, readings)) == {
        "backlog-1-simulated": EACH, "backlog-1-late": EACH, "corrected-1": EACH + 192,
    }  # fmt: skip
    wanted = partition_of(b"priority-1", 4)
    assert {partition_of(reading.subject_id.encode(), 4) for reading in readings} == {wanted}


async def test_only_what_is_new_by_its_own_clock_is_live_and_of_that_no_more_waits_than_a_share(
    readings: list[Reading],
) -> None:
    bench, step = Workbench(), built("window", Settings(partitions=1))
    live: dict[str, list[ForecastRequest]] = defaultdict(list)
    backfill: Counter[str] = Counter()
    for offset, reading in enumerate(readings):
        sends = await bench.run(
            step, reading.to_json(), key=reading.subject_id.encode(), offset=offset, timestamp_ms=NOW_MS
        )
        live[kind_of(reading)] += [ForecastRequest.from_arrow(value) for value in of(LIVE, sends)]
        backfill[kind_of(reading)] += len(of(BACKFILL, sends))
    assert {kind: len(requests) for kind, requests in live.items()} == {
        "backlog-1-simulated": CHARTS, "backlog-1-late": 0, "corrected-1": EACH + PRESENT_SLOTS,
    }  # fmt: skip
    assert backfill["backlog-1-simulated"] == 0
    assert backfill["backlog-1-late"] == CHARTS
    assert backfill["corrected-1"] == EACH * priority.CORRECTED_BEFORE + 97 - PRESENT_SLOTS

    batcher = Batcher[int](ROOM, NOW.timestamp)
    deferred: list[Entry[int]] = []
    superseded: list[Entry[int]] = []
    for number, request in enumerate(itertools.chain.from_iterable(live.values())):
        entry = entry_of(request, "live", number, "f" * 64, 0.0)
        superseded += batcher.add(entry)
        deferred += batcher.defer_excess(entry.owner)
    assert Counter(each.owner.rsplit("-", 1)[0] for each in batcher) == {
        "backlog-1-simulated": SHARE, "corrected-1": PRESENT_SLOTS,
    }  # fmt: skip
    assert (len(deferred), len(superseded)) == (CHARTS - SHARE, EACH)

    waits = dataclasses.replace(live["corrected-1"][-1], series_key="priority-1", subject_id="priority-1")
    batcher.add(entry_of(waits, "live", -1, "f" * 64, 0.0))
    batch = batcher.next_batch(Budget(3, 1e9, 1e-3))
    assert batch is not None
    served = [entry.owner for group in batch.groups for entry in group]
    assert "priority-1" in served
