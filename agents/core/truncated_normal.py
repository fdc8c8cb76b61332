"""Normals of which only what lies in a range counts: Johnson, Kotz, Balakrishnan 1994, 13.10.1. Pure numpy."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

LEAST_INSIDE = 1e-300
_LOST = 1e-30  # probability of which no moments can be told in numbers of 64 bits
_ROOT_TWO_PI = np.sqrt(2.0 * np.pi)


class Truncated(NamedTuple):
    """How much of each normal lies inside, LEAST_INSIDE at least, and mean and variance of that."""

    inside: Array
    mean: Array
    variance: Array


def truncated(mean: Array, spread: Array, lowest: float, highest: float) -> Truncated:
    """Of normals (...) with spreads above 0, all that lies from `lowest` to `highest`."""
    low, high = (lowest - mean) / spread, (highest - mean) / spread
    above = low > 0.0  # such a tail is lost between two numbers near 1: it is looked at from the other side
    near, far = np.where(above, -high, low), np.where(above, -low, high)
    inside = ndtr(far) - ndtr(near)
    at_near, at_far = (np.exp(-0.5 * edge * edge) / _ROOT_TWO_PI for edge in (near, far))
    weight = np.maximum(inside, LEAST_INSIDE)
    shift = (at_near - at_far) / weight
    narrowing = 1.0 + (near * at_near - far * at_far) / weight - shift * shift
    # Where nothing is left but the end of a tail, that falls off as an exponential from the end of the range.
    lost, distance = inside < _LOST, np.maximum(np.maximum(near, -far), 1.0)
    centre = np.where(lost, mean, mean + np.where(above, -shift, shift) * spread)
    variance = np.where(lost, (spread / distance) ** 2, np.maximum(narrowing, 0.0) * spread * spread)
    return Truncated(weight, np.clip(centre, lowest, highest), variance)
