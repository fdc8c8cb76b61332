"""Uploads of people: equal files of two owners meet nowhere, and an owner's end together."""

import dataclasses

import pytest

from agents.core import fingerprint
from agents.ingest.stored_series import MOST_ENTRIES
from schemas.command import CacheCommand
from schemas.errors import MalformedRecordError, RejectedError
from schemas.series import Series
from schemas.tables import FAN_CHART_TABLES, SERIES_TABLE
from schemas.topics import CACHE_COMMANDS, SERIES, UPLOAD_OUTCOMES
from schemas.upload import OWNER, UploadOutcome
from tests.agents.test_handle import POINTS, requests, series_of, store
from tests.kit import samples
from tests.kit.charts import fan_chart
from tests.kit.workbench import NOW_MS, HereParser, Workbench, built, of

HANDLE, FORGET, CHARTS = map(built, ("handle", "series_commands", "chart_commands"))
ANNA, EVE = fingerprint.owner_of(["anna"]), fingerprint.owner_of(["eve"])
RAW = samples.dexcom(samples.glucose_rows(150))


def test_an_owner_is_some_people_together_in_whatever_order_and_says_nobodys_name() -> None:
    assert fingerprint.owner_of(["eve", "anna", "eve"]) == fingerprint.owner_of(["anna", "eve"])
    assert len({ANNA, EVE, fingerprint.owner_of(["anna", "eve"]), fingerprint.owner_of(["annaeve"])}) == 4
    assert fingerprint.owned("a" * 64, None) == "a" * 64
    assert len({fingerprint.owned("a" * 64, ANNA), fingerprint.owned("a" * 64, EVE), "a" * 64}) == 3


async def test_one_file_of_three_senders_gives_three_series_that_have_no_id_in_common() -> None:
    parser = HereParser()
    step, bench = built("unify", parser=parser), Workbench()
    found = {}
    for owner in (None, ANNA, EVE):
        headers = {} if owner is None else {OWNER: owner.encode()}
        (value,) = of(SERIES, await bench.run(step, RAW, headers=headers))
        found[owner] = Series.from_arrow(value)
        assert found[owner].owner == owner
    for name in ("upload_id", "handle", "series_key"):
        assert len({getattr(series, name) for series in found.values()}) == 3, name
    assert found[None].handle == fingerprint.handle_of("UTC", found[ANNA].start_seconds, found[ANNA].glucose_centi_mgdl)
    assert found[None].upload_id == fingerprint.upload_id(RAW, "UTC")
    assert parser.seen == [RAW], "who it belongs to changes nothing of what is in it"


@pytest.mark.parametrize("owner", [b"", b"anna", b"A" * 64, b"\xff" * 64, b"a" * 65])
async def test_a_file_of_an_owner_who_is_none_is_not_taken_for_everybodys(owner: bytes) -> None:
    bench = Workbench()
    with pytest.raises(MalformedRecordError, match="owner"):
        await bench.run(built("unify"), RAW, headers={OWNER: owner})
    assert bench.sent == []


async def test_a_rejected_file_is_told_to_its_owner() -> None:
    (value,) = of(UPLOAD_OUTCOMES, await Workbench().run(built("unify"), b"nothing", headers={OWNER: ANNA.encode()}))
    outcome = UploadOutcome.from_json(value)
    expected = fingerprint.owned(fingerprint.upload_id(b"nothing", "UTC"), ANNA)
    assert (outcome.status, outcome.owner, outcome.upload_id) == ("rejected", ANNA, expected)


def owned(series: Series, owner: str) -> Series:
    """The same points, as this owner has uploaded them."""
    return dataclasses.replace(
        series,
        owner=owner,
        **{name: fingerprint.owned(getattr(series, name), owner) for name in ("upload_id", "handle", "series_key")},
    )


async def test_the_outcome_says_whose_and_is_asked_for_anew() -> None:
    bench, plain = Workbench(), series_of(POINTS)
    for offset, series in enumerate((plain, owned(plain, ANNA), owned(plain, EVE))):
        sends = await store(bench, series, offset=offset)
        (outcome,) = [UploadOutcome.from_json(value) for value in of(UPLOAD_OUTCOMES, sends)]
        assert (outcome.owner, outcome.handle, outcome.served_by) == (series.owner, series.handle, None)
        assert len(requests(sends)) == 122, "what others have uploaded is no answer"
    assert len(bench.rows(SERIES_TABLE)) == 3


@pytest.mark.parametrize("name", ["handle", "series_key", "owner"])
async def test_nobody_is_given_a_series_under_another_owners_ids(name: str) -> None:
    bench, hers = Workbench(), owned(series_of(POINTS), ANNA)
    others: dict[str, str | None] = {name: getattr(owned(series_of(POINTS), EVE), name)}
    for changes in (others, {name: getattr(series_of(POINTS), name)}):
        with pytest.raises(RejectedError):
            await store(bench, dataclasses.replace(hers, **changes))  # type: ignore[arg-type]
    assert bench.rows(SERIES_TABLE) == {}


async def test_many_series_of_one_push_out_none_of_another() -> None:
    bench, hers = Workbench(), owned(series_of(POINTS[-120:]), ANNA)
    await store(bench, hers)
    for number in range(MOST_ENTRIES + 3):
        longer = owned(series_of(POINTS[-(121 + number) :], upload=2 + number, began_ms=NOW_MS + number), EVE)
        await store(bench, longer, offset=1 + number)
    assert [send.key for send in bench.sent if send.value is None and send.key == hers.upload_id.encode()] == []
    assert hers.series_key in bench.rows(SERIES_TABLE)


def flush_of(owner: str | None) -> bytes:
    return CacheCommand(action="flush_owner", command_id="c1", up_to_ms=NOW_MS, owner=owner).to_json()


async def test_what_is_one_owners_ends_together_with_its_forecasts_and_nothing_else_does() -> None:
    bench = Workbench()
    anna = [owned(series_of(POINTS), ANNA), owned(series_of(POINTS[:-1], upload=2), ANNA)]
    stay = [series_of(POINTS), owned(series_of(POINTS), EVE)]
    for offset, series in enumerate((*anna, *stay)):
        await store(bench, series, offset=offset)
    charts = FAN_CHART_TABLES["interactive"]
    for series in (*anna, *stay):
        restored = fan_chart(
            kind="sample", handle=series.handle, index=0, subject_id=None, series_key=series.series_key
        )
        command = CacheCommand(action="restore", command_id="c0", up_to_ms=NOW_MS, chart=restored)
        await bench.run(CHARTS, command.to_json())
    assert len(bench.rows(charts)) == 4

    ordered = await bench.run(FORGET, flush_of(ANNA))
    assert {send.topic for send in ordered} == {CACHE_COMMANDS}
    assert {send.key for send in ordered} == {series.series_key.encode() for series in anna}
    await bench.run(CHARTS, flush_of(ANNA))
    assert len(bench.rows(charts)) == 4, "calc waits for the delete of each handle"
    for send in ordered:
        for step in (FORGET, CHARTS):
            await bench.run(step, send.value, key=send.key)
    left = {key.split("/")[1] for key in bench.rows(charts) if key.startswith("handle/")}
    assert left == {series.handle for series in stay}
    rows = bench.rows(SERIES_TABLE)
    assert all(series.series_key in rows for series in stay)
    assert not any(series.series_key in rows for series in anna)

    late = await store(bench, anna[0], offset=9)  # was under way when the command came
    assert [UploadOutcome.from_json(value).code for value in of(UPLOAD_OUTCOMES, late)] == ["deleted"]
    assert len(requests(await store(bench, stay[1], offset=10))) == 0
    fresh = await store(bench, dataclasses.replace(anna[0], began_ms=NOW_MS + 1), offset=11)
    assert len(requests(fresh)) == 122


async def test_a_flush_of_an_owner_names_one() -> None:
    with pytest.raises(MalformedRecordError):
        await Workbench().run(FORGET, flush_of(None))
