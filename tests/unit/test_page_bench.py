"""The bench of the page: what it prints of visits and of what came to the open page."""

from deploy.bench.page import LOOKS, Move, Visit, lines


def test_each_row_has_the_median_and_the_worst() -> None:
    visits = [Visit(seen, seen + 100, 21) for seen in (300.0, 200.0, 900.0)]
    moves = [Move(from_event, from_event + 200) for from_event in (90.0, 120.0, 70.0)]
    rows = {line[:24].strip(): [int(each) for each in line[24:].split()] for line in [*lines([visits] * 3, moves)][1:]}
    looks = {f"{name}, seen": [300, 900] for name in LOOKS} | {f"{name}, usable": [400, 1000, 21] for name in LOOKS}
    assert rows == looks | {"event to drawn": [90, 120], "reading to drawn": [290, 320]}
