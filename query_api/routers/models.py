"""The model that serves and the one on trial, scored by the same truths."""

from typing import Annotated

from fastapi import APIRouter, Depends

from query_api.access import access
from query_api.model_comparison import Comparison, compared
from query_api.services import Services, services_of

router = APIRouter(tags=["models"])
Uses = Annotated[Services, Depends(services_of)]


@router.get("/models")
@access("key", scope="read")
async def models(uses: Uses) -> Comparison:
    """How the served model and the one on trial did for everybody, over the same days of the same people."""
    return await compared(uses.read_model.scores.every())
