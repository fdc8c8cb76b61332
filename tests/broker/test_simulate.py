from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest

from deploy.brokers.embedded import EmbeddedBroker
from deploy.simulate import Plan, readings_of, simulate, subject_ids
from schemas import topics
from schemas.errors import ConfigurationError
from schemas.reading import Reading
from streams.kafka.provision import provision
from streams.kafka.whole_topics import everything
from streams.settings import Settings
from tests.kit.processes import printed


@pytest.fixture
def settings(broker: EmbeddedBroker) -> Settings:
    return Settings(broker=broker.address, partitions=2)


async def test_history_comes_at_once_then_one_reading_a_step_and_never_from_the_future(settings: Settings) -> None:
    await provision(settings)
    said: list[str] = []
    plan = Plan(people=2, speedup=300 / 0.05, history_hours=1, days_ago=0.5, steps=3, tag="test")
    await simulate(settings, plan, said.append)

    readings: dict[str, list[Reading]] = defaultdict(list)
    async for record in everything(settings, topics.READINGS.name):
        reading = Reading.from_json(record.value)
        assert record.key == reading.subject_id.encode()
        assert dict(record.headers)["ce_source"] == b"/glucast/simulate"
        readings[reading.subject_id].append(reading)
    assert set(readings) == {"sim-adult-001-test", "sim-adult-002-test"}
    for of_one in readings.values():
        assert len(of_one) == 12 + 3
        assert {b.time - a.time for a, b in pairwise(of_one)} == {timedelta(minutes=5)}
        assert of_one[-1].time <= datetime.now(UTC)
        assert all(40 <= reading.glucose <= 400 for reading in of_one)
    assert "sim-adult-001-test, sim-adult-002-test: 1 h of history published (24 readings)" in said


def test_a_person_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def life(number: int, seed: int) -> list[float]:
        return [r.glucose for r in islice(readings_of(number, "anna", Plan(seed=seed), start), 60)]

    elsewhere = (
        "import sys; from datetime import UTC, datetime; from itertools import islice; "
        "from deploy.simulate import Plan, readings_of; start = datetime(2026, 1, 1, tzinfo=UTC); "
        "print([r.glucose for r in islice(readings_of(0, 'anna', Plan(seed=0), start), 60)])"
    )
    assert len(set(life(0, 0))) > 5
    assert printed(elsewhere, hash_seed="1") == f"{life(0, 0)}\n"
    assert life(0, 0) != life(0, 1)
    assert life(0, 0) != life(10, 0)


def test_subjects_are_named_and_plans_checked() -> None:
    assert subject_ids(2, "1405") == ["sim-adult-001-1405", "sim-adult-002-1405"]
    with pytest.raises(ConfigurationError, match="future"):
        Plan(history_hours=25, days_ago=1)
