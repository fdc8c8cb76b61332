"""Clinical weight of an error: zones A to E of the Clarke and of the Parkes (consensus, type 1) grids.

Sources: Clarke et al. 1987; Parkes et al. 2000 with the boundary points of Pfützner et al. 2013. Truth and forecast in
mg/dL; zones are 0..4 for A..E.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Glucose = NDArray[np.floating]
Zones = NDArray[np.int8]

# Boundary lines (truth, forecast) in mg/dL towards too high and too low forecasts; each opens the next worse zone.
_Line = tuple[tuple[int, int], ...]
_TOO_HIGH: tuple[tuple[int, _Line], ...] = (
    (1, ((0, 50), (30, 50), (140, 170), (280, 380), (430, 550))),
    (2, ((0, 60), (30, 60), (50, 80), (70, 110), (260, 550))),
    (3, ((0, 100), (25, 100), (50, 125), (80, 215), (125, 550))),
    (4, ((0, 150), (35, 155), (50, 550))),
)
_TOO_LOW: tuple[tuple[int, _Line], ...] = (
    (1, ((50, 30), (170, 145), (385, 300), (550, 450))),
    (2, ((120, 30), (260, 130), (550, 250))),
    (3, ((250, 40), (550, 150))),
)


def parkes_zones(truth_mgdl: Glucose, forecast_mgdl: Glucose) -> Zones:
    """Zone of every pair, same shape as the inputs."""
    truth, forecast = np.asarray(truth_mgdl, dtype=np.float64), np.asarray(forecast_mgdl, dtype=np.float64)
    zones = np.zeros(truth.shape, dtype=np.int8)
    for zone, line in _TOO_HIGH:
        zones[forecast > _height(truth, line)] = zone
    for zone, line in _TOO_LOW:
        zones[(truth > line[0][0]) & (forecast < _height(truth, line))] = zone
    return zones


def clarke_zones(truth_mgdl: Glucose, forecast_mgdl: Glucose) -> Zones:
    """Zone of every pair, same shape as the inputs."""
    truth, forecast = np.asarray(truth_mgdl, dtype=np.float64), np.asarray(forecast_mgdl, dtype=np.float64)
    zones = np.ones(truth.shape, dtype=np.int8)
    over = (truth >= 70) & (truth <= 290) & (forecast >= truth + 110)
    under = (truth >= 130) & (truth <= 180) & (forecast <= 7 / 5 * truth - 182)
    zones[over | under] = 2
    middling = (forecast >= 70) & (forecast <= 180)
    missed_low = (truth <= 175 / 3) & middling
    missed_low |= (truth > 175 / 3) & (truth <= 70) & (forecast >= 6 / 5 * truth) & (forecast <= 180)
    zones[((truth >= 240) & middling) | missed_low] = 3
    zones[((truth >= 180) & (forecast <= 70)) | ((truth <= 70) & (forecast >= 180))] = 4
    zones[((truth <= 70) & (forecast <= 70)) | (np.abs(forecast - truth) <= 0.2 * truth)] = 0
    return zones


def zone_shares(zones: Zones) -> dict[str, float]:
    """Share of the pairs in each zone."""
    return {name: float(np.mean(zones == place)) for place, name in enumerate("ABCDE")}


def _height(truth: NDArray[np.float64], line: _Line) -> NDArray[np.float64]:
    """Boundary over the truth, continued with the slope of its last part."""
    x, y = np.array(line, dtype=np.float64).T
    beyond = np.maximum(truth - x[-1], 0.0) * (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.asarray(np.interp(truth, x, y) + beyond)
