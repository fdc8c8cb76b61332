"""Which tags of a client name an answer, and when two answers have the same."""

import datetime

import pytest
from starlette.datastructures import Headers

from query_api.conditional import holds, known_tags
from query_api.present import Present, present
from tests.api.test_present import MINUTE, outcome, row
from tests.kit.charts import ISSUE

TAG = '"9f-mg.dl-image.png"'


@pytest.mark.parametrize("tag", [TAG, f"W/{TAG}"])
@pytest.mark.parametrize(
    "offered", [TAG, f"W/{TAG}", f'"other", {TAG}', f'W/"a,b",W/{TAG} , "c"', "*", f", {TAG},"], ids=str
)
def test_an_answer_that_is_known_is_found_in_the_list(offered: str, tag: str) -> None:
    assert holds(offered, tag)


@pytest.mark.parametrize(
    "offered", [None, "", '"other"', f'"other {TAG[1:]}', TAG[:-2] + '"', '"9f', "W/", f'"x{TAG[1:]}', "\xff"], ids=str
)
def test_another_answer_is_not(offered: str | None) -> None:
    assert not holds(offered, TAG)


def test_several_headers_are_one_list() -> None:
    several = Headers(raw=[(b"if-none-match", b'"a"'), (b"accept", b"*/*"), (b"if-none-match", TAG.encode())])
    assert holds(known_tags(several), TAG)
    assert known_tags(Headers(raw=[])) is None


def test_an_age_is_never_kept_for_more_than_a_minute() -> None:
    """The 304 of a kept answer lets its reader see the age that stood there when it was sent."""

    def at(seconds: int, newest_minutes: int = 0) -> Present:
        newest = outcome(newest_minutes, "forecast_requested")
        return present(row(), newest, ISSUE + 3 * MINUTE + datetime.timedelta(seconds=seconds))

    assert at(0).moment == at(59).moment
    assert at(0).moment != at(60).moment
    assert at(0).moment != at(0, newest_minutes=2).moment, "the newest reading stands there too"
