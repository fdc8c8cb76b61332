"""A Faust consumer that commits exactly what was delivered and acked, in offset order.

Faust's own moves its position on when it drops fetched records, takes the next offset for the end of a hole in the
log, and acks that hole: ordinary rebalances lose events. Here a `Ledger` a partition decides what is delivered and
what may be committed, and nothing is committed whose effects the broker has not confirmed.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP

from schemas.topics import MIB
from streams.kafka.acks import NO_EPOCH, Ledger, Verdict
from streams.kafka.delivery import Fatal, InFlight
from streams.kafka.fence import Fence
from streams.kafka.fetched import size_of
from streams.kafka.fetching import PromptThread, row
from streams.kafka.producer import FencedProducer
from streams.kafka.recovery import PromptTables
from streams.kafka.room import Room
from streams.kafka.tables import ConfirmedTable

REWIND_AFTER_SECONDS = 5.0
COMMIT_AGAIN_SECONDS = 0.02

_log = logging.getLogger("faust.strict")


class StrictConsumer(Consumer):
    """Faust's aiokafka consumer with strict offsets. It runs in the App's event loop, its fetches in a thread."""

    app: "StrictApp"
    logger = _log

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ledgers: dict[TP, Ledger] = {}
        self._fresh: dict[TP, Ledger] = {}
        self._conduct = self.callback
        self.callback = self._deliver
        self._standing: dict[TP, tuple[int, float]] = {}

    # delivery

    def _new_consumer_thread(self) -> "PromptThread":
        return PromptThread(self, loop=self.loop, beacon=self.beacon)

    async def _deliver(self, message: Any) -> None:
        await self._conduct(message)  # cancelled when flow is suspended: then `next` stays where it is
        if (ledger := self.ledgers.get(message.tp)) is not None:
            ledger.delivered(message.offset, size_of(message))

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """The fetch itself, told to the ledgers before anything of it can be dropped.

        What of earlier fetches was dropped on its way is sought first: no later record may ever come to show the loss.
        """
        if self.flow_active:
            await self._seek_undelivered({tp: ledger for tp, ledger in self.ledgers.items() if not ledger.in_step})
        before, thread = dict(self.ledgers), cast(PromptThread, self._thread)
        thread.room = Room(self.app.held_bytes, {tp: ledger.held_bytes for tp, ledger in before.items()})
        try:
            records: Any = await super()._getmany(active_partitions, timeout)
            # A ledger that is new or was sought meanwhile cannot know where this fetch began.
            known = {tp: ledger for tp, ledger in before.items() if self.ledgers.get(tp) is ledger}
            for tp in await self._of_another_log(known):
                del known[tp]
                records.pop(tp, None)
        except BaseException:
            for touched in before.values():
                touched.unsure()
            raise
        for tp, batch in records.items():
            if tp in known:
                known[tp].fetched(record.offset for record in batch)
        for tp, (position, epoch) in thread.positions.items():
            if (ledger := known.get(tp)) is not None:
                ledger.reached(position)
                ledger.read_under(epoch, position)
                if ledger.is_ahead:
                    await self._end_was_lost(tp, "ends")
        thread.epochs = {tp: ledger.epoch for tp, ledger in self.ledgers.items() if ledger.epoch != NO_EPOCH}
        return records

    async def _of_another_log(self, ledgers: Mapping[TP, Ledger]) -> list[TP]:
        """Where the log does not go on from what was read of it, or nobody can say now: what came of it is dropped.

        Where it has lost its end and is longer again, what it holds there is of a higher leader epoch. So the broker is
        asked at the first batch of a new one, and before that batch is delivered.
        """
        thread = cast(PromptThread, self._thread)
        doubts = {
            tp: ledger
            for tp, (_, epoch) in thread.positions.items()
            if (ledger := ledgers.get(tp)) is not None and NO_EPOCH < ledger.epoch < epoch
        }
        if not doubts:
            return []
        try:
            ends = await thread.ends_of_epochs({tp: ledger.epoch for tp, ledger in doubts.items()})
        except (KafkaError, TimeoutError):  # it is fetched again, and asked for again
            for ledger in doubts.values():
                ledger.unsure()
            return list(doubts)
        lost = [tp for tp, ledger in doubts.items() if ends.get(tp, ledger.proven) < ledger.proven]
        for tp in lost:
            await self._end_was_lost(tp, "holds something else")
        return lost

    async def _end_was_lost(self, tp: TP, what: str) -> None:
        """The log does not hold what was read of it: the group goes back to its beginning.

        From there and not from the new end: nobody knows where the loss began, and offsets behind it may be other
        records' already. What was processed before changes nothing when it is processed again.
        """
        ledger = self.ledgers.pop(tp)
        reached = max(ledger.next, ledger.proven)
        begin = await self.earliest_offsets(tp)
        await self._commit(begin)
        self.app.fatal(
            f"{tp.topic}/{tp.partition} {what} before offset {reached}, up to which it was read: Kafka has lost its "
            f"end. All that it holds is processed again, from offset {begin[tp]}"
        )

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Fetched messages, without those that were delivered before; after a loss the partition is fetched again."""
        rewound: set[TP] = set()
        async for tp, message in super().getmany(timeout):
            if not self.app.topics.acks_enabled_for(message.topic):  # a changelog
                yield tp, row(message)
                continue
            ledger = self.ledgers.get(tp)
            if ledger is None or tp in rewound:
                continue
            match ledger.admit(message.offset):
                case Verdict.DELIVER:
                    self._read_offset[tp] = None  # Faust's own guessing of gaps stays idle
                    if self._has_room(tp):
                        await self._deliver(message)
                    else:
                        yield tp, message
                case Verdict.REWIND:
                    rewound.add(tp)
                    await self._seek_undelivered({tp: ledger})
                case Verdict.DROP:
                    pass

    def _has_room(self, tp: TP) -> bool:
        """Whether a message is taken at once by every stream that reads its topic.

        Then it is delivered without Faust's race against a suspended flow, which costs each message two tasks and
        three turns of the loop: more than most steps.
        """
        channels = cast(Any, self.app.topics)._tp_index.get(tp)
        return bool(channels) and self.flow_active and not any(channel.queue.full() for channel in channels)

    async def _seek_undelivered(self, ledgers: Mapping[TP, Ledger]) -> None:
        """Go on with the first record of each partition that has not been delivered."""
        if not ledgers:
            return
        offsets = {tp: ledger.next for tp, ledger in ledgers.items()}
        for ledger in ledgers.values():
            ledger.unsure()
        try:  # in the consumer's thread, so that no fetch can move the position at the same time
            await self._thread.seek_wait(offsets)
        except (KafkaError, TimeoutError):  # revoked meanwhile, or the broker is away: the next fetch tries again
            return
        for tp, ledger in ledgers.items():
            self._read_offset[tp] = None
            ledger.sought(offsets[tp])

    async def perform_seek(self) -> None:
        """Start every partition at its committed offset, or at the earliest; earlier acks are forgotten."""
        committed = await self.seek_to_committed()
        mine = [tp for tp in committed if self.app.topics.acks_enabled_for(tp.topic)]
        again = {tp.partition for tp in self.app.reread}
        base = {
            tp: offset
            for tp in mine
            if (offset := committed[tp]) is not None and offset >= 0 and tp.partition not in again
        }
        if unknown := [tp for tp in mine if tp not in base]:
            base.update(await self.earliest_offsets(*unknown))
        epochs = await cast(PromptThread, self._thread).committed_epochs([tp for tp in mine if tp not in unknown])
        for tp, offset in base.items():
            self.ledgers.pop(tp, None)
            self._fresh[tp] = Ledger(offset, epochs.get(tp, NO_EPOCH))
            self._read_offset[tp] = None
            self._committed_offset[tp] = offset
        await self._begin_again({tp: offset for tp, offset in base.items() if tp.partition in again})

    async def _begin_again(self, offsets: Mapping[TP, int]) -> None:
        """Set the group back where a table has to get again from its sources what its changelog has lost."""
        if not offsets:
            return
        if not await self._commit(offsets):
            self.app.fatal(f"the offsets of {len(offsets)} partitions could not be set back")
            return
        for tp in self.app.reread:
            _log.warning("%s/%d: its sources are read from their beginning", *tp)
            self.app.kept[tp.topic].disk(tp.partition).reread_began()
        self.app.reread.clear()

    def resume_flow(self) -> None:
        """Deliver from here on. Not earlier: resuming has just emptied the queues of the streams."""
        for tp in self._fresh:
            self.app.in_flight.restart(tp)
        self.ledgers.update(self._fresh)
        self._fresh.clear()
        super().resume_flow()

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Holes are the ledger's business."""

    # acks and commits

    def ack(self, message: Any) -> bool:
        """Called when everything that the message caused is confirmed, and by Faust for messages that it skips."""
        stale = message.generation_id != self.app.consumer_generation_id or not self.app.flow_control.is_active()
        self.forget(message)
        if stale and not message.tracked:  # never yielded to a step
            return False
        ledger = self.ledgers.get(message.tp)
        return ledger is not None and ledger.ack(message.offset)

    def forget(self, message: Any) -> None:
        """No longer wait for this message: it is acked, or another delivery of it will be."""
        message.acked = True
        self._unacked_messages.discard(message)
        if self._waiting_for_ack is not None and not self._waiting_for_ack.done():
            self._waiting_for_ack.set_result(None)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter([tp for tp in self.ledgers if topics is None or tp in topics or tp.topic in topics])

    def _new_offset(self, tp: TP) -> int | None:
        ledger = self.ledgers.get(tp)
        return None if ledger is None else ledger.low

    def _should_commit(self, tp: TP, offset: int) -> bool:
        committed = self._committed_offset[tp]
        return committed is None or offset > committed

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        # No flush of the producer as in Faust: an ack already means that every effect is confirmed.
        mine = self.assignment()
        offsets = {tp: offset for tp, offset in offsets.items() if tp in mine}
        if not offsets or not await self._commit(offsets):
            return False
        self._committed_offset.update(offsets)
        return True

    def committed(self, tp: TP) -> int:
        """The offset from which on the group would be given messages again, by what the broker has confirmed."""
        return self._committed_offset.get(tp) or 0

    async def settled(self, tp: TP, offset: int, while_true: Callable[[], bool]) -> None:
        """Commit until all messages before `offset`, which is in flight, are committed, or as long as this holds.

        Returns too where an earlier message was lost inside Faust: it comes again, behind the one that waits here.
        """
        while while_true() and (before := self.committed(tp)) < offset and (ledger := self.ledgers.get(tp)) is not None:
            if ledger.low > before:
                await self.commit({tp})
                if self.committed(tp) == before:  # another commit was on its way, or the broker is away
                    await asyncio.sleep(COMMIT_AGAIN_SECONDS)
            elif self.app.in_flight.was_passed(tp, ledger.low):
                return
            else:
                await self.app.in_flight.changed(REWIND_AFTER_SECONDS)

    # rebalances

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish what is in flight and commit it, before Faust forgets it."""
        app = self.app
        self.stop_flow()
        app.flow_control.suspend()
        app.flow_control.clear()
        for release in app.on_release:
            release(revoked)
        if not app.fence.closed:
            await app.in_flight.settled(app.conf.broker_session_timeout / 2)
            await self.force_commit()
        if app.in_flight.unconfirmed:  # they would still leave when the partitions are somebody else's
            app.fatal("the group gives the partitions away while effects are on their way")
        for tp in revoked:
            self.ledgers.pop(tp, None)
            self._fresh.pop(tp, None)
        self._unacked_messages.clear()  # what is still being worked on will find itself outdated
        for forget in app.on_revoked:
            forget(revoked)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """An assignment proves that the group knows this worker, as a heartbeat does."""
        self.app.fence.prove()
        self._watch_heartbeats()
        await super().on_partitions_assigned(assigned, generation_id)

    def _watch_heartbeats(self) -> None:
        coordinator = self._thread._ensure_consumer()._coordinator
        beat = coordinator._do_heartbeat
        if getattr(beat, "watched", False):
            return

        async def watched() -> bool:
            return await self.app.fence.proven_by(beat, lambda: bool(coordinator._rejoin_needed_fut.done()))

        watched.watched = True  # type: ignore[attr-defined]
        coordinator._do_heartbeat = watched

    # what stands still

    async def rewind_lost(self) -> list[TP]:
        """Fetch again where deliveries were lost inside Faust; call it about once a second. Returns where.

        The message at `low` was delivered and is not acked. If a later one has begun and this one is not being worked
        on, it was lost: so it was if it waits for long while nothing at all is in flight.
        """
        now, in_flight, rewound = time.monotonic(), self.app.in_flight, []
        for tp, ledger in list(self.ledgers.items()):
            low, _ = self._standing.get(tp, (-1, now))
            if ledger.outstanding == 0 or ledger.low != low or len(in_flight) > 0:
                self._standing[tp] = (ledger.low, now)
            idle = now - self._standing[tp][1] > REWIND_AFTER_SECONDS
            if ledger.outstanding > 0 and (idle or in_flight.was_passed(tp, ledger.low)):
                self._standing.pop(tp)
                in_flight.restart(tp)
                rewound.append(tp)
                ledger.rewind()
                await self._seek_undelivered({tp: ledger})
        return rewound


class StrictTransport(Transport):
    """Faust's transport with the strict consumer and the fenced producer."""

    Consumer = StrictConsumer
    Producer = FencedProducer


class StrictApp(faust.App):
    """A Faust App with strict offsets.

    `in_flight` are the deliveries being worked on. `on_release` are called with the revoked partitions before a
    rebalance waits for those, so that work which has not begun can be given back; `on_revoked` after the last commit.
    `kept` are the tables by their changelog; `reread` the changelog partitions whose sources begin again. `held_bytes`
    of messages are in memory at most, see `Room`.
    `fatal` ends the process without further acks.
    """

    logger = _log

    def __init__(
        self,
        app_id: str,
        *,
        fatal: Fatal,
        session_timeout_seconds: float,
        fetch_wait_milliseconds: int = 250,
        held_bytes: int = 64 * MIB,
        **options: Any,
    ) -> None:
        self.fatal = fatal
        self.fetch_wait_milliseconds = fetch_wait_milliseconds
        self.held_bytes = held_bytes
        self.fence = Fence(session_timeout_seconds)
        self.in_flight = InFlight()
        self.on_release: list[Callable[[set[TP]], None]] = []
        self.on_revoked: list[Callable[[set[TP]], None]] = []
        self.kept: dict[str, ConfirmedTable] = {}
        self.reread: set[TP] = set()
        super().__init__(app_id, broker_session_timeout=session_timeout_seconds, TableManager=PromptTables, **options)

    @property
    def strict(self) -> StrictConsumer:
        """The consumer, by its own type."""
        return cast(StrictConsumer, self.consumer)

    def keep(self, table: ConfirmedTable) -> None:
        """Look after a table of this App, whose changelog partitions come and go with the group's assignments."""
        self.kept[table.changelog.name] = table
        self.on_revoked.append(table.forget)

    def stamp_tables(self) -> None:
        """Note in each table that it is complete, if it is: recovered, and no one else's by the group's word."""
        if self.tables_are_open and not self.fence.closed:
            for tp in self._assignment or ():
                if tp.topic in self.kept:
                    self.kept[tp.topic].disk(tp.partition).stamp(time.time())

    @property
    def tables_are_open(self) -> bool:
        """Whether looking at a table of ours opens none: they are recovered, and neither given away nor closed."""
        return bool(self.ledgers()) and not self.rebalancing and not self.should_stop

    def ledgers(self) -> dict[TP, Ledger]:
        """The partitions that are being consumed; empty before the App has started."""
        return self.strict.ledgers if self._consumer is not None else {}

    def _new_transport(self) -> Transport:
        return StrictTransport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Transport:
        return StrictTransport(self.conf.broker_producer, self)

    async def stop(self) -> None:
        """Give back what has not begun, or Faust's last wait would never end; then stop as Faust does."""
        if not self.should_stop:
            for release in self.on_release:
                release(set(self.ledgers()))
        await super().stop()
        await asyncio.sleep(0)
