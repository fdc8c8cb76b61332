"""A saved handle that comes back is the series that it was, measured where it was measured."""

import datetime
from typing import Any, cast

from agents.core.fingerprint import handle_of, suffix_chain, tail_key
from query_api.restore import restore
from query_api.saved_handles import SavedHandle
from query_api.submit import Submit
from schemas import topics
from schemas.forecast import ForecastRequest
from schemas.grid import PAST_POINTS, STEP, STEP_SECONDS
from schemas.series import Series
from schemas.topics import Topic
from schemas.upload import ProcessingWarnings, UploadOutcome
from tests.kit.charts import fan_chart
from tests.kit.workbench import NOW_MS, Workbench, built, of

START = 1_700_000_100 // STEP_SECONDS * STEP_SECONDS
CENTI = [12_000 + 10 * place for place in range(110)]
INTERPOLATED = [0, 40, 95, 100, 109]
KEY = tail_key(suffix_chain(START, CENTI))
FIRST = Series(
    upload_id="e" * 64, handle=handle_of("UTC", START, CENTI), series_key=KEY, timezone="UTC", start_seconds=START,
    glucose_centi_mgdl=CENTI, warnings_json=ProcessingWarnings().to_json().decode(), began_ms=NOW_MS,
    interpolated_points=INTERPOLATED,
)  # fmt: skip


class Sent:
    """Takes what is published."""

    def __init__(self) -> None:
        self.series: list[Series] = []

    async def publish_and_await(self, key: str, sends: list[tuple[Topic, bytes]], *_: Any) -> None:
        self.series += [Series.from_arrow(value) for topic, value in sends if topic == topics.SERIES]


async def stored(series: Series) -> tuple[UploadOutcome, dict[int, ForecastRequest]]:
    """What becomes of a series: its outcome, and what is to be computed, by sample."""
    sends = await Workbench().run(built("handle"), series.to_arrow(), topic="cgm.series", key=KEY.encode())
    requests = [
        ForecastRequest.from_arrow(each) for topic in (topics.INTERACTIVE, topics.BACKFILL) for each in of(topic, sends)
    ]
    return UploadOutcome.from_json(of(topics.UPLOAD_OUTCOMES, sends)[0]), {each.index or 0: each for each in requests}


async def test_which_points_were_interpolated_comes_back_with_them() -> None:
    outcome, requests = await stored(FIRST)
    assert len(requests) > 2
    charts = {}
    for index, request in requests.items():
        first = len(CENTI) - 108 + index
        issue = datetime.datetime.fromtimestamp(START + (first + PAST_POINTS - 1) * STEP_SECONDS, datetime.UTC)
        truth = [centi / 100 for centi in CENTI[first + PAST_POINTS :][:12]]
        charts[index] = fan_chart(
            kind="sample", handle=FIRST.handle, index=index, series_key=KEY, subject_id=None, issue_time=issue,
            first_target_time=issue + STEP, past_mgdl=[centi / 100 for centi in request.past_centi_mgdl],
            truth_mgdl=[*truth, *[None] * (12 - len(truth))], interpolated_points=request.interpolated_points,
        )  # fmt: skip
    submit = Sent()
    await restore(cast("Submit", submit), SavedHandle(FIRST.handle, (outcome,), charts))
    (series,) = submit.series
    assert (series.handle, series.glucose_centi_mgdl) == (FIRST.handle, CENTI)
    assert series.interpolated_points == INTERPOLATED
    _, again = await stored(series)
    assert {index: (each.interpolated_points, each.warnings) for index, each in again.items()} == {
        index: (each.interpolated_points, each.warnings) for index, each in requests.items()
    }
