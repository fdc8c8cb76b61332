"""The inference role: three lanes, one batcher, one model.

Each lane is a Faust App of its own, so that a lane that is full holds back its own topic in Kafka and no other. A lane
runs the step `infer` behind the same guard as every step: a request waits there for its samples. The batcher outlives
the Apps: what has begun is answered and acked while they stop; what has not is given back.
"""

import asyncio
import dataclasses
import enum
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Literal, TypeVar

import structlog
from faust.types import TP

from agents.core.forecaster import Forecaster
from agents.core.outcomes import end
from agents.inference import intake
from agents.inference.batcher import Batch, Batcher, Budget, Entry, MeasuredCost
from agents.inference.infer import Inference, NoAnswer
from agents.work import Failure, StepFunction, Work
from schemas import topics
from schemas.errors import ConfigurationError, ImplausibleError
from schemas.exit_codes import ExitCode
from schemas.forecast import ForecastRequest
from schemas.lanes import LANES, Lane
from schemas.metrics import LaneOutcome
from schemas.model_choice import ModelChoice
from schemas.outcome import RequestStatus
from streams import apps, models, topology
from streams.apps import Host
from streams.inference_metrics import InferenceMetrics
from streams.kafka.consumer import StrictApp
from streams.middlewares import FAILED
from streams.model_thread import ModelThread
from streams.runner import RoleRunner, end_now
from streams.settings import Settings

STEP = topology.step_of("infer")
T = TypeVar("T")
CHOICE_SECONDS = 30.0
"""The broker was there a moment ago, but loading a model takes the interpreter away from who asks it."""

log = structlog.get_logger(__name__)


class Model:
    """A loaded, warmed forecaster and what its samples cost."""

    def __init__(self, forecaster: Forecaster, settings: Settings) -> None:
        """Blocking: warms the forecaster up and times its first window."""
        self.forecaster = forecaster
        self.inference = Inference(forecaster, settings.step_attempts, serves=settings.model.model_serves)
        forecaster.warm_up()
        seconds = self.inference.time_one_window(settings.model.num_samples)
        self.cost = MeasuredCost(settings.model.num_samples, seconds)


class Unanswered(enum.Enum):
    """How a request leaves the batcher without having been computed."""

    EXPIRED = "its deadline passed before its turn came"
    SUPERSEDED = "a newer request for the same time took its place"
    DEFERRED = "its forecast is no longer the present one, or its subject fills the lane: it goes on as backfill"
    LEFT = "it asks another model"


Answer = bytes | NoAnswer | Unanswered
"""How a request ends: a forecast record in Arrow, words on why there is none, or not computed at all."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A request that waits for its answer; cancelling `answer` gives the request back."""

    partition: TP
    answer: "asyncio.Future[Answer]"

    def settle(self, answer: Answer) -> None:
        """Answer it, unless it was given back."""
        if not self.answer.done():
            self.answer.set_result(answer)


class InferenceRole:
    """The lanes, the batcher and the loop that owns the model."""

    def __init__(self, host: Host, thread: ModelThread) -> None:
        self._settings = host.settings
        self._serves = host.settings.model.model_serves
        self._host, self._thread = host, thread
        self.batcher = Batcher[Ticket](host.settings.lane_capacity, time.time)
        self._metrics = InferenceMetrics(host.metrics, self.batcher.depth)
        self._model: Model | None = None
        self._unnamed: dict[Lane, set[Ticket]] = {lane: set() for lane in LANES}
        self._served = asyncio.Event()
        self._arrived = asyncio.Event()
        self.lanes: Mapping[Lane, StrictApp] = {
            lane: apps.lane_app(
                lane, STEP, self.step_of(lane), host, partial(self._give_back, lane), trial=not self._serves
            )
            for lane in (LANES if self._serves else topology.TRIAL_LANES)
        }

    @property
    def is_serving(self) -> bool:
        return self._model is not None

    def serve(self, model: Model) -> None:
        """From here on requests are named, queued and answered."""
        self._model = model
        stats = getattr(model.forecaster, "stats", dict)
        self._metrics.model_loaded(model.forecaster.name, model.forecaster.fingerprint, stats)
        self._served.set()

    # lanes

    def step_of(self, lane: Lane) -> StepFunction:
        """The step of one lane: a request in, a forecast or an outcome out."""

        async def step(work: Work) -> None:
            ended = await self._answer(lane, work)
            self._metrics.ended(lane, ended)

        return step

    async def _answer(self, lane: Lane, work: Work) -> LaneOutcome:
        """Fill the work with what becomes of its request; returns how it ended.

        With a model on trial that is a forecast or nothing: the served one tells why there is none.

        Raises `MalformedRecordError` for a message that is none.
        """
        try:
            request = intake.read_request(work.message.value)
        except Exception:
            self._metrics.ended(lane, "malformed")
            raise
        if not self._serves and request.kind != "live":
            return "left"
        try:
            intake.check_request(request)
        except ImplausibleError as error:
            self._end(work, request, "implausible", str(error))
            return "rejected"
        answer = await self._queue(lane, work, request)
        if isinstance(answer, bytes):
            work.send(topics.FORECASTS[lane if self._serves else "backfill"], request.series_key, answer)
            return "answered"
        if answer is Unanswered.DEFERRED:
            # Back to Kafka, so that it takes no room in this lane from those that are urgent.
            work.send(topics.BACKFILL, request.series_key, work.message.value, work.message.headers)
            return "deferred"
        if answer is Unanswered.LEFT:
            return "left"
        if isinstance(answer, Unanswered):
            status: Literal["expired", "superseded"] = "expired" if answer is Unanswered.EXPIRED else "superseded"
            self._end(work, request, status, answer.value)
            return status
        self._end(work, request, "failed", answer.reason)
        if self._serves:
            work.failure = Failure(FAILED, answer.reason, self._settings.step_attempts)
        return "failed"

    def _end(self, work: Work, request: ForecastRequest, status: RequestStatus, reason: str) -> None:
        if self._serves or request.replay_id is not None:
            end(work, request, status, reason)

    async def _queue(self, lane: Lane, work: Work, request: ForecastRequest) -> Answer:
        """Wait for the model, then for the answer. Cancelled where the request is given back."""
        message = work.message
        ticket = Ticket(TP(message.topic, message.partition), asyncio.get_running_loop().create_future())
        if self._model is None:
            self._unnamed[lane].add(ticket)
            waiting = asyncio.ensure_future(self._served.wait())
            await asyncio.wait((waiting, ticket.answer), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            self._unnamed[lane].discard(ticket)
        if self._model is not None and not ticket.answer.done():
            fingerprint = self._model.forecaster.fingerprint
            if not intake.asks(request, fingerprint, self._serves):
                return Unanswered.LEFT
            if not self._serves:  # it is never late, and never the one to pass a request on
                request = dataclasses.replace(request, deadline_ms=None)
            entry = intake.entry_of(request, lane, ticket, fingerprint, time.time())
            for superseded in self.batcher.add(entry):
                superseded.origin.settle(Unanswered.SUPERSEDED)
            if lane == "live":
                for deferred in self.batcher.defer_excess(entry.owner):
                    deferred.origin.settle(Unanswered.DEFERRED)
            self._arrived.set()
        return await ticket.answer

    def _give_back(self, lane: Lane, revoked: set[TP]) -> None:
        """Release what has not begun: its partitions go to somebody else, or the App stops."""
        held = self.batcher.release(lambda entry: entry.lane == lane and entry.origin.partition in revoked)
        for ticket in [entry.origin for entry in held] + list(self._unnamed[lane]):
            if ticket.partition in revoked:
                ticket.answer.cancel()

    # batches

    async def answer(self) -> None:
        """Compute batch after batch until cancelled. A failure that is not a window's ends the process."""
        try:
            await self._served.wait()
            while True:
                await self._arrived.wait()
                if self._model is None or (batch := self._next_batch(self._model)) is None:
                    self._arrived.clear()
                    continue
                await self._answer_batch(self._model, batch)
        except Exception as error:
            self._host.fatal(f"inference failed: {error!r}")

    def _next_batch(self, model: Model) -> Batch[Ticket] | None:
        settings = self._settings
        budget = Budget(settings.batch_size, settings.batch_milliseconds / 1000, model.cost.seconds_per_sample)
        return self.batcher.next_batch(budget)

    async def _answer_batch(self, model: Model, batch: Batch[Ticket]) -> None:
        for entry in batch.expired:
            entry.origin.settle(Unanswered.EXPIRED)
        for entry in batch.deferred:
            entry.origin.settle(Unanswered.DEFERRED)
        if not batch.groups:
            return
        now = time.time()
        for group in batch.groups:
            for entry in group:
                self._metrics.waited(entry.lane, now - entry.arrived)
        async for entry, answer in self._thread.stream(self._compute, model, batch):
            entry.origin.settle(answer)

    def _compute(self, model: Model, batch: Batch[Ticket]) -> Iterator[tuple[Entry[Ticket], Answer]]:
        """In the model's thread: for each entry how it ends, as soon as its samples are there."""
        inference = model.inference
        groups = {group[0].forecast_id: group for group in batch.groups}
        requests = {forecast_id: _strictest(group) for forecast_id, group in groups.items()}
        windows, samples, began = inference.windows_sampled, inference.samples_made, time.perf_counter()
        for answers in inference.answers(requests):
            for forecast_id, answer in answers.items():
                for entry in groups[forecast_id]:
                    if isinstance(answer, NoAnswer):
                        yield entry, answer
                    else:
                        yield entry, inference.forecast(entry.request, forecast_id, answer).to_arrow()
        seconds = time.perf_counter() - began
        model.cost.observe(inference.samples_made - samples, seconds)
        sampled = inference.windows_sampled - windows
        self._metrics.batch(len(groups), sampled, seconds, model.cost.seconds_per_sample)


def run_inference(settings: Settings) -> int:
    """Run the role until a signal. Returns an exit code."""
    return asyncio.run(_run(settings))


async def _run(settings: Settings) -> int:
    thread, candidates = ModelThread(), models.Candidates(settings)
    runner = RoleRunner("inference", settings, None if settings.model.model_serves else topology.trial_groups())
    await runner.prepare()
    known = await models.chosen(settings, CHOICE_SECONDS)
    role = InferenceRole(runner.host, thread)
    runner.apps.extend(role.lanes.values())
    runner.extra_reasons = lambda: [] if role.is_serving else ["the model is loading"]

    async def serve() -> None:
        # While the Apps join: not before, since imports take the interpreter away from what they wait for.
        role.serve(await _loaded(thread, partial(load_model, settings, candidates, known)))
        await role.answer()

    async def follow() -> None:
        choice = await models.until_chosen_anew(settings, known)
        runner.start_again(f"{choice.model} ({choice.model_fingerprint[:12]}) serves from now on")

    tasks = asyncio.create_task(serve()), asyncio.create_task(follow())
    try:
        return await runner.run()
    finally:
        for task in tasks:
            task.cancel()


async def _loaded(thread: ModelThread, load: Callable[[], T]) -> T:
    """What it loads, or the end of the process: no message has been taken in yet, so there is nothing to finish."""
    try:
        return await thread.call(load)
    except ConfigurationError as error:
        log.error(str(error))
        sys.stderr.flush()
        os._exit(ExitCode.CONFIGURATION)
    except Exception as error:
        end_now(f"the model could not be loaded: {error!r}")
        raise


def load_model(
    settings: Settings, candidates: models.Candidates | None = None, choice: ModelChoice | None = None
) -> Model:
    """Blocking: the forecaster of this worker, ready for its first window. Raises `ConfigurationError`."""
    began = time.monotonic()
    log.info("loading the model")
    model = Model((candidates or models.Candidates(settings)).select(choice), settings)
    milliseconds = 1000 * settings.model.num_samples * model.cost.seconds_per_sample
    log.info("model ready", forecaster=model.forecaster.name, seconds=round(time.monotonic() - began, 2),
             fingerprint=model.forecaster.fingerprint[:12], window_milliseconds=round(milliseconds, 1))  # fmt: skip
    return model


def _strictest(group: tuple[Entry[Ticket], ...]) -> ForecastRequest:
    """The request that decides for those who share its samples: one that wants them made again, if any does."""
    return next((entry.request for entry in group if entry.request.force), group[0].request)
