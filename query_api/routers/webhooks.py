"""Webhooks: where each leads, how it does, what became of what was sent. They are made with ``glucast webhooks``."""

import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from pydantic import BaseModel, Field

from query_api.access import access
from query_api.callers import key_of
from query_api.key_file import Key
from query_api.routers.subjects import Uses
from schemas.webhook import DeliveryStatus, Webhook

router = APIRouter(tags=["webhooks"])

WebhookId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class WebhooksAnswer(BaseModel):
    webhooks: list[Webhook]


class ToldDelivery(BaseModel):
    """A delivery as it is now."""

    delivery_id: str
    event_id: str = Field(description="The header `webhook-id`, by which a receiver knows a repeat.")
    event_type: str
    subject_id: str
    status: DeliveryStatus
    attempts: int
    queued_at: datetime.datetime
    updated_at: datetime.datetime
    valid_until: datetime.datetime
    response_status: int | None
    reason: str | None


class DeliveriesAnswer(BaseModel):
    webhook: Webhook
    deliveries: list[ToldDelivery] = Field(description="The newest first, a hundred at most.")


@router.get("/webhooks")
@access("key", scope="read", whose="own")
async def webhooks(request: Request, uses: Uses) -> WebhooksAnswer:
    """Where alerts and forecasts are sent, and how that does; for a key of single people theirs alone."""
    key = key_of(request)
    return WebhooksAnswer(webhooks=[each for each in uses.read_model.webhooks.all() if _covers(key, each)])


@router.get("/webhooks/{webhook_id}/deliveries")
@access("key", scope="read", whose="own", raises=(404,))
async def deliveries(request: Request, uses: Uses, webhook_id: WebhookId) -> DeliveriesAnswer:
    """What was to be sent to one webhook, and what became of it. 404 where there is none of this name for the key."""
    found, key = uses.read_model.webhooks.find(webhook_id), key_of(request)
    if found is None or not _covers(key, found):
        raise HTTPException(404, "there is no such webhook: GET /webhooks lists them, glucast webhooks adds one")
    return DeliveriesAnswer(
        webhook=found,
        deliveries=[
            ToldDelivery(**each.model_dump(exclude={"webhook_id", "body"}))
            for each in uses.read_model.webhooks.deliveries(webhook_id)
            if key is None or key.covers(each.subject_id)
        ],
    )


def _covers(key: Key | None, webhook: Webhook) -> bool:
    """A webhook of everybody's events is for keys for everybody."""
    if key is None or key.subjects is None:
        return True
    return webhook.subject_id is not None and key.covers(webhook.subject_id)
