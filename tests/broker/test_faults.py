"""Ingest workers on a real Kafka under load, readings and files: killed, stopped, their broker killed; nothing lost."""

import asyncio

import pytest

from deploy.bench import faults
from tests.kit.brokers import kafka_home, soon_forgotten


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_HOME", str(kafka_home()))
    monkeypatch.setenv("GLUCAST_SESSION_TIMEOUT_SECONDS", "4")  # a run has settled when it is quiet for longer
    monkeypatch.setenv("GLUCAST_HEARTBEAT_SECONDS", "1")


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_kills_and_restarts_lose_nothing_and_leave_the_tables_of_a_run_without_them() -> None:
    plan = faults.FaultRun(
        acts=("kill:ingest", "term:ingest", "broker:kill"),
        rate=60,
        whole_pipeline=False,
        subjects=30,
        seconds_an_act=6,
        settle_seconds=120,
    )
    with soon_forgotten():
        report = asyncio.run(faults.run(plan))
    faults.print_report(report)
    assert report.audit.published == report.sent > 800
    assert (report.audit.lost, report.audit.wrong) == (0, 0)
    assert report.audit.outcomes_twice < report.sent / 4
    assert report.uploads is not None
    assert report.uploads.clean
    assert report.uploads.sent > len(plan.acts), "files went to the topic all the while"


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_of_three_brokers_one_may_be_killed_and_a_full_disk_holds_up_nobody_for_good() -> None:
    plan = faults.FaultRun(
        acts=("broker:kill:1", "full:ingest"),  # the disk where this is root, else the broker alone
        rate=30,
        whole_pipeline=False,
        brokers=3,
        subjects=15,
        seconds_an_act=4,
        away_seconds=4,
        hold_seconds=4,
    )
    with soon_forgotten():
        report = asyncio.run(faults.run(plan))
    faults.print_report(report)
    assert report.audit.published == report.sent > 250
    assert (report.audit.lost, report.audit.wrong) == (0, 0)
    for seen in report.seen:
        if seen.act == "full:ingest":
            assert any("free some room" in text for text in seen.told)
