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
        key = f"{row.chart_id}/{style.unit}/{style.fan}/{media_type}"
        if media_type != "application/json":
            kind: Literal["png", "svg"] = "png" if media_type == "image/png" else "svg"
            return await self.images.render(key, lambda: figure(row.chart, style), kind)
        data = self.images.cached(key)
        if data is None:
            data = orjson.dumps(figure(row.chart, style))
            self.images.keep(key, data)
        return data


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
