"""The bench of faults: which acts there are, and how it counts what clients saw."""

import pytest

from deploy.bench.faults import CLUSTER_ACTS, INGEST_ACTS, PIPELINE_ACTS
from deploy.bench.faults_acts import act_of
from deploy.bench.faults_watch import Watch, longest_pause
from schemas.errors import ConfigurationError
from streams.settings import Settings


def test_every_default_act_is_known() -> None:
    for name in (*INGEST_ACTS, *PIPELINE_ACTS, "join:api", "join:notify"):
        assert act_of(name, 1).name == name
    for name in CLUSTER_ACTS:
        assert act_of(name, 3).name == name


@pytest.mark.parametrize(
    "name", ["kill", "kill:me", "kill:calc:5", "broker:kill:2", "broker:burn", "clock:api:soon", ""]
)
def test_an_act_that_is_none_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown act .*known: join"):
        act_of(name, 1)


@pytest.mark.parametrize("name", ["broker:disk:1", "broker:roll"])
def test_what_takes_the_only_copy_away_needs_several_brokers(name: str) -> None:
    with pytest.raises(ConfigurationError, match="needs --brokers 3"):
        act_of(name, 1)


def test_seconds_stand_behind_the_role() -> None:
    assert (act_of("clock:api:-86400", 1).seconds, act_of("cut:calc", 1).seconds) == (-86400, 5)


def test_a_pause_counts_where_it_reaches_into_the_stretch() -> None:
    moments = [0.0, 1.0, 5.0, 6.0, 20.0]
    assert longest_pause(moments, 0, 7) == 14.0
    assert longest_pause(moments, 2, 4) == 4.0
    assert longest_pause(moments, 21, 30) == 0.0


def test_service_is_back_when_every_partition_has_shown_a_reading_that_was_sent_since() -> None:
    watch = Watch(Settings(partitions=2), "results")
    sent = {("anna", 1): 9.0, ("anna", 2): 11.0, ("ben", 1): 10.5}
    watch.arrivals = [(12.0, 0, ("anna", 1)), (13.0, 0, ("anna", 2))]
    assert watch.back(10.0, sent) == float("inf")
    watch.arrivals.append((14.5, 1, ("ben", 1)))
    assert watch.back(10.0, sent) == 4.5
