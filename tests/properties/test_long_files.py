"""Of a long file the end is read alone: what comes of it is what the whole file gives, whatever lies in it."""

import datetime
from collections.abc import Sequence
from itertools import islice

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from agents.ingest.files import tracks
from agents.ingest.files.catalogue import FORMATS, recognised
from agents.ingest.files.decoding import decoded
from agents.ingest.files.unified_file import Rules, UnifiedFile, unify_file
from agents.virtual_person.person import VirtualPerson
from deploy.bench.fuzz_files import VENDORS, Rows
from schemas.errors import RejectedError

RULES = Rules(minimum_minutes=120, maximum_minutes=240)
STEP = datetime.timedelta(minutes=5)
START = datetime.datetime(2024, 3, 3, 22, 3)
GLUCOSE = [mgdl for _, mgdl in islice(VirtualPerson("adult#001", seed=3, start=START).readings(), 700)]

Run = tuple[int, int, int]
"""Minutes without a reading before it, how many it has, and the place of one that is odd."""
RUN = st.tuples(st.sampled_from([3, 9, 12, 18, 31, 90, 1500]), st.integers(1, 60), st.integers(0, 200))
ODD = [5.0, 38.0, 2000.0]
"""A code, another, and what is no glucose: each once in a file at most, and seldom."""


def rows(runs: Sequence[Run], odd: float | None) -> Rows:
    found, at = [], START
    for gap, count, place in runs:
        at += datetime.timedelta(minutes=gap)
        for number in range(count):
            value = odd if odd is not None and number == place else GLUCOSE[len(found) % len(GLUCOSE)]
            found.append((at, round(value, 1)))
            at += STEP
    return found


def outcome(raw: bytes, timezone: str, at_least: int) -> UnifiedFile | str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracks, "_MANY_READINGS", at_least)
        try:
            return unify_file(raw, timezone, RULES)
        except RejectedError as error:
            return f"{error.code}: {error}"


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(RUN, min_size=1, max_size=8),
    odd=st.sampled_from([None, None, *ODD]),
    vendor=st.sampled_from(sorted(VENDORS)),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
)
def test_the_end_of_a_file_gives_what_the_whole_file_gives(
    runs: list[Run], odd: float | None, vendor: str, timezone: str
) -> None:
    raw = VENDORS[vendor](rows(runs, odd))
    assert outcome(raw, timezone, 1) == outcome(raw, timezone, 10**9)


@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_of_a_long_file_the_end_is_parsed_and_of_one_without_gaps_all(vendor: str) -> None:
    text, _ = decoded(VENDORS[vendor](rows([(0, 300, 999), (200, 300, 999)], None)), "")
    form = recognised(text, FORMATS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracks, "_MANY_READINGS", 1)
        assert tracks.tracks_of(text, form, "UTC", 120).frame.height == 300
        assert tracks.tracks_of(text, form, "UTC").frame.height == 600
        whole = decoded(VENDORS[vendor](rows([(0, 600, 999)], None)), "")[0]
        assert tracks.tracks_of(whole, form, "UTC", 120).frame.height == 600


def test_where_the_end_does_not_suffice_the_whole_file_is_read() -> None:
    """Ten of its readings are codes, so the newest stretch is none, and an older one is used."""
    listed = [
        (at, 5.0 if place in range(310, 330) else mgdl)
        for place, (at, mgdl) in enumerate(rows([(0, 300, 999), (200, 40, 999)], None))
    ]
    found = outcome(VENDORS["dexcom"](listed), "UTC", 1)
    assert isinstance(found, UnifiedFile)
    assert found == outcome(VENDORS["dexcom"](listed), "UTC", 10**9)
    assert any("QUALITY" in message for message in found.warnings.messages)


@pytest.mark.parametrize("vendor", ["unified", "dexcom"])
@pytest.mark.parametrize("word", ["nan", "inf", ""])
def test_what_is_no_number_in_the_older_part_refuses_the_file_no_more_than_anywhere(vendor: str, word: str) -> None:
    listed = rows([(0, 60, 999), (200, 60, 999)], None)
    raw = VENDORS[vendor]([(at, 311.0 if place == 7 else mgdl) for place, (at, mgdl) in enumerate(listed)])
    raw = raw.replace(b",311.0,", f",{word},".encode()).replace(b",311,", f",{word},".encode())
    found = outcome(raw, "UTC", 1)
    assert isinstance(found, UnifiedFile)
    assert found == outcome(raw, "UTC", 10**9)
