"""What a message becomes that its step cannot process: a letter that its topic takes, whatever the message was."""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.work import ENVELOPE_BYTES, Failure, Message, check_size
from schemas.dead_letter import DeadLetter
from schemas.topics import DEAD_LETTERS
from streams import dead_letters

LIMIT = DEAD_LETTERS.max_message_bytes - ENVELOPE_BYTES
FAILURE = Failure("failed", "division by zero", 3)


def message(**parts: Any) -> Message:
    return Message(**{"topic": "cgm.uploads", "partition": 2, "offset": 7, "key": b"anna", "value": b"file"} | parts)


def letter_of(given: Message) -> tuple[bytes | None, DeadLetter]:
    key, text = dead_letters.message_of(given, "unify", FAILURE)
    check_size(DEAD_LETTERS, key, text, {})
    return key, DeadLetter.from_json(text)


def test_a_large_payload_is_not_carried_in_the_letter() -> None:
    large = message(value=bytes(dead_letters.INLINE_BYTES + 1))
    letter = dead_letters.letter(large, "unify", Failure("failed", "x" * 9999, 3))
    assert (letter.value_base64, letter.value_bytes) == (None, dead_letters.INLINE_BYTES + 1)
    assert letter.value_sha256 == hashlib.sha256(large.value or b"").hexdigest()
    assert len(letter.to_json()) < 4096


def test_the_headers_of_a_letter_say_what_failed_and_where() -> None:
    said = dead_letters.headers_of(message(), "unify", Failure("failed", "x" * 9999, 3))
    connect = {name.removeprefix("__connect.errors."): text for name, text in said.items() if name.startswith("__")}
    assert connect == {
        "topic": b"cgm.uploads", "partition": b"2", "offset": b"7", "connector.name": b"glucast", "stage": b"unify",
        "exception.class.name": b"failed", "exception.message": b"x" * 2000,
    }  # fmt: skip
    assert said["ce_id"] == b"cgm.uploads/2/7/unify"
    assert dead_letters.headers_of(message(), "unify", FAILURE) == dead_letters.headers_of(message(), "unify", FAILURE)
    assert sum(len(name) + len(text) for name, text in said.items()) < ENVELOPE_BYTES // 2


def test_a_letter_carries_the_whole_message_under_its_key() -> None:
    key, letter = letter_of(message(headers={"timezone": b"UTC"}))
    assert key == b"anna"
    assert (letter.letter_id, letter.topic, letter.partition, letter.offset) == (
        "cgm.uploads/2/7/unify", "cgm.uploads", 2, 7,
    )  # fmt: skip
    assert base64.b64decode(letter.key_base64 or "") == b"anna"
    assert base64.b64decode(letter.value_base64 or "") == b"file"
    assert (letter.value_bytes, letter.value_sha256, letter.headers) == (4, None, {"timezone": "UTC"})
    assert (letter.code, letter.reason, letter.attempts) == ("failed", "division by zero", 3)
    assert letter_of(message(timestamp_ms=1_710_000_000_123))[1].came_at == datetime(
        2024, 3, 9, 16, 0, 0, 123_000, tzinfo=UTC
    )


@pytest.mark.parametrize(
    "parts",
    [
        {"key": bytes(LIMIT)},
        {"key": b"k" * (LIMIT // 2), "value": b"v" * dead_letters.INLINE_BYTES},
        {"headers": {"h" * LIMIT: b""}},
        {"headers": {f"{number}" * 12_000: b"" for number in range(100, 140)}},
    ],
    ids=["key", "key and value", "a header", "headers"],
)
def test_what_does_not_fit_becomes_a_bare_letter_under_a_hash(parts: dict[str, Any]) -> None:
    given = message(**parts)
    key, letter = letter_of(given)
    assert key == hashlib.sha256(given.key or b"").hexdigest().encode()
    assert (letter.key_base64, letter.value_base64, letter.headers) == (None, None, {})
    assert (letter.letter_id, letter.value_bytes) == ("cgm.uploads/2/7/unify", len(given.value or b""))
    assert letter.value_sha256 == hashlib.sha256(given.value or b"").hexdigest()
    assert (letter.code, letter.reason, letter.attempts) == ("failed", "division by zero", 3)
    assert letter_of(given)[0] == key, "the same message has the same key again"


def test_the_largest_letter_that_fits_is_whole() -> None:
    def written(size: int) -> int:
        text = dead_letters.letter(message(headers={"h" * size: b""}), "unify", FAILURE).to_json()
        return len(text) + len(b"anna")

    fits = LIMIT - written(0)
    for size, whole in ((fits, True), (fits + 1, False)):
        key, letter = letter_of(message(headers={"h" * size: b""}))
        assert (key == b"anna", letter.headers != {}) == (whole, whole)


SIZES = st.sampled_from([0, 1, 1000, 200_000, 400_000, 900_000])


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, st.lists(st.tuples(SIZES, SIZES), max_size=3), st.sampled_from([b"a", b"\x00", b"\xff"]))
def test_any_message_has_a_letter_that_its_topic_takes(
    key: int, value: int, headers: list[tuple[int, int]], filler: bytes
) -> None:
    named = {f"{number}" + "n" * name: filler * text for number, (name, text) in enumerate(headers)}
    _, letter = letter_of(message(key=filler * key, value=filler * value, headers=named))
    assert (letter.letter_id, letter.value_bytes) == ("cgm.uploads/2/7/unify", value)
