"""The children of `glucast up`: their settings."""

from deploy.roles import Counts, workers


def test_who_is_kept_busy_by_a_backlog_gives_way_unless_the_user_says_otherwise() -> None:
    children = workers(Counts(calc=2), 0, {"GLUCAST_BROKER": "localhost:9092"})
    nice = {child.name: child.environment.get("GLUCAST_NICENESS") for child in children}
    assert nice == {"inference": "5", "ingest": None, "calc-0": "5", "calc-1": "5"}
    told = workers(Counts(), 0, {"GLUCAST_NICENESS": "0"})
    assert {child.environment["GLUCAST_NICENESS"] for child in told} == {"0"}
