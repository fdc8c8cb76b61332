"""Who has which uploads, by the people of their key."""

import shutil
from pathlib import Path

import pytest
from starlette.requests import Request

from agents.core.fingerprint import owner_of
from query_api import saved_handles
from query_api.callers import holder_of
from query_api.holders import EVERYBODY, Holder, holder_for
from query_api.key_file import Key
from query_api.known_answers import _key
from query_api.read_model import Entry, ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas import topics
from schemas.errors import RejectedError, UnknownHandleError
from schemas.upload import UploadOutcome

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
