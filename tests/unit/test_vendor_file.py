"""Vendor files: every format in, every trap answered with a reason."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.core.local_time import wall_clock
from agents.ingest.files.format import MOST_LINES
from agents.ingest.files.unified_file import Rules, UnifiedFile, to_unified_csv, unify_file
from schemas.errors import ImplausibleError, TooShortError, UnknownFormatError
from tests.kit import samples

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
ROWS = samples.glucose_rows(150)


def read(raw: bytes | None, timezone: str = "UTC") -> UnifiedFile:
    return unify_file(raw, timezone, Rules())


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (samples.dexcom(ROWS), "Dexcom Clarity"),
        (samples.libre(ROWS), "FreeStyle Libre"),
        (samples.unified(ROWS), "unified CSV"),
        (samples.nightscout_json(ROWS), "Nightscout"),
        (samples.nightscout_csv(ROWS), "Nightscout"),
        (samples.medtronic(ROWS), "Medtronic CareLink"),
    ],
)
def test_every_vendor_gives_the_same_series(raw: bytes, name: str) -> None:
    found = read(raw)
    assert found.format_name == name
    assert found.centi == [round(value * 100) for _, value in ROWS]
    assert wall_clock(found.start_seconds) == ROWS[0][0]
    assert not found.warnings.has_warnings


@pytest.mark.parametrize("vendor", [samples.dexcom, samples.libre])
def test_mmol_files_are_converted(vendor: object) -> None:
    found = read(vendor(ROWS, "mmol/L", 1 / 18.0))  # type: ignore[operator]
    assert found.centi == pytest.approx([value * 100 for _, value in ROWS], rel=2e-3)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_converted_and_said(encoding: str) -> None:
    found = read(samples.dexcom(ROWS).decode().encode(encoding))
    assert found.centi == read(samples.dexcom(ROWS)).centi
    assert any(message.startswith("ENCODING") for message in found.warnings.messages)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"hello, world\n" * 50, "no supported format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "PNG"),
        (b"PK\x03\x04" + bytes(200), "Excel"),
        (b"\xff\xfeb", "UTF-16"),
        (bytes(range(256)) * 20, "not text"),
        (b"[]", "Nightscout"),
        (b"[" * 100_000, "Nightscout"),
        (b'{"status": 401}', "Nightscout"),
        (samples.dexcom(ROWS)[:200], "Dexcom"),
        (samples.dexcom([]), "Dexcom"),
        (samples.unified(ROWS).replace(b"original_glucose,", b""), "unified"),
    ],
)
def test_what_is_no_export_is_named(raw: bytes | None, said: str) -> None:
    with pytest.raises(UnknownFormatError, match=said):
        read(raw)


def test_a_file_cut_off_in_the_middle_is_read_as_far_as_it_goes_or_refused() -> None:
    rows = samples.glucose_rows(200)
    raw = samples.dexcom(rows)
    with pytest.raises(TooShortError, match="4 h"):
        read(raw[: int(len(raw) * 0.3)])
    for keep in (0.6, 0.9, 0.999):
        cut = raw[: int(len(raw) * keep)]
        whole = cut.count(b"\n") - len(samples.dexcom([]).splitlines())
        found = read(cut).centi
        assert found == [round(value * 100) for _, value in rows[: len(found)]]
        assert len(found) in (whole, whole + 1), "the line that is cut may still say its glucose"


@pytest.mark.parametrize("value", [-5.0, 2000.0, 0.0, 600.1])
def test_impossible_glucose_is_refused(value: float) -> None:
    rows = [*ROWS, (ROWS[-1][0] + samples.STEP, value)]
    with pytest.raises(ImplausibleError, match="1 of 151 glucose readings"):
        read(samples.dexcom(rows))


VENDORS = [
    samples.dexcom,
    samples.libre,
    samples.medtronic,
    samples.nightscout_csv,
    samples.nightscout_json,
    samples.nightscout_lines,
    samples.unified,
]
"""Of which each has glucose in mg/dL."""
CODED = [vendor for vendor in VENDORS if vendor is not samples.libre]
"""In whose files 38 is a code; a Libre is as low as that (test_beyond_sensors.py)."""
LEFT_OUT = "were left out: below 39 mg/dL a sensor shows no glucose, but sends codes of its errors"


def coded(rows: samples.Rows, codes: dict[int, float]) -> samples.Rows:
    """The rows with codes in the place of some."""
    return [(time, codes.get(number, value)) for number, (time, value) in enumerate(rows)]


@pytest.mark.parametrize("vendor", CODED, ids=lambda vendor: vendor.__name__)
def test_error_codes_are_no_glucose_and_the_file_is_read_without_them(vendor: Callable[[samples.Rows], bytes]) -> None:
    codes = {0: 12.0, 40: 38.0, 70: 5.0, 71: 1.0, 149: 38.0}
    found = read(vendor(coded(ROWS, codes)))
    expected = read(vendor([row for number, row in enumerate(ROWS) if number not in codes]))
    assert (found.centi, found.interpolated_points) == (expected.centi, expected.interpolated_points)
    assert min(found.centi) > 9000
    assert found.warnings.messages == (*expected.warnings.messages, f"SENSOR_ERROR: 5 readings {LEFT_OUT}")


@pytest.mark.parametrize("vendor", CODED, ids=lambda vendor: vendor.__name__)
def test_a_code_beside_a_reading_says_nothing_against_it(vendor: Callable[[samples.Rows], bytes]) -> None:
    minute = datetime.timedelta(minutes=1)
    beside = [(time + minute, 38.0) for time, _ in ROWS[100:112]]
    found = read(vendor(sorted([*ROWS, *beside])))
    assert found.centi == read(vendor(ROWS)).centi
    assert found.warnings.messages == (f"SENSOR_ERROR: 12 readings {LEFT_OUT}",)


def test_what_a_vendor_calls_low_is_no_code_and_39_is_glucose() -> None:
    for unit, scale in (("mg/dL", 1.0), ("mmol/L", 1 / 18.018)):
        raw = samples.dexcom(coded(ROWS, {50: 1000.0}), unit, scale)
        found = read(raw.replace(f",{1000 * scale:g},".encode(), b",Low,"))
        assert found.centi[50] == 3900
        assert not any("SENSOR_ERROR" in message for message in found.warnings.messages)
    assert read(samples.dexcom(coded(ROWS, {50: 39.0}))).centi[50] == 3900


def test_a_small_whole_number_of_mmol_is_glucose_and_what_38_becomes_there_is_a_code() -> None:
    rows = [(time, 90.0) for time, _ in ROWS]  # 5 mmol/L
    found = read(samples.dexcom(coded(rows, {50: 2.1 * 18, 60: 12 * 18.0}), "mmol/L", 1 / 18))
    assert (found.centi[49], found.centi[60]) == (pytest.approx(9000, abs=10), pytest.approx(21600, abs=25))
    assert found.interpolated_points == [50]
    assert found.warnings.messages[-1].startswith("SENSOR_ERROR: 1 reading was left out")


def test_a_file_of_which_most_is_that_low_is_refused() -> None:
    codes = dict.fromkeys(range(76), 30.0)
    with pytest.raises(ImplausibleError, match=r"76 of 150 glucose readings are below 39 mg/dL.*check the unit"):
        read(samples.dexcom(coded(ROWS, codes)))
    assert (
        len(read(samples.dexcom([*[(row[0] - datetime.timedelta(days=7), 30.0) for row in ROWS], *ROWS])).centi) == 150
    )


def test_conversion_keeps_codes_as_they_are() -> None:
    assert ",38.0," in to_unified_csv(samples.dexcom(coded(ROWS, {50: 38.0}))).text


def test_a_unit_that_the_header_does_not_say_is_refused() -> None:
    with pytest.raises(ImplausibleError, match="mg/dL under a mmol/L header"):
        read(samples.dexcom(ROWS, "mmol/L", 1.0))
    with pytest.raises(ImplausibleError, match="mmol/L under a mg/dL header"):
        read(samples.dexcom(ROWS, "mg/dL", 1 / 18))


def test_eight_hours_55_are_too_short_and_nine_hours_are_enough() -> None:
    with pytest.raises(TooShortError, match="8 h 55 min of gap-free glucose; a forecast needs 9 h"):
        read(samples.dexcom(samples.glucose_rows(108)))
    assert len(read(samples.dexcom(samples.glucose_rows(109))).centi) == 109


def test_only_glucose_counts_for_the_length() -> None:
    rows = samples.glucose_rows(60)
    last = rows[-1][0]
    events = [(last + hours * datetime.timedelta(hours=1), "INS_FAST") for hours in range(1, 9)]
    with pytest.raises(TooShortError, match="4 h 55 min"):
        read(samples.unified(rows, events))


def test_an_older_stretch_is_used_and_said() -> None:
    after_gap = samples.glucose_rows(12, ROWS[-1][0] + datetime.timedelta(hours=2))
    found = read(samples.dexcom([*ROWS, *after_gap]))
    assert len(found.centi) == 150
    assert found.warnings.quality
    assert any("55 min until" in message and "older one" in message for message in found.warnings.messages)


def test_gaps_to_15_minutes_are_interpolated_and_said_longer_ones_end_a_stretch() -> None:
    """Until now the reason said 15 min; half a step more is no gap."""
    found = read(samples.dexcom([*ROWS[:50], *ROWS[52:]]))
    assert len(found.centi) == 150
    assert found.warnings.imputation
    assert found.interpolated_points == [50, 51]
    with pytest.raises(TooShortError, match="gaps over 17 min 30 s end a stretch"):
        read(samples.dexcom([*ROWS[:50], *ROWS[53:]]))


@pytest.mark.parametrize(("late", "joined"), [(2, True), (150, True), (151, False)])
def test_a_gap_of_15_minutes_may_be_half_a_step_longer(late: int, joined: bool) -> None:
    later = [(time + datetime.timedelta(seconds=late), value) for time, value in ROWS[42:]]
    raw = samples.dexcom([*ROWS[:40], *later])
    if joined:
        found = read(raw)
        assert len(found.centi) in (150, 151)
        assert set(found.interpolated_points) >= {40, 41}
    else:
        with pytest.raises(TooShortError, match="gaps over 17 min 30 s end a stretch"):
            read(raw)


@pytest.mark.parametrize("milliseconds", [300_900, 299_100])
def test_what_is_not_punctual_to_the_millisecond_is_no_gap(milliseconds: int) -> None:
    """Uploaders' times have milliseconds; after 150 s of them a reading is nearest to the next but one point."""
    start = samples.START.replace(tzinfo=datetime.UTC) + datetime.timedelta(seconds=29)
    times = [start + number * datetime.timedelta(milliseconds=milliseconds) for number in range(200)]
    entries = [
        {"type": "sgv", "dateString": time.isoformat(timespec="milliseconds"), "sgv": 100 + number % 40}
        for number, time in enumerate(times)
    ]
    found = read(json.dumps(entries).encode())
    assert len(found.centi) == 1 + round(199 * milliseconds / 300_000)


def test_a_sensor_of_a_quarter_of_an_hour_need_not_keep_it_to_the_second() -> None:
    late = [0, 15, -15, 10, -10]
    rows = [
        (samples.START + number * 3 * samples.STEP + datetime.timedelta(seconds=late[number % 5]), 100.0 + number)
        for number in range(60)
    ]
    found = read(samples.dexcom(rows))
    assert len(found.centi) == 59 * 3 + 1
    assert found.centi[0::3] == pytest.approx([round(value * 100) for _, value in rows], abs=5)
    assert len(found.interpolated_points) == 59 * 2


def test_repeated_readings_are_said_and_count_once() -> None:
    found = read(samples.dexcom([*ROWS, *ROWS[-20:]]))
    assert found.centi == read(samples.dexcom(ROWS)).centi
    assert found.warnings.time_duplicates


def test_the_newest_18_hours_are_used() -> None:
    rows = samples.glucose_rows(400)
    found = read(samples.dexcom(rows))
    assert len(found.centi) == 217
    assert found.centi == [round(value * 100) for _, value in rows[-217:]]


def test_dates_that_read_two_ways_are_said() -> None:
    early = samples.glucose_rows(120, datetime.datetime(2024, 4, 3, 8))
    assert any("03 April 2024" in message for message in read(samples.libre(early)).warnings.messages)
    american = read(samples.libre(early, date="%m-%d-%Y", clock="%I:%M %p"))
    assert any("03 April 2024" in message for message in american.warnings.messages), "so is a clock of twelve hours"
    assert american.centi == read(samples.libre(early)).centi
    assert not read(samples.libre(early, date="%Y-%m-%d")).warnings.messages


@pytest.mark.parametrize("date", ["%d-%m-%Y", "%m-%d-%Y", "%Y-%m-%d"])
@pytest.mark.parametrize("clock", ["%H:%M", "%I:%M %p"])
def test_libreview_writes_times_as_its_owner_has_chosen(date: str, clock: str) -> None:
    """Seen in exports: https://github.com/tidepool-org/uploader/issues/1461."""
    rows = samples.glucose_rows(200, datetime.datetime(2024, 4, 13, 20))
    as_usual, found = read(samples.libre(rows)), read(samples.libre(rows, date=date, clock=clock))
    assert (found.centi, found.start_seconds) == (as_usual.centi, as_usual.start_seconds)


@pytest.mark.parametrize("timezone", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", "UTC\x00", "+25:00"])
def test_unknown_timezones_are_refused(timezone: str) -> None:
    with pytest.raises(ImplausibleError, match="unknown timezone"):
        read(samples.dexcom(ROWS), timezone)


def test_numbers_that_are_none_are_no_readings() -> None:
    lines = samples.unified(ROWS).splitlines()
    fields = lines[70].split(b",")
    fields[2] = fields[6] = b"NaN"
    found = read(b"\n".join([*lines[:70], b",".join(fields), *lines[71:]]))
    assert len(found.centi) == 150
    assert found.warnings.imputation


def test_conversion_keeps_everything() -> None:
    text = to_unified_csv(samples.dexcom(ROWS)).text
    assert len(text.splitlines()) == len(ROWS) + 1
    assert read(text.encode()).centi == read(samples.dexcom(ROWS)).centi
    with pytest.raises(UnknownFormatError):
        to_unified_csv(b"\x89PNG")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the trial exports are not here")
@pytest.mark.parametrize("name", ["Clarity_Export_synthetic.csv", "FreeStyle_Libre_3_synthetic.csv"])
def test_trial_exports_give_217_points(name: str) -> None:
    assert len(read((SHARED / name).read_bytes()).centi) == 217


def entries(*more: object, count: int = 120) -> bytes:
    """Nightscout entries, with others among them."""
    return json.dumps([*json.loads(samples.nightscout_json(samples.glucose_rows(count))), *more]).encode()


STAMP = "2024-03-15T09:00:00.000Z"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (entries({"dateString": STAMP, "sgv": {f"k{number}": 1 for number in range(1000)}}), "its glucose no number"),
        (entries({"dateString": STAMP, "sgv": [1, 2]}), "its glucose no number"),
        (entries({"dateString": {"a": 1}, "sgv": 100}), "time is no text"),
        (entries(7), "Nightscout"),
        (b"[" + b"{}," * MOST_LINES + b"{}]", "entries: export a shorter time range"),
        (b'[{"sgv": ' + b"9" * 1_000_000 + b"}]", "Nightscout"),
        (b'{"a":' * 100_000, "Nightscout"),
        (samples.dexcom(ROWS) + b"," * 1_000_000, "80 columns"),
        (samples.dexcom(ROWS) + b"9" * 10_000_000, "8192 characters"),
        (b",".join(b"column%d" % number for number in range(100_000)), "80 columns"),
    ],
)
def test_what_would_grow_in_a_parser_is_refused_before_it(raw: bytes, said: str) -> None:
    with pytest.raises(UnknownFormatError, match=said):
        read(raw)


def test_what_is_no_reading_among_entries_is_left_out() -> None:
    others = [{"type": "mbg", "dateString": STAMP, "mbg": {"a": 1}}, {"sgv": 100}, {"dateString": STAMP, "sgv": "??"}]
    assert read(entries(*others)).centi == read(entries()).centi


@pytest.mark.parametrize("more", [{"isValid": False}, {"isCalibration": True}, {"type": "cal"}])
def test_an_entry_that_was_taken_back_or_calibrates_is_no_glucose(more: dict[str, object]) -> None:
    rows = samples.glucose_rows(120)
    other = {"type": "sgv", "dateString": f"{rows[-1][0] + samples.STEP:%Y-%m-%dT%H:%M:%S}.000Z", "sgv": 250}
    assert read(entries(other)).centi[-1] == 25000
    found = read(entries(other | more))
    assert found.centi == read(entries()).centi
    assert not found.warnings.has_warnings


def test_the_fingersticks_of_an_exporter_are_no_glucose() -> None:
    sticks = [(ROWS[-3][0] + datetime.timedelta(minutes=2), 250.0), (ROWS[-1][0] + samples.STEP, 250.0)]
    for stamp in ("%d/%m/%Y,%H:%M:%S", "%m/%d/%Y,%I:%M:%S %p", "%Y-%m-%d,%H:%M:%S"):
        raw = samples.nightscout_csv(ROWS, stamp)
        others = b"".join(samples.nightscout_csv(sticks, stamp, "mbg").splitlines(keepends=True)[2:])
        assert read(raw + others) == read(raw)
        assert to_unified_csv(raw + others).text == to_unified_csv(raw).text
    untold = raw.replace(b",sgv,", b",,")
    assert read(untold) == read(raw), "of a sender that tells no type"


TABLES = [samples.dexcom, samples.libre, samples.medtronic, samples.nightscout_csv, samples.unified]


@pytest.mark.parametrize("vendor", TABLES, ids=lambda vendor: vendor.__name__)
def test_half_a_value_is_no_reading_and_what_is_left_out_is_said(vendor: Callable[[samples.Rows], bytes]) -> None:
    raw = vendor([*ROWS[:-1], (ROWS[-1][0], 237.0)])
    last = raw.rindex(b"237") + (3 if vendor is samples.unified else 2)  # "…,23", or "…,237" of "…,237.00"
    for cut in (raw[:last], raw[: raw.rindex(b"\n", 0, -1) + 12]):
        found = read(cut)
        assert len(found.centi) == 149
        assert found.warnings.messages == ("CUT: The file ends inside a row: its last reading was left out",)
        assert to_unified_csv(cut).notes == list(found.warnings.messages)
    whole = read(raw.rstrip(b"\n"))
    assert whole.centi[-1] == 23700
    assert not whole.warnings.has_warnings
