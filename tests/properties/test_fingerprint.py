"""Content hashes: equal exactly where the content is."""

import datetime
import hashlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from agents.core import fingerprint

POINTS = st.lists(st.integers(2000, 60000), min_size=1, max_size=40)
STARTS = st.integers(-(10**9), 2 * 10**9)


@given(st.lists(st.integers(2000, 60000), min_size=1, max_size=40), st.data())
def test_noise_below_half_a_hundredth_disappears(centi: list[int], data: st.DataObject) -> None:
    noise = data.draw(st.lists(st.floats(-0.0049, 0.0049), min_size=len(centi), max_size=len(centi)))
    assert [fingerprint.to_centi(c / 100 + n) for c, n in zip(centi, noise, strict=True)] == centi


@given(STARTS, POINTS, POINTS, st.integers(0, 40))
def test_chain_is_equal_exactly_where_suffixes_are(start: int, one: list[int], other: list[int], common: int) -> None:
    other = other + one[len(one) - min(common, len(one)) :]
    end = start + 300 * len(one)
    chains = [fingerprint.suffix_chain(end - 300 * len(points), points) for points in (one, other)]
    for m in range(1, min(len(one), len(other)) + 1):
        assert (chains[0][m] == chains[1][m]) == (one[-m:] == other[-m:])


@given(STARTS, POINTS)
def test_the_same_points_at_other_times_have_another_chain(start: int, points: list[int]) -> None:
    here, there = fingerprint.suffix_chain(start, points), fingerprint.suffix_chain(start + 300, points)
    assert here[0] == there[0]
    assert all(a != b for a, b in zip(here[1:], there[1:], strict=True))


@given(STARTS, POINTS, st.integers(0, 39), st.integers(1, 5))
def test_every_part_of_a_series_counts(start: int, points: list[int], at: int, change: int) -> None:
    at %= len(points)
    changed = [*points[:at], points[at] + change, *points[at + 1 :]]
    handles = {
        fingerprint.handle_of("UTC", start, points),
        fingerprint.handle_of("Europe/Berlin", start, points),
        fingerprint.handle_of("UTC", start + 300, points),
        fingerprint.handle_of("UTC", start, changed),
    }
    assert len(handles) == 4


def test_canonical_bytes_are_what_the_module_says() -> None:
    packed = struct.pack("<i", 3) + b"UTC" + struct.pack("<qqq", 600, 300, 2) + struct.pack("<2i", 10050, 9900)
    assert fingerprint.canonical_series("UTC", 600, [10050, 9900]) == b"glucast-series-v1\n" + packed
    assert (
        fingerprint.handle_of("UTC", 600, [10050, 9900]) == hashlib.sha256(b"glucast-series-v1\n" + packed).hexdigest()
    )


def test_fields_cannot_run_into_each_other() -> None:
    assert fingerprint.chart_id("a", "bc", "d", "e") != fingerprint.chart_id("ab", "c", "d", "e")
    assert fingerprint.request_id("live", "s", "1", "h", 10, 0) != fingerprint.request_id(
        "live", "s", "1", "h", 10, 0, ""
    )


def test_outcome_names_the_instant_not_its_offset() -> None:
    time = datetime.datetime(2024, 3, 14, 8, 0, tzinfo=datetime.UTC)
    elsewhere = time.astimezone(datetime.timezone(datetime.timedelta(hours=2)))
    assert fingerprint.outcome_id("s", time, 100.0) == fingerprint.outcome_id("s", elsewhere, 100.001)
    assert fingerprint.outcome_id("s", time, 100.0) != fingerprint.outcome_id("s", time, 100.5)
