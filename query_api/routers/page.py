"""The page at ``/`` and the files it needs, all served from here."""

import functools
import importlib.util
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

from query_api.access import access

router = APIRouter(include_in_schema=False)

_DASHBOARD = Path(__file__).parent.parent / "dashboard"
_FILES = {"page.css": "text/css", "page.js": "text/javascript"}
_DAY = {"cache-control": "public, max-age=86400"}
_SHORT = {"cache-control": "no-cache"}


@router.get("/")
@access("everybody")
async def page() -> FileResponse:
    """Pick a subject or upload a file, and look at its forecasts."""
    return FileResponse(_DASHBOARD / "page.html", media_type="text/html", headers=_SHORT)


@router.get("/favicon.ico")
@access("everybody")
async def favicon() -> FileResponse:
    """There is none. Browsers ask for it unbidden, and must not be told to show a key."""
    raise HTTPException(404)


@router.get("/static/{name:path}")
@access("everybody")
async def static(name: str) -> FileResponse:
    if name == "plotly.min.js":
        return FileResponse(_plotly(), media_type="text/javascript", headers=_DAY)
    if name not in _FILES:
        raise HTTPException(404, "no such file")
    return FileResponse(_DASHBOARD / name, media_type=_FILES[name], headers=_SHORT)


@functools.cache
def _plotly() -> Path:
    """The script that the plotly package ships, found without importing the package."""
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise HTTPException(404, "the plotly package is not installed")
    return Path(found.origin).parent / "package_data" / "plotly.min.js"
