"""Error of a continuous glucose sensor: an autoregressive process at 15 minutes through a Johnson SU transform.

Model and the Dexcom parameters: Breton and Kovatchev 2008, as carried by simglucose 0.2.11 (MIT). Between the 15-minute
knots the error is interpolated linearly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

_CORRELATION, _GAMMA, _LAMBDA, _DELTA, _XI = 0.7, -0.5444, 15.9574, 1.6898, -5.47
_KNOT_STEPS = 3
READABLE_MGDL = (40.0, 400.0)  # a sensor shows LOW and HIGH beyond


def sensor_errors_mgdl(rng: np.random.Generator, scale: float) -> Iterator[float]:
    """Endless errors, one for each five minutes; `scale` 1 is the sensor of 2008, today's are better."""
    latent = rng.standard_normal()
    left = _error(latent) * scale
    while True:
        latent = _CORRELATION * (latent + rng.standard_normal())
        right = _error(latent) * scale
        for step in range(_KNOT_STEPS):
            yield left + (right - left) * step / _KNOT_STEPS
        left = right


def _error(latent: float) -> float:
    return _XI + _LAMBDA * math.sinh((latent - _GAMMA) / _DELTA)
