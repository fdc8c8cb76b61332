"""The whole pipeline on one page: who reads what, keeps what and writes what.

device ──▶ cgm.readings ─────────────────▶ [window] ──────────────┐
file ────▶ cgm.uploads ─▶ [unify] ─▶ cgm.series ─▶ [handle] ──────┤
plot ────▶ cgm.forecast-demands ─────────▶ [request] ─────────────┤
                                                                  ▼
                        cgm.forecast-requests.{interactive, live, backfill}
                                                                  ▼
                                         [infer]  micro-batches, MC dropout
                                                                  ▼
                               cgm.forecasts.{interactive, live, backfill}
                                                                  ▼
                         [calc] ─▶ fan-chart tables, one a lane ─▶ [query_api] (their changelogs)
                            ├────▶ cgm.fan-charts, cgm.scores, cgm.alerts ──▶ everybody else
                            ├────▶ scores table: what truths the forecasts met ─▶ [calc], [query_api]
                            └────▶ alerts table ─────────────▶ [query_api]
      cgm.alerts, cgm.fan-charts ─▶ [notify] ─▶ webhooks, Nightscout, MQTT; cgm.webhooks, -deliveries ─▶ [query_api]

[window] also tells on cgm.arrivals that readings came, and passes ticks on: [watch] tells where none come, or errors.
cgm.cache-commands reaches [series_commands] and [chart_commands], which delete and restore; [window] sends one where a
subject is reset, [handle] for a series that it lets go. A step that rejects writes an outcome, a step that fails
writes to cgm.dead-letters. What stands here is enforced: `agents.work.Work` refuses any other topic or table. The
diagram and the AsyncAPI document are generated from here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from schemas import topics
from schemas.lanes import Lane
from schemas.tables import (
    ALERTS_TABLE,
    DAYS_TABLE,
    DELETIONS_TABLE,
    FAN_CHART_TABLES,
    SCORES_TABLE,
    SERIES_TABLE,
    SOURCES_TABLE,
    SUBJECTS_TABLE,
    WATCH_TABLE,
)
from schemas.topics import Topic

WorkerRole = Literal["ingest", "inference", "calc"]
Role = Literal["ingest", "inference", "calc", "query", "notify"]


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """Something that reads messages and has declared effects.

    The module ``agents.<role>.<name>`` builds what a worker's step does to each message of `reads`; tables are kept by
    the role and shared by its steps, and a step touches only keys that live in its message's partition. The query role
    is no worker: it follows `reads` into its read model and sends what clients ask for. Nor is notify, which reads what
    everybody may read and keeps what it has still to send on a topic.
    """

    name: str
    role: Role
    reads: tuple[Topic, ...]
    writes: tuple[Topic, ...]
    tables: tuple[str, ...]
    about: str
    by_partition: bool = False
    """Whether messages of different partitions are worked on at the same time. For a step that waits for somebody else
    and keeps no table."""

    @property
    def by_lane(self) -> Mapping[Lane, Topic]:
        """What it reads, where that is a topic a lane: then lanes have turns by priority. Else empty."""
        lanes = (topics.FORECASTS, topics.LANE_TOPICS)
        return next((by_lane for by_lane in lanes if self.reads == tuple(by_lane.values())), {})


def app_id(role: Role, lane: str | None = None) -> str:
    """The Faust app id, which is also the consumer group: ``glucast-ingest``, ``glucast-inference-live``, …"""
    return f"glucast-{role}" if lane is None else f"glucast-{role}-{lane}"


FORECASTS = tuple(topics.FORECASTS.values())
CHART_TABLES = tuple(FAN_CHART_TABLES.values())
CHART_CHANGELOGS: dict[Lane, Topic] = {
    lane: topics.changelog(app_id("calc"), table) for lane, table in FAN_CHART_TABLES.items()
}
SCORES_CHANGELOG = topics.changelog(app_id("calc"), SCORES_TABLE)

ALERTS_CHANGELOG: Topic = topics.changelog(app_id("calc"), ALERTS_TABLE)
SOURCES_CHANGELOG = topics.changelog(app_id("ingest"), SOURCES_TABLE)
DAYS_CHANGELOG = topics.changelog(app_id("ingest"), DAYS_TABLE)

STEPS: tuple[Step, ...] = (
    Step("unify", "ingest", (topics.UPLOADS,), (topics.SERIES, topics.UPLOAD_OUTCOMES), (),
         "reads any vendor's file into one gap-free series and hashes it", by_partition=True),
    Step("handle", "ingest", (topics.SERIES,),
         (topics.UPLOAD_OUTCOMES, topics.INTERACTIVE, topics.BACKFILL, topics.CACHE_COMMANDS),
         (SERIES_TABLE,), "stores the series under its content hash and asks for the forecasts that it lacks"),
    Step("window", "ingest", (topics.READINGS,),
         (topics.READINGS, topics.READING_OUTCOMES, topics.LIVE, topics.BACKFILL, topics.CACHE_COMMANDS,
          topics.ARRIVALS),
         (SUBJECTS_TABLE, DAYS_TABLE, SOURCES_TABLE),
         "keeps a subject's rolling window, days and sources, and asks for the forecast that each new reading allows"),
    Step("request", "ingest", (topics.DEMANDS,),
         (topics.INTERACTIVE, topics.LIVE, topics.BACKFILL, topics.REQUEST_OUTCOMES), (SERIES_TABLE,),
         "turns a demand into requests that carry their window"),
    Step("series_commands", "ingest", (topics.CACHE_COMMANDS,), (topics.UPLOAD_OUTCOMES, topics.CACHE_COMMANDS),
         (SERIES_TABLE, SUBJECTS_TABLE, SOURCES_TABLE),
         "deletes series and the outcomes that point to them; settings of alerts count as heard of"),
    Step("infer", "inference", (topics.INTERACTIVE, topics.LIVE, topics.BACKFILL),
         (*FORECASTS, topics.REQUEST_OUTCOMES, topics.BACKFILL, topics.REPLAYS), (),
         "samples in micro-batches, lanes by priority and a share for each"),
    Step("calc", "calc", FORECASTS,
         (topics.FAN_CHARTS, topics.SCORES, topics.ALERTS, topics.REQUEST_OUTCOMES, topics.REPLAYS),
         (*CHART_TABLES, SCORES_TABLE, ALERTS_TABLE),
         "turns samples into calibrated fan charts, event probabilities and alerts, and scores them by the truth"),
    Step("watch", "calc", (topics.ARRIVALS,), (topics.ALERTS,), (WATCH_TABLE, ALERTS_TABLE, DELETIONS_TABLE),
         "tells where readings stay away or are errors of the sensor"),
    Step("chart_commands", "calc", (topics.CACHE_COMMANDS,), (),
         (*CHART_TABLES, SCORES_TABLE, ALERTS_TABLE, WATCH_TABLE),
         "deletes and restores fan charts; settings and snooze of alerts"),
    Step("query_api", "query",
         (*CHART_CHANGELOGS.values(), SCORES_CHANGELOG, ALERTS_CHANGELOG, DAYS_CHANGELOG, SOURCES_CHANGELOG,
          topics.WEBHOOKS, topics.WEBHOOK_DELIVERIES, topics.UPLOAD_OUTCOMES,
          topics.READING_OUTCOMES, topics.REQUEST_OUTCOMES),
         (topics.UPLOADS, topics.READINGS, topics.SERIES, topics.DEMANDS, topics.CACHE_COMMANDS), (),
         "answers over HTTP from what it has followed, and asks for what is missing"),
    Step("notify", "notify",
         (topics.ALERTS, topics.FAN_CHARTS, topics.READING_OUTCOMES, topics.WEBHOOKS, topics.WEBHOOK_DELIVERIES),
         (topics.WEBHOOKS, topics.WEBHOOK_DELIVERIES), (),
         "sends alerts and forecasts to webhooks, ntfy, Nightscout and MQTT, and keeps what is still to be sent"),
)  # fmt: skip

WORKER_ROLES: tuple[WorkerRole, ...] = ("ingest", "inference", "calc")
ROLES: tuple[Role, ...] = (*WORKER_ROLES, "query", "notify")


def step_of(name: str) -> Step:
    """The step of this name. KeyError for a name that the page does not know."""
    return {step.name: step for step in STEPS}[name]


def steps_of(role: Role) -> tuple[Step, ...]:
    """The steps that a role runs, in the order of the page."""
    return tuple(step for step in STEPS if step.role == role)


def worker_groups() -> dict[str, tuple[Topic, ...]]:
    """The consumer groups of the workers, and the topics that each reads: inference has one a lane."""
    groups: dict[str, tuple[Topic, ...]] = {}
    for role in WORKER_ROLES:
        for step in steps_of(role):
            if role == "inference":
                groups |= {app_id(role, lane): (topic,) for lane, topic in step.by_lane.items()}
            else:
                groups[app_id(role)] = tuple(dict.fromkeys((*groups.get(app_id(role), ()), *step.reads)))
    return groups


TRIAL_LANES: tuple[Lane, ...] = ("live", "backfill")
"""What a model on trial reads: the requests of subjects. Nobody waits for it."""


def trial_groups() -> dict[str, tuple[Topic, ...]]:
    """The consumer groups of the workers whose model is on trial: they get every request beside the served one."""
    by_lane = step_of("infer").by_lane
    return {app_id("inference", trial_lane(lane)): (by_lane[lane],) for lane in TRIAL_LANES}


def trial_lane(lane: Lane) -> str:
    """What the App of a lane is called where the model is on trial."""
    return f"trial-{lane}"


def groups_of(role: Role) -> tuple[str, ...]:
    """The consumer groups that a role's processes join; the query role follows without one."""
    own = app_id(role)
    if role == "notify":
        return (own,)
    return tuple(group for group in worker_groups() if group == own or group.startswith(f"{own}-"))


def tables_of(role: Role) -> tuple[str, ...]:
    """The tables that a role keeps."""
    return tuple(dict.fromkeys(table for step in steps_of(role) for table in step.tables))


def changelogs() -> tuple[Topic, ...]:
    """The changelog topics of all roles."""
    return tuple(topics.changelog(app_id(role), table) for role in WORKER_ROLES for table in tables_of(role))


def all_topics() -> tuple[Topic, ...]:
    """Every topic that has to exist before a worker starts."""
    return topics.TOPICS + changelogs()
