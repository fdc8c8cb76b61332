"""Rows of the fan-chart table: at each place one chart of the served model, and beside it those of models on trial."""

import datetime
from collections.abc import Iterator
from typing import NamedTuple

from agents.work import Work
from schemas.errors import MalformedRecordError
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import head_of, to_row
from schemas.grid import STEP_SECONDS
from schemas.tables import FAN_CHARTS_TABLE as TABLE
from schemas.tables import ChartKey, handle_key, subject_key


class Stored(NamedTuple):
    """What has to be known of a row before another one takes its place."""

    slot: int
    model_serves: bool


def key_of(chart: FanChart, history_steps: int) -> ChartKey:
    """Where a chart is kept. Raises `MalformedRecordError` for a sample's chart without handle or index."""
    if chart.kind == "live":
        return subject_key(chart.series_key, slot_of(chart.issue_time), history_steps, chart.model_fingerprint)
    if chart.handle is None or chart.index is None:
        raise MalformedRecordError("a sample's fan chart needs handle and index")
    return handle_key(chart.handle, chart.index, chart.model_fingerprint)


def slot_of(time: datetime.datetime) -> int:
    """The UTC 5-minute slot nearest to a time."""
    return round(time.timestamp() / STEP_SECONDS)


def store(work: Work, chart: FanChart, history_steps: int) -> None:
    """Keep a chart and let go of those that it replaces: of its own model, and if it is served of all served before.

    A chart on trial never takes a served one away, not even that of its own model, which was served before. A live
    chart from an earlier round of the ring changes nothing: a backlog is news for nobody who looks things up.
    """
    key = key_of(chart, history_steps)
    rivals = [(str(key), own)] if (own := _stored(work.get(TABLE, str(key)))) else []
    if chart.model_serves:
        rivals += [(other, stored) for other, stored in _others(work, key) if stored.model_serves]
    elif any(stored.model_serves for _, stored in rivals):
        return
    if chart.kind == "live" and any(stored.slot > slot_of(chart.issue_time) for _, stored in rivals):
        return
    work.put(TABLE, str(key), to_row(chart))
    for other, _ in rivals:
        if other != str(key):
            work.delete(TABLE, other)


def _others(work: Work, key: ChartKey) -> Iterator[tuple[str, Stored]]:
    """Rows of other models at the same place, also the one from before models were told apart."""
    for other in (*work.keys(TABLE, f"{key.place}/"), key.place):
        if other != str(key) and (stored := _stored(work.get(TABLE, other))) is not None:
            yield other, stored


def _stored(row: bytes | None) -> Stored | None:
    """None where there is no row or it cannot be read."""
    if not row:
        return None
    try:
        head = head_of(row)
        return Stored(slot_of(datetime.datetime.fromisoformat(head.issue_time)), head.model_serves)
    except (MalformedRecordError, ValueError):
        return None
