"""Drawings of stored forecasts and days in the formats that HTTP knows, each made once."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import orjson
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from query_api.figure import figure
from query_api.image import Format, Images
from query_api.projections.fan_charts import ChartRow
from query_api.style import Style

MediaType = Literal["image/png", "image/svg+xml", "image/webp", "application/json"]
PLOT_TYPES: tuple[MediaType, ...] = get_args(MediaType)
_FORMATS: Mapping[MediaType, Format] = {"image/png": "png", "image/svg+xml": "svg", "image/webp": "webp"}


@dataclasses.dataclass(frozen=True, slots=True)
class Plots:
    """Pictures and figures, from the cache where they have been made before."""

    images: Images

    async def plot(self, row: ChartRow, style: Style, media_type: MediaType) -> bytes:
        """A fan chart. Raises `UnavailableError` where a picture is wanted and Chromium is missing."""
        return await self.picture(row.digest, lambda: figure(row.chart, style), style, media_type)

    def drawn(self, row: ChartRow, style: Style, media_type: MediaType) -> bytes | None:
        """What `plot` would return, where it has been made before."""
        return self.images.cached(_key(row.digest, style, media_type))

    async def picture(self, of: str, shown: Callable[[], dict[str, Any]], style: Style, media_type: MediaType) -> bytes:
        """A figure as it is asked for. `of` names all that it shows but for the style.

        Raises `UnavailableError` where a picture is wanted and Chromium is missing.
        """
        if media_type == "application/json":
            return self._figure(of, shown, style)
        key = _key(of, style, media_type)
        return await self.images.render(
            key, lambda: orjson.loads(self._figure(of, shown, style)), _FORMATS[media_type], style.scale
        )

    def _figure(self, of: str, shown: Callable[[], dict[str, Any]], style: Style) -> bytes:
        key = _key(of, style, "application/json")
        data = self.images.cached(key)
        if data is None:
            data = orjson.dumps(shown())
            self.images.keep(key, data)
        return data


def _key(of: str, style: Style, media_type: MediaType) -> str:
    return f"{of}/{style.key}/{media_type}"


def preferred(accept: str | None, offers: Sequence[str]) -> str | None:
    """The offer that an Accept header likes best, the first for ``*/*`` and for none; None where none will do.

    A range that names a type outranks one with a wildcard, as RFC 9110 says. Of offers that are liked alike the first.
    """
    if not accept or not accept.strip():
        return offers[0]
    # Parameters do not tell our types apart, and who asks for JSON in UTF-8 gets it.
    ranges = [(item.partition(";")[0].strip(), quality) for item, quality in parse_accept_header(accept)]
    liked = MIMEAccept(ranges)
    best = max(offers, key=liked.quality)
    return best if liked.quality(best) > 0 else None
