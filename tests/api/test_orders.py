"""The same readings in order, shuffled within half an hour, with repeats, and with a late block, through the topics.

What each leaves is compared over HTTP and on the topics. Lanes run beside each other, so a burst may decide a target
before a late reading has changed its forecast: then a score is another, and the truth never.
"""

import datetime
import random
from typing import Any, NamedTuple

from deploy.bench.faults_audit import read_all, told
from schemas import topics
from schemas.alert import Alert
from schemas.grid import STEP
from schemas.score import TargetScore
from streams.settings import Settings
from tests.kit.falling import glucose
from tests.kit.query import Client
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

READINGS, FIRST = 144, 96
LATE = range(100, 136)
"""Three hours."""
NEVER = range(LATE.start, LATE.stop - 24)
"""Of these no forecast is issued: they are older than two hours when they come."""


class Left(NamedTuple):
    """By time: the forecast that is shown, the truths of scored targets; what became of alerts."""

    forecasts: dict[str, str]
    truths: dict[datetime.datetime, float]
    scores: int
    onsets: set[tuple[str, datetime.datetime]]


def orders() -> dict[str, list[int]]:
    chance = random.Random(7)
    last = sorted(range(FIRST, READINGS - 1), key=lambda step: step + chance.uniform(0, 6))
    repeats = [step for step in range(READINGS) for _ in range(1 + (chance.random() < 0.2))]
    early = [step for step in range(LATE.stop + 1) if step not in LATE]
    return {
        "in-order": list(range(READINGS)),
        "shuffled": [*range(FIRST), *last, READINGS - 1],
        "repeated": [*repeats, *chance.sample(range(READINGS), 10)],
        "late-block": [*early, *LATE, *range(LATE.stop + 1, READINGS)],
    }


async def left_of(client: Client, settings: Settings, subject: str) -> Left:
    answer = await client.get(f"/subjects/{subject}/forecasts", params={"limit": 288})
    charts: list[dict[str, Any]] = answer.json()["forecasts"]
    scores = [TargetScore.from_json(record.value) for record in await read_all(settings, topics.SCORES.name)]
    alerts = [Alert.from_json(record.value) for record in await read_all(settings, topics.ALERTS.name)]
    own = {score.score_id: score for score in scores if score.subject_id == subject}
    assert len({(one.score_id, one.to_json()) for one in scores if one.subject_id == subject}) == len(own)
    return Left(
        {chart["issue_time"]: chart["forecast_id"] for chart in charts},
        {score.target_time: score.truth_mgdl for score in own.values()},
        len(own),
        {(alert.kind, alert.onset_time) for alert in alerts if alert.subject_id == subject and alert.onset_time},
    )


async def test_the_order_of_readings_changes_no_forecast_and_no_truth(
    client: Client, pipeline: SmallPipeline, settings: Settings
) -> None:
    now = datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0)
    times = [(now - (READINGS - 1 - step) * STEP).isoformat() for step in range(READINGS)]
    for subject, order in orders().items():
        body = [
            {"time": times[step], "glucose": glucose(step - FIRST), "unit": "mg/dL", "simulated": True}
            for step in order
        ]
        assert (await client.post(f"/subjects/{subject}/readings", json=body)).status_code == 202

    async def settled() -> bool:
        """Every request that the readings led to has its chart; topics are read where it may be so."""
        charted = sum(pipeline.seen[topic.name] for topic in topics.FORECASTS.values())
        if (
            pipeline.seen[topics.READINGS.name] < sum(map(len, orders().values()))
            or charted < pipeline.inferred.total()
        ):
            return False
        asked = [len(await read_all(settings, topic.name)) for topic in (topics.LIVE, topics.BACKFILL)]
        outcomes = len(await read_all(settings, topics.READING_OUTCOMES.name))
        charts = len(await read_all(settings, topics.FAN_CHARTS.name))
        return outcomes == sum(map(len, orders().values())) and charts == sum(asked)

    await until_async(settled, "all forecasts", 150)
    await client.services.follower.catch_up(30)
    left = {subject: await left_of(client, settings, subject) for subject in orders()}
    expected = left["in-order"]
    assert len(expected.forecasts) == READINGS - FIRST + 1
    assert expected.onsets
    counted = await told(settings)
    assert counted.clean, "\n".join(counted.lines())
    assert (counted.scores, counted.scores_again) == (sum(one.scores for one in left.values()), 0)
    assert left["repeated"] == expected
    assert left["shuffled"].forecasts == expected.forecasts
    assert left["shuffled"].truths.items() <= expected.truths.items()
    never = {sorted(expected.forecasts)[step - FIRST + 1] for step in NEVER}
    assert left["late-block"].forecasts == {at: of for at, of in expected.forecasts.items() if at not in never}
    assert left["late-block"].truths.items() <= expected.truths.items()
