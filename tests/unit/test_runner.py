"""What a role says when it ends by itself."""

import errno
import os

import pytest

from streams.runner import advised


@pytest.mark.parametrize(
    "reason",
    [
        repr(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
        "Exception('IO error: No space left on device: While appending to file: series-0.db/000009.log')",
    ],
)
def test_whoever_has_no_room_is_told_where_to_make_some(reason: str) -> None:
    assert advised(reason) == f"{reason}; free some room in GLUCAST_STATE_DIR"


def test_of_anything_else_the_reason_stands_alone() -> None:
    assert advised("Exception('IO error: Input/output error')") == "Exception('IO error: Input/output error')"


def test_a_right_that_kafka_does_not_grant_is_told_with_where_to_look() -> None:
    assert "glucast topics acls" in advised("step window: effects could not be sent: TopicAuthorizationFailedError()")
