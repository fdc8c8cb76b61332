"""What the Nightscout site takes in, through the step that judges it."""

import datetime

import pytest

from query_api.routers.nightscout import incoming
from schemas.forecast import ForecastRequest
from schemas.reading import ReadingOutcome
from schemas.tables import SUBJECTS_TABLE
from schemas.topics import BACKFILL, LIVE, READING_OUTCOMES
from streams.settings import Settings
from tests.kit.nightscout import entry
from tests.kit.workbench import Workbench, built, of

STEP = built("window", Settings(partitions=1))
VIENNA = "Europe/Vienna"
CHANGE = datetime.datetime(2026, 3, 29, 1, tzinfo=datetime.UTC)
"""When the clocks of Vienna go from 2 to 3."""
WINTER, SUMMER = (datetime.timezone(datetime.timedelta(hours=hours)) for hours in (1, 2))


async def judged(bench: Workbench, element: dict[str, object], offset: int, at: datetime.datetime) -> list:
    """What the step sends for an entry that comes at a time."""
    value = incoming.reading_of(element, "anna", VIENNA)
    return await bench.run(STEP, value, key=b"anna", offset=offset, timestamp_ms=int(at.timestamp() * 1000))


def time_of(step: int) -> datetime.datetime:
    return CHANGE + datetime.timedelta(minutes=5 * (step - 60))


async def hashes(in_utc: bool) -> list[str]:
    """Of the windows of 98 readings across the change of clocks."""
    bench, found = Workbench(), []
    for step in range(98):
        time = time_of(step)
        element = entry(100 + step % 40, time)
        if not in_utc:
            said = time.astimezone(WINTER if time < CHANGE else SUMMER)
            element["dateString"] = said.strftime("%Y-%m-%dT%H:%M:%S.000%z")
        sends = await judged(bench, element, step, time)
        found += [ForecastRequest.from_arrow(value).input_hash for value in of(LIVE, sends) + of(BACKFILL, sends)]
    return found


async def test_times_in_utc_make_the_windows_of_times_with_their_offset_across_a_change_of_clocks() -> None:
    in_utc, with_offset = await hashes(True), await hashes(False)
    assert len(in_utc) == 3
    assert in_utc == with_offset


@pytest.mark.parametrize("sgv", [5, 38, 38.9, 0, -1, 601, "118", None])
async def test_what_is_no_glucose_changes_no_window(sgv: object) -> None:
    bench = Workbench()
    for step in range(10):
        await judged(bench, entry(118, time_of(step)), step, time_of(step))
    before = bench.rows(SUBJECTS_TABLE)
    (value,) = of(READING_OUTCOMES, await judged(bench, entry(sgv, time_of(10)), 10, time_of(10)))
    outcome = ReadingOutcome.from_json(value)
    assert (outcome.status, outcome.reading) == ("rejected", None)
    assert bench.rows(SUBJECTS_TABLE) == before


async def test_an_outcome_brings_the_reading_that_it_judged() -> None:
    bench = Workbench()
    for offset, step in enumerate((100, 100, 0)):  # new, the same again, much too old for any window
        sends = await judged(bench, entry(118, time_of(step), direction="Flat"), offset, time_of(100))
        outcome = ReadingOutcome.from_json(*of(READING_OUTCOMES, sends))
        assert outcome.reading is not None
        assert (outcome.reading.time, outcome.reading.direction) == (time_of(step), "Flat")
