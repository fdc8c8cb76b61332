"""Webhooks as everybody may see them, and what became of everything that was to be sent to them. No secrets."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.record import HexDigest, LongInteger, Record, SmallInteger, SubjectId, Time

Channel = Literal["webhook", "ntfy", "nightscout"]
EventGroup = Literal["alert", "outcome", "forecast"]
"""What a webhook may ask for: alerts, what became of them, forecasts."""
DeliveryStatus = Literal["queued", "failing", "delivered", "expired", "dropped"]
WAITING: tuple[DeliveryStatus, ...] = ("queued", "failing")
"""Of deliveries that are still to be made; the others have ended."""

WebhookName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
"""Chosen by whoever adds it; not the person's name."""


class Webhook(Record):
    """A webhook and how it does, on ``cgm.webhooks``, keyed by its name; removed ones are deleted there."""

    webhook_id: WebhookName
    channel: Channel = "webhook"
    destination: str = Field(max_length=300, description="Scheme, host and port: the path may be a secret.")
    subject_id: SubjectId | None = Field(default=None, description="Whose events it gets; null: everybody's.")
    events: tuple[EventGroup, ...] = Field(min_length=1, max_length=3)
    added_at: Time = Field(description="When it was added or enabled again: nothing from before is sent.")
    since: Time | None = Field(
        default=None,
        description="When it was added, however often it was enabled since: what was queued before was for another "
        "one that had its name. Null in records of earlier versions.",
    )
    updated_at: Time = Field(description="Of the records of one webhook that of the latest counts.")
    failing_since: Time | None = Field(
        default=None,
        description="Attempts have failed since, with no break of half an hour in which nothing was tried; null once "
        "one succeeds.",
    )
    failed_at: Time | None = Field(default=None, description="About when an attempt failed last: to five minutes.")
    disabled_at: Time | None = Field(default=None, description="Nothing is sent until somebody enables it again.")
    reason: str | None = Field(default=None, max_length=500, description="Why it fails or is disabled, for a person.")


FORGOTTEN = "the subject was erased or begins anew"
"""The reason of deliveries that are dropped with what they are about: nothing of them is kept to be looked up."""


class Delivery(Record):
    """One step of one delivery, on ``cgm.webhook-deliveries``, keyed by `subject_id`. The last step of an id counts.

    ``queued``: it is to be sent, and `body` is what; ``failing``: it will be tried again. The others end it:
    ``delivered``; ``expired``: what it says does not hold any more; ``dropped``: given up for another reason.
    """

    delivery_id: HexDigest = Field(description="Hash of webhook and event.")
    webhook_id: WebhookName
    event_id: str = Field(max_length=200, description="The header `webhook-id`: equal whenever the event is sent.")
    event_type: str = Field(max_length=64, description="Such as alert.raised or forecast.issued.")
    subject_id: SubjectId
    status: DeliveryStatus
    attempts: SmallInteger = 0
    queued_at: Time
    began_at: Time | None = Field(
        default=None,
        description="When what it tells came to be: an order to forget the subject ends what is of before. Null in "
        "records of earlier versions: `queued_at`, then.",
    )
    issue_time: Time | None = Field(
        default=None,
        description="Of a forecast: its last known point. Null of others and in earlier versions' records.",
    )
    revision: LongInteger | None = Field(
        default=None, description="Of a forecast: of those of one issue time and beginning the highest is the latest."
    )
    updated_at: Time
    valid_until: Time = Field(description="It is not sent after that.")
    response_status: SmallInteger | None = Field(default=None, description="The last answer's, if there was one.")
    reason: str | None = Field(default=None, max_length=500, description="Why it failed or was given up.")
    body: str | None = Field(default=None, description="What is sent; of ``queued`` alone.")
