"""What the query layer asks of the workers, and how it waits for their answers.

Everything is looked up in the read model first; only what is missing there goes to Kafka. A forecast that several
requests want is asked for once.
"""

import asyncio
import contextlib
import datetime
import itertools
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from agents.core.fingerprint import owned
from agents.core.fingerprint import upload_id as upload_id_of
from agents.core.local_time import zone
from query_api.awaited import awaited_row, rejection
from query_api.follow import Follower
from query_api.holders import Holder, holder_for
from query_api.projections.alerts import alerts_key
from query_api.projections.fan_charts import ChartRow, sample_key, subject_key
from query_api.projections.requests import demand_key
from query_api.projections.sources import sources_key
from query_api.projections.uploads import StoredHandle, handle_key, upload_key
from query_api.publish import Publisher
from query_api.read_model import ReadModel
from query_api.shared_computations import SharedComputations
from schemas import topics
from schemas.alert import AlertSettings, AlertState, Snooze, Snoozed
from schemas.command import MOST_UPLOADS_ENDED, CacheCommand, ForecastDemand
from schemas.errors import OutOfRangeError, UnavailableError, UnknownHandleError
from schemas.grid import FIRST_SAMPLES
from schemas.reading import ERASE, RESET, ReadingOutcome, ReadingStatus
from schemas.sources import POLICY, SENSOR_START, SourcePolicy, SourceState
from schemas.upload import MOST_UPLOADS, OWNER, UploadOutcome
from streams.settings import Settings

T = TypeVar("T")

HEAD_START_SECONDS = 2.0
COMMAND_SECONDS = 10.0
EVICT_SECONDS = 10.0
BEING_READ_SECONDS = 600.0
"""A handle makes no room where its file was sent again so lately: nobody may know yet that it is the newest."""
CONFIRMED_TOGETHER = 500
"""Readings on their way at a time: each of them has to be confirmed within seconds."""


class Submit:
    """Uploads, demands, readings and cache commands, with one computation in flight a key.

    A `Holder` is who asks: what they do not hold is unknown to them, and they leave it as it is.
    """

    def __init__(self, settings: Settings, model: ReadModel, follower: Follower, publisher: Publisher) -> None:
        self._settings = settings
        self._model = model
        self._follower = follower
        self._publisher = publisher
        self.in_flight = SharedComputations(settings.waiters)
        self.fulfilled = 0
        self.fulfilment_seconds = 0.0

    # uploads

    async def upload(self, holder: Holder, raw: bytes, timezone: str = "UTC", force: bool = False) -> UploadOutcome:
        """What became of a vendor file: an accepted outcome. One that its owner has sent is answered from the table.

        Raises `RejectedError` with the reason, `UnavailableError` where no answer comes in time.
        """
        zone(timezone)
        upload_id = owned(upload_id_of(raw, timezone), holder.owner)
        if not force and (known := self.known_upload(upload_id)) is not None:
            return known
        headers = {OWNER: holder.owner.encode()} if holder.owner else {}
        headers |= {"force": b"1"} if force else {}
        outcome = await self.in_flight.join(
            f"upload/{upload_id}/{force}", lambda: self._in_time(self._upload(upload_id, raw, timezone, headers))
        )
        if outcome.status == "rejected":
            raise rejection(outcome)
        await self._evict()
        return outcome

    def known_upload(self, upload_id: str) -> UploadOutcome | None:
        """The accepted outcome of an upload whose series is still stored."""
        known = self._model.uploads.upload(upload_id)
        accepted = known is not None and known.status == "accepted" and known.handle is not None
        return known if accepted and known and self._model.uploads.handle(known.handle or "") is not None else None

    async def _upload(
        self, upload_id: str, raw: bytes, timezone: str, headers: Mapping[str, bytes]
    ) -> UploadOutcome:  # fmt: skip
        with self._model.subscriptions.subscribe(upload_key(upload_id)) as subscription:
            sent_ms = await self._publisher.send(
                topics.UPLOADS, upload_id, raw, {"timezone": timezone.encode(), **headers}
            )
            while True:
                for item in await subscription.next():
                    if isinstance(item, UploadOutcome) and item.began_ms >= sent_ms:
                        return item

    async def keep_bounded(self) -> None:
        """Delete handles over the limit whoever made them: files also come to the topic by other ways. Never returns.

        An upload through this replica does so at once. Of several replicas each may: a handle is deleted once.
        """
        while True:
            await asyncio.sleep(EVICT_SECONDS)
            with contextlib.suppress(UnavailableError):
                if self._follower.caught_up:
                    await self._evict()

    async def _evict(self) -> None:
        """Delete the oldest handles of each owner who has more than the limit: nobody's uploads push out others'."""
        most = self._settings.max_cache_size
        if self._model.uploads.handle_count() <= most:
            return
        read_by_now_ms = int(1000 * (time.time() - BEING_READ_SECONDS))
        of_owner: defaultdict[str | None, list[StoredHandle]] = defaultdict(list)
        for stored in self._model.uploads.handles():
            of_owner[stored.outcome.owner].append(stored)
        for oldest_first in of_owner.values():
            for stored in oldest_first[: max(0, len(oldest_first) - most)]:
                await self._command(stored, max(read_by_now_ms, stored.outcome.began_ms))

    # forecasts

    async def stored(self, handle: str, holder: Holder) -> StoredHandle:
        """A known handle. Raises `UnknownHandleError`, but only after what Kafka holds by now has been read.

        Of somebody else's handle it says the same, as late, as of one that nobody has.
        """
        found = self._model.uploads.held(handle, holder)
        if found is None:
            await self._follower.catch_up()
            found = self._model.uploads.held(handle, holder)
        if found is None:
            raise UnknownHandleError(
                "nothing is stored under this handle; it was never given, has been deleted or replaced by newer ones: "
                "upload the file again"
            )
        return found

    async def forecast(self, holder: Holder, handle: str, index: int, force: bool = False) -> ChartRow:
        """The fan chart of one sample, from the table or computed now.

        Raises `UnknownHandleError`, `OutOfRangeError`, and `UnavailableError` where it takes too long.
        """
        stored = await self.stored(handle, holder)
        if index not in stored.indexes:
            raise OutOfRangeError(
                f"index {index} is out of range: this handle has samples {stored.indexes[0]} to {stored.indexes[-1]} "
                "(0 is the last with its whole hour of truth, 12 the real forecast)"
            )
        known = None if force else self._model.sample(stored, index)
        if known is not None:
            return known
        return await self.in_flight.join(
            f"chart/{handle}/{index}/{force}", lambda: self._in_time(self._forecast(stored, index, force))
        )

    async def _forecast(self, stored: StoredHandle, index: int, force: bool) -> ChartRow:
        begin = time.monotonic()
        keys = [sample_key(holder, index) for holder in (stored.handle, stored.outcome.served_by) if holder]
        demand_id = secrets.token_hex(16)
        keys += [handle_key(stored.handle), demand_key(demand_id)]
        with self._model.subscriptions.subscribe(*keys) as subscription:
            row = None if force else self._model.sample(stored, index)
            if row is None and not force and self._just_uploaded(stored) and index in FIRST_SAMPLES:
                try:
                    async with asyncio.timeout(HEAD_START_SECONDS):
                        row = awaited_row(await subscription.next(), demand_id, force)
                except TimeoutError:
                    pass
            if row is None:
                await self._demand(stored, index, force, demand_id)
            while row is None:
                row = awaited_row(await subscription.next(), demand_id, force)
        self.fulfilled += 1
        self.fulfilment_seconds += time.monotonic() - begin
        return row

    def _just_uploaded(self, stored: StoredHandle) -> bool:
        return time.time() * 1000 - stored.outcome.began_ms < 1000 * HEAD_START_SECONDS

    async def _demand(self, stored: StoredHandle, index: int, force: bool, demand_id: str) -> None:
        deadline_ms = int((time.time() + self._settings.answer_timeout_seconds) * 1000)
        demand = ForecastDemand(
            demand_id=demand_id,
            series_key=stored.series_key,
            handle=stored.handle,
            indexes=(index,),
            force=force,
            deadline_ms=deadline_ms,
        )
        await self._publisher.send(topics.DEMANDS, stored.series_key, demand.to_json())

    # readings

    async def publish_readings(self, subject_id: str, readings: Sequence[bytes]) -> None:
        """Return when Kafka has confirmed every reading, in their order. Raises `UnavailableError`.

        Where it raises, some may have arrived: sent again they change nothing.
        """
        for first in range(0, len(readings), CONFIRMED_TOGETHER):
            some = readings[first : first + CONFIRMED_TOGETHER]
            await asyncio.gather(*(self._publisher.send(topics.READINGS, subject_id, each) for each in some))

    async def reset_subject(self, subject_id: str) -> None:
        """Forget a subject's readings so far, and its forecasts. Raises `UnavailableError`."""
        await self._order(subject_id, RESET, "reset")

    async def erase_subject(self, subject_id: str) -> None:
        """Forget a subject altogether, with what was uploaded as theirs; this replica has when it returns.

        Raises `UnavailableError`: what was ordered goes on, so both are before anybody waits for one of them.
        """
        holder = holder_for((subject_id,))
        await self._order_flush(holder, self._model.uploads.handles(holder))
        await self._order(subject_id, ERASE, "erased")
        await self.flush(holder)

    async def source_policy(self, subject_id: str, wanted: SourcePolicy) -> SourceState:
        """Which of a subject's devices speaks from now on. Raises `UnavailableError`."""

        def done(told: object) -> bool:
            return isinstance(told, SourceState) and told.policy == wanted

        with self._model.subscriptions.subscribe(sources_key(subject_id)) as subscription:
            await self._publisher.send(topics.READINGS, subject_id, None, {POLICY: wanted.to_json()})
            while not any(map(done, await self._until(subscription.next(), "change"))):
                pass
        return self._model.sources.of(subject_id)

    async def sensor_starts(self, subject_id: str, times: Sequence[datetime.datetime]) -> None:
        """Tell when sensors were started; Kafka has confirmed it when it returns. Raises `UnavailableError`."""
        for each in times:
            await self._publisher.send(topics.READINGS, subject_id, None, {SENSOR_START: each.isoformat().encode()})

    async def _order(self, subject_id: str, header: str, status: ReadingStatus) -> None:
        with self._model.subscriptions.subscribe(subject_key(subject_id)) as subscription:
            sent_ms = await self._publisher.send(topics.READINGS, subject_id, None, {header: b"1"})

            def is_done(item: object) -> bool:
                """Not one of an earlier order that arrives only now."""
                if not isinstance(item, ReadingOutcome) or item.status != status or item.time is None:
                    return False
                return round(item.time.timestamp() * 1000) >= sent_ms

            while not any(map(is_done, await self._until(subscription.next(), header))):
                pass

    # commands

    async def delete(self, handle: str, holder: Holder) -> None:
        """Delete a handle and its forecasts. Other replicas follow with their next fetch, milliseconds later.

        Raises `UnknownHandleError`, `UnavailableError`.
        """
        stored = await self.stored(handle, holder)
        with self._model.subscriptions.subscribe(handle_key(handle)) as subscription:
            await self._command(stored, max(int(time.time() * 1000), stored.outcome.began_ms))
            await self._until(subscription.next(), "delete")

    async def flush(self, holder: Holder) -> int:
        """Delete all handles that they hold; returns how many there were. Raises `UnavailableError`."""
        await self._follower.catch_up()
        before = self._model.uploads.handles(holder)
        with self._model.subscriptions.subscribe(*(handle_key(stored.handle) for stored in before)) as subscription:
            up_to_ms = await self._order_flush(holder, before)
            while any(self._still_there(stored, up_to_ms) for stored in before):
                await self._until(subscription.next(), "flush")
        return len(before)

    async def _order_flush(self, holder: Holder, known: Sequence[StoredHandle]) -> int:
        """Of all that they hold; returns up to when it began, which those that are known did, whatever clocks say."""
        up_to_ms = max([int(time.time() * 1000), *(stored.outcome.began_ms for stored in known)])
        owners = [None] if holder.owner is None else sorted(holder.owners)
        for partition, owner in itertools.product(range(self._settings.partitions), owners):
            command = CacheCommand(
                action="flush" if owner is None else "flush_owner",
                command_id=secrets.token_hex(16),
                up_to_ms=up_to_ms,
                owner=owner,
            )
            await self._publisher.send(topics.CACHE_COMMANDS, None, command.to_json(), partition=partition)
        for stored in known:
            if len(stored.upload_ids) > MOST_UPLOADS:  # of an earlier version, which has forgotten the others
                await self._command(stored, up_to_ms)
        return up_to_ms

    def _still_there(self, stored: StoredHandle, up_to_ms: int) -> bool:
        now = self._model.uploads.handle(stored.handle)
        return now is not None and now.outcome.began_ms <= up_to_ms

    async def snooze(self, subject_id: str, direction: Snoozed, until_ms: int) -> AlertState:
        """No alerts of a direction, or about data, until then. Raises `UnavailableError`."""
        wanted = Snooze(direction=direction, until_ms=until_ms)
        return await self._change_alerts(
            CacheCommand(action="snooze", command_id=secrets.token_hex(16), up_to_ms=0, series_key=subject_id,
                         snooze=wanted),
            lambda state: state.snoozed_until_ms.get(direction) == until_ms,
        )  # fmt: skip

    async def alert_settings(self, subject_id: str, wanted: AlertSettings) -> AlertState:
        """How a subject is alerted from now on. Raises `UnavailableError`."""
        return await self._change_alerts(
            CacheCommand(action="alerts", command_id=secrets.token_hex(16), up_to_ms=0, series_key=subject_id,
                         alert_settings=wanted),
            lambda state: state.settings == wanted,
        )  # fmt: skip

    async def _change_alerts(self, command: CacheCommand, done: Callable[[AlertState], bool]) -> AlertState:
        subject_id = command.series_key or ""
        await self.publish_and_await(
            subject_id, [(topics.CACHE_COMMANDS, command.to_json())], [alerts_key(subject_id)],
            lambda told: isinstance(told, AlertState) and done(told),
        )  # fmt: skip
        return self._model.alerts.of(subject_id)

    async def publish_and_await(
        self,
        series_key: str,
        sends: Sequence[tuple[topics.Topic, bytes]],
        keys: Sequence[str],
        wanted: Callable[[object], bool],
    ) -> None:
        """Send everything in order, then return when each of the keys has been told something wanted.

        Raises `UnavailableError` where the workers do not answer in time.
        """
        with contextlib.ExitStack() as stack:
            subscriptions = [stack.enter_context(self._model.subscriptions.subscribe(key)) for key in keys]
            for topic, value in sends:
                await self._publisher.send(topic, series_key, value)
            for subscription in subscriptions:
                while not any(map(wanted, await self._until(subscription.next(), "change"))):
                    pass

    async def _command(self, stored: StoredHandle, up_to_ms: int) -> None:
        command = CacheCommand(
            action="delete",
            command_id=secrets.token_hex(16),
            up_to_ms=up_to_ms,
            series_key=stored.series_key,
            handle=stored.handle,
            upload_ids=stored.upload_ids[-MOST_UPLOADS_ENDED:],
        )
        await self._publisher.send(topics.CACHE_COMMANDS, stored.series_key, command.to_json())

    async def _until(self, told: Awaitable[T], what: str) -> T:
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                return await told
        except TimeoutError:
            raise UnavailableError(f"the workers have not confirmed the {what} yet; it goes on") from None

    async def _in_time(self, answer: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._settings.answer_timeout_seconds):
                return await answer
        except TimeoutError:
            raise UnavailableError(
                f"no answer from the workers within {self._settings.answer_timeout_seconds:g} s; "
                "what was accepted goes on, so ask again"
            ) from None
