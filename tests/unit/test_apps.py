"""The Apps: built from the topology, with the settings that plain Faust gets wrong."""

from pathlib import Path
from typing import Any

import pytest

from agents.ingest.unify import Unify
from agents.work import Work
from deploy.bench.plain import plain_app
from schemas.lanes import LANES
from streams.apps import BACKFILL_LINGER_SECONDS, Host, app_options, lane_app, new_app, step_app
from streams.kafka.consumer import StrictTransport
from streams.metrics import Metrics
from streams.settings import Settings
from streams.topology import WorkerRole, step_of, steps_of, tables_of


def host_of(home: Path, port: int = 1234, **changes: Any) -> Host:
    return Host(Settings(**changes), Metrics(), lambda _: None, home, port)


@pytest.mark.parametrize("role", ["ingest", "calc"])
async def test_a_role_runs_its_steps_over_its_tables(tmp_path: Path, role: WorkerRole) -> None:
    app = step_app(role, host_of(tmp_path))
    assert sorted(app.tables) == sorted(tables_of(role))
    read = {topic for agent in app.agents.values() for topic in agent.channel.topics}
    assert read == {topic.name for step in steps_of(role) for topic in step.reads}
    assert isinstance(app.transport, StrictTransport)
    assert isinstance(app.producer_transport, StrictTransport)


async def test_steps_with_helpers_are_known_to_who_starts_and_closes_them(tmp_path: Path) -> None:
    ingest, calc = host_of(tmp_path), host_of(tmp_path)
    step_app("ingest", ingest)
    step_app("calc", calc)
    assert ([type(step) for step in ingest.helpers], calc.helpers) == ([Unify], [])


async def test_the_plain_form_has_the_same_steps_and_tables(tmp_path: Path) -> None:
    app = plain_app("calc", host_of(tmp_path))
    assert (sorted(app.tables), len(app.agents)) == (sorted(tables_of("calc")), len(steps_of("calc")))
    assert not isinstance(app.transport, StrictTransport)


def test_a_restarted_worker_is_the_same_member_on_kafka_and_a_new_one_on_the_embedded_broker(tmp_path: Path) -> None:
    assert app_options("calc", host_of(tmp_path, ordinal=3))["consumer_group_instance_id"] == "calc-3"
    assert app_options("calc", host_of(tmp_path, static_membership=False))["consumer_group_instance_id"] is None


def test_members_of_a_group_have_addresses_of_their_own_and_a_static_one_keeps_its(tmp_path: Path) -> None:
    def url(**changes: Any) -> str:
        return str(app_options("calc", host_of(tmp_path, **changes))["canonical_url"])

    assert url(port=1, static_membership=False) != url(port=2, static_membership=False)
    assert url(ordinal=0) != url(ordinal=1)
    assert url(ordinal=1, port=1) == url(ordinal=1, port=2)


async def test_effects_are_confirmed_by_all_replicas_and_faust_shows_no_tables(tmp_path: Path) -> None:
    conf = new_app("glucast-calc", "calc", host_of(tmp_path)).conf
    assert (conf.producer_acks, conf.table_standby_replicas) == (-1, 0)
    assert not conf.web_enabled
    assert not conf.topic_allow_declare
    assert conf.stream_buffer_maxsize >= 5 * conf.broker_max_poll_records


async def test_forecasts_wait_for_others_in_the_lane_of_backfill_alone(tmp_path: Path) -> None:
    async def step(work: Work) -> None: ...

    apps = {lane: lane_app(lane, step_of("infer"), step, host_of(tmp_path), lambda _: None) for lane in LANES}
    assert {lane: app.conf.producer_linger for lane, app in apps.items()} == {
        "interactive": 0.0, "live": 0.0, "backfill": BACKFILL_LINGER_SECONDS,
    }  # fmt: skip
    assert step_app("calc", host_of(tmp_path)).conf.producer_linger == 0.0


def test_sasl_reaches_faust(tmp_path: Path) -> None:
    host = host_of(tmp_path, security_protocol="SASL_PLAINTEXT", sasl_username="me", sasl_password="x")
    credentials = app_options("calc", host)["broker_credentials"]
    assert (credentials.username, credentials.mechanism.value, credentials.protocol.value) == (
        "me", "SCRAM-SHA-512", "SASL_PLAINTEXT",
    )  # fmt: skip
