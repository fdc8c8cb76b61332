"""The forecast as people and other teams read it: a fan chart of the next hour."""

import datetime
import itertools
import operator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from schemas.grid import (
    HIGHEST_MGDL,
    HORIZON_STEPS,
    LOWEST_MGDL,
    PAST_POINTS,
    QUANTILE_LEVELS,
    STEP,
    STEP_SECONDS,
    WINDOW_POINTS,
)
from schemas.record import BEGAN, HexDigest, LongInteger, Name, Record, SmallInteger, Time, UnixMilliseconds

DISCLAIMER = "Not a medical device; not for treatment decisions."
MEDIAN = QUANTILE_LEVELS.index(0.50)
OUTER_LEVELS = QUANTILE_LEVELS[:MEDIAN] + QUANTILE_LEVELS[MEDIAN + 1 :]
"""The levels beside the median."""
_FAR_MGDL = 2.0 * HIGHEST_MGDL

OverHorizon = Annotated[tuple[float, ...], Field(min_length=HORIZON_STEPS, max_length=HORIZON_STEPS)]
"""A number a target time."""
OverQuarters = Annotated[tuple[float, ...], Field(min_length=4, max_length=4)]
"""A number for the next 15, 30, 45 and 60 minutes."""


def _possible_mean(row: tuple[float, ...]) -> tuple[float, ...]:
    """Charts of earlier versions have the mean of the draws, also of those that no sensor shows."""
    if not max(map(abs, row)) <= _FAR_MGDL:
        raise ValueError(f"means of samples lie within {_FAR_MGDL:.0f} mg/dL")
    return tuple([min(max(value, LOWEST_MGDL), HIGHEST_MGDL) for value in row])


class PathChances(Record):
    """P that glucose is beyond a threshold (mg/dL) at any time in the next 15, 30, 45 and 60 minutes."""

    below_54: OverQuarters
    below_70: OverQuarters
    above_180: OverQuarters
    above_250: OverQuarters

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        chances = (*self.below_54, *self.below_70, *self.above_180, *self.above_250)
        if min(chances) < 0.0 or max(chances) > 1.0:
            raise ValueError("a probability lies within 0 to 1")
        return self

    def rows(self) -> tuple[tuple[float, ...], ...]:
        """By threshold, rising."""
        return (self.below_54, self.below_70, self.above_180, self.above_250)


class FanCalibration(Record):
    """How a person's earlier truths have moved the fan: enough to make the published fan from the base one again.

    `score_shifts` has a row for 5, 15, 30, 45 and 60 minutes ahead and in it a number a level, rising, the median among
    them: how far from its own normal score the base fan is read (`agents.core.recalibration`).
    """

    version: SmallInteger = Field(description="Of how the shifts make a fan of its base.")
    readings: float = Field(description="Truths that it is learnt from, earlier ones for less: half after 3 days.")
    score_shifts: tuple[tuple[float, ...], ...]


class FanChart(Record):
    """One forecast, on ``cgm.fan-charts``, keyed by `series_key`. Repeated deliveries carry the same `chart_id`.

    It carries what cannot be derived. Lists over the horizon have 12 entries, the first for `first_target_time` and
    each `step_seconds` after the one before; `past_mgdl` ends at `issue_time` with the same step; `quantiles_mgdl` has
    one list over the horizon a level. Densities are drawn from the quantiles: `agents.core.density_curves`.
    """

    record_version: Literal[2] = 2
    chart_id: HexDigest = Field(description="Hash of forecast id and of whose it is: the id to drop repeats by.")
    forecast_id: HexDigest = Field(description="Hash of window, model, number of samples and seed.")
    kind: Literal["live", "sample"] = Field(description="live: of a subject's readings; sample: of an upload's handle.")
    series_key: Name
    subject_id: str | None = None
    handle: HexDigest | None = None
    index: SmallInteger | None = Field(
        default=None, description="Sample of the handle: 0 last, negative earlier, 1..12 beyond."
    )
    began_ms: UnixMilliseconds = Field(default=0, alias="epoch_ms", description=BEGAN)
    revision: int = Field(
        default=0,
        ge=0,
        le=(1 << 63) - 1,
        description="The offset of the reading that asked for it, 0 where that is not known: of a subject's forecasts "
        "of one time that began in one millisecond the one of the highest counts.",
    )
    demand_id: str | None = None
    input_hash: HexDigest
    model: str
    model_fingerprint: HexDigest
    model_serves: bool = Field(
        default=True, description="False for a model on trial beside the served one: no query is answered with it."
    )
    num_samples: SmallInteger
    seed: LongInteger
    simulated: bool = Field(
        default=False,
        description="Of a simulation or a replay, with a clock of its own: its age is judged by its arrival.",
    )
    issue_time: Time = Field(description="Time of the last known point.")
    computed_at: Time
    first_target_time: Time
    step_seconds: int = STEP_SECONDS
    past_mgdl: Annotated[tuple[float, ...], Field(min_length=PAST_POINTS, max_length=PAST_POINTS)]
    truth_mgdl: tuple[float | None, ...] = Field(
        min_length=HORIZON_STEPS,
        max_length=HORIZON_STEPS,
        description="What the glucose was at the target times, where it is known.",
    )
    interpolated_points: tuple[Annotated[int, Field(ge=0, le=WINDOW_POINTS - 1)], ...] = Field(
        default=(),
        max_length=WINDOW_POINTS,
        description="Places of points that were interpolated, not measured: 0..95 in past_mgdl, 96..107 in truth_mgdl.",
    )
    changed_points: tuple[Annotated[int, Field(ge=0, le=PAST_POINTS - 1)], ...] = Field(
        default=(),
        max_length=PAST_POINTS,
        description="Places in past_mgdl at which another sensor or device begins, the newest of them: a jump there "
        "says nothing of a body.",
    )
    median_mgdl: OverHorizon
    quantile_levels: tuple[float, ...] = Field(
        default=OUTER_LEVELS,
        min_length=len(OUTER_LEVELS),
        max_length=len(OUTER_LEVELS),
        description="Beside the median.",
    )
    quantiles_mgdl: tuple[OverHorizon, ...] = Field(min_length=len(OUTER_LEVELS), max_length=len(OUTER_LEVELS))
    calibration: FanCalibration | None = Field(
        default=None,
        description="Of median and quantiles for this person. Event probabilities are those of the base fan: a "
        "person's fan does not mend them. None where it is off, before the first truth, and of samples.",
    )
    p_below_54: OverHorizon
    p_below_70: OverHorizon
    p_above_180: OverHorizon
    p_above_250: OverHorizon
    p_path: PathChances | None = Field(
        default=None, description="Of the whole path, not of one step: what alerts go by. Of live forecasts."
    )
    mean_mgdl: Annotated[OverHorizon, AfterValidator(_possible_mean)] = Field(
        description="Mean of the MC-dropout samples with the spread around each, given what a sensor can show."
    )
    epistemic_sd_mgdl: OverHorizon = Field(
        description="Spread of the MC-dropout samples alone: their share of `total_sd_mgdl`."
    )
    total_sd_mgdl: OverHorizon = Field(
        description="Spread of the samples with the spread around each, given what a sensor can show."
    )
    warnings: tuple[str, ...] = ()
    disclaimer: str = DISCLAIMER

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, document: Any) -> Any:
        """A record of version 1 had every time, every level and the curves: what it says is kept."""
        if isinstance(document, dict) and "target_times" in document and "first_target_time" not in document:
            try:
                return _upgraded(document)
            except (KeyError, IndexError, TypeError, AttributeError, OverflowError):
                raise ValueError("a fan chart of version 1 whose times, levels or curves are incomplete") from None
        return document

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        """Glucose, probabilities and spreads that can be: checked when it is read, and not in its schema."""
        glucose = (self.past_mgdl, self.truth_mgdl, self.median_mgdl, *self.quantiles_mgdl)
        known = [value for row in glucose for value in row if value is not None]
        if min(known) < LOWEST_MGDL or max(known) > HIGHEST_MGDL:
            raise ValueError(f"glucose lies within {LOWEST_MGDL:.0f} to {HIGHEST_MGDL:.0f} mg/dL")
        if self.quantile_levels != OUTER_LEVELS:  # rows of the table do not repeat them
            raise ValueError("the levels of the quantiles are others than this version knows")
        rising = (row for _, row in self.levels())
        if any(any(map(operator.gt, lower, higher)) for lower, higher in itertools.pairwise(rising)):
            raise ValueError("quantiles rise with their level")
        chances = (*self.p_below_54, *self.p_below_70, *self.p_above_180, *self.p_above_250)
        if min(chances) < 0.0 or max(chances) > 1.0:
            raise ValueError("a probability lies within 0 to 1")
        spreads = (*self.epistemic_sd_mgdl, *self.total_sd_mgdl)
        if min(spreads) < 0.0 or max(spreads) > _FAR_MGDL:
            raise ValueError(f"spreads of samples lie within 0 to {_FAR_MGDL:.0f} mg/dL")
        return self

    @property
    def event_id(self) -> str:
        """The id to drop repeats by."""
        return self.chart_id

    @property
    def within_hour(self) -> tuple[float, float]:
        """P of being below 70, and above 180 mg/dL, at any time of the hour: of the path, where that is known.

        Else of the worst step, which is no more than that.
        """
        if self.p_path is None:
            return max(self.p_below_70), max(self.p_above_180)
        return self.p_path.below_70[-1], self.p_path.above_180[-1]

    def target_time(self, step: int) -> datetime.datetime:
        """The time of a target step; steps count from 1."""
        return self.issue_time + STEP * step

    def levels(self) -> tuple[tuple[float, tuple[float, ...]], ...]:
        """Every level with its quantiles over the horizon, the median among them, rising."""
        outer = zip(self.quantile_levels, self.quantiles_mgdl, strict=True)
        return tuple(sorted((*outer, (0.5, self.median_mgdl))))


def _upgraded(document: dict[str, Any]) -> dict[str, Any]:
    levels = [float(level) for level in document.get("quantile_levels", QUANTILE_LEVELS)]
    outer = [place for place, level in enumerate(levels) if level != 0.5]
    return {
        **{name: value for name, value in document.items() if name not in _ONLY_VERSION_1},
        "first_target_time": document["target_times"][0],
        "quantile_levels": [levels[place] for place in outer],
        "quantiles_mgdl": [document["quantiles_mgdl"][place] for place in outer],
        "mean_mgdl": [_mean(curve) for curve in document["epistemic_fan"]],
    }


_ONLY_VERSION_1 = {"target_times", "past_times", "fan", "epistemic_fan"}


def _mean(curve: dict[str, Any]) -> float:
    """Of a density on an even grid: that of the samples, which are what the epistemic curve was drawn of."""
    total = sum(curve["density"])
    weighted = sum(level * height for level, height in zip(curve["glucose_mgdl"], curve["density"], strict=True))
    return round(weighted / total, 1) if total > 0 else float(curve["glucose_mgdl"][0])
