"""Webhooks and the latest deliveries to each, without what was sent.

w/<webhook>                                       a `Webhook`
v/<webhook>/<queued: ms, 15 digits>/<delivery id>   the last step of a `Delivery`
"""

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
        """The newest first."""
        found = [Delivery.from_json(value) for _, value in self._store.scan(_prefix(webhook_id))]
        return found[::-1]


class Deliveries:
    """The projection of what becomes of deliveries; `Webhooks` has the view."""

    topic: Topic = topics.WEBHOOK_DELIVERIES

    def __init__(self, store: Store) -> None:
        self._store = store

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        delivery = Delivery.from_json(value)
        prefix = _prefix(delivery.webhook_id)
        queued_ms = int(delivery.queued_at.timestamp() * 1000)
        row = prefix + f"{queued_ms:015d}/{delivery.delivery_id}".encode()
        known = self._store.get(row)
        if known is not None and delivery.status in WAITING and Delivery.from_json(known).status not in WAITING:
            return  # what has ended does not begin again, whatever a process that was cut off adds
        kept = {each for each, _ in self._store.scan(prefix)} | {row, *self._store.staged(prefix)}
        for old in sorted(kept)[:-KEPT]:
            self._store.stage(old, None)
        if delivery.reason == FORGOTTEN:  # it comes behind what made the table forget the subject
            self._store.stage(row, None)
        elif row in sorted(kept)[-KEPT:]:
            self._store.stage(row, delivery.model_copy(update={"body": None}).to_json())
        yield from ()

    def forget(self, subject_id: str, up_to_ms: int) -> None:
        """Stage the end of what is held of deliveries about a subject that were queued up to a Unix time."""
        for row in {*self._store.staged(b"y/"), *(row for row, _ in self._store.scan(b"y/"))}:
            value = self._store.get(row)
            if value is None:
                continue
            delivery = Delivery.from_json(value)
            if delivery.subject_id == subject_id and delivery.queued_at.timestamp() * 1000 <= up_to_ms:
                self._store.stage(row, None)


def _row(webhook_id: str) -> bytes:
    return b"x/" + webhook_id.encode()


def _prefix(webhook_id: str) -> bytes:
    return f"y/{webhook_id}/".encode()
