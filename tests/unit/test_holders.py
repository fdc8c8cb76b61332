"""Who has which uploads, by the people of their key: the rule, and over HTTP with the workers' steps in memory."""

import hashlib
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from httpx import Response
from starlette.requests import Request

from agents.core.fingerprint import owner_of
from query_api import saved_handles
from query_api.callers import holder_of
from query_api.holders import EVERYBODY, Holder, holder_for
from query_api.key_file import SCOPES, Key
from query_api.known_answers import _key
from query_api.read_model import Entry, ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas import topics
from schemas.errors import RejectedError, UnknownHandleError
from schemas.fan_chart_row import to_row
from schemas.forecast import ForecastRequest
from schemas.tables import handle_key
from schemas.topics import Topic
from schemas.upload import UploadOutcome
from streams.settings import Settings
from streams.topology import CHART_CHANGELOGS
from tests.kit.charts import fan_chart
from tests.kit.keys import key_in, person_in
from tests.kit.query import Client, body_of, standing, without_chromium
from tests.kit.samples import dexcom, glucose_rows
from tests.kit.workbench import Workbench, built

ANNA, EVE, BOTH = owner_of(["anna"]), owner_of(["eve"]), owner_of(["anna", "eve"])
HANDLES = {None: "0" * 64, ANNA: "a" * 64, EVE: "e" * 64, BOTH: "b" * 64}


def key(*subjects: str) -> Key:
    return Key(name="k", digest="0" * 64, subjects=subjects or None)


def request(by: Key | None) -> Request:
    scope = {"type": "http", "method": "POST", "path": "/draw_a_plot", "query_string": b"", "headers": []}
    return Request(scope | {"caller": "k", "key": by})


@pytest.mark.parametrize(
    ("by", "owner", "held"),
    [
        (None, None, {None, ANNA, EVE, BOTH}),
        (key(), None, {None, ANNA, EVE, BOTH}),
        (key("anna"), ANNA, {ANNA}),
        (key("anna", "anna"), ANNA, {ANNA}),
        (key("eve", "anna"), BOTH, {ANNA, EVE, BOTH}),
        (key("anna", "eve"), BOTH, {ANNA, EVE, BOTH}),
        (key("ann"), owner_of(["ann"]), set()),
    ],
)
def test_a_key_holds_what_is_of_its_people(by: Key | None, owner: str | None, held: set[str | None]) -> None:
    holder = holder_of(request(by))
    assert holder.owner == owner
    assert {each for each in HANDLES if holder.holds(each)} == held


@pytest.fixture
def model(tmp_path: Path) -> ReadModel:
    model = ReadModel(Store(tmp_path / "table", 1 << 20, 1 << 20), Subscriptions())
    outcomes = [
        UploadOutcome(upload_id=handle, status="accepted", handle=handle, series_key="k", points=120, owner=owner)
        for owner, handle in HANDLES.items()
    ]
    topic = topics.UPLOAD_OUTCOMES.name
    model.apply([Entry(topic, 0, 0, each.upload_id.encode(), each.to_json()) for each in outcomes], {})
    return model


def test_what_is_not_theirs_is_as_if_it_were_not_there(model: ReadModel) -> None:
    for people in (("anna",), ("eve",), ("anna", "eve")):
        holder = holder_for(people)
        theirs = {handle for owner, handle in HANDLES.items() if holder.holds(owner)}
        assert {stored.handle for stored in model.uploads.handles(holder)} == theirs
        assert {handle for handle in HANDLES.values() if model.uploads.held(handle, holder)} == theirs
    assert len(model.uploads.handles()) == model.uploads.handle_count() == 4


def test_a_handle_is_as_new_as_its_newest_upload_in_whichever_order_they_are_read(model: ReadModel) -> None:
    """They lie in several partitions: a replica that begins anew must not take what came last for the oldest."""
    first, *_ = [stored.outcome for stored in model.uploads.handles()]
    again = first.model_copy(update={"upload_id": "1" * 64, "began_ms": 2})
    late = first.model_copy(update={"upload_id": "2" * 64, "began_ms": 1})
    topic = topics.UPLOAD_OUTCOMES.name
    model.apply([Entry(topic, 0, 0, each.upload_id.encode(), each.to_json()) for each in (again, late)], {})
    found = model.uploads.handle(first.handle or "")
    assert found is not None
    assert (found.outcome.began_ms, found.upload_ids) == (2, (first.upload_id, again.upload_id, late.upload_id))


def test_an_outcome_of_an_earlier_version_is_everybodys(model: ReadModel) -> None:
    (old,) = [stored for stored in model.uploads.handles() if stored.outcome.owner is None]
    assert '"owner"' not in old.outcome.model_dump_json(exclude_none=True)
    assert model.uploads.held(old.handle, EVERYBODY) == old
    assert model.uploads.held(old.handle, holder_for(("anna",))) is None


def test_files_are_found_by_those_whose_they_are(tmp_path: Path) -> None:
    for owner, handle in HANDLES.items():
        place = tmp_path if owner is None else tmp_path / owner
        place.mkdir(exist_ok=True)
        (place / f"{handle}.parquet").write_bytes(b"none of ours")

    def found(holder: Holder) -> set[str | None]:
        """Whose files are opened, and then refused for what is in them."""
        opened = set()
        for owner, handle in HANDLES.items():
            with pytest.raises((RejectedError, UnknownHandleError)) as error:
                saved_handles.load(tmp_path, handle, holder)
            if error.type is not UnknownHandleError:
                opened.add(owner)
        assert saved_handles.saved_count(tmp_path, holder) == len(opened)
        return opened

    assert found(EVERYBODY) == {*HANDLES}
    assert found(holder_for(("anna",))) == {ANNA}
    assert found(holder_for(("anna", "eve"))) == {ANNA, EVE, BOTH}
    assert found(holder_for(("somebody else",))) == set()
    saved_handles.forget(tmp_path, ANNA)
    assert found(EVERYBODY) == {None, EVE, BOTH}
    with pytest.raises(RejectedError):
        saved_handles.forget(tmp_path, "..")
    shutil.rmtree(tmp_path)
    assert saved_handles.saved_count(tmp_path, holder_for(("anna",))) == 0


def test_an_answer_is_remembered_for_a_key_as_it_was(model: ReadModel) -> None:
    """A key may be for other people tomorrow, under the same name."""
    scopes = [request(by).scope for by in (key("anna"), key("eve"), key(), None)]
    assert len({_key(scope, b"digest") for scope in scopes}) == 4  # type: ignore[arg-type]
    assert _key(scopes[0], b"digest") == _key(request(key("anna")).scope, b"digest")


class StepsBehind:
    """What Kafka and the workers would do with what the API sends, at once: the real steps over tables in memory.

    Forecasts are made up: one of each sample that is asked for.
    """

    BY_TOPIC: Mapping[str, tuple[str, ...]] = {
        topics.READINGS.name: ("window",),
        topics.UPLOADS.name: ("unify",),
        topics.SERIES.name: ("handle",),
        topics.CACHE_COMMANDS.name: ("series_commands", "chart_commands"),
    }

    def __init__(self, model: ReadModel) -> None:
        self._model, self._bench = model, Workbench()
        self._steps = {name: built(name) for names in self.BY_TOPIC.values() for name in names}

    async def send(
        self, topic: Topic, key: str | None, value: bytes | None, headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
    ) -> int:  # fmt: skip
        """As a `Publisher`: the time at which the broker has it."""
        now_ms = int(time.time() * 1000)
        if not partition:  # there is one here
            await self._arrived(topic, None if key is None else key.encode(), value, dict(headers or {}), now_ms)
        return now_ms

    async def _arrived(
        self, topic: Topic, key: bytes | None, value: bytes | None, headers: dict[str, bytes], now_ms: int
    ) -> None:
        if topic in (topics.UPLOAD_OUTCOMES, topics.READING_OUTCOMES):
            self._model.apply([Entry(topic.name, 0, 0, key, value)], {})
        if topic in (topics.INTERACTIVE, topics.BACKFILL):
            asked = ForecastRequest.from_arrow(value)
            assert asked.handle is not None
            assert asked.index is not None
            made = fan_chart(
                kind="sample", handle=asked.handle, index=asked.index, series_key=asked.series_key, subject_id=None,
                chart_id=hashlib.sha256(f"{asked.handle}/{asked.index}".encode()).hexdigest(),
            )  # fmt: skip
            row = str(handle_key(asked.handle, asked.index, "d" * 64)).encode()
            self._model.apply([Entry(CHART_CHANGELOGS["interactive"].name, 0, 0, row, to_row(made))], {})
        for name in self.BY_TOPIC.get(topic.name, ()):
            sends = await self._bench.run(self._steps[name], value, key=key, headers=headers, timestamp_ms=now_ms)
            for each in sends:
                await self._arrived(each.topic, each.key, each.value, {}, now_ms)


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    keys = tmp_path / "keys"
    for name in ("anna", "eve"):
        person_in(keys, name, f"key-of-{name}-alone", scopes=SCOPES)
    person_in(keys, "anna", "reader-of-anna", scopes=["read"])
    key_in(keys, "family", "key-of-both-of-them", subjects=["eve", "anna"])
    key_in(keys, "clinic", "key-of-everybody")
    settings = Settings(
        api_keys_file=keys, max_cache_size=2, rate_limit="9999/minute", state_dir=tmp_path / "state", partitions=1
    )

    async def caught_up() -> None:
        """Everything has arrived already."""

    with without_chromium():
        async with standing(settings, tmp_path / "query") as client:
            services = client.services
            monkeypatch.setattr(services.publisher, "send", StepsBehind(services.read_model).send)
            monkeypatch.setattr(services.follower, "catch_up", caught_up)
            yield client


EXPORT = dexcom(glucose_rows(121))
PEOPLE = {"anna": "key-of-anna-alone", "eve": "key-of-eve-alone", "family": "key-of-both-of-them",
          "clinic": "key-of-everybody"}  # fmt: skip


async def asked(client: Client, who: str, path: str, **options: Any) -> Response:
    headers = {"x-api-key": PEOPLE.get(who, who), "accept": "application/json"}
    return await client.post(path, headers=headers, **options)


async def upload(client: Client, who: str, raw: bytes = EXPORT) -> str:
    answer = await asked(client, who, "/process_unified", json=body_of(raw))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["handle"])


async def draw(client: Client, who: str, handle: str) -> Response:
    return await asked(client, who, "/draw_a_plot", json={"handle": handle, "index": 0})


async def stored(client: Client, who: str) -> int:
    return int((await asked(client, who, "/cache_management", params={"action": "info"})).json()["cache_size"])


async def test_nobody_draws_counts_or_ends_what_others_have_sent(client: Client) -> None:
    handles = {who: await upload(client, who) for who in PEOPLE}
    assert len(set(handles.values())) == 4, "equal bytes, and nothing in common"
    assert await upload(client, "anna") == handles["anna"]
    holds = {"anna": {"anna"}, "reader-of-anna": {"anna"}, "eve": {"eve"}, "family": {"anna", "eve", "family"},
             "clinic": {*PEOPLE}}  # fmt: skip
    for _ in range(2):  # the second time from what is remembered
        for who, theirs in holds.items():
            unknown = await draw(client, who, "0" * 64)
            for owner, handle in handles.items():
                answer = await draw(client, who, handle)
                told = (200, None) if owner in theirs else (404, unknown.json())
                assert (answer.status_code, answer.json() if answer.status_code == 404 else None) == told, (who, owner)
    assert {who: await stored(client, who) for who in PEOPLE} == {"anna": 1, "eve": 1, "family": 3, "clinic": 4}
    for surface in ("", "/glurpc"):
        for action in ("delete", "save", "load"):
            query = {"action": action, "handle": handles["anna"]}
            answer = await asked(client, "eve", f"{surface}/cache_management", params=query)
            assert answer.status_code == 404 or answer.json()["success"] is False, (surface, action)
        question = {"handle": handles["anna"], "index": 0}
        assert (await asked(client, "eve", f"{surface}/draw_a_plot", json=question)).status_code == 404
    assert (await asked(client, "eve", "/cache_management", params={"action": "flush"})).json()["items_affected"] == 1
    assert {who: await stored(client, who) for who in PEOPLE} == {"anna": 1, "eve": 0, "family": 2, "clinic": 3}
    assert (await draw(client, "anna", handles["anna"])).status_code == 200
    assert (await draw(client, "eve", handles["eve"])).status_code == 404
    one = {"action": "delete", "handle": handles["family"]}
    assert (await asked(client, "anna", "/cache_management", params=one)).status_code == 404
    assert (await asked(client, "family", "/cache_management", params=one)).status_code == 200
    assert {who: await stored(client, who) for who in PEOPLE} == {"anna": 1, "eve": 0, "family": 1, "clinic": 2}


async def test_what_is_sent_again_while_room_is_made_stays(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is being read, so nobody knows yet that it is the newest."""
    uploads, submit = client.services.read_model.uploads, client.services.submit
    first, other = [dexcom(glucose_rows(121, level=120 + 10 * step)) for step in range(2)]
    handle = await upload(client, "clinic", first)
    await upload(client, "clinic", other)
    before = uploads.handles()
    await asked(client, "clinic", "/process_unified", json=body_of(first) | {"force_calculate": True})
    monkeypatch.setattr(submit, "_settings", client.services.settings.model_copy(update={"max_cache_size": 1}))
    monkeypatch.setattr(uploads, "handles", lambda *_: before)
    await submit._evict()
    assert uploads.handle(handle) is not None
    assert (await draw(client, "clinic", handle)).status_code == 200


async def test_who_sends_much_pushes_out_their_own(client: Client) -> None:
    first = {who: await upload(client, who) for who in ("clinic", "anna")}
    many = [await upload(client, "eve", dexcom(glucose_rows(121, level=level))) for level in (120, 130, 140, 150)]
    assert [(await draw(client, "eve", handle)).status_code for handle in many] == [404, 404, 200, 200]
    assert [(await draw(client, who, handle)).status_code for who, handle in first.items()] == [200, 200]


async def test_who_is_erased_leaves_no_upload_and_others_keep_theirs(client: Client) -> None:
    handles = {who: await upload(client, who) for who in PEOPLE}
    answer = await client.delete("/subjects/anna", headers={"x-api-key": PEOPLE["anna"]})
    assert answer.status_code == 200, answer.text
    statuses = {who: (await draw(client, "clinic", handle)).status_code for who, handle in handles.items()}
    assert statuses == {"anna": 404, "eve": 200, "family": 200, "clinic": 200}
    assert await upload(client, "anna") == handles["anna"], "and begins anew"
    assert (await draw(client, "anna", handles["anna"])).status_code == 200
