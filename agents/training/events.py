"""Warnings of lows and highs: does a forecast announce that glucose will cross a threshold within the hour, how early?

An event begins at the first of three steps in a row (15 minutes) beyond the threshold. A forecast issued while glucose
is not beyond it warns when its probability of being beyond it reaches `PROBABILITY` at any step. A warning is right if
an event begins within its hour; an event is caught when any forecast of the hour before it warned; the lead time is how
long before the beginning the first of these warnings came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.training.splits import Examples
from schemas.grid import HORIZON_STEPS

LOW_MGDL, HIGH_MGDL = 70.0, 180.0
PROBABILITY = 0.5
_SUSTAINED = 3


@dataclass(frozen=True)
class EventScore:
    """Counts and ratios; ratios are nan where nothing was warned of or nothing happened."""

    events: int
    warnings: int
    precision: float
    recall: float
    median_lead_minutes: float


def event_score(data: Examples, beyond_probability: NDArray[np.floating], threshold: float, *, low: bool) -> EventScore:
    """`beyond_probability` (B, 12) of being below a low (above a high) threshold, for stride-1 windows of `data`."""
    warned = beyond_probability.max(axis=1) >= PROBABILITY
    right = raised = events = caught = 0
    leads: list[int] = []
    for rows in _series_rows(data):
        beyond = _beyond(data, rows, threshold, low=low)  # truth at steps 1 .. n + 11 after the first window's end
        now = data.windows.past_mgdl[rows, -1]
        outside = now < threshold if low else now > threshold
        onsets = _onsets(beyond, bool(outside[0]))
        alarms = warned[rows] & ~outside
        for place in np.flatnonzero(alarms):
            raised += 1
            right += bool(np.any((onsets >= place) & (onsets < place + HORIZON_STEPS)))
        for onset in onsets[(onsets >= HORIZON_STEPS - 1) & (onsets < rows.size)]:
            events += 1
            before = np.flatnonzero(alarms[onset - HORIZON_STEPS + 1 : onset + 1])
            if before.size:
                caught += 1
                leads.append(5 * (HORIZON_STEPS - int(before[0])))
    return EventScore(
        events=events,
        warnings=raised,
        precision=right / raised if raised else float("nan"),
        recall=caught / events if events else float("nan"),
        median_lead_minutes=float(np.median(leads)) if leads else float("nan"),
    )


def _series_rows(data: Examples) -> Iterator[NDArray[np.int64]]:
    for number in np.unique(data.series):
        yield np.flatnonzero(data.series == number)


def _beyond(data: Examples, rows: NDArray[np.int64], threshold: float, *, low: bool) -> NDArray[np.bool_]:
    truth = np.concatenate([data.future_mgdl[rows, 0], data.future_mgdl[rows[-1], 1:]])
    return truth < threshold if low else truth > threshold


def _onsets(beyond: NDArray[np.bool_], outside_before: bool) -> NDArray[np.int64]:
    """Steps where a sustained run begins; step s is the first future step of window s."""
    runs = np.lib.stride_tricks.sliding_window_view(beyond, _SUSTAINED).all(axis=1)
    before = np.concatenate([[outside_before], beyond[:-1]])[: runs.size]
    return np.flatnonzero(runs & ~before)
