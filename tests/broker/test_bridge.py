"""A bridge from its file to the topic: many people in one process, and on from where it stood."""

from pathlib import Path

from deploy.bridges.run import bridge
from deploy.brokers.embedded import EmbeddedBroker
from schemas.reading import Reading
from schemas.topics import READINGS
from streams.kafka.partitioning import partition_of
from streams.kafka.provision import provision
from streams.kafka.whole_topics import everything
from streams.settings import Settings
from tests.kit.brokers import overrides_of
from tests.kit.cgm_services import PASSWORD, NightscoutSite, serving
from tests.unit.test_bridges import MEASURED, STEP

PEOPLE = ("anna", "berta")


async def published(settings: Settings) -> list[Reading]:
    records = [record async for record in everything(settings, READINGS.name)]
    for record in records:
        assert record.partition == partition_of(record.key, settings.partitions)
        told = dict(record.headers)
        assert (told["ce_source"], told["ce_type"]) == (b"/glucast/bridge/nightscout", b"glucast.Reading")
        assert len(told["ce_id"]) == 64
    return [Reading.from_json(record.value) for record in records]


async def test_readings_of_many_people_reach_the_topic_and_a_later_run_goes_on(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    settings = Settings(broker=broker.address, state_dir=tmp_path, partitions=2, **overrides_of(broker))
    await provision(settings)
    site = NightscoutSite(MEASURED)
    with serving(site.app) as url:
        file = tmp_path / "people.toml"
        file.touch(mode=0o600)
        fields = f'timezone = "Europe/Vienna"\nurl = "{url}"\npassword = "{PASSWORD}"\n'
        file.write_text("\n".join(f'[[person]]\nsubject = "{subject}"\n{fields}' for subject in PEOPLE))
        assert await bridge(settings, "nightscout", file, once=True)
        first = await published(settings)
        assert {subject: sum(each.subject_id == subject for each in first) for subject in PEOPLE} == {
            subject: len(MEASURED) for subject in PEOPLE
        }
        site.measured.append((MEASURED[-1][0] + STEP, 200))
        assert await bridge(settings, "nightscout", file, once=True)
        new = {(each.subject_id, each.time, each.glucose) for each in await published(settings)} - {
            (each.subject_id, each.time, each.glucose) for each in first
        }
        assert new == {(subject, MEASURED[-1][0] + STEP, 200) for subject in PEOPLE}
        site.down = True
        assert not await bridge(settings, "nightscout", file, once=True)
