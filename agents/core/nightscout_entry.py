"""Which of Nightscout's entries are glucose: in what is uploaded, in what is pulled from a site, and in files."""

from typing import Any


def is_glucose(entry: Any, glucose: tuple[str, ...] = ("sgv",)) -> bool:
    """Whether an element is a sensor's glucose: no calibration, no finger stick, and not taken back.

    `glucose`: the names of it that make an entry without a type one.
    """
    if not isinstance(entry, dict) or entry.get("isCalibration") is True or entry.get("isValid") is False:
        return False
    kind = entry.get("type")
    return kind == "sgv" or (kind is None and any(name in entry for name in glucose))
