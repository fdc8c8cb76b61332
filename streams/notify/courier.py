"""Brings what waits for one webhook there, one delivery after the other: who hangs or fails delays nobody else."""

import asyncio
import datetime
import random
from collections.abc import Awaitable, Callable, Sequence

import structlog

from schemas.errors import RejectedError
from schemas.webhook import Delivery
from streams.notify.outbox import Outbox, Waiting
from streams.notify.registry import Changes, Registry
from streams.notify.schedule import pause_seconds
from streams.notify.sender import Attempt, Sender
from streams.notify.webhook_file import Endpoint

log = structlog.get_logger(__name__)

Steps = Sequence[tuple[int, Delivery]]
"""Records of ``cgm.webhook-deliveries``, each with its partition."""
LONGEST_WAIT_SECONDS = 60.0
DISABLED = "the webhook is disabled"
DAMAGED = "what was to be sent is damaged"


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Courier:
    """`run` never returns by itself; it raises where a record could not be published."""

    def __init__(
        self,
        endpoint: Endpoint,
        outbox: Outbox,
        registry: Registry,
        sender: Sender,
        publish: Callable[[Steps, Changes], Awaitable[None]],
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`publish` returns when the broker has confirmed the records."""
        self.endpoint = endpoint
        self._name = endpoint.name
        self._outbox, self._registry, self._sender = outbox, registry, sender
        self._publish, self._chance = publish, chance
        self._failures = 0
        self._paused_until = 0.0
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something new waits, or does not wait any more."""
        self._wake.set()

    async def run(self) -> None:
        try:
            while True:
                self._wake.clear()
                now = utc_now()
                ended = [*self._outbox.expire(self._name, now), *self._outbox.replaced(self.endpoint, now)]
                if ended:
                    await self._publish(ended, {})
                    continue  # what came meanwhile is looked at like that too
                item = self._outbox.next(self._name)
                pause = self._paused_until - asyncio.get_running_loop().time()
                if item is None or pause > 0:
                    await self._rest(pause)
                else:
                    await self._send(item)
        finally:
            await self._sender.close()

    async def _rest(self, pause: float) -> None:
        """Until something new waits (which a pause outlasts), the pause is over, or something no longer holds."""
        end = self._outbox.ends_next(self._name)
        waits = [LONGEST_WAIT_SECONDS]
        if pause > 0:
            waits.append(pause)
        if end is not None:
            waits.append(max(0.01, (end - utc_now()).total_seconds()))
        try:
            async with asyncio.timeout(min(waits)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _send(self, item: Waiting) -> None:
        try:
            attempt = await self._sender.send(item.delivery, utc_now())
        except (RejectedError, LookupError, TypeError, ValueError):  # nothing of ours: anybody may write to the topic
            log.warning("a delivery is damaged", webhook=self._name)
            if self._outbox.still_waits(item):
                made = self._outbox.tried(item, "dropped", utc_now(), None, DAMAGED)
                await self._publish([(item.partition, made)], {})
            return
        await self._ended(item, attempt)

    async def _ended(self, item: Waiting, attempt: Attempt) -> None:
        now = utc_now()
        speaks = self._registry.knows(self.endpoint)  # else the name is another webhook's by now
        if attempt.ok:
            self._failures = 0
            made = self._outbox.tried(item, "delivered", now, attempt.status, None)
            changes = self._registry.succeeded(self._name, now) if speaks else {}
            await self._publish([(item.partition, made)], changes)
            return
        reason = attempt.reason or "it failed"
        self._failures += 1
        pause = pause_seconds(self._failures, self._chance(), attempt.asked_seconds)
        self._paused_until = asyncio.get_running_loop().time() + pause
        if self._failures == 1:
            log.warning("a webhook fails", webhook=self._name, reason=reason)
        waits = self._outbox.still_waits(item)  # not where a newer forecast or the alert's end came meanwhile
        made = self._outbox.tried(item, "failing", now, attempt.status, reason)
        if not speaks:
            changes = {}
        elif attempt.over is not None:
            changes = self._registry.disabled(self._name, attempt.over, now)
        else:
            changes = self._registry.failed(self._name, reason, now)
        steps: list[tuple[int, Delivery]] = [(item.partition, made)] if waits else []
        state = changes.get(self._name)
        if state is not None and state.disabled_at is not None:
            log.error("a webhook is disabled: glucast webhooks enable", webhook=self._name, reason=state.reason)
            steps += self._outbox.give_up(self._name, DISABLED, now)
        await self._publish(steps, changes)
