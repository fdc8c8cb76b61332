"""The way from one page of a list to the next: besides the place in the body, a header that every client knows."""

from typing import Any

PAGED: dict[str, Any] = {
    "Link": {
        "description": 'The address of the following page, as `<…>; rel="next"` (RFC 8288); absent on the last one.',
        "schema": {"type": "string"},
    }
}
"""The header of a route that answers page by page, for the API's description."""


def next_page(url: str | None) -> dict[str, str]:
    """The headers of a page, with the address of the one that follows it."""
    return {} if url is None else {"Link": f'<{url}>; rel="next"'}
