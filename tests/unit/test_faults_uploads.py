"""What a fault run finds of its uploads: outcomes, handles and samples that are lost, twice or of something else."""

import dataclasses
import datetime
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from agents.calc.fan_chart import fan_chart
from agents.core.fingerprint import forecast_id, upload_id
from deploy.bench.faults_uploads import Sent, UploadAudit, compared, reference_of
from deploy.bench.fuzz_files import rows_of, unified
from schemas.fan_chart import FanChart
from schemas.forecast import Forecast, ForecastRequest, ForecastWindow
from schemas.grid import HORIZON_STEPS
from schemas.topics import BACKFILL, FAN_CHARTS, UPLOAD_OUTCOMES, UPLOADS, Topic
from schemas.upload import UploadOutcome
from streams.settings import Settings

MODEL = "d" * 64
NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
SETTINGS = Settings()
FILES = [unified(rows_of(number)) for number in range(2)]
NAMES = [upload_id(raw, "UTC") for raw in FILES]
SAMPLES = 17
"""Of a file of `fuzz_files.POINTS`: five whole windows, and those of its last hour."""
Records = list[ConsumerRecord[bytes, bytes]]


def record(topic: Topic, key: str, value: bytes | None) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord(topic.name, 0, 0, 1_772_366_400_000, 0, key.encode(), value, None, 64, len(value or b""), ())


def chart_of(request: ForecastRequest) -> FanChart:
    shared = {field.name: getattr(request, field.name) for field in dataclasses.fields(ForecastWindow)}
    forecast = Forecast(
        **shared,
        forecast_id=forecast_id(request.input_hash, MODEL, request.num_samples, request.seed),
        model="none",
        model_fingerprint=MODEL,
        samples_mgdl=[120.0 + draw for draw in range(request.num_samples) for _ in range(HORIZON_STEPS)],
        residual_sd_mgdl=[8.0] * HORIZON_STEPS,
    )
    return fan_chart(forecast, NOW)


@dataclasses.dataclass
class Run:
    """A run that nothing disturbed: one file went to the topic, the other over HTTP."""

    sent: Sent
    uploads: Records
    outcomes: dict[str, UploadOutcome]
    requests: list[ForecastRequest]
    charts: list[FanChart]

    async def audit(self, more: Iterable[ConsumerRecord[bytes, bytes]] = (), *, charts: bool = True) -> UploadAudit:
        records = [
            *self.uploads,
            *(record(UPLOAD_OUTCOMES, name, outcome.to_json()) for name, outcome in self.outcomes.items()),
            *(record(BACKFILL, request.series_key, request.to_arrow()) for request in self.requests),
            *(record(FAN_CHARTS, chart.series_key, chart.to_json()) for chart in self.charts),
            *more,
        ]
        return await compared(SETTINGS, self.sent, records, charts=charts)

    async def found(self, more: Iterable[ConsumerRecord[bytes, bytes]] = (), **options: bool) -> dict[str, Any]:
        """The counts that are not as of a run without faults."""
        audit = await self.audit(more, **options)
        expected = {"sent": 2, "samples": 2 * SAMPLES, "answers": 1}
        return {name: count for name, count in dataclasses.asdict(audit).items() if count != expected.get(name, 0)}


@pytest.fixture
async def run() -> Run:
    uploads = [record(UPLOADS, name, raw) for name, raw in zip(NAMES, FILES, strict=True)]
    reference = await reference_of(SETTINGS, uploads)
    answer = reference.outcomes[NAMES[1]]
    sent = Sent(set(NAMES), {NAMES[1]}, {NAMES[1]: (answer.handle, answer.total_samples)}, {NAMES[1]})
    requests = [*reference.requests.values()]
    return Run(sent, uploads, dict(reference.outcomes), requests, [chart_of(request) for request in requests])


async def test_a_run_without_faults_has_nothing_to_tell(run: Run) -> None:
    assert await run.found() == {}
    audit = await run.audit()
    assert audit.clean
    assert "their 34 samples: 0 lost, 0 again, 0 wrong" in list(audit.lines())
    run.charts.clear()
    assert await run.found(charts=False) == {}, "without calc requests are looked at"


async def test_what_did_not_come_is_lost(run: Run) -> None:
    del run.outcomes[NAMES[0]]
    run.charts.pop()
    run.sent.files.add("0" * 64)
    run.sent.drawn.clear()
    assert await run.found() == {
        "sent": 3, "lost": 1, "outcomes_lost": 1, "samples_lost": 1, "unanswered": 1,
    }  # fmt: skip
    assert not (await run.audit()).clean
    run.requests = run.requests[:-2]
    assert (await run.found(charts=False))["samples_lost"] == 2


async def test_what_came_again_may_say_when_and_for_whom_and_nothing_else(run: Run) -> None:
    outcome, chart = run.outcomes[NAMES[0]], run.charts[0]
    later = outcome.model_copy(update={"began_ms": outcome.began_ms + 1})
    again = chart.model_copy(update={"computed_at": NOW + datetime.timedelta(minutes=1), "demand_id": "d"})
    more = [record(UPLOAD_OUTCOMES, NAMES[0], later.to_json()), record(FAN_CHARTS, "", again.to_json())]
    assert await run.found(more) == {"outcomes_again": 1, "samples_again": 1}
    assert (await run.audit(more)).clean


@pytest.mark.parametrize(
    "change",
    [
        {"handle": "a" * 64},
        {"status": "rejected", "code": "failed", "reason": "it could not be read", "handle": None},
        {"total_samples": 6},
    ],
    ids=["another handle", "rejected", "another number of samples"],
)
async def test_an_outcome_that_says_something_else_is_wrong(run: Run, change: dict[str, object]) -> None:
    run.outcomes[NAMES[0]] = run.outcomes[NAMES[0]].model_copy(update=change)
    assert await run.found() == {"outcomes_wrong": 1}
    assert not (await run.audit()).clean


async def test_an_outcome_of_nobodys_file_and_a_deleted_one_are_wrong(run: Run) -> None:
    foreign = run.outcomes[NAMES[0]].model_copy(update={"upload_id": "b" * 64})
    more = [record(UPLOAD_OUTCOMES, "b" * 64, foreign.to_json()), record(UPLOAD_OUTCOMES, NAMES[1], None)]
    assert await run.found(more) == {"outcomes_again": 1, "outcomes_wrong": 2}


async def test_a_chart_of_another_window_is_wrong(run: Run) -> None:
    first, second = run.charts[:2]
    run.charts[0] = second.model_copy(update={"index": first.index, "chart_id": first.chart_id})
    assert await run.found() == {"samples_wrong": 1}
    shown = (*first.past_mgdl[:-1], first.past_mgdl[-1] + 0.01)
    run.charts[0] = first.model_copy(update={"past_mgdl": shown})
    assert await run.found() == {"samples_wrong": 1}
    run.charts[0] = first.model_copy(update={"handle": "c" * 64})
    assert await run.found() == {"samples_lost": 1, "samples_wrong": 1}
    run.requests[0] = dataclasses.replace(run.requests[0], past_centi_mgdl=run.requests[1].past_centi_mgdl)
    assert await run.found(charts=False) == {"samples_wrong": 1}


async def test_a_chart_that_says_something_else_than_the_first_of_its_id_is_wrong(run: Run) -> None:
    first = run.charts[0]
    again = first.model_copy(update={"median_mgdl": (*first.median_mgdl[:-1], first.median_mgdl[-1] + 1)})
    assert await run.found([record(FAN_CHARTS, "", again.to_json())]) == {"samples_again": 1, "samples_wrong": 1}


async def test_another_handle_in_an_answer_is_wrong(run: Run) -> None:
    run.sent.answers[NAMES[1]] = run.outcomes[NAMES[0]].handle, 5
    assert await run.found() == {"answers_wrong": 1}
    assert not (await run.audit()).clean
