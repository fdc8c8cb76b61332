"""Webhooks and the latest deliveries to each, without what was sent.

x/<webhook>                                         a `Webhook`
y/<webhook>/<queued: ms, 15 digits>/<delivery id>   the last step of a `Delivery`
"""

import bisect
import itertools
from collections.abc import Iterator

from query_api.projections.projection import Notification
from query_api.store import Store
from schemas import topics
from schemas.topics import Topic
from schemas.webhook import FORGOTTEN, WAITING, Delivery, Webhook

KEPT = 100
"""Deliveries a webhook: the newest."""


class Webhooks:
    """The projection and its views. A webhook that is removed takes its deliveries with it."""

    topic: Topic = topics.WEBHOOKS

    def __init__(self, store: Store) -> None:
        self._store = store

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        if value is None:
            for row, _ in self._store.scan(_prefix(key)):
                self._store.stage(row, None)
            for row in self._store.staged(_prefix(key)):
                self._store.stage(row, None)
        else:
            Webhook.from_json(value)
        self._store.stage(_row(key), value)
        yield from ()

    def all(self) -> list[Webhook]:
        """By name."""
        return [Webhook.from_json(value) for _, value in self._store.scan(b"x/")]

    def find(self, webhook_id: str) -> Webhook | None:
        value = self._store.get(_row(webhook_id))
        return None if value is None else Webhook.from_json(value)

    def deliveries(self, webhook_id: str) -> list[Delivery]:
        """The newest first; none of another webhook that had the name before, which rows know by its name alone.

        Where a name leads somewhere else from one moment to the next, compaction leaves no tombstone between the two.
        """
        prefix, webhook = _prefix(webhook_id), self.find(webhook_id)
        newest = itertools.islice(self._store.scan_back(prefix, prefix + b"\xff"), KEPT)
        found = (Delivery.from_json(value) for _, value in newest)
        return [each for each in found if webhook is None or _is_its(webhook, each)]


class Deliveries:
    """The projection of what becomes of deliveries; `Webhooks` has the view.

    Which rows there are is remembered: to look it up for each delivery would be to pass all that were ever deleted,
    until RocksDB has tidied them away.
    """

    topic: Topic = topics.WEBHOOK_DELIVERIES

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[str, list[bytes]] = {}

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        delivery = Delivery.from_json(value)
        prefix = _prefix(delivery.webhook_id)
        queued_ms = int(delivery.queued_at.timestamp() * 1000)
        row = prefix + f"{queued_ms:015d}/{delivery.delivery_id}".encode()
        known = self._store.get(row)
        if known is not None and delivery.status in WAITING and Delivery.from_json(known).status not in WAITING:
            return  # what has ended does not begin again, whatever a process that was cut off adds
        if delivery.reason == FORGOTTEN:  # it comes behind what made the table forget the subject
            self._store.stage(row, None)
        elif known is not None or self._has_room(delivery.webhook_id, row):
            self._store.stage(row, delivery.model_copy(update={"body": None}).to_json())
        yield from ()

    def _has_room(self, webhook_id: str, row: bytes) -> bool:
        """Whether a new row is among the newest; what is not among them any more goes."""
        if webhook_id not in self._rows:
            prefix = _prefix(webhook_id)
            found = {*(each for each, _ in self._store.scan(prefix)), *self._store.staged(prefix)}
            self._rows[webhook_id] = sorted(found)
        rows = self._rows[webhook_id]
        if row not in rows:
            bisect.insort(rows, row)
        for old in rows[:-KEPT]:
            self._store.stage(old, None)
        del rows[:-KEPT]
        return row in rows

    def discard(self) -> None:
        """The table is not as it was left: what was staged could not be written, or everything has gone."""
        self._rows.clear()

    def forget(self, subject_id: str, up_to_ms: int) -> None:
        """Stage the end of what is held of deliveries about a subject that were queued up to a Unix time."""
        for row in {*self._store.staged(b"y/"), *(row for row, _ in self._store.scan(b"y/"))}:
            value = self._store.get(row)
            if value is None:
                continue
            delivery = Delivery.from_json(value)
            if delivery.subject_id == subject_id and delivery.queued_at.timestamp() * 1000 <= up_to_ms:
                self._store.stage(row, None)
                self._rows.clear()


def _is_its(webhook: Webhook, delivery: Delivery) -> bool:
    whose = webhook.subject_id in (None, delivery.subject_id)
    return whose and (webhook.since is None or delivery.queued_at >= webhook.since)


def _row(webhook_id: str) -> bytes:
    return b"x/" + webhook_id.encode()


def _prefix(webhook_id: str) -> bytes:
    return f"y/{webhook_id}/".encode()
