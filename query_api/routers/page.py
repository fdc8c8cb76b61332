"""The page at ``/`` and the files it needs, all served from here."""

import functools
import importlib.util
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

from query_api.access import access

router = APIRouter(include_in_schema=False)

DASHBOARD = Path(__file__).parent.parent / "dashboard"
SHORT = {"cache-control": "no-cache"}
_DAY = {"cache-control": "public, max-age=86400"}
_TYPES = {".css": "text/css", ".js": "text/javascript"}
_OWN = (
    "page.css", "docs.css", "docs.js",
    *(f"{name}.js" for name in ("page", "alerts", "api", "chart", "dom", "events", "file", "history", "now", "people",
                                "save", "scores", "words")),
)  # fmt: skip
_OF_PACKAGES = {
    "plotly.min.js": ("plotly", "package_data"),
    "swagger-ui-bundle.js": ("fastapi_swagger", "resources"),
    "swagger-ui.css": ("fastapi_swagger", "resources"),
}


@router.get("/")
@access("everybody")
async def page() -> FileResponse:
    """People with their forecasts, history, alerts and accuracy as they come; or a file and its samples."""
    return FileResponse(DASHBOARD / "page.html", media_type="text/html", headers=SHORT)


@router.get("/favicon.ico")
@access("everybody")
async def favicon() -> FileResponse:
    """There is none. Browsers ask for it unbidden, and must not be told to show a key."""
    raise HTTPException(404)


@router.get("/static/{name:path}")
@access("everybody")
async def static(name: str) -> FileResponse:
    if name in _OF_PACKAGES:
        return FileResponse(_of_package(name), media_type=_TYPES[Path(name).suffix], headers=_DAY)
    if name not in _OWN:
        raise HTTPException(404, "no such file")
    return FileResponse(DASHBOARD / name, media_type=_TYPES[Path(name).suffix], headers=SHORT)


@functools.cache
def _of_package(name: str) -> Path:
    """A file that a package ships, found without importing the package."""
    package, folder = _OF_PACKAGES[name]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise HTTPException(404, f"the package {package} is not installed")
    return Path(found.origin).parent / folder / name
