"""handle, request and series_commands: what is stored, asked, reused, deleted, and whose it is."""

import dataclasses
import json
from pathlib import Path

import pytest

from agents.core import fingerprint
from agents.core.past_hours import add, hours_before
from agents.ingest.stored_series import BETWEEN, MOST_ENTRIES, MOST_UPLOADS, Tail
from agents.work import Message
from query_api.projections.uploads import Uploads
from query_api.store import Store
from schemas.command import CacheCommand, ForecastDemand
from schemas.errors import MalformedRecordError, RejectedError
from schemas.forecast import ForecastRequest
from schemas.outcome import RequestOutcome
from schemas.series import Series
from schemas.tables import SERIES_TABLE
from schemas.topics import BACKFILL, CACHE_COMMANDS, INTERACTIVE, LIVE, REQUEST_OUTCOMES, UPLOAD_OUTCOMES
from schemas.upload import ProcessingWarnings, UploadOutcome
from streams.settings import ModelSettings, Settings
from tests.kit.workbench import NOW_MS, Workbench, built, of

HANDLE, REQUEST, FORGET = map(built, ("handle", "request", "series_commands"))
POINTS = [10000 + 37 * (step % 97) for step in range(217)]
END = 1_710_000_000


def series_of(points: list[int], upload: int = 1, timezone: str = "UTC", **changes: object) -> Series:
    start = END - 300 * (len(points) - 1)
    fields: dict[str, object] = {
        "upload_id": f"{upload:064x}",
        "handle": fingerprint.handle_of(timezone, start, points),
        "series_key": fingerprint.tail_key(fingerprint.suffix_chain(start, points)),
        "timezone": timezone,
        "start_seconds": start,
        "glucose_centi_mgdl": points,
        "warnings_json": ProcessingWarnings(has_warnings=True, messages=("QUALITY: test",)).to_json().decode(),
        "began_ms": NOW_MS,
    }
    return Series(**fields | changes)  # type: ignore[arg-type]


async def store(bench: Workbench, series: Series, offset: int = 0, **message: object) -> list:
    key = series.series_key.encode()
    return await bench.run(HANDLE, series.to_arrow(), **{"key": key, "offset": offset} | message)


def outcomes(sends: list) -> list[UploadOutcome]:
    return [UploadOutcome.from_json(value) for value in of(UPLOAD_OUTCOMES, sends)]


def requests(sends: list) -> list[ForecastRequest]:
    values = [*of(INTERACTIVE, sends), *of(BACKFILL, sends)]
    return [ForecastRequest.from_arrow(value) for value in values]


async def test_a_new_series_is_stored_and_every_window_asked_for() -> None:
    series = series_of(POINTS)
    sends = await store(Workbench(), series)
    (outcome,) = outcomes(sends)
    assert (outcome.status, outcome.handle, outcome.points, outcome.total_samples) == (
        "accepted", series.handle, 217, 110,
    )  # fmt: skip
    assert outcome.warnings.messages == ("QUALITY: test",)
    assert [ForecastRequest.from_arrow(value).index for value in of(INTERACTIVE, sends)] == [0, 12]
    backfill = [ForecastRequest.from_arrow(value).index for value in of(BACKFILL, sends)]
    assert backfill == [*range(-1, -110, -1), *range(11, 0, -1)]


async def test_windows_are_cut_where_the_index_says() -> None:
    found = {request.index: request for request in requests(await store(Workbench(), series_of(POINTS)))}
    assert found[0].past_centi_mgdl == POINTS[-108:-12]
    assert found[0].truth_centi_mgdl == POINTS[-12:]
    assert found[-109].past_centi_mgdl == POINTS[:96]
    assert found[12].past_centi_mgdl == POINTS[-96:]
    assert found[12].truth_centi_mgdl == []
    assert found[12].end_seconds == END
    assert found[5].truth_centi_mgdl == POINTS[-7:]
    assert found[0].end_seconds == END - 3600


async def test_each_window_names_its_points_that_nobody_measured() -> None:
    bench = Workbench()
    series = series_of(POINTS, interpolated_points=[0, 107, 108, 204, 216])
    asked = {request.index: request for request in requests(await store(bench, series))}
    assert asked[-109].interpolated_points == [0, 107]
    assert asked[-108].interpolated_points == [106, 107]
    assert asked[0].interpolated_points == [95, 107]
    assert asked[12].interpolated_points == [83, 95]
    assert BETWEEN in asked[12].warnings
    assert BETWEEN not in asked[-109].warnings


async def test_each_window_carries_the_hours_before_it_of_its_own_series() -> None:
    start = END // 300 - len(POINTS) + 1
    sums: dict[int, tuple[int, int]] = {}
    add(sums, ((start + place, centi) for place, centi in enumerate(POINTS)))
    asked = {request.index: request for request in requests(await store(Workbench(), series_of(POINTS)))}
    for index, request in asked.items():
        assert request.hours_centi_mgdl == hours_before(sums, request.end_seconds // 300)
        assert request.hours_version == (1 if request.hours_centi_mgdl else 0)
        assert request.input_hash == fingerprint.input_hash(
            request.end_seconds, request.past_centi_mgdl, request.hours_centi_mgdl
        ), index
    assert len(asked[12].hours_centi_mgdl) == 11  # 121 points
    assert asked[-109].hours_centi_mgdl in ([], [POINTS[0]])  # what the clock's hour shows of the window itself


async def test_what_a_handle_does_not_hash_changes_no_forecast_of_it() -> None:
    plain = requests(await store(Workbench(), series_of(POINTS)))
    marked = requests(await store(Workbench(), series_of(POINTS, interpolated_points=list(range(3, 90)), upload=2)))
    assert [each.input_hash for each in marked] == [each.input_hash for each in plain]


async def test_delivered_again_it_asks_again_sent_again_it_does_not() -> None:
    bench = Workbench()
    first = await store(bench, series_of(POINTS), offset=5)
    assert await store(bench, series_of(POINTS), offset=5) == first
    repeated = await store(bench, series_of(POINTS, upload=2), offset=6)
    assert [outcome.upload_id for outcome in outcomes(repeated)] == [f"{2:064x}"]
    assert requests(repeated) == []


async def test_force_asks_again_under_ids_of_its_own() -> None:
    bench = Workbench()
    first = requests(await store(bench, series_of(POINTS)))
    forced = requests(await store(bench, series_of(POINTS, force=True), offset=1))
    assert len(forced) == len(first) == 122
    assert all(request.force for request in forced)
    assert {r.input_hash for r in forced} == {r.input_hash for r in first}
    assert not {r.request_id for r in forced} & {r.request_id for r in first}


async def test_another_recipe_asks_again() -> None:
    bench = Workbench()
    await store(bench, series_of(POINTS))
    other = built("handle", Settings(model=ModelSettings(num_samples=20)))
    sends = await bench.run(other, series_of(POINTS).to_arrow(), key=series_of(POINTS).series_key.encode(), offset=1)
    assert {request.num_samples for request in requests(sends)} == {20}


async def test_each_upload_is_told_what_was_found_in_its_own_file() -> None:
    """One file's stretch is another's whole; only the first has newer readings that cannot be used."""
    bench, clean = Workbench(), ProcessingWarnings()
    first = outcomes(await store(bench, series_of(POINTS, warnings_json=clean.to_json().decode())))
    second = outcomes(await store(bench, series_of(POINTS, upload=2), offset=1))
    again = outcomes(await store(bench, series_of(POINTS, warnings_json=clean.to_json().decode()), offset=2))
    assert [found.warnings.messages for (found,) in (first, second, again)] == [(), ("QUALITY: test",), ()]


async def test_each_upload_keeps_its_own_warnings_when_its_outcome_is_told_again() -> None:
    bench, longer = Workbench(), series_of(POINTS)
    await store(bench, longer)
    await store(bench, series_of(POINTS[30:], upload=2), offset=1)
    clean = ProcessingWarnings().to_json().decode()
    await store(bench, series_of(POINTS[30:], upload=3, warnings_json=clean), offset=2)
    sends = await bench.run(FORGET, command_of("delete", longer))
    told = {outcome.upload_id[-1]: outcome.warnings.messages for outcome in outcomes(sends)}
    assert told == {"2": ("QUALITY: test",), "3": ()}


async def test_a_verified_suffix_is_served_by_the_longer_series() -> None:
    bench = Workbench()
    longer, shorter = series_of(POINTS), series_of(POINTS[-150:], upload=2)
    assert longer.series_key == shorter.series_key
    await store(bench, longer)
    sends = await store(bench, shorter, offset=1)
    assert outcomes(sends)[0].served_by == longer.handle
    assert requests(sends) == []


async def test_two_people_with_equal_time_ranges_share_nothing() -> None:
    bench = Workbench()
    hers = series_of(POINTS)
    his = series_of([*POINTS[:100], POINTS[100] + 1, *POINTS[101:]], upload=2)  # one hundredth apart, before the tail
    shorter = series_of([*POINTS[-150:-140], POINTS[-140] + 1, *POINTS[-139:]], upload=3)
    assert hers.series_key == his.series_key == shorter.series_key  # they even lie in one row
    first = requests(await store(bench, hers))
    for offset, other in enumerate((his, shorter), 1):
        sends = await store(bench, other, offset=offset)
        (outcome,) = outcomes(sends)
        assert outcome.served_by is None
        assert outcome.handle != hers.handle
        own = {request.request_id for request in requests(sends)}
        assert len(own) == outcome.total_samples + 12
        assert not own & {request.request_id for request in first}


async def test_a_suffix_in_another_timezone_is_another_series() -> None:
    bench = Workbench()
    await store(bench, series_of(POINTS))
    sends = await store(bench, series_of(POINTS[-150:], upload=2, timezone="Asia/Tokyo"), offset=1)
    assert outcomes(sends)[0].served_by is None
    assert requests(sends)


async def test_too_many_series_of_one_tail_push_the_oldest_out() -> None:
    bench = Workbench()
    key = ""
    for number in range(MOST_ENTRIES + 1):
        series = series_of([9000 + number, *POINTS[-150:]], upload=number, began_ms=NOW_MS + number)
        key = series.series_key
        sends = await store(bench, series, offset=number)
    assert len(Tail.from_bytes(bench.rows(SERIES_TABLE)[key]).series) == MOST_ENTRIES
    assert [send.key for send in sends if send.value is None] == [f"{0:064x}".encode()]
    (command,) = of(CACHE_COMMANDS, sends)  # else its forecasts would stay for ever, also of who is erased
    delete, first = CacheCommand.from_json(command), series_of([9000, *POINTS[-150:]], upload=0)
    assert (delete.action, delete.handle, delete.up_to_ms) == ("delete", first.handle, NOW_MS)
    assert await bench.run(FORGET, command) == []
    again = dataclasses.replace(first, began_ms=NOW_MS + 60_000)
    sends = await store(bench, again, offset=99, timestamp_ms=NOW_MS + 60_000)
    assert [outcome.status for outcome in outcomes(sends)] == ["accepted"]


async def test_an_upload_that_is_remembered_no_more_is_retracted(tmp_path: Path) -> None:
    """Else the API knew the handle by it when all others are gone: to it the handle was never deleted."""
    bench, series = Workbench(), series_of(POINTS)
    for number in range(MOST_UPLOADS + 2):
        value = series_of(POINTS, upload=number).to_arrow()
        message = Message(topic="t", key=series.series_key.encode(), value=value, offset=number, timestamp_ms=NOW_MS)
        work = await bench.tables.run(*HANDLE, message)
        bench.tables.apply(work)
        bench.sent += work.sends
        assert work.sends_first == (number >= MOST_UPLOADS)
    assert [send.key for send in bench.sent if send.value is None] == [f"{number:064x}".encode() for number in range(2)]
    await bench.run(FORGET, command_of("delete", series))
    store = Store(tmp_path, 1 << 20, 1 << 20)
    uploads = Uploads(store)
    for send in bench.sent:
        if send.topic == UPLOAD_OUTCOMES:
            list(uploads.apply((send.key or b"").decode(), send.value))
            store.commit()
    assert uploads.handle(series.handle) is None
    assert not [number for number in range(MOST_UPLOADS + 2) if uploads.upload(f"{number:064x}")]
    store.close()


@pytest.mark.parametrize("value", [None, b"", b"poison", b"\xff" * 200])
async def test_poison_is_a_dead_letter(value: bytes | None) -> None:
    for step in (HANDLE, REQUEST, FORGET):
        with pytest.raises(MalformedRecordError):
            await Workbench().run(step, value)


async def test_a_key_that_is_not_the_series_key_is_a_dead_letter() -> None:
    with pytest.raises(MalformedRecordError):
        await store(Workbench(), series_of(POINTS), key=b"another")


@pytest.mark.parametrize(
    "broken",
    [
        {"handle": "f" * 64}, {"handle": None}, {"glucose_centi_mgdl": [12000] * 217}, {"timezone": "Mars/Olympus"},
        {"glucose_centi_mgdl": [*POINTS[:-1], 2**31 - 1]}, {"glucose_centi_mgdl": [12000] * 250_000},
        {"start_seconds": 2**62}, {"began_ms": None}, {"warnings_json": None}, {"upload_id": "x"},
    ],
)  # fmt: skip
async def test_a_series_that_is_not_what_its_handle_names_is_refused(broken: dict[str, object]) -> None:
    bench = Workbench()
    with pytest.raises(RejectedError):
        await store(bench, series_of(POINTS, **broken))
    assert bench.rows(SERIES_TABLE) == {}


@pytest.mark.parametrize(
    "broken",
    [
        {"series_key": "gone/*"}, {"series_key": "k" * 100_000}, {"demand_id": "d" * 100_000}, {"demand_id": ""},
        {"deadline_ms": 2**70}, {"indexes": [2**70]},
    ],
)  # fmt: skip
async def test_a_demand_of_what_cannot_be_is_malformed(broken: dict[str, object]) -> None:
    """A name is repeated in as many outcomes as there are indexes: 4096 times 100 kB is too much for a message."""
    document = json.loads(demand_of(series_of(POINTS), 0)) | broken
    with pytest.raises(MalformedRecordError):
        await Workbench().run(REQUEST, json.dumps(document).encode())


def demand_of(series: Series, *indexes: int, **fields: object) -> bytes:
    base = {"demand_id": "d1", "series_key": series.series_key, "handle": series.handle, "indexes": indexes}
    return ForecastDemand(**base | fields).to_json()  # type: ignore[arg-type]


async def test_a_demand_becomes_requests_that_name_it() -> None:
    bench, series = Workbench(), series_of(POINTS)
    stored = {request.index: request for request in requests(await store(bench, series))}
    sends = await bench.run(REQUEST, demand_of(series, 0, -50, deadline_ms=77))
    found = [ForecastRequest.from_arrow(value) for value in of(INTERACTIVE, sends)]
    assert [request.index for request in found] == [0, -50]
    assert {(request.demand_id, request.deadline_ms) for request in found} == {("d1", 77)}
    assert [request.request_id for request in found] == [stored[0].request_id, stored[-50].request_id]
    (forced,) = of(LIVE, await bench.run(REQUEST, demand_of(series, 0, force=True, lane="live")))
    assert ForecastRequest.from_arrow(forced).request_id != stored[0].request_id


async def test_a_demand_that_cannot_be_met_says_why() -> None:
    bench, series = Workbench(), series_of(POINTS)
    (value,) = of(REQUEST_OUTCOMES, await bench.run(REQUEST, demand_of(series, 0)))
    assert RequestOutcome.from_json(value).status == "unknown_handle"
    await store(bench, series)
    for index in (13, -110):
        (value,) = of(REQUEST_OUTCOMES, await bench.run(REQUEST, demand_of(series, index)))
        outcome = RequestOutcome.from_json(value)
        assert (outcome.status, outcome.index) == ("out_of_range", index)
        assert "-109 to 12" in outcome.reason


def command_of(action: str, series: Series | None = None, began_ms: int = NOW_MS) -> bytes:
    base = {"action": action, "command_id": "c1", "up_to_ms": began_ms}
    if series:
        base |= {"series_key": series.series_key, "handle": series.handle}
    return CacheCommand(**base).to_json()  # type: ignore[arg-type]


@pytest.mark.parametrize("action", ["delete", "flush"])
async def test_what_is_forgotten_is_gone_and_stays_gone(action: str) -> None:
    bench, series = Workbench(), series_of(POINTS)
    await store(bench, series)
    sends = await bench.run(FORGET, command_of(action, series if action == "delete" else None))
    assert [(send.topic, send.key, send.value) for send in sends] == [
        (UPLOAD_OUTCOMES, series.upload_id.encode(), None)
    ]
    assert series.series_key not in bench.rows(SERIES_TABLE)
    late = await store(bench, series, offset=9)  # was under way when the command came
    assert outcomes(late)[0].code == "deleted"
    assert late[-1].value is None
    assert series.series_key not in bench.rows(SERIES_TABLE)
    fresh = await store(bench, series_of(POINTS, began_ms=NOW_MS + 1), offset=10)
    assert len(requests(fresh)) == 122


async def test_what_came_after_the_command_stays() -> None:
    bench, series = Workbench(), series_of(POINTS, began_ms=NOW_MS + 1)
    await store(bench, series)
    for action in ("delete", "flush"):
        assert await bench.run(FORGET, command_of(action, series)) == []
        assert series.series_key in bench.rows(SERIES_TABLE)


async def test_deleting_the_longer_series_frees_those_it_served() -> None:
    bench = Workbench()
    longer, shorter = series_of(POINTS), series_of(POINTS[-150:], upload=2)
    await store(bench, longer)
    await store(bench, shorter, offset=1)
    sends = await bench.run(FORGET, command_of("delete", longer))
    (outcome,) = outcomes(sends)
    assert (outcome.handle, outcome.served_by) == (shorter.handle, None)
    assert len(requests(await store(bench, shorter, offset=2))) == 122 - 67


async def test_who_is_retracted_is_told_before_the_row_forgets_whom_to_tell() -> None:
    bench, series = Workbench(), series_of(POINTS)
    await store(bench, series)
    work = await bench.tables.run(*FORGET, Message(topic="t", key=None, value=command_of("delete", series)))
    assert [(send.key, send.value) for send in work.sends] == [(series.upload_id.encode(), None)]
    assert work.sends_first


async def test_a_delete_names_what() -> None:
    with pytest.raises(MalformedRecordError):
        await Workbench().run(FORGET, command_of("delete"))


@pytest.mark.parametrize("action", ["delete", "flush", "flush_owner"])
async def test_what_was_sent_again_after_its_deletion_stays_whatever_is_read_first(action: str) -> None:
    """``cgm.series`` and ``cgm.cache-commands`` have no order between them, and a command may come again."""
    minute, owner = 60_000, "e" * 64
    plain = series_of(POINTS)
    whose = {name: fingerprint.owned(getattr(plain, name), owner) for name in ("handle", "series_key")}
    first = dataclasses.replace(plain, owner=owner, **whose)
    again = dataclasses.replace(first, upload_id="2" * 64, began_ms=NOW_MS + 12 * minute)
    if action == "flush_owner":
        whose = {"owner": owner}
    value = CacheCommand(action=action, command_id="d", up_to_ms=NOW_MS + minute, **whose).to_json()  # type: ignore[arg-type]
    for order in ("command upload", "upload command", "command upload command"):
        bench = Workbench()
        await store(bench, first)
        for what in order.split():
            if what == "upload":
                sends = await store(bench, again, offset=1, timestamp_ms=NOW_MS + 12 * minute)
                assert [outcome.status for outcome in outcomes(sends)] == ["accepted"]
                continue
            for delete in of(CACHE_COMMANDS, await bench.run(FORGET, value, timestamp_ms=NOW_MS + minute)):
                await bench.run(FORGET, delete, timestamp_ms=NOW_MS + minute)
        (row,) = [row for key, row in bench.rows(SERIES_TABLE).items() if "/" not in key]
        assert [series.began_ms for series in Tail.from_bytes(row).series] == [again.began_ms], order
