"""Unified series in; the outcome of their upload, and requests for the forecasts that are not there yet."""

from collections.abc import Iterable
from typing import Protocol

from agents.core import fingerprint
from agents.core.deletions import is_deleted, of_owner
from agents.core.record_checks import check_series
from agents.core.sampling import Sampling
from agents.ingest.stored_series import MOST_ENTRIES, StoredSeries, Tail
from agents.work import StepFunction, Work
from schemas.command import CacheCommand
from schemas.errors import MalformedRecordError
from schemas.forecast import ForecastRequest
from schemas.grid import FIRST_SAMPLES
from schemas.series import Series
from schemas.tables import SERIES_TABLE as TABLE
from schemas.topics import BACKFILL, CACHE_COMMANDS, INTERACTIVE, UPLOAD_OUTCOMES, Topic
from schemas.upload import UploadOutcome


class ModelChoice(Sampling, Protocol):
    """Which model answers, and how it is sampled."""

    @property
    def forecaster(self) -> str: ...
    @property
    def checkpoint(self) -> str: ...
    @property
    def huggingface_sha256(self) -> str | None: ...


class HandleSettings(Protocol):
    """What the step needs to know."""

    @property
    def model(self) -> ModelChoice: ...


def build(settings: HandleSettings) -> StepFunction:
    """The step of ``cgm.series``. Raises `RejectedError` for a message that is no series."""
    model = settings.model
    recipe = "/".join(map(str, (model.forecaster, _identity(model), model.num_samples, model.seed)))

    async def step(work: Work) -> None:
        series = Series.from_arrow(work.message.value)
        check_series(series)
        if work.message.key != series.series_key.encode():
            raise MalformedRecordError("the message's key is not the series key of its record")
        tail = Tail.from_bytes(work.get(TABLE, series.series_key))
        whose = () if series.owner is None else (of_owner(series.owner),)
        if any(is_deleted(work, TABLE, each, series.began_ms) for each in (series.handle, *whose)):
            _forgotten(work, tail, series)
            return
        stored, pushed_out = _store(tail, series)
        asks = series.force or (
            stored.served_by is None and stored.asked.get(recipe, work.message.offset) == work.message.offset
        )
        indexes = stored.indexes() if asks else []
        # In the order of waiting: what is looked at first, the answer to the upload, the rest.
        ask(work, stored, series, [index for index in indexes if index in FIRST_SAMPLES], INTERACTIVE)
        outcome = stored.outcome(series.upload_id, series.series_key)
        work.publish(UPLOAD_OUTCOMES, series.upload_id, outcome)
        ask(work, stored, series, [index for index in indexes if index not in FIRST_SAMPLES], BACKFILL)
        for upload_id in pushed_out:  # the series does not know of them any more: nothing else would ever end them
            work.send(UPLOAD_OUTCOMES, upload_id, None)
            work.sends_first = True
        if asks:
            stored.asked.setdefault(recipe, work.message.offset)
        _evict(work, tail, series.series_key)
        work.put(TABLE, series.series_key, tail.to_bytes())

    def ask(work: Work, stored: StoredSeries, series: Series, indexes: Iterable[int], lane: Topic) -> None:
        force = f"{series.upload_id}@{series.began_ms}" if series.force else None
        requests = [stored.request(series.series_key, index, model.num_samples, model.seed, force) for index in indexes]
        for request in ForecastRequest.all_to_arrow(requests):
            work.send(lane, series.series_key, request)

    return step


def _identity(model: ModelChoice) -> str:
    """Which model it is, so that another one under the same name is asked again."""
    if model.forecaster == "persistence":
        return ""
    if model.checkpoint == "huggingface":
        return str(model.huggingface_sha256)
    from agents.models.checkpoint_file import checkpoint_fingerprint

    return checkpoint_fingerprint(model.checkpoint)


def _store(tail: Tail, series: Series) -> tuple[StoredSeries, list[str]]:
    """The stored series of this content, as new or as it was, now with this upload; and the uploads that it loses."""
    stored = next((known for known in tail.series if known.handle == series.handle), None)
    if stored is None:
        stored = StoredSeries.of(series)
        stored.served_by = tail.longer_than(stored)
        tail.series.append(stored)
    return stored, stored.came_again(series)


def _evict(work: Work, tail: Tail, series_key: str) -> None:
    """Forget the oldest of too many series of one tail, and say so to whoever looks their uploads up, or has forecasts
    of them: nobody could ask for these to be deleted any more."""
    oldest_first = sorted(tail.series, key=lambda series: (series.began_ms, series.handle))
    surplus = oldest_first[: max(0, len(tail.series) - MOST_ENTRIES)]
    retract(work, tail, {series.handle for series in surplus}, series_key)
    for series in surplus:
        command_id = fingerprint.order_id("evicted", series.handle, work.message.partition, work.message.offset)
        delete = CacheCommand(
            action="delete",
            command_id=command_id,
            up_to_ms=series.began_ms,  # sent again, it begins behind that
            series_key=series_key,
            handle=series.handle,
        )
        work.send(CACHE_COMMANDS, series_key, delete.to_json())


def retract(work: Work, tail: Tail, handles: set[str], series_key: str) -> None:
    """Remove series; tombstones for their uploads, new outcomes for those that they served."""
    removed, orphans = tail.remove(handles)
    work.sends_first = work.sends_first or bool(removed)  # delivered again, it would find nothing to remove
    for series in removed:
        for upload_id in series.upload_ids:
            work.send(UPLOAD_OUTCOMES, upload_id, None)
    for series in orphans:
        for upload_id in series.upload_ids:
            work.publish(UPLOAD_OUTCOMES, upload_id, series.outcome(upload_id, series_key))


def _forgotten(work: Work, tail: Tail, series: Series) -> None:
    """The upload was deleted on its way: tell who waits, then leave nothing to be found, unless it was sent again."""
    again = next((known for known in tail.series if series.upload_id in known.upload_ids), None)
    if again is not None:
        work.publish(UPLOAD_OUTCOMES, series.upload_id, again.outcome(series.upload_id, series.series_key))
        return
    outcome = UploadOutcome(
        upload_id=series.upload_id,
        status="rejected",
        code="deleted",
        reason="the upload was deleted while it was processed: send it again",
        began_ms=series.began_ms,
        timezone=series.timezone,
        owner=series.owner,
    )
    work.publish(UPLOAD_OUTCOMES, series.upload_id, outcome)
    work.send(UPLOAD_OUTCOMES, series.upload_id, None)
