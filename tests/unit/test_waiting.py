"""Waiting in tests: what comes about is handed back, and what does not is named."""

import asyncio

import pytest

from tests.kit.waiting import until, until_async


def test_the_first_value_that_counts_is_handed_back() -> None:
    values = iter([None, 0, "", "there", "later"])
    assert until(lambda: next(values), "a value") == "there"


def test_what_does_not_come_about_is_named_with_what_was_there_instead() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: the moon \(at last: \[\]\)"):
        until(list, "the moon", 0.05)


def test_it_is_asked_once_more_after_the_deadline() -> None:
    answers = iter([False, True])
    assert until(lambda: next(answers), "an answer", 0.001)


async def test_functions_and_coroutine_functions_are_waited_for_alike() -> None:
    values = iter([0, 0, 3, 0, 4])

    async def following() -> int:
        await asyncio.sleep(0)
        return next(values)

    assert await until_async(lambda: next(values), "3") == 3
    assert await until_async(following, "4") == 4


async def test_a_condition_that_does_not_return_is_given_up_and_named() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: an answer \(at last: 'not known'\)"):
        await until_async(asyncio.Event().wait, "an answer", 0.05)


async def test_an_error_of_the_condition_is_its_own() -> None:
    async def failing() -> None:
        raise TimeoutError("the broker")

    with pytest.raises(TimeoutError, match="the broker"):
        await until_async(failing, "an answer")
    with pytest.raises(ZeroDivisionError):
        until(lambda: 1 / 0, "a number")
