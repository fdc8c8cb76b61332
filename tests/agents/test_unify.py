"""unify: one outcome a file, and the file's series once."""

import pytest

from agents.core import fingerprint
from agents.ingest import unify
from schemas.series import Series
from schemas.topics import SERIES, UPLOAD_OUTCOMES
from schemas.upload import UploadOutcome
from streams.settings import Settings
from tests.kit import samples
from tests.kit.workbench import NOW_MS, HereParser, Workbench, built, of

RAW = samples.dexcom(samples.glucose_rows(150))


async def rejected(raw: bytes | None, parser: HereParser | None = None, **headers: bytes) -> UploadOutcome:
    bench = Workbench()
    sends = await bench.run(built("unify", parser=parser), raw, headers=headers)
    assert [send.topic for send in sends] == [UPLOAD_OUTCOMES]
    outcome = UploadOutcome.from_json(sends[0].value)
    assert outcome.status == "rejected"
    assert sends[0].key == outcome.upload_id.encode()
    return outcome


async def test_a_file_becomes_a_series_under_its_tail() -> None:
    headers = {"timezone": b"Europe/Berlin", "force": b"1"}
    sends = await Workbench().run(built("unify"), RAW, key=b"whatever", headers=headers)
    (value,) = of(SERIES, sends)
    series = Series.from_arrow(value)
    chain = fingerprint.suffix_chain(series.start_seconds, series.glucose_centi_mgdl)
    assert sends[0].key == series.series_key.encode() == chain[108].hex().encode()
    assert series.upload_id == fingerprint.upload_id(RAW, "Europe/Berlin")
    assert series.handle == fingerprint.handle_of("Europe/Berlin", series.start_seconds, series.glucose_centi_mgdl)
    assert (series.began_ms, series.force, len(series.glucose_centi_mgdl)) == (NOW_MS, True, 150)


async def test_the_same_file_is_parsed_once() -> None:
    parser = HereParser()
    step, bench = built("unify", parser=parser), Workbench()
    first = await bench.run(step, RAW)
    assert [send.topic for send in first] == [SERIES]
    assert await bench.run(step, RAW) == first
    assert parser.seen == [RAW]
    await bench.run(step, RAW, headers={"timezone": b"Europe/Berlin"})  # read in another way: another upload
    assert parser.seen == [RAW, RAW]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (None, "unknown_format"),
        (b"", "unknown_format"),
        (b"garbage", "unknown_format"),
        (samples.dexcom(samples.glucose_rows(100)), "too_short"),
        (samples.dexcom(samples.glucose_rows(150), "mmol/L"), "implausible"),
    ],
)
async def test_what_cannot_be_used_is_rejected_with_a_reason(raw: bytes | None, code: str) -> None:
    outcome = await rejected(raw)
    assert outcome.code == code
    assert outcome.reason


async def test_a_rejection_is_remembered_too() -> None:
    parser = HereParser()
    step, bench = built("unify", parser=parser), Workbench()
    first = await bench.run(step, b"garbage")
    assert UploadOutcome.from_json(first[0].value).status == "rejected"
    assert await bench.run(step, b"garbage") == first
    assert parser.seen == [b"garbage"]


async def test_of_many_files_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unify, "REMEMBERED_FILES", 2)
    parser = HereParser()
    step, bench = built("unify", parser=parser), Workbench()
    for raw in (b"one", b"two", b"one", b"three", b"one", b"two"):
        await bench.run(step, raw)
    assert parser.seen == [b"one", b"two", b"three", b"two"], "the one that was asked for least recently goes"


async def test_a_timezone_that_does_not_exist_is_rejected() -> None:
    assert "Mars" in str((await rejected(RAW, timezone=b"Mars/Olympus")).reason)
    assert (await rejected(RAW, timezone=b"\xff\xfe")).code == "implausible"


async def test_a_file_over_the_limit_is_rejected_unparsed() -> None:
    limit, parser = Settings().max_upload_bytes, HereParser()
    assert (await rejected(b"x" * (limit + 1), parser)).code == "too_large"
    assert parser.seen == []
    assert (await rejected(b"x" * limit, parser)).code == "unknown_format"
    assert len(parser.seen) == 1
