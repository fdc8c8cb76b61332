"""A forecast whose readings were corrected is no present one, where they got none in its place.

The API, displays and the page's list of people are told the same, and show the same.
"""

import datetime
import json
import random
import shutil
import subprocess
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from query_api.read_model import Entry
from query_api.routers.overview import _glance
from query_api.routers.page import DASHBOARD
from query_api.services import Services
from query_api.subject_forecast import forecast_of
from schemas.errors import NoForecastError
from schemas.fan_chart_row import to_row
from schemas.forecast import ForecastRequest
from schemas.grid import PAST_POINTS, STEP, STEP_SECONDS, slot_of
from schemas.reading import Reading, ReadingOutcome
from schemas.sources import POLICY, SourcePolicy
from schemas.topics import BACKFILL, LIVE, READING_OUTCOMES
from streams.notify.people import Person as Display
from streams.settings import Settings
from streams.topology import CHART_CHANGELOGS
from tests.contracts.test_page_scripts import STUBS
from tests.kit.charts import fan_chart
from tests.kit.followed import Followed
from tests.kit.workbench import Workbench, built, of

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
NEWEST = datetime.datetime.fromtimestamp(int(NOW.timestamp()) // STEP_SECONDS * STEP_SECONDS, datetime.UTC)
NOW_MS = int(NOW.timestamp() * 1000)
WINDOW = built("window", Settings(partitions=1))


class Person:
    """Anna's readings through the window's step, her outcomes and charts to all who show them."""

    def __init__(self, directory: Path) -> None:
        self.bench, self.followed = Workbench(), Followed(directory, Settings(partitions=1))
        self.display = Display(partition=0)
        self.told: list[tuple[str, Any]] = []
        """The page: in an order that it is told all, and asked what it shows."""
        self.offset = 0
        fields = {"settings": Settings(), "follower": self.followed.follower, "read_model": self.followed.model}
        self.uses = cast("Services", types.SimpleNamespace(**fields))

    async def sends(
        self, glucose: float, steps_ago: int = 0, seconds: int = 0, device: str | None = None
    ) -> Sequence[ForecastRequest]:
        """One reading; what is to be forecast then."""
        time = NEWEST - steps_ago * STEP + datetime.timedelta(seconds=seconds)
        reading = Reading(subject_id="anna", time=time, glucose=glucose, unit="mg/dL", device=device)
        sends = await self.bench.run(
            WINDOW, reading.to_json(), key=b"anna", topic="cgm.readings", offset=self.offset, timestamp_ms=NOW_MS
        )
        self.offset += 1
        outcomes = of(READING_OUTCOMES, sends)
        self.followed.apply(*((READING_OUTCOMES.name, "anna", "anna", each) for each in outcomes))
        for each in outcomes:
            self.display.read(ReadingOutcome.from_json(each), NOW)
            self.told.append(("takeReading", json.loads(each)))
        return [ForecastRequest.from_arrow(each) for topic in (BACKFILL, LIVE) for each in of(topic, sends)]

    def charted(self, requests: Sequence[ForecastRequest]) -> None:
        """Their charts come."""
        for each in requests:
            issue = datetime.datetime.fromtimestamp(each.end_seconds, datetime.UTC)
            chart = fan_chart(
                chart_id=each.input_hash, issue_time=issue, first_target_time=issue + STEP, computed_at=NOW,
                began_ms=each.began_ms, past_mgdl=[centi / 100 for centi in each.past_centi_mgdl],
            )  # fmt: skip
            key = f"subject/anna/{each.end_seconds // STEP_SECONDS % 288}/m"
            self.followed.apply((CHART_CHANGELOGS["live"].name, "anna", key, to_row(chart)))
            self.display.forecast(chart)
            self.told.append(("takeForecast", chart.model_dump(mode="json")))

    def shown(self) -> list[float]:
        """What the present forecast begins with."""
        return [*forecast_of(self.uses, "anna").row.chart.past_mgdl[-3:]]

    def showing(self) -> dict[str, bool]:
        """Who shows a forecast now."""
        try:
            found = bool(self.shown())
        except NoForecastError:
            found = False
        self.told.append(("show", found))
        return {"API": found, "display": self.display.state(NOW, "mg/dL")["median_60"] is not None}


@pytest.fixture
async def anna(tmp_path: Path) -> Person:
    """Eight hours of readings at 100 mg/dL, the newest of now."""
    person = Person(tmp_path)
    for steps_ago in range(PAST_POINTS + 4, -1, -1):
        person.charted(await person.sends(100, steps_ago))
    assert person.shown() == [100, 100, 100]
    return person


async def test_the_newest_reading_is_taken_back_and_its_forecast_with_it(anna: Person) -> None:
    assert not await anna.sends(300)
    with pytest.raises(NoForecastError, match=r"reading of .* corrected: the glucose changes by 200 mg/dL"):
        forecast_of(anna.uses, "anna")
    again = await anna.sends(110)
    anna.charted(again)
    assert anna.shown() == [100, 100, 110]
    assert anna.followed.model.readings.corrections.of("anna") == []


async def test_a_chart_that_was_under_way_then_is_none_either(anna: Person) -> None:
    under_way = await anna.sends(110)
    assert not await anna.sends(300)
    anna.charted(under_way)
    with pytest.raises(NoForecastError, match="corrected"):
        forecast_of(anna.uses, "anna")


@pytest.mark.parametrize("steps_ago", [1, 2, 3])
async def test_a_reading_before_the_newest_is_corrected(anna: Person, steps_ago: int) -> None:
    """The window's end stays as it was; the jump before it spoils the forecast."""
    assert not await anna.sends(300, steps_ago)
    with pytest.raises(NoForecastError, match="corrected"):
        forecast_of(anna.uses, "anna")
    anna.charted(await anna.sends(101, steps_ago))
    assert 101 in forecast_of(anna.uses, "anna").row.chart.past_mgdl


async def test_only_the_windows_behind_the_corrected_one_are_spoilt(anna: Person) -> None:
    """That one gets a forecast; the newest, which falls from it as no body does, keeps its own no longer."""
    anna.charted(await anna.sends(80))
    assert anna.shown() == [100, 100, 80]
    requests = await anna.sends(140, 1)
    assert json.loads(of(READING_OUTCOMES, anna.bench.sent)[-1])["withheld_times"] == [NEWEST.isoformat()[:-6] + "Z"]
    assert [each.past_centi_mgdl[-1] for each in requests] == [14000]
    anna.charted(requests)
    with pytest.raises(NoForecastError, match="corrected: the glucose changes after it as no body does"):
        forecast_of(anna.uses, "anna")
    glance = _glance(anna.uses, "anna")
    assert (glance.forecast, glance.withheld_times) == (None, [NEWEST])


async def test_what_takes_nothing_back_leaves_the_forecast(anna: Person) -> None:
    """A reading that is further from its five minutes, one sent again, one of long ago."""
    for glucose, steps_ago, seconds in ((300, 0, 100), (100, 0, 0), (300, 90, 0)):
        anna.charted(await anna.sends(glucose, steps_ago, seconds))
        assert anna.shown() == [100, 100, 100]
    assert anna.followed.model.readings.corrections.of("anna") == []


async def test_a_correction_that_gets_its_forecast_holds_the_one_before_until_it_is_there(anna: Person) -> None:
    requests = await anna.sends(120)
    assert anna.shown() == [100, 100, 100]
    anna.charted(requests)
    assert anna.shown() == [100, 100, 120]


async def test_rows_of_before_are_read(anna: Person) -> None:
    """They told the slot and the value of the reading first."""
    store, end = anna.followed.model._store, slot_of(NEWEST)
    store.stage(b"g/anna", orjson.dumps([[end, 30000, [end], NEWEST, "it jumps"]]))
    with pytest.raises(NoForecastError, match="corrected: it jumps"):
        forecast_of(anna.uses, "anna")
    anna.charted(await anna.sends(110))
    assert anna.shown() == [100, 100, 110]


async def test_a_new_beginning_knows_no_corrections(anna: Person) -> None:
    await anna.sends(300)
    assert anna.followed.model.readings.corrections.of("anna")
    order = ReadingOutcome(outcome_id="a" * 64, subject_id="anna", status="erased", time=NOW)
    anna.followed.model.apply([Entry(READING_OUTCOMES.name, 0, 0, b"anna", order.to_json())], {})
    assert [key for key, _ in anna.followed.model._store.scan(b"g/")] == []


async def test_what_another_device_was_heard_to_say_ends_where_it_is_not_heard_any_more(tmp_path: Path) -> None:
    """Its nearer reading takes the slot of the one that was heard, and came too soon after the preferred device's."""
    person = Person(tmp_path)
    headers = {POLICY: SourcePolicy(preferred_device="arm").to_json()}
    await person.bench.run(WINDOW, None, key=b"anna", topic="cgm.readings", headers=headers, timestamp_ms=NOW_MS)
    for steps_ago in range(PAST_POINTS + 7, 3, -3):
        await person.sends(100, steps_ago, 149, "arm")
    for steps_ago in (3, 2, 1):
        assert not await person.sends(100, steps_ago, 0, "leg")
    person.charted(await person.sends(100, 0, 120, "leg"))
    assert person.showing() == {"API": True, "display": True}
    assert not await person.sends(100, 0, -30, "leg")
    assert person.showing() == {"API": False, "display": False}
    assert listed(person.told) == [True, False]


CHOSEN = ((100, 0), (100, 1), (90, 1), (140, 1), (150, 0), (300, 0), (300, 2), (110, 0), (40, 3), (100, 2), (95, 3))
"""Values and how many steps ago: most of them are near enough to each other, some are not."""


def listed(told: Sequence[tuple[str, Any]]) -> list[bool]:
    """Whether the page's list of people shows a forecast, wherever it is asked."""
    node = shutil.which("node")
    if node is None:
        return [each for take, each in told if take == "show"]
    script = (
        f'import {{ readFileSync }} from "node:fs";{STUBS}'
        + """
      for (const [take, each] of JSON.parse(readFileSync(0)))
        if (take === "show") shown.push(people.forecastOf(people.person("anna")) !== null); else people[take](each);
      console.log(JSON.stringify(shown));"""
    )
    ran = subprocess.run(
        [node, "--input-type=module", "--eval", script, "--", DASHBOARD / "people.js"],
        input=json.dumps(told), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    shown: list[bool] = json.loads(ran.stdout)
    return shown


async def test_all_who_show_a_forecast_end_and_show_it_by_one_rule(anna: Person) -> None:
    """A correction may make its own window's forecast, and end that of the newest; charts may come late."""
    chance = random.Random(3)
    under_way: list[ForecastRequest] = []
    seen = set()
    for turn, (glucose, steps_ago) in enumerate((*CHOSEN, *chance.choices(CHOSEN, k=150))):
        under_way += await anna.sends(glucose, steps_ago, chance.choice((0, 0, 20, -70)))
        showing = anna.showing()
        assert len({*showing.values()}) == 1, (turn, glucose, steps_ago, showing)
        if chance.random() < 0.6:
            anna.charted(under_way)
            under_way.clear()
            showing = anna.showing()
            assert len({*showing.values()}) == 1, (turn, glucose, steps_ago, showing)
        seen |= {*showing.values()}
    assert seen == {True, False}
    assert listed(anna.told) == [each for take, each in anna.told if take == "show"]
