"""Which change of glucose is possible: what is faster is a mistake of the sensor, and no ground for a forecast."""

import itertools
from collections.abc import Sequence

from schemas.grid import CENTI, STEP_MINUTES

FASTEST_MGDL_PER_MINUTE = 10.0
"""Of 1.3 M five-minute steps of 5 open data sets of sensors (AZT1D, Bris-T1D, BIG IDEAs, Colas 2019, Hall 2018) 0.02 %
change faster; glucose in a person hardly ever exceeds 4 to 5 mg/dL a minute."""
LAST_STEPS = 3
"""How far before the last point a jump still spoils the forecast: the quarter of an hour that trends are read from."""


def implausible_change(past_centi: Sequence[int]) -> str | None:
    """Why no forecast can be made of points 5 minutes apart, in hundredths of mg/dL; None where they are plausible."""
    last = past_centi[-1 - LAST_STEPS :]
    fastest = max((abs(after - before) for before, after in itertools.pairwise(last)), default=0) / CENTI
    if fastest <= FASTEST_MGDL_PER_MINUTE * STEP_MINUTES:
        return None
    return (
        f"the glucose changes by {fastest:.0f} mg/dL in {STEP_MINUTES} minutes, which no body does: a forecast needs "
        f"{LAST_STEPS * STEP_MINUTES} minutes without such a jump"
    )
