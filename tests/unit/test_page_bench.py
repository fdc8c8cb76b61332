"""The bench of the page: what it prints of visits and of what came to the open page."""

from deploy.bench.page import Move, Visit, lines


def test_each_row_has_the_median_and_the_worst() -> None:
    visits = [Visit(milliseconds, 21) for milliseconds in (300.0, 200.0, 900.0)]
    moves = [Move(from_event, from_event + 200) for from_event in (90.0, 120.0, 70.0)]
    rows = {line[:24].strip(): [int(each) for each in line[24:].split()] for line in [*lines([visits] * 3, moves)][1:]}
    assert rows == {
        "nothing kept": [300, 900, 21], "second look": [300, 900, 21], "later looks": [300, 900, 21],
        "event to drawn": [90, 120], "reading to drawn": [290, 320],
    }  # fmt: skip
