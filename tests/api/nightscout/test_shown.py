"""What readers are shown: of entries only what was sent, of the forecast a document with the time of its last value."""

import asyncio
import contextlib
import dataclasses
import datetime
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query_api.problems import is_nightscout
from query_api.read_model import Entry
from schemas.fan_chart import OUTER_LEVELS
from schemas.fan_chart_row import to_row
from schemas.glucose_day import GlucoseDay
from schemas.grid import STEPS_A_DAY
from schemas.reading import OTHER_DEVICE, Reading, ReadingOutcome
from schemas.sources import DecidedPolicy, SourcePolicy, SourceState
from schemas.tables import day_key
from schemas.topics import READING_OUTCOMES
from streams.settings import Settings
from streams.topology import CHART_CHANGELOGS, DAYS_CHANGELOG, SOURCES_CHANGELOG
from tests.kit.charts import fan_chart
from tests.kit.keys import person_in
from tests.kit.query import Client, standing

SECOND = datetime.timedelta(seconds=1)
STEP = datetime.timedelta(minutes=5)


def slot_now() -> datetime.datetime:
    """The five minutes that have just begun."""
    return datetime.datetime.fromtimestamp(datetime.datetime.now(datetime.UTC).timestamp() // 300 * 300, datetime.UTC)


def outcome_of(reading: Reading) -> Entry:
    outcome = ReadingOutcome(
        outcome_id="0" * 64, subject_id=reading.subject_id, status="forecast_requested", time=reading.time,
        reading=reading,
    )  # fmt: skip
    return Entry(READING_OUTCOMES.name, 0, 0, reading.subject_id.encode(), outcome.to_json())


def chart_at(slot: datetime.datetime, glucose: float = 131.0, **changes: Any) -> Entry:
    """A forecast whose window holds, between few readings, interpolated points."""
    normals = [NormalDist(glucose + 2, 2 + 2 * step) for step in range(1, 13)]
    chart = fan_chart(
        issue_time=slot, first_target_time=slot + STEP, past_mgdl=[glucose] * 96, median_mgdl=[glucose + 2] * 12,
        quantiles_mgdl=[[normal.inv_cdf(level) for normal in normals] for level in OUTER_LEVELS],
        interpolated_points=list(range(1, 60)), computed_at=datetime.datetime.now(datetime.UTC), **changes,
    )  # fmt: skip
    key = f"subject/{chart.subject_id}/{int(slot.timestamp()) // 300}/{'d' * 16}"
    return Entry(CHART_CHANGELOGS["live"].name, 0, 0, key.encode(), to_row(chart))


def day_of(slot: datetime.datetime, centi: int) -> Entry:
    day = int(slot.timestamp()) // 86400
    row = GlucoseDay(int(slot.timestamp() * 1000), 60, (centi,) * STEPS_A_DAY).to_bytes()
    return Entry(DAYS_CHANGELOG.name, 0, 0, day_key("anna", day).encode(), row)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Client]:
    async with site_in(tmp_path) as client:
        yield client


def site_in(directory: Path, **changes: Any) -> Any:
    """Anna's site, with these settings."""
    directory.mkdir(exist_ok=True)
    token = person_in(directory / "keys", "anna")
    its = Settings(api_keys_file=directory / "keys", state_dir=directory / "state", **changes)
    return standing(its, directory / "query", headers={"api-secret": token})


async def entry_routes(site: Client) -> list[str]:
    """Every address that shows readings: those of the document that answer GET, with and without what they may ask."""
    document = (await site.get("/openapi.json")).json()
    found = [
        path
        for path, of_it in document["paths"].items()
        if "get" in of_it and is_nightscout(path) and ("entries" in path or path in ("/pebble", "/api/v2/properties"))
    ]
    assert len(found) >= 6
    addresses = [path.replace("{since}", "0").replace("/{names}", "/bgnow") for path in found]
    addresses += ["/api/v1/entries.json", "/api/v1/entries/sgv.json", "/api/v1/entries/current.json"]
    most = {"/pebble": "count=2880", "/api/v3/entries": "limit=1000&sort=date"}
    return [*addresses, *(f"{each}?{most.get(each, 'count=5760&limit=1000')}" for each in addresses)]


def shown_in(answer: Any) -> Iterable[tuple[int, float]]:
    """Every time with its value, wherever in an answer they stand."""
    if isinstance(answer, list):
        for each in answer:
            yield from shown_in(each)
    elif isinstance(answer, dict):
        time = next((answer[name] for name in ("date", "datetime", "mills") if name in answer), None)
        value = next((answer[name] for name in ("sgv", "mgdl", "last") if name in answer), None)
        if time is not None and value is not None:
            yield int(time), float(value)
        for each in answer.values():
            yield from shown_in(each)


SENT = st.tuples(st.integers(-7 * 3600, 0), st.integers(39, 600), st.sampled_from(["G7", None]))


def test_no_route_shows_a_value_that_nobody_has_sent(tmp_path: Path) -> None:
    """Beside gaps, a window with interpolated points, its forecast, days without a gap, and another person's."""

    async def look(site: Client, addresses: list[str], sent: list[tuple[int, int, str | None]], computed: int) -> None:
        now, model = slot_now(), site.services.read_model
        own = [
            Reading(subject_id="anna", time=now + seconds * SECOND, glucose=mgdl, unit="mg/dL", device=device)
            for seconds, mgdl, device in sent
        ]
        model.wipe()
        model.apply(map(outcome_of, [*own, Reading(subject_id="eve", time=now, glucose=77, unit="mg/dL")]), {})
        model.apply([chart_at(now - STEP, computed + 0.5), day_of(now, 100 * computed + 7)], {})
        assert model.skipped == 0
        known, found = {(round(each.time.timestamp() * 1000), each.glucose) for each in own}, set()
        for address in addresses:
            answer = await site.get(address)
            assert answer.status_code == 200, (address, answer.text)
            here = set(shown_in(answer.json()))
            assert here <= known, address
            found |= here
        assert bool(found) == bool(own), "else nothing was looked at"

    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        site = runner.run(stack.enter_async_context(site_in(tmp_path)))
        addresses = runner.run(entry_routes(site))

        @settings(max_examples=12, deadline=None)
        @given(st.lists(SENT, max_size=9), st.integers(150, 400))
        def judged(sent: list[tuple[int, int, str | None]], computed: int) -> None:
            runner.run(look(site, addresses, sent, computed))

        try:
            judged()
        finally:
            runner.run(stack.aclose())


async def test_a_name_with_json_behind_it_is_the_same(site: Client) -> None:
    for path in ("experiments/test", "verifyauth", "entries", "entries/sgv", "entries/current", "devicestatus"):
        answers = [await site.get(f"/api/v1/{path}{suffix}") for suffix in ("", ".json")]
        assert [answer.status_code for answer in answers] == [200, 200], path
        assert answers[0].json() == answers[1].json()


async def documents(site: Client, path: str = "/api/v1/devicestatus") -> list[dict[str, Any]]:
    answer = (await site.get(path)).json()
    return list(answer["result"] if isinstance(answer, dict) else answer)


def text(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("seconds", [-149, -60, 0, 1, 60, 149])
async def test_a_document_has_the_time_of_the_value_that_it_begins_with(site: Client, seconds: int) -> None:
    """Sensors do not measure on the five minutes: a window's slot lies up to two and a half before or after."""
    slot = slot_now() - STEP
    measured = slot + seconds * SECOND
    near = Reading(subject_id="anna", time=measured, glucose=131, unit="mg/dL")
    before = near.model_copy(update={"time": measured - STEP, "glucose": 125})
    site.services.read_model.apply([*map(outcome_of, [before, near]), chart_at(slot)], {})
    for path in ("/api/v1/devicestatus", "/api/v3/devicestatus"):
        (document,) = await documents(site, path)
        suggested = document["openaps"]["suggested"]
        assert (suggested["timestamp"], suggested["bg"]) == (text(measured), 131)
        assert suggested["timestamp"] <= document["created_at"], "a document of a time to come has no age"


@pytest.mark.parametrize(("preferred", "place"), [(None, 1), ("arm", 0), ("leg", 1)])
async def test_a_document_has_the_time_of_the_value_of_the_device_that_is_heard(
    site: Client, preferred: str | None, place: int
) -> None:
    slot = slot_now() - STEP
    sent = [
        Reading(subject_id="anna", time=slot + seconds * SECOND, glucose=glucose, unit="mg/dL", device=device)
        for seconds, device, glucose in ((-140, "arm", 131), (5, "leg", 150))
    ]
    told = []
    for reading in sent:
        if preferred == "arm" and reading.device != "arm":
            judged = {"status": "no_forecast", "code": OTHER_DEVICE, "reason": "another device is preferred"}
        else:
            judged = {"issue_times": (slot,)}
        outcome = ReadingOutcome.from_json(outcome_of(reading).value or b"").model_copy(update=judged)
        told.append(dataclasses.replace(outcome_of(reading), value=outcome.to_json()))
    decided = DecidedPolicy(offset=1, policy=SourcePolicy(preferred_device=preferred))
    policy = Entry(SOURCES_CHANGELOG.name, 0, 0, b"anna", SourceState(policies=(decided,)).to_row())
    site.services.read_model.apply([policy, *told, chart_at(slot, sent[place].glucose)], {})
    (document,) = await documents(site)
    suggested = document["openaps"]["suggested"]
    assert (suggested["timestamp"], suggested["bg"]) == (text(sent[place].time), sent[place].glucose)


async def test_a_document_is_never_of_a_time_to_come(site: Client) -> None:
    """A reading of just now lies in the slot that comes; what is known of it may not be there yet."""
    slot = slot_now() + STEP
    site.services.read_model.apply([chart_at(slot)], {})
    (document,) = await documents(site)
    assert document["openaps"]["suggested"]["timestamp"] == document["created_at"]


async def test_the_settings_of_the_site_are_what_readers_are_shown(tmp_path: Path) -> None:
    slot = slot_now() - STEP
    shown = {}
    for number, changes in enumerate(
        ({}, {"nightscout_forecast": "loop", "nightscout_units": "mmol"}, {"nightscout_lower_percent": "2.5"})
    ):
        async with site_in(tmp_path / str(number), **changes) as site:
            reading = Reading(subject_id="anna", time=slot, glucose=131, unit="mg/dL")
            site.services.read_model.apply([outcome_of(reading), chart_at(slot)], {})
            (document,) = await documents(site)
            settings = (await site.get("/api/v1/status.json")).json()["settings"]
            delta = (await site.get("/api/v2/properties")).json()["bgnow"]
            entry = (await site.get("/api/v1/entries/current")).json()[0]
            assert (entry["sgv"], delta["last"]) == (131, 131), "entries are in mg/dL whatever a display shows"
            shown[number] = document, settings
    curves = shown[0][0]["openaps"]["suggested"]["predBGs"]
    assert (shown[0][1]["units"], shown[0][1]["showForecast"]) == ("mg/dl", "openaps")
    loop, its = shown[1]
    assert "openaps" not in loop, "never both: apps decide by the keys who has made a document"
    assert (its["units"], its["enable"], its["showForecast"]) == ("mmol", ["loop"], "loop")
    assert loop["loop"]["predicted"] == {"startDate": text(slot), "values": curves["IOB"]}
    wider = shown[2][0]["openaps"]["suggested"]["predBGs"]
    assert wider["IOB"] == curves["IOB"]
    assert all(low < high for low, high in zip(wider["ZT"][1:], curves["ZT"][1:], strict=True))
    assert all(high > low for high, low in zip(wider["UAM"][1:], curves["UAM"][1:], strict=True))
