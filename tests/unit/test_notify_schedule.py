"""Pauses after failures: they grow, end at five minutes, differ by chance, and heed what a receiver asks for."""

import datetime

import pytest

from streams.notify.schedule import asked_seconds, has_failed_too_long, pause_seconds

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def test_pauses_double_up_to_five_minutes() -> None:
    assert [pause_seconds(failures, 0.5) for failures in range(1, 9)] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert pause_seconds(10**9, 0.5) == 300


@pytest.mark.parametrize(("chance", "first", "longest"), [(0.0, 4.0, 240.0), (1.0, 6.0, 360.0)])
def test_chance_moves_them_by_a_fifth_at_most(chance: float, first: float, longest: float) -> None:
    assert pause_seconds(1, chance) == pytest.approx(first)
    assert pause_seconds(50, chance) == pytest.approx(longest)


def test_a_receiver_may_ask_for_a_longer_pause_but_not_for_a_shorter_or_an_endless_one() -> None:
    assert pause_seconds(1, 0.5, 120.0) == 120.0
    assert pause_seconds(4, 0.5, 1.0) == 40.0
    assert pause_seconds(1, 0.5, 10.0**9) == 900.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0), (" 7 ", 7.0), ("9" * 400, 999_999_999.0),
        ("Sun, 01 Mar 2026 12:01:00 GMT", 60.0), ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        (None, None), ("", None), ("soon", None), ("-5", None), ("1.5", None), ("²", None), ("Sun, 01 Mar 2026", None),
    ],
)  # fmt: skip
def test_both_forms_of_retry_after_are_read_and_nothing_else(header: str | None, seconds: float | None) -> None:
    assert asked_seconds(header, NOW) == seconds


def test_a_webhook_is_given_up_after_its_time_of_failing_alone() -> None:
    assert not has_failed_too_long(None, NOW, 24)
    assert not has_failed_too_long(NOW - datetime.timedelta(hours=23, minutes=59), NOW, 24)
    assert has_failed_too_long(NOW - datetime.timedelta(hours=24), NOW, 24)
