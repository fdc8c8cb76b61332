"""Drawings of stored forecasts in the formats that HTTP knows, each made once."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import orjson
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from query_api.figure import Style, figure
from query_api.image import Images
from query_api.projections.fan_charts import ChartRow

MediaType = Literal["image/png", "application/json", "image/svg+xml"]
SAMPLE_TYPES: tuple[MediaType, ...] = ("image/png", "application/json")
SUBJECT_TYPES: tuple[MediaType, ...] = ("image/png", "image/svg+xml", "application/json")


@dataclasses.dataclass(frozen=True, slots=True)
class Plots:
    """Pictures and figures of fan charts, from the cache where they have been made before."""

    images: Images

    async def plot(self, row: ChartRow, style: Style, media_type: MediaType) -> bytes:
        """Raises `UnavailableError` where a picture is wanted and Chromium is missing."""
        if media_type == "application/json":
            return self._figure(row, style)
        kind: Literal["png", "svg"] = "png" if media_type == "image/png" else "svg"
        key = _key(row, style, media_type)
        return await self.images.render(key, lambda: orjson.loads(self._figure(row, style)), kind)

    def drawn(self, row: ChartRow, style: Style, media_type: MediaType) -> bytes | None:
        """What `plot` would return, where it has been made before."""
        return self.images.cached(_key(row, style, media_type))

    def _figure(self, row: ChartRow, style: Style) -> bytes:
        key = _key(row, style, "application/json")
        data = self.images.cached(key)
        if data is None:
            data = orjson.dumps(figure(row.chart, style))
            self.images.keep(key, data)
        return data


def _key(row: ChartRow, style: Style, media_type: MediaType) -> str:
    return f"{row.chart_id}/{style.unit}/{style.fan}/{media_type}"


def preferred(accept: str | None, offers: Sequence[MediaType]) -> MediaType | None:
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
