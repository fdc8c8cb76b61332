"""Fan charts in mmol/L: every glucose field is converted and named after its unit."""

from typing import Any

from schemas.fan_chart import FanChart
from schemas.grid import MGDL_PER_MMOLL

_DIGITS = 3


def in_mmoll(chart: FanChart) -> dict[str, Any]:
    """The chart's JSON object with ``…_mmoll`` for ``…_mgdl``; densities become those of mmol/L.

    Fields like ``p_below_70`` keep their names: they name thresholds of 54, 70, 180 and 250 mg/dL.
    """
    converted: dict[str, Any] = _convert(chart.model_dump(mode="json"))
    return converted | {"unit": "mmol/L"}


def _convert(value: Any, factor: float | None = None) -> Any:
    if isinstance(value, dict):
        return {_renamed(name): _convert(item, _factor(name) or factor) for name, item in value.items()}
    if isinstance(value, list):
        return [_convert(item, factor) for item in value]
    if isinstance(value, float | int) and factor is not None and not isinstance(value, bool):
        return round(value * factor, _DIGITS) if factor < 1 else value * factor
    return value


def _factor(name: str) -> float | None:
    if name.endswith("_mgdl"):
        return 1 / MGDL_PER_MMOLL
    return MGDL_PER_MMOLL if name == "density" else None


def _renamed(name: str) -> str:
    return name.removesuffix("_mgdl") + "_mmoll" if name.endswith("_mgdl") else name
