"""The audit of scores and alerts finds what is missing, twice, changed or made up; and nothing where all is well."""

import json
from typing import NamedTuple

import pytest

from deploy.bench.told_audit import Told, ToldAudit
from schemas.topics import ALERTS, FAN_CHARTS, SCORES
from tests.kit.falling import BEGIN_MS, STEP_MS, falling
from tests.kit.workbench import Workbench, built, of


class Left(NamedTuple):
    """What a run leaves on the topics."""

    charts: list[bytes]
    scores: list[bytes]
    alerts: list[bytes]


@pytest.fixture(scope="module")
def left() -> Left:
    """Of a falling person, delivered twice in places."""
    import asyncio

    bench, calc = Workbench(), built("calc")

    async def live() -> None:
        for place in [*range(30), 28, 29, *range(30, 36)]:
            at_ms = BEGIN_MS + place * STEP_MS + 1000
            await bench.run(calc, falling(place).to_arrow(), timestamp_ms=at_ms, offset=place)

    asyncio.run(live())
    return Left(of(FAN_CHARTS, bench.sent), of(SCORES, bench.sent), of(ALERTS, bench.sent))


def audited(left: Left) -> Told:
    audit = ToldAudit()
    for take, values in zip((audit.chart, audit.score, audit.alert), left, strict=True):
        for value in values:
            take(value)
    return audit.counts()


def changed(value: bytes, **fields: object) -> bytes:
    return json.dumps(json.loads(value) | fields).encode()


def test_where_all_is_well_nothing_is_found(left: Left) -> None:
    assert audited(left) == Told(len(left.scores), 0, 0, 0, len(left.alerts), 0, 0, 0)
    assert len(left.scores) > 20
    assert len(left.alerts) >= 2


def test_what_is_told_again_is_counted_and_no_fault(left: Left) -> None:
    found = audited(left._replace(scores=left.scores + left.scores[:3], alerts=left.alerts + left.alerts[:1]))
    assert (found.scores_again, found.alerts_again, found.clean) == (3, 1, True)


def test_what_is_missing_is_lost(left: Left) -> None:
    found = audited(left._replace(scores=left.scores[:4] + left.scores[6:], alerts=left.alerts[1:]))
    assert (found.scores_lost, found.alerts_lost, found.clean) == (2, 1, False)


def test_another_content_under_an_id_is_wrong(left: Left) -> None:
    other = changed(left.scores[0], truth_mgdl=1.0)
    assert audited(left._replace(scores=[*left.scores, other])).scores_wrong == 1
    other = changed(left.alerts[0], reason="another")
    assert audited(left._replace(alerts=[other, *left.alerts[1:]])).alerts_wrong == 1


def test_what_no_forecast_leads_to_is_wrong(left: Left) -> None:
    second = changed(left.scores[0], score_id="0" * 64)  # the same forecasts at the same target
    pairs = len(json.loads(second)["scores"])
    assert audited(left._replace(scores=[*left.scores, second])).scores_wrong == 1 + pairs
    second = changed(left.alerts[0], alert_id="0" * 64)
    assert audited(left._replace(alerts=[*left.alerts, second])).alerts_wrong == 1
    ended = changed(left.alerts[0], alert_id="0" * 64, kind="stale_data", status="ended")
    assert audited(left._replace(alerts=[*left.alerts, ended])).alerts_wrong == 1
