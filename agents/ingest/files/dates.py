"""Dates that read as well with day and month exchanged."""

import datetime
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_HEAD_CHARACTERS = 4096


def slashed(text: str) -> bool:
    """Whether the head of a file holds slashes: of day and month, where the two may be exchanged."""
    return "/" in text[:_HEAD_CHARACTERS]


def year_last(text: str) -> bool:
    """Whether no date that begins a cell in the head of a file begins with its year, as the standard has it."""
    return re.search(r",\d{4}-\d\d-\d\d ", text[:_HEAD_CHARACTERS]) is None


def day_or_month(times: "pl.Series") -> list[str]:
    """What has to be said about the dates of a format whose day and month may be exchanged: nothing after a 12th."""
    if int(times.dt.day().max()) > 12:  # type: ignore[arg-type]
        return []
    first: datetime.datetime = times.min()  # type: ignore[assignment]
    return [f"DATES: No day is after the 12th, so day and month may be exchanged; read as {first:%d %B %Y} onwards"]
