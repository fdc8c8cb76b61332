"""A report as JSON: its numbers, in the unit that was asked for."""

import datetime

from pydantic import BaseModel, Field

from agents.core.percent import percent_number
from query_api.report.numbers import Report
from query_api.style import Style
from schemas.fan_chart import DISCLAIMER
from schemas.reading import Unit


class RangeShares(BaseModel):
    """Percent of the readings by range of mg/dL; together 100."""

    below_54: float
    from_54_to_69: float
    from_70_to_180: float
    from_181_to_250: float
    above_250: float


class ProfileTime(BaseModel):
    """Quantiles of glucose at a time of day, over all days."""

    time: str = Field(description="On the clock of `timezone`, as HH:MM.")
    readings: int = Field(description="Within a quarter of an hour before and after.")
    p05: float
    p25: float
    p50: float
    p75: float
    p95: float


class ReportedHorizon(BaseModel):
    """How forecasts so far ahead did, of the last 14 days."""

    minutes_ahead: int
    targets: int = Field(description="Targets that were measured and scored.")
    mean_absolute_error: float = Field(description="Of the median.")
    crps: float = Field(description="Mean continuous ranked probability score of the fan.")
    covered_50_percent: float = Field(description="Truths inside the interval that claims 50 %.")
    covered_90_percent: float = Field(description="Truths inside the interval that claims 90 %.")
    width_90: float = Field(description="Mean width of the 90 % interval.")


class ReportAnswer(BaseModel):
    """Times in ranges, mean and variation as the consensus on time in range has them, and the profile of a day."""

    subject_id: str
    unit: Unit = Field(description="Of every glucose value here.")
    start: datetime.datetime
    end: datetime.datetime
    timezone: str
    asked_days: int
    covered_days: int = Field(
        description="Whole days from the first reading that is kept of them to the newest; 1 of less than a day too."
    )
    representative: bool = Field(description="Whether there are 14 days of which 70 % have data.")
    why_not_representative: str | None
    readings: int
    sensor_active_percent: float
    mean_glucose: float
    sd: float
    cv_percent: float
    gmi_percent: float = Field(description="Glucose management indicator.")
    ranges: RangeShares
    profile: list[ProfileTime] = Field(description="The ambulatory glucose profile: quarters of an hour with readings.")
    forecasts: list[ReportedHorizon] = Field(description="Empty where none has been scored.")
    simulated: bool
    disclaimer: str = DISCLAIMER


def answer_of(report: Report, unit: Unit) -> ReportAnswer:
    """The report in a unit."""
    style, numbers = Style(unit), report.summary
    return ReportAnswer(
        subject_id=report.subject_id,
        unit=unit,
        start=report.start,
        end=report.end,
        timezone=Style(timezone=report.timezone).zone_text(report.end),
        asked_days=report.asked_days,
        covered_days=report.covered_days,
        representative=report.why_not_representative is None,
        why_not_representative=report.why_not_representative,
        readings=numbers.readings,
        sensor_active_percent=_percent(numbers.active_share),
        mean_glucose=style.number(numbers.mean_mgdl),
        sd=style.number(numbers.sd_mgdl),
        cv_percent=round(100 * numbers.cv, 2),
        gmi_percent=round(numbers.gmi_percent, 2),
        ranges=RangeShares(**{name: _percent(share) for name, share in numbers.ranges._asdict().items()}),
        profile=[
            ProfileTime(
                time=f"{point.minute // 60:02}:{point.minute % 60:02}",
                readings=point.readings,
                **dict(zip(("p05", "p25", "p50", "p75", "p95"), map(style.number, point.quantiles_mgdl), strict=True)),
            )
            for point in report.profile
            if point is not None
        ],
        forecasts=[
            ReportedHorizon(
                minutes_ahead=card.minutes_ahead,
                targets=card.targets,
                mean_absolute_error=style.number(card.mae_mgdl),
                crps=style.number(card.crps_mgdl),
                covered_50_percent=_percent(card.covered["50"]),
                covered_90_percent=_percent(card.covered["90"]),
                width_90=style.number(card.width_90_mgdl),
            )
            for card in report.forecasts
        ],
        simulated=report.simulated,
    )


def _percent(share: float) -> float:
    return percent_number(share, 2)
