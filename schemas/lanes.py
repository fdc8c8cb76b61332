"""The lanes that work goes through from request to answer: what somebody waits for, what is live, and all the rest."""

from typing import Literal

Lane = Literal["interactive", "live", "backfill"]
LANES: tuple[Lane, ...] = ("interactive", "live", "backfill")
"""By priority, the highest first."""
