"""Readings of files beyond what a sensor shows: in words of any vendor, or as numbers that low. None is passed over."""

import re
from collections.abc import Callable

import pytest

from agents.ingest.files.unified_file import Rules, UnifiedFile, to_unified_csv, unify_file
from schemas.errors import UnknownFormatError
from tests.kit import samples

ROWS = samples.glucose_rows(150)
MARK = 987.0
"""Stands in the rows where a word is put."""
LAST = range(130, 150)
IN_WORDS = [samples.dexcom, samples.libre, samples.medtronic, samples.nightscout_csv]
of_each = pytest.mark.parametrize("vendor", IN_WORDS, ids=lambda vendor: vendor.__name__)


def read(raw: bytes) -> UnifiedFile:
    return unify_file(raw, "UTC", Rules())


def told(vendor: Callable[[samples.Rows], bytes], word: str) -> bytes:
    """A file whose last hundred minutes are a word each."""
    raw = vendor([(time, MARK if number in LAST else value) for number, (time, value) in enumerate(ROWS)])
    assert raw.count(b"987") == len(LAST)
    return raw.replace(b"987", word.encode())


@pytest.mark.parametrize("word", ["Low", "LOW", "lo", " Low ", "<40", "< 2,2"])
@of_each
def test_a_low_in_words_is_no_gap(vendor: Callable[[samples.Rows], bytes], word: str) -> None:
    found = read(told(vendor, f'"{word}"' if "," in word else word))
    assert found.centi == [3900 if number in LAST else round(value * 100) for number, (_, value) in enumerate(ROWS)]
    assert not found.interpolated_points
    assert found.warnings.out_of_range
    assert sum(message.startswith("OUT_OF_RANGE") for message in found.warnings.messages) == 1


@pytest.mark.parametrize("word", ["High", "HI", ">400"])
@of_each
def test_so_is_a_high(vendor: Callable[[samples.Rows], bytes], word: str) -> None:
    assert read(told(vendor, word)).centi[-20:] == [40100] * 20


@of_each
def test_a_word_that_nobody_knows_is_told(vendor: Callable[[samples.Rows], bytes]) -> None:
    found = read(told(vendor, "Niedrig"))
    assert len(found.centi) == 130
    assert [message for message in found.warnings.messages if message.startswith("UNREAD: 20 readings are neither")]


@pytest.mark.parametrize(("unit", "value"), [("mg/dL", 34), ("mg/dL", 38), ("mmol/L", 1.9), ("mmol/L", 2.1)])
def test_a_libre_says_in_numbers_how_low_it_is(unit: str, value: float) -> None:
    raw = samples.libre(
        [*ROWS[:130], *((time, MARK) for time, _ in ROWS[130:])], unit, 1 if unit == "mg/dL" else 1 / 18
    )
    found = read(re.sub(rb",0,(987|54\.8\d*),", f",0,{value},".encode(), raw))
    assert found.centi[-20:] == pytest.approx([3900] * 20, abs=10)
    assert found.warnings.messages[-1].startswith("OUT_OF_RANGE: 20 readings say")


def test_what_is_too_low_for_anybody_is_a_code_of_a_libre_too() -> None:
    found = read(samples.libre([(time, 5.0 if number == 70 else value) for number, (time, value) in enumerate(ROWS)]))
    assert found.interpolated_points == [70]
    assert found.warnings.messages[-1].startswith("SENSOR_ERROR: 1 reading")


@pytest.mark.parametrize("vendor", [samples.dexcom, samples.libre], ids=lambda vendor: vendor.__name__)
@pytest.mark.parametrize("every", [1, 2])
def test_a_decimal_comma_is_a_point(vendor: Callable[..., bytes], every: int) -> None:
    raw, number = vendor(ROWS, "mmol/L", 1 / 18.0), iter(range(10**6))
    commas = re.sub(
        rb",(\d+)\.(\d+),", lambda found: b',"%s,%s",' % found.groups() if next(number) % every == 0 else found[0], raw
    )
    assert commas.count(b'"') > len(ROWS) / every
    assert read(commas).centi == read(raw).centi
    assert not read(commas).warnings.has_warnings


def test_a_file_that_is_converted_says_so_too() -> None:
    converted = to_unified_csv(told(samples.libre, "LO"))
    assert converted.text.count(",39.0") >= len(LAST)
    assert [note for note in converted.notes if note.startswith("OUT_OF_RANGE: 20")]


def test_a_damaged_header_is_refused_in_words() -> None:
    """A carriage return within a line ends it for the reader of CSV and not for others."""
    raw = samples.dexcom(ROWS).replace(b"Patient Info", b"Patient\rInfo", 1).rstrip(b"\n")
    with pytest.raises(UnknownFormatError, match="looks like Dexcom Clarity"):
        read(raw)
    with pytest.raises(UnknownFormatError, match="looks like Dexcom Clarity"):
        to_unified_csv(raw)
