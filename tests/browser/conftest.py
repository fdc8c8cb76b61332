"""A broker with topics and the pipeline; the browser is a real one, and the same for all tests of a file."""

from collections.abc import Iterator

import pytest

from query_api import services
from tests.browser.window import Chromium, browsing
from tests.kit.fixtures import broker, pipeline, settings  # noqa: F401 - fixtures


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with browsing() as found:
        yield found


@pytest.fixture(autouse=True)
def no_browser_for_pictures_in_advance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API's own Chromium starts with the first picture that is asked for: most tests ask for none."""
    monkeypatch.setattr(services, "BROWSER_AFTER_SECONDS", 3600.0)
