"""How a drawing is asked for: the format, and the style in the query. The same words on every route that draws."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Header, Query
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from agents.core.local_time import zone
from query_api.plots import PLOT_TYPES, MediaType, preferred
from query_api.style import HEIGHT, WIDTH, Style, Theme
from schemas.reading import Unit

Width = Annotated[int, Field(ge=480, le=1600, description="Of the drawing.")]
Height = Annotated[int, Field(ge=320, le=1200, description="Of the drawing.")]
Scale = Annotated[int, Field(ge=1, le=3, description="Pixels of a PNG or WebP for each of width and height.")]
Timezone = Annotated[
    str | None,
    Field(
        max_length=64,
        description="Of the clock that is shown: an IANA name such as Europe/Vienna, or an offset such as +02:00. "
        "Without it the data's own.",
    ),
]
InUnit = Annotated[Unit, Query(description="Unit of every glucose value in the answer.")]
InZone = Annotated[Timezone, Query()]
InTheme = Annotated[Theme, Query(description="Colours for light or for dark surroundings.")]


class Figure(BaseModel):
    """A Plotly figure."""

    data: list[dict[str, Any]] = Field(description="Its traces.")
    layout: dict[str, Any]


PICTURES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "image/svg+xml": {"schema": {"type": "string"}},
            "image/webp": {"schema": {"type": "string", "format": "binary"}},
        },
        "model": Figure,
    }
}
"""What a route that draws answers with."""

_BY_NAME: Mapping[str, MediaType] = {
    "png": "image/png", "svg": "image/svg+xml", "webp": "image/webp", "json": "application/json",
}  # fmt: skip


def style_of(
    unit: InUnit = "mg/dL",
    theme: InTheme = "light",
    timezone: InZone = None,
    width: Annotated[Width, Query()] = WIDTH,
    height: Annotated[Height, Query()] = HEIGHT,
    scale: Annotated[Scale, Query()] = 1,
) -> Style:
    """The dependency of routes that draw. Raises `ImplausibleError` for a zone that does not exist."""
    return checked(Style(unit, theme=theme, timezone=timezone, width=width, height=height, scale=scale))


def checked(style: Style) -> Style:
    """The style. Raises `ImplausibleError` for a zone that does not exist."""
    if style.timezone is not None:
        zone(style.timezone)
    return style


T = TypeVar("T", bound=str)


def one_of(accept: str | None, wanted: T | None, offers: tuple[T, ...]) -> T:
    """The type that is asked for by name, else by Accept. Raises `HTTPException` 406 where that names none of them."""
    if wanted is not None:
        return wanted
    best = preferred(accept, offers)
    if best is None:
        raise HTTPException(406, f"this comes as {', '.join(offers)}")
    return next(offer for offer in offers if offer == best)


def media_type_of(
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    format: Annotated[
        Literal["png", "svg", "webp", "json"] | None, Query(description="Instead of `Accept`, for links.")
    ] = None,
) -> MediaType:
    """The dependency of routes that draw. Raises `HTTPException` 406 for an `Accept` that names none of the types."""
    return one_of(accept, None if format is None else _BY_NAME[format], PLOT_TYPES)


InStyle = Annotated[Style, Depends(style_of)]
AsType = Annotated[MediaType, Depends(media_type_of)]
