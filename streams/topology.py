"""The whole of glucast on one page: which step of which role reads what, keeps what and writes what.

device ──▶ cgm.readings ─────────────────▶ [window] ──────────────┐
file ────▶ cgm.uploads ─▶ [unify] ─▶ cgm.series ─▶ [handle] ──────┤
draw ────▶ cgm.forecast-demands ─────────▶ [request] ─────────────┤
                                                                  ▼
                        cgm.forecast-requests.{interactive, live, backfill}
                                                                  ▼
                                         [infer]  micro-batches, MC dropout
                                                                  ▼
                                                          cgm.forecasts
                                                                  ▼
                         [calc] ─▶ fan-chart table ─▶ query_api (its changelog)
                            └────▶ cgm.fan-charts ──▶ everybody else

cgm.cache-commands reaches [forget] (series) and [amend] (fan charts). A step that rejects writes an outcome, a step
that fails writes to cgm.dead-letters.
"""

import dataclasses
from typing import Literal

from schemas import topics
from schemas.topics import Topic

Role = Literal["ingest", "inference", "calc"]


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One agent: the module ``agents.<name>`` builds what it does to each message of `reads`.

    Tables are kept by the role and shared by its steps; a step touches only keys that live in its message's partition.
    """

    name: str
    role: Role
    reads: Topic
    writes: tuple[Topic, ...]
    tables: tuple[str, ...]
    about: str


STEPS: tuple[Step, ...] = (
    Step("unify", "ingest", topics.UPLOADS, (topics.SERIES, topics.UPLOAD_OUTCOMES), (),
         "reads any vendor's file into one gap-free series and hashes it"),
    Step("handle", "ingest", topics.SERIES, (topics.UPLOAD_OUTCOMES, topics.INTERACTIVE, topics.BACKFILL), ("series",),
         "stores the series under its content hash and asks for the forecasts that it lacks"),
    Step("window", "ingest", topics.READINGS, (topics.READINGS, topics.READING_OUTCOMES, topics.LIVE), ("subjects",),
         "keeps a rolling window a subject and asks for the forecast that each new reading allows"),
    Step("request", "ingest", topics.DEMANDS,
         (topics.INTERACTIVE, topics.BACKFILL, topics.REQUEST_OUTCOMES), ("series",),
         "turns a demand into requests that carry their window"),
    Step("forget", "ingest", topics.CACHE_COMMANDS, (topics.UPLOAD_OUTCOMES,), ("series",),
         "deletes series and the outcomes that point to them"),
    Step("infer", "inference", topics.INTERACTIVE, (topics.FORECASTS, topics.REQUEST_OUTCOMES), (),
         "draws Monte Carlo samples in micro-batches, lanes by priority"),
    Step("infer", "inference", topics.LIVE, (topics.FORECASTS, topics.REQUEST_OUTCOMES), (),
         "the same, second"),
    Step("infer", "inference", topics.BACKFILL, (topics.FORECASTS, topics.REQUEST_OUTCOMES), (),
         "the same, when nothing else waits, and a share of it always"),
    Step("calc", "calc", topics.FORECASTS, (topics.FAN_CHARTS, topics.REQUEST_OUTCOMES), ("fan-charts",),
         "turns samples into calibrated fan charts and event probabilities"),
    Step("amend", "calc", topics.CACHE_COMMANDS, (), ("fan-charts",),
         "deletes and restores fan charts"),
)  # fmt: skip

ROLES: tuple[Role, ...] = ("ingest", "inference", "calc")


def app_id(role: Role, lane: str | None = None) -> str:
    """The Faust app id, which is also the consumer group: ``glucast-ingest``, ``glucast-inference-live``, …"""
    return f"glucast-{role}" if lane is None else f"glucast-{role}-{lane}"


def steps_of(role: Role) -> tuple[Step, ...]:
    """The steps that a role runs, in the order of the page."""
    return tuple(step for step in STEPS if step.role == role)


def tables_of(role: Role) -> tuple[str, ...]:
    """The tables that a role keeps."""
    return tuple(dict.fromkeys(table for step in steps_of(role) for table in step.tables))


def changelogs() -> tuple[Topic, ...]:
    """The changelog topics of all roles."""
    return tuple(topics.changelog(app_id(role), table) for role in ROLES for table in tables_of(role))


def all_topics() -> tuple[Topic, ...]:
    """Every topic that has to exist before a worker starts."""
    return topics.TOPICS + changelogs()


FAN_CHART_CHANGELOG = topics.changelog(app_id("calc"), "fan-charts")
