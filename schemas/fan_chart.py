"""The forecast as people and other teams read it: a fan chart of the next hour."""

from typing import Literal

from pydantic import Field

from schemas.grid import QUANTILE_LEVELS
from schemas.record import BEGAN, HexDigest, Record, Time, UnixMilliseconds

DISCLAIMER = "Not a medical device; not for treatment decisions."


class DensityCurve(Record):
    """The predictive density at one target time: `density` (1/(mg/dL)) over `glucose_mgdl`, of equal length."""

    glucose_mgdl: tuple[float, ...]
    density: tuple[float, ...]


class FanChart(Record):
    """One forecast, on ``cgm.fan-charts``, keyed by `series_key`. Repeated deliveries carry the same `chart_id`.

    Lists over the horizon have 12 entries, 5 to 60 minutes ahead; `quantiles_mgdl` has one such list a level.
    """

    chart_id: HexDigest = Field(description="Hash of forecast id and of whose it is: the id to drop repeats by.")
    forecast_id: HexDigest = Field(description="Hash of window, model, number of samples and seed.")
    kind: Literal["live", "sample"] = Field(description="live: of a subject's readings; sample: of an upload's handle.")
    series_key: str
    subject_id: str | None = None
    handle: HexDigest | None = None
    index: int | None = Field(default=None, description="Sample of the handle: 0 last, negative earlier, 1..12 beyond.")
    began_ms: UnixMilliseconds = Field(default=0, alias="epoch_ms", description=BEGAN)
    demand_id: str | None = None
    input_hash: HexDigest
    model: str
    model_fingerprint: HexDigest
    model_serves: bool = Field(
        default=True, description="False for a model on trial beside the served one: no query is answered with it."
    )
    num_samples: int
    seed: int
    simulated: bool = Field(
        default=False,
        description="Of a simulation or a replay, with a clock of its own: its age is judged by its arrival.",
    )
    issue_time: Time = Field(description="Time of the last known point.")
    computed_at: Time
    target_times: tuple[Time, ...]
    past_times: tuple[Time, ...]
    past_mgdl: tuple[float, ...]
    truth_mgdl: tuple[float | None, ...] = Field(
        description="What was measured at the target times, where it is known."
    )
    median_mgdl: tuple[float, ...]
    quantile_levels: tuple[float, ...] = QUANTILE_LEVELS
    quantiles_mgdl: tuple[tuple[float, ...], ...]
    p_below_54: tuple[float, ...]
    p_below_70: tuple[float, ...]
    p_above_180: tuple[float, ...]
    p_above_250: tuple[float, ...]
    epistemic_sd_mgdl: tuple[float, ...]
    total_sd_mgdl: tuple[float, ...]
    fan: tuple[DensityCurve, ...] = Field(description="Densities of the calibrated predictive distribution.")
    epistemic_fan: tuple[DensityCurve, ...] = Field(description="Gaussian KDE of the MC-dropout samples alone.")
    warnings: tuple[str, ...] = ()
    disclaimer: str = DISCLAIMER
