"""The files of the pages: kept by who has them, and read again when they have changed."""

import os
from pathlib import Path

import pytest

from query_api.routers.page import PLOTLY, delivered
from tests.kit.query import Client


@pytest.mark.parametrize("path", ["/", "/docs", "/static/page.js", f"/static/{PLOTLY}"])
async def test_a_file_is_not_sent_again_to_who_has_it(client: Client, path: str) -> None:
    first = await client.get(path)
    again = await client.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert again.headers["cache-control"] == first.headers["cache-control"]
    other = await client.get(path, headers={"if-none-match": '"another"'})
    assert (other.status_code, other.content) == (200, first.content)


def test_a_file_that_was_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "page.js"
    path.write_text("1")
    first = delivered(path, {}, None)
    path.write_text("22")
    os.utime(path, ns=(1, 1))
    second = delivered(path, {}, first.headers["etag"])
    assert (first.body, second.body) == (b"1", b"22")
