"""The page at ``/`` and the files it needs, all served from here."""

import functools
import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from query_api.access import access
from query_api.conditional import KnownTags, holds

router = APIRouter(include_in_schema=False)

DASHBOARD = Path(__file__).parent.parent / "dashboard"
SHORT = {"cache-control": "no-cache"}
_DAY = {"cache-control": "public, max-age=86400"}
PLOTLY = "plotly.min.js"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".html": "text/html"}
_OWN = (
    "page.css", "docs.css", "docs.js",
    *(f"{name}.js" for name in ("page", "alerts", "api", "chart", "dom", "events", "file", "fit", "history", "now",
                                "people", "picture", "save", "scores", "words")),
)  # fmt: skip
_OF_PACKAGES = {
    PLOTLY: ("plotly", "package_data"),
    "swagger-ui-bundle.js": ("fastapi_swagger", "resources"),
    "swagger-ui.css": ("fastapi_swagger", "resources"),
}


@router.get("/")
@access("everybody")
async def page(tags: KnownTags = None) -> Response:
    """People with their forecasts, history, alerts and accuracy as they come; or a file and its samples."""
    return delivered(DASHBOARD / "page.html", SHORT, tags)


@router.get("/favicon.ico")
@access("everybody")
async def favicon() -> Response:
    """There is none. Browsers ask for it unbidden, and must not be told to show a key."""
    raise HTTPException(404)


@router.get("/static/{name:path}")
@access("everybody")
async def static(name: str, tags: KnownTags = None) -> Response:
    if name in _OF_PACKAGES:
        return delivered(_of_package(name), _DAY, tags)
    if name not in _OWN:
        raise HTTPException(404, "no such file")
    return delivered(DASHBOARD / name, SHORT, tags)


class _File(NamedTuple):
    tag: str
    data: bytes


@functools.lru_cache(maxsize=64)
def _read(path: Path, _modified_ns: int) -> _File:
    """A file as it was when it was last changed."""
    data = path.read_bytes()
    return _File(f'"{hashlib.sha256(data).hexdigest()[:32]}"', data)


def delivered(path: Path, headers: Mapping[str, str], tags: str | None) -> Response:
    """A file from memory, where it has been since it was last changed; 304 for who has it already.

    A page is some twenty small files that are asked for at once: a thread for each would take longer than to send them.
    """
    found = _read(path, path.stat().st_mtime_ns)
    told = {"ETag": found.tag, **headers}
    if holds(tags, found.tag):
        return Response(status_code=304, headers=told)
    return Response(found.data, headers=told, media_type=_TYPES[path.suffix])


@functools.cache
def _of_package(name: str) -> Path:
    """A file that a package ships, found without importing the package."""
    package, folder = _OF_PACKAGES[name]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise HTTPException(404, f"the package {package} is not installed")
    return Path(found.origin).parent / folder / name
