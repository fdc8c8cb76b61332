"""Damaged files end in a reason, never in another exception."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.ingest.files.unified_file import Rules, to_unified_csv, unify_file
from schemas.errors import RejectedError
from tests.kit import samples

ROWS = samples.glucose_rows(112)
FILES = [
    samples.dexcom(ROWS),
    samples.dexcom(ROWS, "mmol/L", 1 / 18),
    samples.libre(ROWS),
    samples.unified(ROWS, [(ROWS[5][0], "INS_FAST")]),
    samples.nightscout_json(ROWS),
    samples.nightscout_csv(ROWS),
    samples.medtronic(ROWS),
]


def outcome(raw: bytes) -> str:
    """How a file ends; any exception but a rejection goes on to fail the test."""
    try:
        found = unify_file(raw, "UTC", Rules())
    except RejectedError as error:
        return error.code
    assert all(2000 <= value <= 60000 for value in found.centi)
    assert len(found.centi) >= 109
    return "accepted"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FILES), st.data())
def test_mutated_exports(raw: bytes, data: st.DataObject) -> None:
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, max(0, len(changed) - 1)))
        length = data.draw(st.sampled_from([0, 1, 1, 2, 40, 4000]))
        changed[at : at + length] = data.draw(
            st.binary(max_size=8)
            | st.sampled_from([b"\n", b",", b";", b'"', b"-99", b"NaN", b"1e300", b"9999-12-31", b"Low"])
        )
    outcome(bytes(changed))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2000) | st.text(max_size=500).map(str.encode))
def test_garbage(raw: bytes) -> None:
    assert outcome(raw) != "accepted"


@pytest.mark.parametrize("head", [b"", *(raw[:400] for raw in FILES)])
@pytest.mark.parametrize("filler", [b"x", b"1,2,3\n", b",", b"[", b"\xff\xfe\x00"])
def test_large_garbage_is_refused(head: bytes, filler: bytes) -> None:
    raw = head + filler * (2_000_000 // len(filler))
    with pytest.raises(RejectedError):
        unify_file(raw, "UTC", Rules())


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(FILES), st.integers(0, 20000))
def test_truncated_exports_convert_or_are_refused(raw: bytes, keep: int) -> None:
    with contextlib.suppress(RejectedError):
        assert "glucose" in to_unified_csv(raw[:keep])
