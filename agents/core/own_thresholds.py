"""P(glucose crosses a threshold of a person's own at any time in the next 15, 30, 45, 60 minutes). Pure numpy.

Chances that were fitted to what happened are known at 54, 70, 180 and 250 mg/dL alone (`agents.core.path_events`). For
any other threshold x the copula is asked, which knows all of them: with P_h(Y < x) of each step, read from the fan's
quantiles and event probabilities in normal scores. Where it answers c(x), and c(a), c(b) at the two fitted thresholds
around x with the published chances p(a), p(b), the chance is

    p(a) + (p(b) - p(a)) * (c(x) - c(a)) / (c(b) - c(a))

beyond the farther one p * c(x) / c, and between the nearer one and the middle the same of what does not happen. So it
is the published chance at a fitted threshold, and never falls from a farther threshold to a nearer one. It is not
calibrated by itself, and whoever shows it says so.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from agents.core.path_events import STEPS
from schemas.fan_chart import FanChart
from schemas.grid import THRESHOLDS_MGDL

Array = NDArray[np.float64]
_EDGE = 1e-6
_LEAST_SPREAD_MGDL = 1.0


def chances_below(chart: FanChart, threshold_mgdl: float, bank: Array) -> tuple[float, ...]:
    """Of a live chart as its model made it, before it is fitted to a person: (4,), rising. `bank` (N, 12): ranks."""
    assert chart.p_path is not None  # noqa: S101  of live charts
    farther, nearer = THRESHOLDS_MGDL[:2]
    return _between(
        _Known(farther - threshold_mgdl, copula_below(chart, farther, bank), np.array(chart.p_path.below_54)),
        _Known(nearer - threshold_mgdl, copula_below(chart, nearer, bank), np.array(chart.p_path.below_70)),
        copula_below(chart, threshold_mgdl, bank),
    )


def chances_above(chart: FanChart, threshold_mgdl: float, bank: Array) -> tuple[float, ...]:
    """The same of highs."""
    assert chart.p_path is not None  # noqa: S101  of live charts
    nearer, farther = THRESHOLDS_MGDL[2:]
    return _between(
        _Known(threshold_mgdl - farther, copula_above(chart, farther, bank), np.array(chart.p_path.above_250)),
        _Known(threshold_mgdl - nearer, copula_above(chart, nearer, bank), np.array(chart.p_path.above_180)),
        copula_above(chart, threshold_mgdl, bank),
    )


def copula_below(chart: FanChart, threshold_mgdl: float, bank: Array) -> Array:
    """What the copula alone says: (4,)."""
    return _crossed(bank < probability_below(chart, threshold_mgdl))


def copula_above(chart: FanChart, threshold_mgdl: float, bank: Array) -> Array:
    """The same of highs."""
    return _crossed(bank > probability_below(chart, threshold_mgdl))


def probability_below(chart: FanChart, threshold_mgdl: float) -> Array:
    """P(glucose < threshold) at each step: (12,), and never falling as the threshold rises.

    Between what the chart says by linear interpolation of normal scores, beyond it with its spread.
    """
    levels = chart.levels()
    known = np.array([quantiles for _, quantiles in levels])  # (9, 12)
    places = np.concatenate([known, np.broadcast_to(np.array(THRESHOLDS_MGDL)[:, None], (4, known.shape[1]))])
    chances = np.concatenate([
        np.broadcast_to(np.array([level for level, _ in levels])[:, None], known.shape),
        np.array([chart.p_below_54, chart.p_below_70]),
        1.0 - np.array([chart.p_above_180, chart.p_above_250]),
    ])  # fmt: skip
    scores = ndtri(np.clip(chances, _EDGE, 1.0 - _EDGE))
    found = np.empty(known.shape[1])
    for step, spread in enumerate(np.maximum(chart.total_sd_mgdl, _LEAST_SPREAD_MGDL)):
        order = np.lexsort((scores[:, step], places[:, step]))
        at, score = places[order, step], np.maximum.accumulate(scores[order, step])
        beyond = min(0.0, threshold_mgdl - at[0]) + max(0.0, threshold_mgdl - at[-1])
        found[step] = np.interp(threshold_mgdl, at, score) + beyond / spread
    return np.asarray(ndtr(found), dtype=np.float64)


def _crossed(beyond: NDArray[np.bool_]) -> Array:
    """(N, 12), whether each path is beyond at each step -> the share that was beyond at any, by horizon: (4,)."""
    ever = np.logical_or.accumulate(beyond, axis=1)
    return np.asarray(ever[:, np.array(STEPS) - 1].mean(axis=0), dtype=np.float64)


class _Known(NamedTuple):
    """A fitted threshold: how far the own one lies beyond it (mg/dL), what the copula says of it, what is published."""

    beyond: float
    copula: Array
    published: Array


def _between(farther: _Known, nearer: _Known, own: Array) -> tuple[float, ...]:
    """`own`: what the copula says of the own threshold."""
    if farther.beyond >= 0.0:
        found = farther.published * _share(own, farther.copula)
    elif nearer.beyond <= 0.0:
        found = 1.0 - (1.0 - nearer.published) * _share(1.0 - own, 1.0 - nearer.copula)
    else:
        span = nearer.copula - farther.copula
        by_place = farther.beyond / (farther.beyond - nearer.beyond)  # where the copula does not tell them apart
        share = np.where(span > 0.0, _share(own - farther.copula, span), by_place)
        found = farther.published + (nearer.published - farther.published) * share
    rising = np.maximum.accumulate(np.clip(found, 0.0, 1.0))
    return tuple(np.round(rising, 4).tolist())


def _share(part: Array, whole: Array) -> Array:
    """Within 0 to 1; 0 of nothing."""
    share = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0.0)
    return np.asarray(np.clip(share, 0.0, 1.0), dtype=np.float64)
