"""When a webhook that fails is tried again, and when it is given up: pure, with the chance passed in.

The pauses after failures in a row are 5, 10, 20, … seconds, up to 5 minutes, each up to a fifth longer or shorter, so
that many senders do not come back together. Every delivery of a webhook waits for the pause: a receiver that is down is
asked with one of them at a time. A delivery is tried until what it says no longer holds.
"""

import datetime
import email.utils

FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 300.0
LONGEST_ASKED_SECONDS = 900.0
"""So long a pause a receiver may ask for (``Retry-After``)."""
JITTER = 0.2
LONGEST_BREAK = datetime.timedelta(minutes=30)
"""Longer than from one attempt to the next of what waits: after it nothing was tried, and failing begins anew."""
NOTED_EVERY = datetime.timedelta(minutes=5)
"""So often it is noted that a webhook still fails."""


def pause_seconds(failures: int, chance: float, asked_seconds: float | None = None) -> float:
    """After so many failures in a row, at least 1. `chance`: from 0 to 1; `asked_seconds`: the receiver's wish."""
    doubled = FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 16)
    own = min(doubled, LONGEST_PAUSE_SECONDS) * (1 - JITTER + 2 * JITTER * chance)
    return max(own, min(asked_seconds or 0.0, LONGEST_ASKED_SECONDS))


def asked_seconds(retry_after: str | None, now: datetime.datetime) -> float | None:
    """What a header ``Retry-After`` asks for, in seconds or as a date (RFC 9110, 10.2.3); None for anything else."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        then = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if then.tzinfo is None:
        return None
    return max(0.0, (then - now).total_seconds())


def has_failed_too_long(failing_since: datetime.datetime | None, now: datetime.datetime, disable_hours: float) -> bool:
    """Whether a webhook is to be disabled."""
    return failing_since is not None and now - failing_since >= datetime.timedelta(hours=disable_hours)
