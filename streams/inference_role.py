"""The inference role: three lanes, one batcher, one model.

Each lane is a Faust App of its own, so that a lane that is full holds back its own topic in Kafka and no other. The
batcher outlives the Apps: what has begun is answered and acked while they stop; what has not is given back.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial

import structlog
from faust.types import TP

from agents.core.forecaster import Forecaster
from agents.inference import infer, intake
from agents.inference.batcher import Batch, Batcher, Budget, Entry, MeasuredCost
from agents.inference.infer import Failure, Inference
from agents.work import Work
from schemas import topics
from schemas.command import LANES, Lane
from schemas.errors import ConfigurationError, ImplausibleError, MalformedRecordError, MessageTooLargeError
from schemas.exit_codes import ExitCode
from schemas.forecast import ForecastRequest
from streams import apps, dead_letters
from streams.apps import Host
from streams.inference_metrics import InferenceMetrics
from streams.kafka.delivery import Delivery
from streams.model_thread import ModelThread
from streams.settings import Settings

STEP = "infer"
BACKFILL_REPORT_SECONDS = 3.0

log = structlog.get_logger(__name__)


class Model:
    """A loaded, warmed forecaster and what its draws cost."""

    def __init__(self, forecaster: Forecaster, settings: Settings) -> None:
        """Blocking: warms the forecaster up and times its first window."""
        self.forecaster = forecaster
        self.inference = Inference(forecaster, settings.step_attempts)
        forecaster.warm_up()
        seconds = self.inference.time_one_window(settings.num_samples)
        self.cost = MeasuredCost(settings.num_samples, seconds)


class InferenceRole:
    """Lane intakes, the batcher and the loop that owns the model."""

    def __init__(self, host: Host, thread: ModelThread) -> None:
        self._settings = host.settings
        self._host, self._thread = host, thread
        self.batcher = Batcher[Delivery](host.settings.lane_capacity, time.time)
        self._metrics = InferenceMetrics(host.metrics, self.batcher.depth)
        self._model: Model | None = None
        self._held: dict[Lane, Delivery | None] = dict.fromkeys(LANES)
        self._moved = {lane: asyncio.Event() for lane in LANES}
        self._arrived = asyncio.Event()
        self.lanes: Mapping[Lane, apps.Lane] = {
            lane: apps.lane_app(lane, host, partial(self._take_in, lane), partial(self._give_back, lane))
            for lane in LANES
        }

    @property
    def is_serving(self) -> bool:
        return self._model is not None

    def serve(self, model: Model) -> None:
        """From here on requests are named, queued and answered."""
        self._model = model
        stats = getattr(model.forecaster, "stats", dict)
        self._metrics.model_loaded(model.forecaster.name, model.forecaster.fingerprint, stats)
        self._wake_intakes()

    # lanes

    async def _take_in(self, lane: Lane, delivery: Delivery) -> None:
        """Queue one request, waiting for the model and for room; returns when the lane may take the next."""
        if self.lanes[lane].app.should_stop:
            delivery.release()
            return
        work = Work(delivery.message, {})
        try:
            request = intake.read_request(delivery.message.value)
            intake.check_request(request)
        except MalformedRecordError as error:
            self._bury(work, dead_letters.Failure(error.code, str(error), 1))
            await self._finish(lane, delivery, work, "malformed")
        except ImplausibleError as error:
            _answer_without_forecast(work, request, "failed", str(error))
            await self._finish(lane, delivery, work, "rejected")
        else:
            await self._queue(lane, delivery, request)

    async def _queue(self, lane: Lane, delivery: Delivery, request: ForecastRequest) -> None:
        self._held[lane] = delivery
        while self._model is None or not self.batcher.has_room(lane):
            self._moved[lane].clear()
            await self._moved[lane].wait()
            if self._held[lane] is not delivery:
                return  # given back meanwhile
        self._held[lane] = None
        fingerprint = self._model.forecaster.fingerprint
        self.batcher.add(intake.entry_of(request, lane, delivery, fingerprint, time.time()))
        self._arrived.set()

    def _give_back(self, lane: Lane, revoked: set[TP]) -> None:
        """Release what has not begun: its partitions go to somebody else, or the App stops."""

        def concerns(delivery: Delivery) -> bool:
            return TP(delivery.message.topic, delivery.message.partition) in revoked

        for entry in self.batcher.release(lambda entry: entry.lane == lane and concerns(entry.origin)):
            entry.origin.release()
        if (held := self._held[lane]) is not None and concerns(held):
            self._held[lane] = None
            held.release()
        self._moved[lane].set()

    def _wake_intakes(self) -> None:
        for event in self._moved.values():
            event.set()

    # batches

    async def answer(self) -> None:
        """Compute batch after batch until cancelled. A failure that is not a window's ends the process."""
        try:
            while True:
                await self._arrived.wait()
                if self._model is None or (batch := self._next_batch(self._model)) is None:
                    self._arrived.clear()
                    continue
                self._wake_intakes()
                await self._answer_batch(self._model, batch)
        except Exception as error:
            self._host.fatal(f"inference failed: {error!r}")

    async def report_backfill(self) -> None:
        """Say every few seconds how much backfill waits, and when all of it is answered; runs until cancelled."""
        before = 0
        while True:
            await asyncio.sleep(BACKFILL_REPORT_SECONDS)
            waiting = self.batcher.depth("backfill")
            if waiting or before:
                log.info("backfill", waiting=waiting, more_in_kafka=not self.batcher.has_room("backfill"))
            before = waiting

    def _next_batch(self, model: Model) -> Batch[Delivery] | None:
        settings = self._settings
        budget = Budget(settings.batch_size, settings.batch_milliseconds / 1000, model.cost.seconds_per_draw)
        return self.batcher.next_batch(budget)

    async def _answer_batch(self, model: Model, batch: Batch[Delivery]) -> None:
        for entry in batch.expired:
            work = Work(entry.origin.message, {})
            _answer_without_forecast(work, entry.request, "expired", "its deadline passed before its turn came")
            await self._finish(entry.lane, entry.origin, work, "expired")
        if not batch.groups:
            return
        now = time.time()
        for group in batch.groups:
            for entry in group:
                self._metrics.waited(entry.lane, now - entry.arrived)
        async for entry, work, ended in self._thread.stream(self._compute, model, batch):
            await self._finish(entry.lane, entry.origin, work, ended)

    def _compute(self, model: Model, batch: Batch[Delivery]) -> Iterator[tuple[Entry[Delivery], Work, str]]:
        """In the model's thread: for each entry what is to be sent, as soon as its draws are there."""
        inference = model.inference
        requests = {group[0].forecast_id: _strictest(group) for group in batch.groups}
        windows, draws, began = inference.windows_drawn, inference.draws_made, time.perf_counter()
        groups = {group[0].forecast_id: group for group in batch.groups}
        for answers in inference.draws(requests):
            for forecast_id, answer in answers.items():
                for entry in groups[forecast_id]:
                    yield entry, *self._effects(inference, entry, answer)
        seconds = time.perf_counter() - began
        model.cost.observe(inference.draws_made - draws, seconds)
        drawn = inference.windows_drawn - windows
        self._metrics.batch(len(groups), drawn, seconds, model.cost.seconds_per_draw)

    def _effects(self, inference: Inference, entry: Entry[Delivery], answer: infer.Draw | Failure) -> tuple[Work, str]:
        work, request = Work(entry.origin.message, {}), entry.request
        if isinstance(answer, infer.Draw):
            record = inference.forecast(request, entry.forecast_id, answer)
            try:
                work.send(topics.FORECASTS, request.series_key, record.to_arrow())
            except MessageTooLargeError as error:
                answer = Failure(str(error))
            else:
                return work, "answered"
        _answer_without_forecast(work, request, "failed", answer.reason)
        self._bury(work, dead_letters.Failure("failed", answer.reason, self._settings.step_attempts))
        return work, "failed"

    # effects

    async def _finish(self, lane: Lane, delivery: Delivery, work: Work, ended: str) -> None:
        self._metrics.ended(lane, ended)
        await self.lanes[lane].finish(delivery, work)

    def _bury(self, work: Work, failure: dead_letters.Failure) -> None:
        letter = dead_letters.letter(work.message, STEP, failure)
        key = (work.message.key or b"").decode(errors="replace")
        work.send(topics.DEAD_LETTERS, key, letter.to_json())


def run_inference(settings: Settings) -> int:
    """Run the role until a signal. Exit codes as `streams.worker`."""
    return asyncio.run(_run(settings))


async def _run(settings: Settings) -> int:
    from streams.worker import RoleRunner

    thread = ModelThread()
    loading = asyncio.create_task(_loaded(thread, settings))  # imports and reads while the Apps join
    runner = RoleRunner("inference", settings)
    await runner.prepare()
    role = InferenceRole(runner.host, thread)
    runner.apps.extend(lane.app for lane in role.lanes.values())
    runner.extra_reasons = lambda: [] if role.is_serving else ["the model is loading"]

    async def serve() -> None:
        role.serve(await loading)
        await role.answer()

    tasks = [asyncio.create_task(serve()), asyncio.create_task(role.report_backfill())]
    try:
        return await runner.run()
    finally:
        for task in tasks:
            task.cancel()


async def _loaded(thread: ModelThread, settings: Settings) -> Model:
    """The model, or the end of the process: no message has been taken in yet, so there is nothing to finish."""
    from streams.worker import end_now

    try:
        return await thread.call(load_model, settings)
    except ConfigurationError as error:
        log.error(str(error))
        sys.stderr.flush()
        os._exit(ExitCode.CONFIGURATION)
    except Exception as error:
        end_now(f"the model could not be loaded: {error!r}")
        raise


def load_model(settings: Settings) -> Model:
    """Blocking: the forecaster that the settings name, ready for its first window. Raises `ConfigurationError`."""
    from agents.models.load import load_forecaster, settings_arguments

    log.info("loading the model", forecaster=settings.forecaster, checkpoint=settings.checkpoint)
    began = time.monotonic()
    model = Model(load_forecaster(**settings_arguments(settings)), settings)
    milliseconds = 1000 * settings.num_samples * model.cost.seconds_per_draw
    log.info("model ready", forecaster=model.forecaster.name, seconds=round(time.monotonic() - began, 2),
             fingerprint=model.forecaster.fingerprint[:12], window_milliseconds=round(milliseconds, 1))  # fmt: skip
    return model


def _strictest(group: tuple[Entry[Delivery], ...]) -> ForecastRequest:
    """The request that decides for those who share its draws: one that wants them made again, if any does."""
    return next((entry.request for entry in group if entry.request.force), group[0].request)


def _answer_without_forecast(work: Work, request: ForecastRequest, status: str, reason: str) -> None:
    record = infer.outcome(request, status, reason)
    work.send(topics.REQUEST_OUTCOMES, request.series_key, record.to_json())
