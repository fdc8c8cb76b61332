"""A subject's scorecard: how the forecasts of the last 1, 7 and 14 days did, as the scores table has it."""

import datetime
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field

from schemas.fan_chart import DISCLAIMER
from schemas.grid import STEP_MINUTES, STEP_SECONDS, STEPS_A_DAY, THRESHOLDS_MGDL
from schemas.score_state import EVENT_STEPS, KEPT_DAYS, SUMMED_STEPS, EventSums, ScoreState, Sums

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


class EventCard(BaseModel):
    """How what alerts go by did: P of going beyond a threshold at any time of the next minutes."""

    threshold_mgdl: float = Field(description="54 and 70: below; 180 and 250: above.")
    within_minutes: int
    forecasts: int
    happened: int = Field(description="Forecasts after which it happened.")
    mean_probability: float = Field(
        description="What they gave it on average: happened / forecasts where they are right."
    )
    brier: float = Field(description="Mean square of probability less what happened; lower is better.")
    log_score: float = Field(description="Mean of -ln of what was given to what happened, nats; lower is better.")


class WindowCard(BaseModel):
    days: int = Field(description="Days of UTC, that of the newest forecast of the served model included.")
    horizons: list[HorizonCard] = Field(description="Those with a scored target.")
    events: list[EventCard] = Field(description="Those with a scored forecast.")


class CalibrationCard(BaseModel):
    readings: float = Field(
        description="Truths that the fan is fitted to at 60 minutes, earlier ones for less: half after 3 days."
    )


class ModelCard(BaseModel):
    """How the forecasts of one model did for a subject. A target is scored once, 30 minutes after its time."""

    model: str = Field(description="The first 16 digits of the model's fingerprint.")
    newest_forecast_time: datetime.datetime
    scored: int = Field(description="Pairs of forecast and target that were scored since the model's first.")
    unmeasured: int = Field(description="Pairs whose target no forecast has shown as measured.")
    calibration: CalibrationCard
    windows: list[WindowCard]


class Scorecard(ModelCard):
    """How the forecasts of the served model did for a subject, and those of the model on trial where there is one."""

    subject_id: str
    trial: ModelCard | None = None
    disclaimer: str = DISCLAIMER


def scorecard(
    subject_id: str, state: ScoreState, trial: ScoreState | None = None, today: int | None = None
) -> Scorecard:
    """Of the last day, week and fortnight up to a day, without one that of the newest forecast; days are those of UTC.

    Of a trial the same days, because it may have ended.
    """
    today = state.newest // STEPS_A_DAY if today is None else today
    is_beside = trial is not None and trial.newest // STEPS_A_DAY > today - KEPT_DAYS
    beside = _model_card(trial, today) if trial is not None and is_beside else None
    return Scorecard(**dict(_model_card(state, today)), subject_id=subject_id, trial=beside)


def _model_card(state: ScoreState, today: int) -> ModelCard:
    windows = []
    for days in WINDOWS_DAYS:
        totals, events = [Sums()] * len(SUMMED_STEPS), [EventSums()] * len(THRESHOLDS_MGDL)
        for day in range(today - days + 1, today + 1):
            totals = [total.plus(sums) for total, sums in zip(totals, state.sums_of(day), strict=True)]
            events = [total.plus(sums) for total, sums in zip(events, state.events_of(day), strict=True)]
        windows.append(WindowCard(days=days, horizons=horizon_cards(totals), events=_event_cards(events)))
    return ModelCard(
        model=state.model.hex(),
        newest_forecast_time=datetime.datetime.fromtimestamp(state.newest * STEP_SECONDS, datetime.UTC),
        scored=state.scored,
        unmeasured=state.unmeasured,
        calibration=CalibrationCard(readings=state.readings),
        windows=windows,
    )


def horizon_cards(totals: Sequence[Sums]) -> list[HorizonCard]:
    """By place in SUMMED_STEPS, of those with a target."""
    return [_card(step, sums) for step, sums in zip(SUMMED_STEPS, totals, strict=True) if sums.targets]


def _event_cards(totals: Sequence[EventSums]) -> list[EventCard]:
    return [
        EventCard(
            threshold_mgdl=threshold,
            within_minutes=EVENT_STEPS * STEP_MINUTES,
            forecasts=sums.forecasts,
            happened=sums.happened,
            mean_probability=round(sums.said / 10_000 / sums.forecasts, 4),
            brier=round(sums.brier / 10_000 / sums.forecasts, 4),
            log_score=round(sums.log_milli / 1000 / sums.forecasts, 4),
        )
        for threshold, sums in zip(THRESHOLDS_MGDL, totals, strict=True)
        if sums.forecasts
    ]


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
