"""A subject's scorecard: how the forecasts of the last 1, 7 and 14 days did, as the scores table has it."""

import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from schemas.fan_chart import DISCLAIMER
from schemas.grid import STEP_MINUTES, STEP_SECONDS, STEPS_A_DAY
from schemas.score_state import KEPT_DAYS, SUMMED_STEPS, ScoreState, Sums

WINDOWS_DAYS = (1, 7, KEPT_DAYS)
ZONES = "ABCDE"

Shares = Annotated[dict[str, float], Field(description="Zone -> share of the targets.")]


class HorizonCard(BaseModel):
    """Of the targets of one horizon. Shares lie within 0 to 1; glucose is in mg/dL."""

    minutes_ahead: int
    targets: int = Field(description="Targets that were measured and scored.")
    mae_mgdl: float = Field(description="Mean absolute error of the median.")
    rmse_mgdl: float
    crps_mgdl: float = Field(description="Mean continuous ranked probability score of the fan.")
    covered: dict[str, float] = Field(description="Percent -> share of truths inside the interval that claims it.")
    width_90_mgdl: float = Field(description="Mean width of the 90 % interval.")
    log_score_below_70: float = Field(description="Mean log score of P(< 70 mg/dL), nats; lower is better.")
    log_score_above_180: float = Field(description="Mean log score of P(> 180 mg/dL), nats; lower is better.")
    clarke: Shares
    parkes: Shares


class WindowCard(BaseModel):
    days: int = Field(description="Days of UTC, that of the newest forecast included.")
    horizons: list[HorizonCard] = Field(description="Those with a scored target.")


class CalibrationCard(BaseModel):
    readings: float = Field(
        description="Truths that the fan is fitted to at 60 minutes, earlier ones for less: half after 3 days."
    )


class Scorecard(BaseModel):
    """How the forecasts of a subject did. A target is scored once, 30 minutes after its time."""

    subject_id: str
    newest_forecast_time: datetime.datetime
    scored: int = Field(description="Pairs of forecast and target that were scored since the subject began.")
    unmeasured: int = Field(description="Pairs whose target was never measured.")
    calibration: CalibrationCard
    windows: list[WindowCard]
    disclaimer: str = DISCLAIMER


def scorecard(subject_id: str, state: ScoreState) -> Scorecard:
    """Of the last day, week and fortnight; the days are those of UTC."""
    today = state.newest // STEPS_A_DAY
    windows = []
    for days in WINDOWS_DAYS:
        totals = [Sums()] * len(SUMMED_STEPS)
        for day in state.days:
            if today - days < day <= today:
                totals = [total.plus(sums) for total, sums in zip(totals, state.sums_of(day), strict=True)]
        cards = zip(SUMMED_STEPS, totals, strict=True)
        windows.append(WindowCard(days=days, horizons=[_card(step, sums) for step, sums in cards if sums.targets]))
    return Scorecard(
        subject_id=subject_id,
        newest_forecast_time=datetime.datetime.fromtimestamp(state.newest * STEP_SECONDS, datetime.UTC),
        scored=state.scored,
        unmeasured=state.unmeasured,
        calibration=CalibrationCard(readings=state.readings),
        windows=windows,
    )


def _card(step: int, sums: Sums) -> HorizonCard:
    def mean(total: int, scale: int = 1, digits: int = 4) -> float:
        return round(total / scale / sums.targets, digits)

    fields = sums._asdict()
    return HorizonCard(
        minutes_ahead=step * STEP_MINUTES,
        targets=sums.targets,
        mae_mgdl=mean(sums.error_deci, 10, 2),
        rmse_mgdl=round((sums.square / sums.targets) ** 0.5, 2),
        crps_mgdl=mean(sums.crps_centi, 100, 2),
        covered={str(percent): mean(fields[f"in_{percent}"]) for percent in (50, 80, 90, 95)},
        width_90_mgdl=mean(sums.width_deci, 10, 1),
        log_score_below_70=mean(sums.low_milli, 1000),
        log_score_above_180=mean(sums.high_milli, 1000),
        clarke={zone: mean(fields[f"clarke_{zone.lower()}"]) for zone in ZONES},
        parkes={zone: mean(fields[f"parkes_{zone.lower()}"]) for zone in ZONES},
    )
