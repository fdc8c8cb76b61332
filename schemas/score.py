"""How forecasts did, once the truth is known: what other teams read on ``cgm.scores``."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.fan_chart import DISCLAIMER
from schemas.record import HexDigest, Name, Record, SmallInteger, Time
from schemas.score_state import SCORED_STEPS

ShortDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Zone = Literal["A", "B", "C", "D", "E"]


class HorizonScore(Record):
    """One forecast at one target time. Lower is better, but for the zones, of which A is best."""

    minutes_ahead: SmallInteger = Field(description="From the forecast's last known point to the target.")
    chart: ShortDigest = Field(description="The first 16 digits of the chart_id of the forecast that is scored.")
    median_mgdl: float
    error_mgdl: float = Field(description="Median less truth.")
    crps_mgdl: float = Field(description="Continuous ranked probability score of the published fan.")
    in_50: bool = Field(description="Whether the truth lies between the published quantiles 25 and 75 %.")
    in_80: bool
    in_90: bool
    in_95: bool
    width_90_mgdl: float = Field(description="Of the published 90 % interval.")
    pit: float = Field(
        description="The fan's probability of less than the truth, before recalibration: the fans of one person are "
        "right if it is uniform.",
    )  # fmt: skip
    log_score_below_70: float = Field(description="-ln of what P(< 70 mg/dL) gave to what happened; at most 9.2.")
    log_score_above_180: float = Field(description="-ln of what P(> 180 mg/dL) gave to what happened; at most 9.2.")
    clarke: Zone = Field(description="Clarke error grid of the median.")
    parkes: Zone = Field(description="Parkes (consensus, type 1) error grid of the median.")


class TargetScore(Record):
    """The truth of one target time and how its forecasts did, on ``cgm.scores``, keyed by the subject.

    A target is decided once, by the first forecast that is issued 30 minutes or more after it: what it shows there as
    measured is the truth, and what comes later changes no score. Forecasts are those of one model, each the last that
    was made for its time.
    """

    record_version: Literal[1] = 1
    score_id: HexDigest = Field(description="Hash of whose it is, target time and charts: the id to drop repeats by.")
    series_key: Name
    subject_id: str | None = None
    target_time: Time
    truth_mgdl: float
    model: str
    model_fingerprint: HexDigest
    model_serves: bool = Field(default=True, description="False for a model on trial, which is scored beside.")
    simulated: bool = False
    scores: Annotated[tuple[HorizonScore, ...], Field(min_length=1, max_length=len(SCORED_STEPS))]
    disclaimer: str = DISCLAIMER

    @property
    def event_id(self) -> str:
        """The id to drop repeats by."""
        return self.score_id
