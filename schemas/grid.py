"""The numbers that everything agrees on: the grid of time, the window, the levels of a fan chart, possible glucose."""

import datetime

STEP_SECONDS = 300
"""Points lie 5 minutes apart."""
STEP_MINUTES = STEP_SECONDS // 60
STEP = datetime.timedelta(seconds=STEP_SECONDS)
STEPS_A_DAY = 24 * 3600 // STEP_SECONDS

PAST_POINTS = 96
"""What a model sees: 8 hours."""
HORIZON_STEPS = 12
"""What it forecasts: the hour after."""
PAST_HOURS = 168
"""What a model may see of the time before those: an hour's mean for each hour of a week."""
WINDOW_POINTS = PAST_POINTS + HORIZON_STEPS
"""A window together with its target hour."""

FIRST_SAMPLES = (0, HORIZON_STEPS)
"""Samples that every new upload asks for at once: the last recorded hour with its truth, and the real forecast."""

MOST_INTERPOLATED = PAST_POINTS - 28
"""Points of a window that may be interpolated: no more are where readings lie 17.5 minutes apart, the most that is no
gap, so that 28 lie in a window. Of a sensor that shows a value every quarter of an hour 64 are, and its users get
forecasts that say so. What it costs them was measured (agents/models/bundled/MODEL_CARD.md, "With fewer readings"): too
little to refuse it. A request that says more is made up."""

PRESENT = datetime.timedelta(minutes=15)
"""How long after its last known point a forecast is the present one: two further readings should have come by then."""

QUANTILE_LEVELS = (0.025, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.975)
THRESHOLDS_MGDL = (54.0, 70.0, 180.0, 250.0)
"""Event probabilities are published for them. What was measured is above one beyond its `highest_within`."""

MGDL_PER_MMOLL = 18.016
"""Molar mass of glucose, 180.16 g/mol, over ten."""
LOWEST_MGDL, HIGHEST_MGDL = 20.0, 600.0
"""Glucose outside is impossible in a living person: rejected as a reading, published by no forecast."""
LOWEST_SENSOR_MGDL = 39.0
"""Sensors show nothing lower: Dexcom sends 1 to 12 and xDrip+ 38 as codes of errors, and Nightscout counts all below 39
as such (its entries of type sgv)."""
CENTI = 100
"""Glucose travels and is hashed in hundredths of mg/dL, as integers: equal on every platform and library version."""


EARLIEST_SLOT, LATEST_SLOT = -2_209_075_200 // STEP_SECONDS, 253_402_214_400 // STEP_SECONDS
"""1899-12-31T00:00Z, before the first reading that is taken, whatever its offset from UTC; and 9999-12-31T00:00Z, the
last whose time every offset has a date for."""


def highest_within(threshold_mgdl: float) -> float:
    """Up to which measured glucose is not above a threshold of highs (mg/dL): what is shown as the threshold is not.

    Half a mg/dL more than the threshold. The upper limits of the consensus on time in range (Battelino et al. 2019) are
    180 and 250 mg/dL, and 10.0 and 13.9 mmol/L, which are 180.16 and 250.42 mg/dL: within as well. No whole mg/dL and
    no other tenth of a mmol/L changes sides. The lower ones need nothing: 3.0 and 3.9 mmol/L are 54.05 and 70.26 mg/dL.
    """
    return threshold_mgdl + 0.5


def slot_of(time: datetime.datetime) -> int:
    """The UTC 5-minute slot nearest to a time."""
    return round(time.timestamp() / STEP_SECONDS)
