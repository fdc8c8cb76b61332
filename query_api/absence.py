"""A forecast or scores that are not there, for clients to whom that is no error.

A browser writes every 404 to its console as an error, whatever the page makes of it: there the red lines would hide the
one that tells of a fault.
"""

import datetime
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from schemas.errors import NoForecastError

OrReason = Annotated[
    bool, Query(description="Where there is none, say why with 200 instead of 404: `code` tells the two answers apart.")
]


class Absence(BaseModel):
    """Why there is nothing to answer, with the words of the problem that it would be."""

    code: Literal["no_forecast"]
    detail: str = Field(description="Why, for a person.")
    expected_time: datetime.datetime | None = Field(description="Of which time the reading is that brings a forecast.")


def absence(error: NoForecastError) -> Absence:
    return Absence(code="no_forecast", detail=str(error), expected_time=error.expected)
