"""A read model without Kafka that knows some days of a subject, and its forecasts."""

import datetime
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from query_api.read_model import Entry, ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import to_row
from schemas.glucose_day import GlucoseDay
from schemas.grid import CENTI, STEP_SECONDS, STEPS_A_DAY
from schemas.tables import day_key, subject_key
from streams.topology import CHART_CHANGELOGS, DAYS_CHANGELOG

BEGAN_MS = 1_000


def read_model(directory: Path) -> ReadModel:
    """An empty one."""
    return ReadModel(Store(directory / "table", 1 << 20, 1 << 20), Subscriptions())


def slot_of(time: datetime.datetime) -> int:
    return int(time.timestamp()) // STEP_SECONDS


def day_entries(
    glucose_mgdl: Mapping[int, float], subject_id: str = "anna", zone_minutes: int = 60, began_ms: int = BEGAN_MS
) -> Iterator[Entry]:
    """What the changelog carries of a subject with these readings, by slot."""
    days: defaultdict[int, list[int]] = defaultdict(lambda: [0] * STEPS_A_DAY)
    for slot, value in glucose_mgdl.items():
        days[slot // STEPS_A_DAY][slot % STEPS_A_DAY] = round(value * CENTI)
    for day, centi in days.items():
        row = GlucoseDay(began_ms, zone_minutes, tuple(centi)).to_bytes()
        yield Entry(DAYS_CHANGELOG.name, 0, 0, day_key(subject_id, day).encode(), row)


def chart_entries(charts: Sequence[FanChart], subject_id: str = "anna") -> Iterator[Entry]:
    """What the changelog of live charts carries of them."""
    for chart in charts:
        key = subject_key(subject_id, slot_of(chart.issue_time), STEPS_A_DAY, chart.model_fingerprint)
        yield Entry(CHART_CHANGELOGS["live"].name, 0, 0, str(key).encode(), to_row(chart))


def everyday(slot: int) -> float:
    """Made-up glucose that rises after three meals (hours of UTC), a little otherwise each day: mg/dL."""
    hour, day = slot % STEPS_A_DAY / 12, slot // STEPS_A_DAY
    meals = ((7, 80), (12.5, 65), (18.5, 95))
    rises = (
        height * math.exp(-(((hour - at - 1) / 1.1) ** 2)) * (1 + 0.35 * math.sin(day * at)) for at, height in meals
    )
    return min(max(98 + sum(rises) + 26 * math.sin(day + slot / 31) - 12 * math.cos(day * 2.3), 42.0), 390.0)
