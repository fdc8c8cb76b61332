"""Drawings of stored forecasts in the formats that HTTP knows, each made once."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import orjson

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

    async def draw(self, row: ChartRow, style: Style, media_type: MediaType) -> bytes:
        """Raises `UnavailableError` where a picture is wanted and Chromium is missing."""
        key = f"{row.chart_id}/{style.unit}/{style.fan}/{media_type}"
        if media_type != "application/json":
            kind: Literal["png", "svg"] = "png" if media_type == "image/png" else "svg"
            return await self.images.draw(key, lambda: figure(row.chart, style), kind)
        data = self.images.cached(key)
        if data is None:
            data = orjson.dumps(figure(row.chart, style))
            self.images.keep(key, data)
        return data


def preferred(accept: str | None, offers: Sequence[MediaType]) -> MediaType | None:
    """The offer that an Accept header likes best, the first for ``*/*`` and for none; None where none will do.

    A range that names a type outranks one with a wildcard, as RFC 9110 says.
    """
    if not accept or not accept.strip():
        return offers[0]
    best: tuple[float, int] | None = None
    chosen: MediaType | None = None
    for place, offer in enumerate(offers):
        quality = _quality(accept, offer)
        if quality > 0 and (best is None or (quality, -place) > best):
            best, chosen = (quality, -place), offer
    return chosen


def _quality(accept: str, offer: str) -> float:
    matches: list[tuple[int, float]] = []
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        specificity = {offer: 2, offer.split("/")[0] + "/*": 1, "*/*": 0}.get(name)
        if specificity is not None:
            matches.append((specificity, _weight(parameters)))
    return max(matches, default=(0, 0.0))[1]


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
