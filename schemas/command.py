"""What the query layer asks of the workers: a forecast of a stored window, or a change of what is stored."""

from typing import Literal

from pydantic import Field

from schemas.alert import AlertSettings, Snooze
from schemas.fan_chart import FanChart
from schemas.lanes import Lane
from schemas.record import HexDigest, Name, Record, SmallInteger, UnixMilliseconds

MOST_UPLOADS_ENDED = 512
"""With one delete."""


class ForecastDemand(Record):
    """Forecasts of stored windows, on ``cgm.forecast-demands``, keyed by `series_key`."""

    demand_id: Name
    series_key: Name
    handle: HexDigest
    indexes: tuple[SmallInteger, ...] = Field(min_length=1, max_length=4096)
    lane: Lane = "interactive"
    force: bool = Field(default=False, description="Compute again even where the result is known.")
    deadline_ms: UnixMilliseconds | None = Field(
        default=None, description="Unix time after which nobody waits for it any more."
    )


class CacheCommand(Record):
    """A change of what the tables hold, on ``cgm.cache-commands``: by `series_key`, a flush to every partition.

    A ``flush_owner`` ends the uploads of one owner: the worker that holds the series sends a delete for each.

    A ``reset`` removes the forecasts and alerts of the subject that `series_key` names: the window step sends it.
    ``alerts`` and ``snooze`` change how that subject is alerted.
    """

    action: Literal["delete", "flush", "flush_owner", "restore", "reset", "alerts", "snooze"]
    command_id: Name
    up_to_ms: UnixMilliseconds = Field(
        alias="epoch_ms",
        description="delete, flush, flush_owner, reset: end what began up to here, drop what is still under way.",
    )
    series_key: Name | None = None
    handle: HexDigest | None = None
    upload_ids: tuple[HexDigest, ...] = Field(
        default=(),
        max_length=MOST_UPLOADS_ENDED,
        description="delete: what gave the handle. It ends too, though the worker may not know of it.",
    )
    owner: HexDigest | None = Field(default=None, description="flush_owner: whose uploads end.")
    chart: FanChart | None = Field(default=None, description="restore: one fan chart to be stored again.")
    alert_settings: AlertSettings | None = Field(default=None, description="alerts: from now on; none: the defaults.")
    erases: bool = Field(default=False, description="reset: how the subject is alerted goes too.")
    snooze: Snooze | None = Field(default=None, description="snooze: which alerts, and until when.")

    @property
    def removes(self) -> bool:
        """Whether it takes somebody's data away for good: then files of tables keep nothing of it either."""
        return self.action in ("delete", "flush", "flush_owner") or self.erases
