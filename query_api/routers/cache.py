"""What is stored: look, delete, flush, and save to or load from Parquet files."""

import asyncio
import hashlib
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from query_api.access import access
from query_api.audit import note
from query_api.callers import holder_of
from query_api.holders import Holder
from query_api.restore import restore, snapshot
from query_api.saved_handles import checked_handle, load, save, saved_count
from query_api.services import Services, services_of
from schemas.errors import RejectedError, UnavailableError, UnknownHandleError

router = APIRouter(tags=["operations"])

Action = Literal["flush", "info", "delete", "save", "load"]


class CacheAnswer(BaseModel):
    success: bool
    message: str
    cache_size: int = Field(description="Handles that forecasts can be asked for.")
    persisted_count: int = Field(description="Handles saved as Parquet files.")
    items_affected: int


@router.post("/cache_management", response_model=CacheAnswer)
@access("key", scope="admin", whose="own", audit="cache", raises=(RejectedError, UnknownHandleError, UnavailableError))
async def cache_management(
    request: Request,
    uses: Annotated[Services, Depends(services_of)],
    action: Annotated[Action, Query(description="save without a handle saves every handle.")],
    handle: Annotated[str | None, Query(max_length=128)] = None,
) -> CacheAnswer:
    """Answers when the workers have confirmed the change. Forecasts of subjects are not touched.

    With a key of single people it is about what was uploaded with such a key: nothing else is seen, counted or changed.
    """
    holder = holder_of(request)
    note(request, cache=action, handle="*" if handle is None else _in_logs(handle))
    if action in ("save", "load") and not uses.settings.enable_cache_persistence:
        raise RejectedError("saving and loading are switched off: set GLUCAST_ENABLE_CACHE_PERSISTENCE=1")
    if action in ("delete", "load") and handle is None:
        raise RejectedError(f"{action} needs a handle")
    affected, message = await _ACTIONS[action](uses, holder, handle or "")
    return await stored_now(uses, holder, True, message, affected)


async def stored_now(uses: Services, holder: Holder, success: bool, message: str, items_affected: int) -> CacheAnswer:
    """What came of an action, with what is stored after it."""
    return CacheAnswer(
        success=success,
        message=message,
        cache_size=len(uses.read_model.uploads.handles(holder)),
        persisted_count=await asyncio.to_thread(saved_count, uses.parquet_dir, holder),
        items_affected=items_affected,
    )


def _in_logs(handle: str) -> str:
    """Eight characters that tell handles apart and lead to none."""
    return hashlib.sha256(handle.encode()).hexdigest()[:8]


async def _info(uses: Services, holder: Holder, _: str) -> tuple[int, str]:
    return 0, f"{len(uses.read_model.uploads.handles(holder))} of {uses.settings.max_cache_size} handles are stored"


async def _delete(uses: Services, holder: Holder, handle: str) -> tuple[int, str]:
    await uses.submit.delete(handle, holder)
    return 1, "the handle and its forecasts are deleted"


async def _flush(uses: Services, holder: Holder, _: str) -> tuple[int, str]:
    count = await uses.submit.flush(holder)
    return count, f"{count} handles are deleted"


async def _save(uses: Services, holder: Holder, handle: str) -> tuple[int, str]:
    if handle:
        snapshots = [snapshot(uses.read_model, await uses.submit.stored(handle, holder))]
    else:
        snapshots = [snapshot(uses.read_model, stored) for stored in uses.read_model.uploads.handles(holder)]
    refused = []
    for saved in snapshots:
        try:
            await asyncio.to_thread(save, uses.parquet_dir, saved)
        except RejectedError as error:
            refused.append(error)
    if refused and len(refused) == len(snapshots):
        raise refused[0]
    left_out = f"; {len(refused)} not, because their forecasts are still being computed" if refused else ""
    return len(snapshots) - len(refused), f"{len(snapshots) - len(refused)} handles are saved{left_out}"


async def _load(uses: Services, holder: Holder, handle: str) -> tuple[int, str]:
    saved = await asyncio.to_thread(load, uses.parquet_dir, checked_handle(handle), holder)
    await restore(uses.submit, saved)
    return 1, f"the handle and {len(saved.charts)} forecasts are restored"


_ACTIONS = {"info": _info, "delete": _delete, "flush": _flush, "save": _save, "load": _load}
