"""Rows of the fan-chart tables: at each place one chart of the served model, and beside it those of models on trial."""

import contextlib
import datetime
from collections.abc import Iterator
from typing import NamedTuple

from agents.work import Work
from schemas.errors import MalformedRecordError
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import from_row, head_of, to_row
from schemas.grid import slot_of
from schemas.lanes import LANES, Lane
from schemas.tables import FAN_CHART_TABLES, ChartKey, handle_key, subject_key


class Stored(NamedTuple):
    """What has to be known of a row before another one takes its place."""

    lane: Lane
    key: str
    slot: int
    began_ms: int
    revision: int
    model_serves: bool


def key_of(chart: FanChart, history_steps: int) -> ChartKey:
    """Where a chart is kept. Raises `MalformedRecordError` for a sample's chart without handle or index."""
    if chart.kind == "live":
        return subject_key(chart.series_key, slot_of(chart.issue_time), history_steps, chart.model_fingerprint)
    if chart.handle is None or chart.index is None:
        raise MalformedRecordError("a sample's fan chart needs handle and index")
    return handle_key(chart.handle, chart.index, chart.model_fingerprint)


def store(work: Work, lane: Lane, chart: FanChart, history_steps: int) -> None:
    """Keep a chart and let go of those that it replaces: of its own model, and if it is served of all served before.

    A chart on trial never takes a served one away, not even that of its own model, which was served before. A live
    chart from an earlier round of the ring changes nothing: a backlog is news for nobody who looks things up. Nor does
    one that goes back to an earlier reading than the row: what was corrected meanwhile, in another lane (of readings
    that came in one millisecond the later one has the higher revision). A chart
    lies in its lane's table, but where one of a higher lane lies at its place already it takes that one's: so the
    changelog of the higher lane, which is read first, never takes away what a lower one has yet to bring. A served
    live chart also takes away what models on trial left in an earlier round of the ring.
    """
    key = key_of(chart, history_steps)
    present = list(_rivals(work, key))
    rivals = [rival for rival in present if rival.key == str(key) or rival.model_serves]
    own = [rival for rival in rivals if rival.key == str(key)]
    if not chart.model_serves:
        rivals = own
        if any(rival.model_serves for rival in own):
            return
    order = (slot_of(chart.issue_time), chart.began_ms, chart.revision)
    if chart.kind == "live" and any((rival.slot, rival.began_ms, rival.revision) > order for rival in rivals):
        return
    table = FAN_CHART_TABLES[min((lane, *(rival.lane for rival in rivals)), key=LANES.index)]
    work.put(table, str(key), to_row(chart))
    if chart.kind == "live" and chart.model_serves:  # of a trial that has ended nothing else takes the place
        rivals += [each for each in present if each not in rivals and each.slot < order[0]]
    for rival in rivals:
        if (FAN_CHART_TABLES[rival.lane], rival.key) != (table, str(key)):
            work.delete(FAN_CHART_TABLES[rival.lane], rival.key)


def same_stored(work: Work, chart: FanChart, history_steps: int) -> FanChart | None:
    """The chart of the same id at this one's place, as it was published when it came; None where there is none."""
    key = str(key_of(chart, history_steps))
    for table in FAN_CHART_TABLES.values():
        with contextlib.suppress(MalformedRecordError):
            if (row := work.get(table, key)) and (found := from_row(row)).chart_id == chart.chart_id:
                return found
    return None


def _rivals(work: Work, key: ChartKey) -> Iterator[Stored]:
    """All rows at a place: of any model and lane, also those from before models were told apart."""
    for lane, table in FAN_CHART_TABLES.items():
        for other in (*work.keys(table, f"{key.place}/"), key.place):
            if (stored := _stored(lane, other, work.get(table, other))) is not None:
                yield stored


def _stored(lane: Lane, key: str, row: bytes | None) -> Stored | None:
    """None where there is no row or it cannot be read."""
    if not row:
        return None
    try:
        head = head_of(row)
        slot = slot_of(datetime.datetime.fromisoformat(head.issue_time))
        return Stored(lane, key, slot, head.began_ms, head.revision, head.model_serves)
    except (MalformedRecordError, ValueError):
        return None
