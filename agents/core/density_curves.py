"""Densities of a fan chart, for who draws it: from its quantiles, or of its draws alone. Pure and without numpy.

Of one target time let x_k be the quantile of level q_k and z_k = Phi^-1(q_k) its normal score. g is the monotone cubic
through (x_k, z_k), its slopes at inner points the weighted harmonic means of Fritsch and Butland (1984, SIAM J. Sci.
Stat. Comput. 5:300), continued as straight lines. Then Phi(g(x)) is a distribution function that has every published
quantile, and its density is phi(g(x)) g'(x): exactly the normal's where the distribution is one.

The draws alone are drawn as the normal of their mean whose variance is that of their kernel density estimate: the
draws' own and that of a kernel of Scott's bandwidth n^(-1/5) sd (Scott 1992, Multivariate Density Estimation), within
what a sensor can show.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

from schemas.fan_chart import FanChart
from schemas.grid import HIGHEST_MGDL, LOWEST_MGDL

POINTS = 40
"""Of a curve."""
REACH = 3.3
"""Normal scores to either side that are drawn: all but 0.1 % of the probability."""
LEAST_STEP_MGDL = 0.05
"""Between quantiles that are published as equal: a tenth of mg/dL is their last digit."""
SMALLEST_SPREAD_MGDL = 0.01
"""Of draws that agree."""

_NORMAL = NormalDist()


class DensityCurve(NamedTuple):
    """A density (1/(mg/dL)) over rising glucose."""

    glucose_mgdl: tuple[float, ...]
    density: tuple[float, ...]


def predictive_curves(chart: FanChart, points: int = POINTS) -> tuple[DensityCurve, ...]:
    """The calibrated predictive density at each target time, which has the published quantiles."""
    levels = chart.levels()
    scores = [_NORMAL.inv_cdf(level) for level, _ in levels]
    return tuple(
        _of_quantiles([values[step] for _, values in levels], scores, points) for step in range(len(chart.median_mgdl))
    )


def epistemic_curves(chart: FanChart, points: int = POINTS) -> tuple[DensityCurve, ...]:
    """The density of the draws alone: what the model does not know."""
    kernel = chart.num_samples ** (-1 / 5) if chart.num_samples > 1 else 0.0
    widened = math.sqrt(1.0 + kernel * kernel)
    curves = []
    for mean, spread in zip(chart.mean_mgdl, chart.epistemic_sd_mgdl, strict=True):
        normal = NormalDist(mean, max(SMALLEST_SPREAD_MGDL, spread * widened))
        first, last = mean - REACH * normal.stdev, mean + REACH * normal.stdev
        inside = 1.0
        if first < LOWEST_MGDL or last > HIGHEST_MGDL:
            first, last = max(LOWEST_MGDL, first), min(HIGHEST_MGDL, last)
            inside = normal.cdf(last) - normal.cdf(first)
        grid = _even(first, last, points)
        curves.append(DensityCurve(grid, tuple([normal.pdf(level) / inside for level in grid])))
    return tuple(curves)


def _of_quantiles(quantiles: Sequence[float], scores: Sequence[float], points: int) -> DensityCurve:
    knots = _rising(quantiles)
    score_at = monotone_cubic(knots, scores)
    first = knots[0] - (REACH + scores[0]) / score_at(knots[0])[1]
    last = knots[-1] + (REACH - scores[-1]) / score_at(knots[-1])[1]
    first, last = max(LOWEST_MGDL, first), min(HIGHEST_MGDL, last)
    grid = _even(first, max(last, first + LEAST_STEP_MGDL), points)
    density = []
    for level in grid:
        score, slope = score_at(level)
        density.append(_NORMAL.pdf(score) * slope)
    return DensityCurve(grid, tuple(density))


def monotone_cubic(xs: Sequence[float], ys: Sequence[float]) -> Callable[[float], tuple[float, float]]:
    """The curve through rising points: a function that gives value and slope. Outside it goes on as a straight line."""
    widths = [right - left for left, right in itertools.pairwise(xs)]
    secants = [(right - left) / width for (left, right), width in zip(itertools.pairwise(ys), widths, strict=True)]
    slopes = [secants[0]]
    for place in range(1, len(secants)):
        left, right = 2 * widths[place] + widths[place - 1], widths[place] + 2 * widths[place - 1]
        slopes.append((left + right) / (left / secants[place - 1] + right / secants[place]))
    slopes.append(secants[-1])

    def at(x: float) -> tuple[float, float]:
        if x <= xs[0]:
            return ys[0] + slopes[0] * (x - xs[0]), slopes[0]
        if x >= xs[-1]:
            return ys[-1] + slopes[-1] * (x - xs[-1]), slopes[-1]
        place = next(place for place in range(len(widths)) if x < xs[place + 1])
        width, part = widths[place], (x - xs[place]) / widths[place]
        rest = 1.0 - part
        start, end = slopes[place] * width, slopes[place + 1] * width
        value = (
            ys[place] * (1 + 2 * part) * rest**2 + start * part * rest**2
            + ys[place + 1] * part**2 * (3 - 2 * part) - end * part**2 * rest
        )  # fmt: skip
        rise = (
            6 * part * rest * (ys[place + 1] - ys[place]) + start * rest * (1 - 3 * part) + end * part * (3 * part - 2)
        )
        return value, rise / width

    return at


def _rising(quantiles: Sequence[float]) -> list[float]:
    rising = [quantiles[0]]
    for value in quantiles[1:]:
        rising.append(max(value, rising[-1] + LEAST_STEP_MGDL))
    return rising


def _even(first: float, last: float, points: int) -> tuple[float, ...]:
    return tuple(first + (last - first) * place / (points - 1) for place in range(points))
