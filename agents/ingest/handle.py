"""Unified series in; the outcome of their upload, and requests for the forecasts that are not there yet."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from agents.core.deletions import is_deleted, of_owner
from agents.core.record_checks import check_series
from agents.core.sampling import Sampling
from agents.ingest.stored_series import MOST_ENTRIES, StoredSeries, Tail
from agents.work import StepFunction, Work
from schemas.command import CacheCommand
from schemas.errors import MalformedRecordError
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
            _forgotten(work, series)
            return
        stored, let_go = _store(tail, series)
        asks = series.force or (
            stored.served_by is None and stored.asked.get(recipe, work.message.offset) == work.message.offset
        )
        indexes = stored.indexes() if asks else []
        # In the order of waiting: what is looked at first, the answer to the upload, the rest.
        ask(work, stored, series, [index for index in indexes if index in FIRST_SAMPLES], INTERACTIVE)
        outcome = stored.outcome(series.upload_id, series.series_key)
        work.publish(UPLOAD_OUTCOMES, series.upload_id, outcome)
        ask(work, stored, series, [index for index in indexes if index not in FIRST_SAMPLES], BACKFILL)
        if asks:
            stored.asked.setdefault(recipe, work.message.offset)
        _let_go(work, let_go)
        _evict(work, tail, series.series_key)
        work.put(TABLE, series.series_key, tail.to_bytes())

    def ask(work: Work, stored: StoredSeries, series: Series, indexes: Iterable[int], lane: Topic) -> None:
        force = f"{series.upload_id}@{series.began_ms}" if series.force else None
        for index in indexes:
            request = stored.request(series.series_key, index, model.num_samples, model.seed, force)
            work.send(lane, series.series_key, request.to_arrow())

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
    """The stored series of this content, as new or as it was, now with this upload; and those that it let go for it."""
    stored = next((known for known in tail.series if known.handle == series.handle), None)
    if stored is None:
        stored = StoredSeries.of(series)
        stored.served_by = tail.longer_than(stored)
        tail.series.append(stored)
    return stored, stored.came_again(series)


def _evict(work: Work, tail: Tail, series_key: str) -> None:
    """Forget the oldest of too many series of one tail with their forecasts, and say so to whoever looks them up."""
    oldest_first = sorted(tail.series, key=lambda series: (series.began_ms, series.handle))
    surplus = oldest_first[: max(0, len(tail.series) - MOST_ENTRIES)]
    for series in surplus:  # whoever holds its forecasts knows of no series
        delete = CacheCommand(
            action="delete",
            command_id=series.handle,
            up_to_ms=series.began_ms,
            series_key=series_key,
            handle=series.handle,
        )
        work.send(CACHE_COMMANDS, series_key, delete.to_json())
    retract(work, tail, {series.handle for series in surplus}, series_key)


def retract(work: Work, tail: Tail, handles: set[str], series_key: str) -> None:
    """Remove series; tombstones for their uploads, new outcomes for those that they served."""
    removed, orphans = tail.remove(handles)
    work.sends_first = work.sends_first or bool(removed)
    for series in removed:
        _let_go(work, series.upload_ids)
    for series in orphans:
        for upload_id in series.upload_ids:
            work.publish(UPLOAD_OUTCOMES, upload_id, series.outcome(upload_id, series_key))


def _let_go(work: Work, upload_ids: Sequence[str]) -> None:
    """Tombstones for uploads that are remembered no more."""
    work.sends_first = work.sends_first or bool(upload_ids)  # delivered again, it would find nothing to remove
    for upload_id in upload_ids:
        work.send(UPLOAD_OUTCOMES, upload_id, None)


def _forgotten(work: Work, series: Series) -> None:
    """The upload was deleted on its way: tell who waits, then leave nothing to be found."""
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
