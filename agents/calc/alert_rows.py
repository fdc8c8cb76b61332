"""Rows of the table of alerts, which the steps of the charts, of the watch and of the commands share."""

from agents.work import Work
from schemas.alert import AlertState
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


def keep(work: Work, subject_id: str, state: AlertState, began_ms: int) -> None:
    """`began_ms`: Unix time at which what led to it began; a reset ends what began up to its own."""
    work.put(ALERTS_TABLE, subject_id, state.model_copy(update={"began_ms": began_ms}).to_row())
