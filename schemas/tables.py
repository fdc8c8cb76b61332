"""The workers' tables by name, and the keys of the fan-chart tables, which their changelogs carry to the query role.

A fan chart lies at a place, under the model that made it: ``handle/<handle>/<index>/<model>`` or
``subject/<subject id>/<slot of the ring>/<model>``, where the model is the first 16 digits of its fingerprint. One
model is served; charts of others may lie beside its own and can never overwrite them.
"""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.lanes import Lane

SERIES_TABLE = "series"
SUBJECTS_TABLE = "subjects"
"""Of the ingest role: a subject's window under its id, and when it was heard of last."""
SOURCES_TABLE = "sources"
"""Of the ingest role: a `schemas.sources.SourceState` under each subject's id."""
DAYS_TABLE = "days"
"""Of the ingest role: a `schemas.glucose_day.GlucoseDay` a subject and day, for reports."""
FAN_CHART_TABLES: dict[Lane, str] = {
    "interactive": "fan-charts-interactive",
    "live": "fan-charts-live",
    "backfill": "fan-charts",
}
"""By the lane that made a chart, so that each lane has a changelog of its own: nobody who waits is behind a backlog."""
SCORES_TABLE = "scores"
"""Of the calc role: a `schemas.score_state.ScoreState` under each subject's id, of the served model, and one under its
`trial_key`."""
ALERTS_TABLE = "alerts"
"""What is known of each subject's alerts, under its id."""
WATCH_TABLE = "watch"
"""Of the calc role: when a subject was heard of, under its id; ``due/<Unix ms>/<subject id>`` is when to look again."""
DELETIONS_TABLE = FAN_CHART_TABLES["backfill"]
"""Where the markers of what was deleted lie, for all of them."""

MODEL_DIGITS = 16
_HANDLE, _SUBJECT = "handle", "subject"


class ChartKey(NamedTuple):
    """A key of the fan-chart table: `kind` is handle or subject, `owner` which one, `position` the index or slot.

    `model` is empty in rows that were written before models were told apart.
    """

    kind: str
    owner: str
    position: str
    model: str

    @classmethod
    def parse(cls, key: str) -> "ChartKey | None":
        """None for a key that is no chart's: a deletion marker, or what a later version may add."""
        kind, *rest = key.split("/")
        if kind not in (_HANDLE, _SUBJECT) or len(rest) not in (2, 3):
            return None
        return cls(kind, rest[0], rest[1], rest[2] if len(rest) == 3 else "")

    @property
    def place(self) -> str:
        return f"{self.kind}/{self.owner}/{self.position}"

    def __str__(self) -> str:
        return f"{self.place}/{self.model}" if self.model else self.place


ALL_HANDLES = f"{_HANDLE}/"
"""What the keys of all handles begin with."""


def handle_prefix(handle: str) -> str:
    """What the keys of one handle begin with."""
    return f"{_HANDLE}/{handle}/"


def subject_prefix(subject_id: str) -> str:
    """What the keys of one subject begin with. Subject ids hold no slash."""
    return f"{_SUBJECT}/{subject_id}/"


def trial_key(subject_id: str) -> str:
    """Under which the scores of the model on trial lie, beside the subject's own. Subject ids hold no slash."""
    return f"{subject_id}/trial"


def handle_key(handle: str, index: int, model_fingerprint: str) -> ChartKey:
    """The row of a sample."""
    return ChartKey(_HANDLE, handle, str(index), model_fingerprint[:MODEL_DIGITS])


def days_prefix(subject_id: str) -> str:
    """What the keys of a subject's days begin with."""
    return f"{subject_id}/"


def day_key(subject_id: str, day: int) -> str:
    """The row of a day, counted since 1970 in UTC."""
    return f"{days_prefix(subject_id)}{day}"


def day_of(key: str) -> int:
    """The day of a key that `day_key` made. Raises ValueError for any other."""
    return int(key.rpartition("/")[2])


def subject_key(subject_id: str, slot: int, history_steps: int, model_fingerprint: str) -> ChartKey:
    """The row of a live forecast, in a ring: it takes the row of the one `history_steps` slots before it."""
    return ChartKey(_SUBJECT, subject_id, str(slot % history_steps), model_fingerprint[:MODEL_DIGITS])


_ID = "{subject}"
_ROWS: Mapping[str, tuple[str, ...]] = {
    SERIES_TABLE: (),
    SUBJECTS_TABLE: (_ID, f"{_ID}/seen", f"seen-on/*/{_ID}"),
    SOURCES_TABLE: (_ID,),
    DAYS_TABLE: (f"{_ID}/*",),
    **dict.fromkeys(FAN_CHART_TABLES.values(), (f"{_SUBJECT}/{_ID}/*", f"{_SUBJECT}/{_ID}/*/*")),
    SCORES_TABLE: (_ID, f"{_ID}/trial"),
    ALERTS_TABLE: (_ID,),
    WATCH_TABLE: (_ID, f"due/*/{_ID}"),
}
"""The keys of each table that name a subject. The others name nobody: handles, series, and markers of digests."""


def subject_of_row(table: str, key: str) -> str | None:
    """Whose row a key of a table is, by its place in that table's form; None for nobody's.

    A subject may be called as any other part of a key. Raises KeyError for a table that is not listed here.
    """
    parts = key.split("/")
    for form in _ROWS[table]:
        wanted = form.split("/")
        if len(wanted) == len(parts) and all(
            each in ("*", _ID, part) for each, part in zip(wanted, parts, strict=True)
        ):
            return parts[wanted.index(_ID)]
    return None
