"""Rows of the table of alerts, which the steps of the charts, of the watch and of the commands share."""

from collections.abc import Sequence

from agents.work import Work
from schemas.alert import Alert, AlertState
from schemas.errors import MalformedRecordError
from schemas.tables import ALERTS_TABLE


def alerts_of(work: Work, subject_id: str) -> AlertState:
    """What is known of a subject's alerts. Of nobody, and of a row that a later version wrote, the beginning."""
    row = work.get(ALERTS_TABLE, subject_id)
    if not row:
        return AlertState()
    try:
        return AlertState.from_json(row)
    except MalformedRecordError:
        return AlertState()


def keep(work: Work, subject_id: str, state: AlertState, began_ms: int, told: Sequence[Alert] = ()) -> None:
    """`began_ms`: Unix time at which what led to it began; a reset ends what began up to its own. `told`: now."""
    why = {each.alert_id: each for each in told if each.status in ("raised", "missed")}
    recent = [
        each.model_copy(update={"first_crossing": found.first_crossing, "reason": found.reason, "began_ms": began_ms})
        if (found := why.get(each.alert_id))
        else each
        for each in state.recent
    ]
    update = {"began_ms": began_ms, "recent": tuple(recent)}
    work.put(ALERTS_TABLE, subject_id, state.model_copy(update=update).to_row())
