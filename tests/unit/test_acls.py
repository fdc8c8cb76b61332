"""The least rights: each role has what the topology says, and nothing that belongs to another."""

import pytest

from schemas import topics
from schemas.errors import ConfigurationError
from streams import acls, topology
from streams.acls import PRINCIPALS, Grant
from tests.unit.test_cli import glucast


def may(who: acls.Principal, operation: acls.Operation) -> set[str]:
    return {grant.name for grant in acls.grants(who) if grant.kind == "topic" and grant.operation == operation}


def test_a_role_reads_and_writes_what_its_steps_do_and_no_more() -> None:
    assert may("ingest", "Write").isdisjoint({topics.FAN_CHARTS.name, *(t.name for t in topics.FORECASTS.values())})
    assert topics.READINGS.name not in may("calc", "Read") | may("inference", "Read") | may("query", "Read")
    choice = topics.MODEL_CHOICES.name
    assert may("inference", "Read") == {choice, *(topic.name for topic in topics.LANE_TOPICS.values())}
    assert {who for who in PRINCIPALS if choice in may(who, "Write")} == {"operator"}
    for role in topology.WORKER_ROLES:
        own = {topics.changelog(topology.app_id(role), table).name for table in topology.tables_of(role)}
        changelogs = {topic.name for topic in topology.changelogs()}
        assert may(role, "Write") & changelogs == own
        assert topics.DEAD_LETTERS.name in may(role, "Write")
    assert may("query", "Write") == {topic.name for topic in topology.step_of("query_api").writes}


def test_notify_reads_what_is_public_and_writes_its_own_topics_alone() -> None:
    assert may("notify", "Write") == {topics.WEBHOOKS.name, topics.WEBHOOK_DELIVERIES.name}
    assert {topic for topic in topics.TOPICS if topic.name in may("notify", "Read") and not topic.public} == {
        topics.WEBHOOK_DELIVERIES
    }
    groups = {grant for grant in acls.grants("notify") if grant.kind == "group"}
    assert groups == {Grant("group", "glucast-notify", "Read")}


@pytest.mark.parametrize("who", PRINCIPALS)
def test_only_the_operator_changes_topics_and_nobody_asks_for_the_cluster(who: acls.Principal) -> None:
    rights = acls.grants(who)
    assert {right.kind for right in rights} <= {"topic", "group"}
    assert any(right.operation in ("Create", "AlterConfigs") for right in rights) == (who == "operator")
    assert all(Grant("topic", topic.name, "Describe") in rights for topic in topology.all_topics())


def test_the_lines_name_every_right_once_and_the_users_that_are_given() -> None:
    done = glucast("topics", "acls", "--principal-of", "calc=CN=calc,O=clinic")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith(acls.COMMAND) for line in lines)
    assert any("'User:CN=calc,O=clinic'" in line for line in lines)
    assert "User:glucast-calc" not in done.stdout


@pytest.mark.parametrize("text", ["baker=x", "calc", "calc=", "calc=a'b", "calc=a\nb"])
def test_a_principal_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ROLE=NAME"):
        acls.principals([text])
