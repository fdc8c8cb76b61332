"""Fan charts and settings as JSON answers: in the unit that is asked for, with densities where these are asked for."""

import math
from collections.abc import Sequence
from typing import Any

from agents.core.density_curves import DensityCurve, epistemic_curves, predictive_curves
from schemas.alert import OWN_MGDL, AlertSettings
from schemas.fan_chart import FanChart
from schemas.grid import MGDL_PER_MMOLL
from schemas.reading import Unit

_DIGITS = 3
_LOWEST_HIGH_MGDL = OWN_MGDL["high"][0]
"""Above all thresholds that a low may have."""


def document(chart: FanChart, unit: Unit, curves: bool) -> dict[str, Any]:
    """The chart's JSON object; with `curves` also ``fan`` and ``epistemic_fan``, a density a target time.

    In mmol/L every ``…_mgdl`` is called ``…_mmoll``, and densities are those of mmol/L. Fields like ``p_below_70`` keep
    their names: they name thresholds of 54, 70, 180 and 250 mg/dL.
    """
    found: dict[str, Any] = chart.model_dump(mode="json")
    if curves:
        found |= {"fan": _curves(predictive_curves(chart)), "epistemic_fan": _curves(epistemic_curves(chart))}
    return found if unit == "mg/dL" else _convert(found) | {"unit": unit}


def settings_document(settings: AlertSettings, unit: Unit) -> dict[str, Any]:
    """Likewise: the names of their fields say the unit.

    Sent back they are what they were, to the hundredth of mg/dL that they are kept to: whoever changes one and sends
    all has not changed the others. Of a threshold that is another no alert holds.
    """
    found: dict[str, Any] = settings.model_dump(mode="json")
    if unit == "mg/dL":
        return found
    told: dict[str, Any] = _convert(found, comes_back=True)
    for kind, rule in told.items():
        if isinstance(rule, dict) and (mmoll := rule.get("threshold_mmoll")) is not None:
            tenth = round(mmoll, 1)
            if threshold_mgdl(tenth) == found[kind]["threshold_mgdl"]:
                rule["threshold_mmoll"] = tenth
    return told


def threshold_mgdl(mmoll: float) -> float:
    """A threshold that was given in mmol/L: of a whole tenth in whole mg/dL, of any other to a hundredth.

    So 3.0, 3.9, 10.0 and 13.9 mmol/L are 54, 70, 180 and 250. Of lows it is the next lower number: 72 mg/dL are shown
    as 4.0 mmol/L, which are 72.06, and are not below it. Of highs the nearest, which `highest_within` goes by.
    """
    mgdl = mmoll * MGDL_PER_MMOLL
    if round(mmoll, 1) != mmoll:
        return round(mgdl, 2)
    return float(math.floor(mgdl) if mgdl < _LOWEST_HIGH_MGDL else round(mgdl))


def _curves(curves: Sequence[DensityCurve]) -> list[dict[str, list[float]]]:
    return [
        {"glucose_mgdl": [round(level, 2) for level in glucose], "density": [float(f"{each:.4g}") for each in density]}
        for glucose, density in curves
    ]


def _convert(value: Any, factor: float | None = None, comes_back: bool = False) -> Any:
    if isinstance(value, dict):
        return {_renamed(name): _convert(item, _factor(name) or factor, comes_back) for name, item in value.items()}
    if isinstance(value, list):
        return [_convert(item, factor, comes_back) for item in value]
    if isinstance(value, float | int) and factor is not None and not isinstance(value, bool):
        return _rounded(value, factor, comes_back) if factor < 1 else value * factor
    return value


def _rounded(value: float, factor: float, comes_back: bool) -> float:
    """With a digit more where it would not come back."""
    short = round(value * factor, _DIGITS)
    return (
        short if not comes_back or round(short / factor, 2) == round(value, 2) else round(value * factor, _DIGITS + 1)
    )


def _factor(name: str) -> float | None:
    if name.endswith("_mgdl"):
        return 1 / MGDL_PER_MMOLL
    return MGDL_PER_MMOLL if name == "density" else None


def _renamed(name: str) -> str:
    return name.removesuffix("_mgdl") + "_mmoll" if name.endswith("_mgdl") else name
