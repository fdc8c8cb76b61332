"""Calendar marks of a window: day, month, year, hour, minute and second of each of its steps. Needs numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.grid import STEP_SECONDS

MARKS = ("day", "month", "year", "hour", "minute", "second")

# The reference scales each mark to 0..1 by its smallest and largest value in the training recordings. Over recordings
# of some months on a 5-minute grid that is the calendar's own range; the year has no range that holds beyond the
# recordings, and seconds are 0 there: both are 0 here.
_LOWEST = np.array([1, 1, 0, 0, 0, 0], dtype=np.float32)
_RANGE = np.array([30, 11, np.inf, 23, 59, np.inf], dtype=np.float32)


def calendar_marks(end_times: NDArray[np.datetime64], past_steps: int = 96, horizon: int = 12) -> NDArray[np.float32]:
    """Unscaled marks (B, past_steps + horizon, 6); the last known point of window i is at `end_times[i]`."""
    offsets = (np.arange(1 - past_steps, horizon + 1) * STEP_SECONDS).astype("timedelta64[s]")
    seconds = np.asarray(end_times).astype("datetime64[s]")[:, None] + offsets
    day = seconds.astype("datetime64[D]")
    month = seconds.astype("datetime64[M]")
    year = seconds.astype("datetime64[Y]")
    of_day = (seconds - day).astype(np.int64)
    columns = (
        (day - month).astype(np.int64) + 1,
        (month - year).astype(np.int64) + 1,
        year.astype(np.int64) + 1970,
        of_day // 3600,
        of_day // 60 % 60,
        of_day % 60,
    )
    return np.stack(columns, axis=-1).astype(np.float32)


def marks_of(end_times: NDArray[np.datetime64], past_steps: int = 96, horizon: int = 12) -> NDArray[np.float32]:
    """Scaled marks (B, past_steps + horizon, 6) in 0..1, as the network reads them."""
    return np.asarray((calendar_marks(end_times, past_steps, horizon) - _LOWEST) / _RANGE, dtype=np.float32)
