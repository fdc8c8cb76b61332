"""Two models beside each other: their scorecards over everybody, pooled over the days that both have of a person."""

import asyncio
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, Field

from query_api.scorecard import HorizonCard, horizon_cards
from schemas.fan_chart import DISCLAIMER
from schemas.score_state import KEPT_DAYS, SUMMED_STEPS, ScoreState, Sums

ROWS_A_TURN = 50
"""So many subjects are summed up before others have a turn: some milliseconds."""
Role = Literal["served", "trial"]


class ModelScores(BaseModel):
    """One model in one role. Right after a promotion a model may stand in both, until each person's next forecast."""

    role: Role
    model: str = Field(description="The first 16 digits of the model's fingerprint.")
    people: int
    person_days: int = Field(description="Days of UTC, of a person, that are pooled.")
    horizons: list[HorizonCard] = Field(description="Those with a scored target.")


class Comparison(BaseModel):
    """While a model is on trial only the people and days that both have scored; else all that the served one has."""

    days: int = Field(default=KEPT_DAYS, description="So far back scores are kept.")
    models: list[ModelScores]
    disclaimer: str = DISCLAIMER


class _Pool:
    def __init__(self) -> None:
        self.people = self.days = 0
        self.sums = [Sums()] * len(SUMMED_STEPS)

    def add(self, state: ScoreState, days: Iterable[int]) -> None:
        self.people += 1
        for day in days:
            self.days += 1
            self.sums = [total.plus(sums) for total, sums in zip(self.sums, state.sums_of(day), strict=True)]


async def compared(states: Iterable[tuple[ScoreState, ScoreState | None]]) -> Comparison:
    """Pool the states of each person: of the served model, and of the one on trial.

    Who has no day with both would tell of one model alone: other people are easier or harder to forecast.
    """
    alone: dict[tuple[Role, str], _Pool] = {}
    beside: dict[tuple[Role, str], _Pool] = {}
    for number, (served, trial) in enumerate(states, start=1):
        # Of a trial that ended long ago, or has only begun, there is no day that both have.
        both = served.days.keys() & trial.days.keys() if trial is not None else ()
        if not beside:
            alone.setdefault(("served", served.model.hex()), _Pool()).add(served, served.days.keys())
        if trial is not None and both:
            beside.setdefault(("served", served.model.hex()), _Pool()).add(served, both)
            beside.setdefault(("trial", trial.model.hex()), _Pool()).add(trial, both)
        if number % ROWS_A_TURN == 0:
            await asyncio.sleep(0)
    return Comparison(
        models=[
            ModelScores(
                role=role, model=model, people=pool.people, person_days=pool.days, horizons=horizon_cards(pool.sums)
            )
            for (role, model), pool in sorted((beside or alone).items())
        ]
    )
