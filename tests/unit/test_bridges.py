"""Bridges: what each service has becomes readings once, whatever the service, the network and a restart do."""

import asyncio
import datetime
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pydexcom
import pytest
import requests
from pylibrelinkup import PyLibreLinkUp

from deploy.bridges import bridge, source
from deploy.bridges.bookmarks import Bookmarks
from deploy.bridges.bridge import Pull
from deploy.bridges.people import Kind, Person, people_of
from deploy.bridges.run import SOURCES
from deploy.bridges.source import SourceError
from schemas.errors import ConfigurationError
from schemas.reading import Reading
from tests.kit.cgm_services import (
    PASSWORD,
    PATIENT,
    USER,
    DexcomService,
    LibreService,
    NightscoutSite,
    Service,
    serving,
)

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
STEP = datetime.timedelta(minutes=5)
MEASURED = [(NOW - 5 * STEP * 12 + step * STEP, 100 + step) for step in range(36)]
SERVICES: dict[Kind, type[Service]] = {
    "nightscout": NightscoutSite, "dexcom-share": DexcomService, "librelinkup": LibreService,
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", SERVICES)


class Kafka:
    """Confirms readings while it is there."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.down = False

    async def publish(self, readings: Sequence[Reading]) -> None:
        if self.down:
            raise SourceError("Kafka does not confirm the readings (KafkaTimeoutError)")
        self.readings += readings


class Bridged:
    """A service, and a bridge that can be started again."""

    def __init__(self, kind: Kind, home: Path) -> None:
        self.kind, self.home, self.service = kind, home, SERVICES[kind](MEASURED)
        self.kafka = Kafka()

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.service.app))

    def person(self, **changes: Any) -> Person:
        fields = {
            "subject": "anna", "timezone": "Europe/Vienna", "url": "https://service.example", "user": USER,
            "password": PASSWORD,
        } | changes  # fmt: skip
        return Person.model_validate(fields)

    def pull(self, client: httpx.AsyncClient, **changes: Any) -> Pull:
        person = self.person(**changes)
        bookmarks = Bookmarks(self.home / "bridges" / f"{self.kind}.json")
        return Pull(1, person, SOURCES[self.kind](person, client), bookmarks, self.kafka.publish)

    @property
    def values(self) -> list[float]:
        return [reading.glucose for reading in self.kafka.readings]


@kinds
async def test_what_a_service_has_is_published_once_oldest_first_on_the_persons_clock(
    kind: Kind, tmp_path: Path
) -> None:
    there = Bridged(kind, tmp_path)
    async with there.client() as client:
        pull = there.pull(client)
        assert await pull.once() == bridge.EVERY_SECONDS
        assert [(each.time, each.glucose) for each in there.kafka.readings] == MEASURED
        assert {(each.subject_id, each.unit) for each in there.kafka.readings} == {("anna", "mg/dL")}
        said = datetime.timezone(datetime.timedelta(hours=1))  # what Dexcom's own times say is more than the file says
        zone = said if kind == "dexcom-share" else ZoneInfo("Europe/Vienna")
        for each in there.kafka.readings:
            assert each.time.utcoffset() == each.time.astimezone(zone).utcoffset()
        there.service.measured.append((MEASURED[-1][0] + STEP, 150))
        there.service.measured.append((MEASURED[-3][0] + STEP / 2, 149))  # a late one
        await pull.once()
        await pull.once()
    assert there.values[len(MEASURED) :] == [149, 150]


@kinds
async def test_a_correction_that_is_taken_back_is_told_too(kind: Kind, tmp_path: Path) -> None:
    """Else the corrected value stays for ever: what comes last of one time is what counts."""
    there = Bridged(kind, tmp_path)
    time, value = MEASURED[-1]
    async with there.client() as client:
        pull = there.pull(client)
        for said in (value, value + 40, value, value):
            there.service.measured[-1] = (time, said)
            await pull.once()
    assert there.values[len(MEASURED) - 1 :] == [value, value + 40, value]


async def test_the_hour_that_clocks_show_twice_is_two_hours(tmp_path: Path) -> None:
    """What was the same an hour before, by the clock and by its value, had been sent already."""
    place = ZoneInfo("Europe/Vienna")
    first = datetime.datetime(2026, 10, 25, 0, 30, tzinfo=datetime.UTC)
    measured = [
        Reading(subject_id="anna", time=(first + step * STEP).astimezone(place), glucose=100 + step % 3, unit="mg/dL")
        for step in range(20)
    ]

    class Told:
        async def readings(self, since: datetime.datetime) -> list[Reading]:
            return measured[: self.count]

        count = 12

    there, told = Bridged("librelinkup", tmp_path), Told()
    pull = Pull(1, there.person(), told, Bookmarks(tmp_path / "b.json"), there.kafka.publish)
    await pull.once()
    told.count = 20
    await pull.once()
    await pull.once()
    assert [each.time.timestamp() for each in there.kafka.readings] == [each.time.timestamp() for each in measured]


@kinds
async def test_a_bridge_that_was_away_goes_on_where_it_stood(kind: Kind, tmp_path: Path) -> None:
    there = Bridged(kind, tmp_path)
    async with there.client() as client:
        await there.pull(client).once()
        there.service.measured += [(MEASURED[-1][0] + step * STEP, 200 + step) for step in range(1, 4)]
        there.kafka.readings.clear()
        await there.pull(client).once()
    again = {each.time for each in there.kafka.readings} & {time for time, _ in MEASURED}
    assert there.values[-3:] == [201, 202, 203]
    assert min(again) > MEASURED[-1][0] - bridge.LATE, "no further back than what may be late"
    assert (tmp_path / "bridges" / f"{kind}.json").stat().st_mode & 0o077 == 0


@kinds
async def test_what_kafka_has_not_confirmed_is_asked_for_again(kind: Kind, tmp_path: Path) -> None:
    there = Bridged(kind, tmp_path)
    async with there.client() as client:
        there.kafka.down = True
        pull = there.pull(client)
        assert await pull.once() == bridge.SOONEST_AGAIN_SECONDS
        assert await pull.once() == 2 * bridge.SOONEST_AGAIN_SECONDS
        assert Bookmarks(tmp_path / "bridges" / f"{kind}.json").of("anna") is None
        there.kafka.down = False
        assert await pull.once() == bridge.EVERY_SECONDS
    assert there.values == [value for _, value in MEASURED]


@kinds
async def test_a_service_that_is_down_is_asked_ever_later_and_then_caught_up(kind: Kind, tmp_path: Path) -> None:
    there = Bridged(kind, tmp_path)
    async with there.client() as client:
        there.service.down = True
        pull = there.pull(client)
        waits = [await pull.once() for _ in range(7)]
        assert waits == sorted(waits)
        assert waits[-1] == bridge.LATEST_AGAIN_SECONDS
        there.service.down = False
        assert await pull.once() == bridge.EVERY_SECONDS
    assert len(there.values) == len(MEASURED)


@kinds
async def test_a_wrong_password_is_not_tried_again_soon(
    kind: Kind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = Bridged(kind, tmp_path)
    async with there.client() as client:
        assert await there.pull(client, password="something else").once() == bridge.REFUSED_SECONDS
    said = capsys.readouterr().out
    assert "lets nobody in" in said
    assert [word for word in ("anna", "something else") if word in said] == []
    assert there.values == []


@pytest.mark.parametrize(
    ("body", "again_in"),
    [("<html>Just a moment…</html>", bridge.SOONEST_AGAIN_SECONDS), ('{"status":403}', bridge.REFUSED_SECONDS)],
)
async def test_a_page_of_what_stands_before_a_site_refuses_no_secret(
    body: str, again_in: float, tmp_path: Path
) -> None:
    """One such page, as of a proxy that doubts everybody for a minute, was an hour without readings."""
    transport = httpx.MockTransport(lambda _: httpx.Response(403, text=body))
    async with httpx.AsyncClient(transport=transport) as client:
        assert await Bridged("nightscout", tmp_path).pull(client).once() == again_in


class Drops(httpx.AsyncByteStream):
    """An answer that goes on for ever, a byte at a time."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)


@kinds
async def test_an_answer_without_an_end_keeps_nobody_waiting(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte came in time: sixteen such services, and of nobody came a reading any more."""
    monkeypatch.setattr(source, "WHOLE_SECONDS", 0.05)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Drops()))
    async with asyncio.timeout(5), httpx.AsyncClient(transport=transport) as client:
        assert await Bridged(kind, tmp_path).pull(client).once() == bridge.SOONEST_AGAIN_SECONDS


async def test_a_dexcom_session_that_ends_is_begun_again(tmp_path: Path) -> None:
    there = Bridged("dexcom-share", tmp_path)
    service = there.service
    assert isinstance(service, DexcomService)
    async with there.client() as client:
        pull = there.pull(client)
        await pull.once()
        service.sessions.append("over")
        service.measured.append((NOW, 180))
        assert await pull.once() == bridge.EVERY_SECONDS
    assert there.values[-1] == 180
    assert there.kafka.readings[-1].direction == "FortyFiveUp"


async def test_librelinkup_signs_in_again_and_says_what_its_user_has_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = Bridged("librelinkup", tmp_path)
    service = there.service
    assert isinstance(service, LibreService)
    async with there.client() as client:
        pull = there.pull(client)
        await pull.once()
        service.token = "t2"
        assert await pull.once() == bridge.SOONEST_AGAIN_SECONDS, "the session is over"
        assert await pull.once() == bridge.EVERY_SECONDS
        service.step = "tou"
        assert await there.pull(client).once() == bridge.REFUSED_SECONDS
        service.step = None
        service.patients = (PATIENT, "another")
        assert await there.pull(client).once() == bridge.REFUSED_SECONDS
        assert await there.pull(client, patient=PATIENT).once() == bridge.EVERY_SECONDS
        assert await there.pull(client, patient="a third").once() == bridge.REFUSED_SECONDS
    said = capsys.readouterr().out
    for words in ("accept the new terms of use", "follows 2 people", "does not follow the patient"):
        assert words in said


async def test_librelinkup_goes_where_the_account_lives_and_stays_there(tmp_path: Path) -> None:
    there = Bridged("librelinkup", tmp_path)
    american, european = LibreService(MEASURED), there.service
    assert isinstance(european, LibreService)
    american.region = "EU"
    services = {"us": american, "eu": european}
    mounts = {
        f"https://api-{region}.libreview.io": httpx.ASGITransport(service.app) for region, service in services.items()
    }
    async with httpx.AsyncClient(mounts=mounts) as client:
        pull = there.pull(client, url=None)
        assert await pull.once() == bridge.EVERY_SECONDS
        assert there.values == [value for _, value in MEASURED]
        european.token = "t2"
        european.measured.append((MEASURED[-1][0] + STEP, 150))
        assert await pull.once() == bridge.SOONEST_AGAIN_SECONDS, "the session is over"
        assert await pull.once() == bridge.EVERY_SECONDS
        assert (there.values[-1], american.sign_ins, european.sign_ins) == (150, 1, 2)
        european.region = "us"
        assert await there.pull(client, url=None).once() == bridge.REFUSED_SECONDS, (
            "sent from one to the other and back"
        )
        assert (american.sign_ins, european.sign_ins) == (2, 3)


@pytest.mark.parametrize("kind", ["dexcom-share", "librelinkup"])
def test_the_small_servers_speak_as_independent_clients_expect(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(SERVICES[kind](MEASURED).app) as url, requests.Session() as session:
        monkeypatch.setattr(requests, "Session", lambda: session)
        monkeypatch.setattr(requests, "get", session.get)
        monkeypatch.setattr(requests, "post", session.post)
        if kind == "dexcom-share":
            base = f"{url}/ShareWebServices/Services/"
            monkeypatch.setitem(pydexcom.dexcom.DEXCOM_BASE_URLS, pydexcom.Region.US, base)
            dexcom = pydexcom.Dexcom(username=USER, password=PASSWORD)
            assert [(each.datetime, each.mg_dl) for each in dexcom.get_glucose_readings()] == MEASURED[::-1]
            return
        client = PyLibreLinkUp(USER, PASSWORD)
        client.api_url = url
        client.authenticate()
        (patient,) = client.get_patients()
        found = [*client.graph(patient), client.latest(patient)]
    assert [(each.factory_timestamp, round(each.value)) for each in found] == MEASURED


GOOD = '[[person]]\nsubject = "anna"\ntimezone = "Europe/Vienna"\nurl = "https://a.example"\npassword = "p4ss"\n'


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_of_people_is_read(tmp_path: Path) -> None:
    people = people_of(written(tmp_path / "p.toml", GOOD + GOOD.replace("anna", "berta")), "nightscout")
    assert [person.subject for person in people] == ["anna", "berta"]
    assert "p4ss" not in repr(people)


@pytest.mark.parametrize(
    ("text", "mode", "kind", "words"),
    [
        (GOOD, 0o640, "nightscout", "chmod 600"),
        (GOOD, 0o604, "nightscout", "chmod 600"),
        (GOOD, 0o600, "librelinkup", "needs user"),
        (GOOD.replace("https", "http"), 0o600, "nightscout", "https"),
        (GOOD.replace("Vienna", "Wien"), 0o600, "nightscout", "timezone"),
        (GOOD.replace("a.example", "u:p4ss@a.example"), 0o600, "nightscout", "address alone"),
        (GOOD.replace("subject", "subjekt"), 0o600, "nightscout", "subject"),
        (GOOD + GOOD, 0o600, "nightscout", "twice"),
        ("", 0o600, "nightscout", "lists 1 to"),
        ("p4ss =", 0o600, "nightscout", "no TOML"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_words_that_repeat_no_secret(
    tmp_path: Path, text: str, mode: int, kind: Kind, words: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        people_of(written(tmp_path / "p.toml", text, mode), kind)
    assert words in str(caught.value)
    assert "p4ss" not in str(caught.value)


def test_a_bookmark_file_that_is_damaged_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    for text in ("{", "[]", '{"anna": 1}', '{"anna": "2026-01-01T00:00:00"}'):
        path.write_text(text)
        assert Bookmarks(path).of("anna") is None
    bookmarks = Bookmarks(path)
    bookmarks.set("anna", NOW)
    bookmarks.set("anna", NOW - STEP)
    assert Bookmarks(path).of("anna") == NOW
