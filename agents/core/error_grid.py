"""Clinical weight of an error: zones A to E of the Clarke and of the Parkes (consensus, type 1) grids.

Sources: Clarke et al. 1987; Parkes et al. 2000 with the boundary points of Pfützner et al. 2013. Truth and forecast in
mg/dL; zones are 0..4 for A..E.
"""

import itertools
from collections.abc import Callable

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


def parkes_zone(truth_mgdl: float, forecast_mgdl: float) -> int:
    """Zone of one pair: lines of worse zones lie beyond those of better ones, and none crosses the diagonal."""
    is_high = forecast_mgdl > truth_mgdl
    found = 0
    for zone, line in _TOO_HIGH if is_high else _TOO_LOW:
        if truth_mgdl <= line[0][0]:
            break
        height = _height(truth_mgdl, line)
        if not (forecast_mgdl > height if is_high else forecast_mgdl < height):
            break
        found = zone
    return found


def clarke_zone(truth_mgdl: float, forecast_mgdl: float) -> int:
    """Zone of one pair."""
    truth, forecast = truth_mgdl, forecast_mgdl
    if (truth <= 70 and forecast <= 70) or abs(forecast - truth) <= 0.2 * truth:
        return 0
    if (truth >= 180 and forecast <= 70) or (truth <= 70 and forecast >= 180):
        return 4
    missed_low = forecast >= 70 if truth <= 175 / 3 else truth <= 70 and 6 / 5 * truth <= forecast
    missed_high = truth >= 240 and forecast >= 70
    if forecast <= 180 and (missed_low or missed_high):
        return 3
    over = 70 <= truth <= 290 and forecast >= truth + 110
    under = 130 <= truth <= 180 and forecast <= 7 / 5 * truth - 182
    return 2 if over or under else 1


def parkes_zones(truth_mgdl: Glucose, forecast_mgdl: Glucose) -> Zones:
    """Zone of every pair, same shape as the inputs."""
    return _zones(parkes_zone, truth_mgdl, forecast_mgdl)


def clarke_zones(truth_mgdl: Glucose, forecast_mgdl: Glucose) -> Zones:
    """Zone of every pair, same shape as the inputs."""
    return _zones(clarke_zone, truth_mgdl, forecast_mgdl)


def zone_shares(zones: Zones) -> dict[str, float]:
    """Share of the pairs in each zone."""
    return {name: float(np.mean(zones == place)) for place, name in enumerate("ABCDE")}


def _zones(zone: Callable[[float, float], int], truth_mgdl: Glucose, forecast_mgdl: Glucose) -> Zones:
    truth, forecast = np.ravel(truth_mgdl).tolist(), np.ravel(forecast_mgdl).tolist()
    return np.array([zone(*pair) for pair in zip(truth, forecast, strict=True)], np.int8).reshape(np.shape(truth_mgdl))


def _height(truth_mgdl: float, line: _Line) -> float:
    """Boundary over the truth, continued with the slope of its last part."""
    for (x, y), (end_x, end_y) in itertools.pairwise(line):
        if truth_mgdl < end_x:
            return (end_y - y) / (end_x - x) * (truth_mgdl - x) + y
    return end_y + (truth_mgdl - end_x) * (end_y - y) / (end_x - x)
