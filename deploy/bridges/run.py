"""A bridge as it runs: the people of its file, their service, and Kafka."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import httpx
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from deploy.bridges.bookmarks import Bookmarks
from deploy.bridges.bridge import Publish, Pull, ask_once, follow
from deploy.bridges.dexcom_share import DexcomShare
from deploy.bridges.librelinkup import LibreLinkUp
from deploy.bridges.nightscout import Nightscout
from deploy.bridges.people import Kind, Person, people_of
from deploy.bridges.source import Source, SourceError, new_client
from schemas.reading import Reading
from streams.kafka.connection import producer_options
from streams.kafka.readings import send_readings
from streams.kafka.whole_topics import started
from streams.settings import Settings

SOURCES: dict[Kind, Callable[[Person, httpx.AsyncClient], Source]] = {
    "nightscout": Nightscout,
    "librelinkup": LibreLinkUp,
    "dexcom-share": DexcomShare,
}


async def bridge(settings: Settings, kind: Kind, file: Path, *, once: bool = False) -> bool:
    """Pull until cancelled, or `once`: then whether everybody was heard.

    Raises `ConfigurationError` for the file, `UnavailableError` without a broker.
    """
    people = people_of(file, kind)
    bookmarks = Bookmarks(settings.state_dir / "bridges" / f"{kind}.json")
    async with new_client() as client, _published(settings, kind) as publish:
        pulls = [
            Pull(number, person, SOURCES[kind](person, client), bookmarks, publish)
            for number, person in enumerate(people, start=1)
        ]
        if once:
            return await ask_once(pulls)
        await follow(pulls)
    return True


@contextlib.asynccontextmanager
async def _published(settings: Settings, kind: Kind) -> AsyncIterator[Publish]:
    producer = AIOKafkaProducer(**producer_options(settings))
    await started(producer, settings)

    async def publish(readings: Sequence[Reading]) -> None:
        """Return when Kafka has confirmed all of them. Raises `SourceError`: then all are asked for again."""
        try:
            await send_readings(producer, readings, f"bridge/{kind}")
        except KafkaError as error:
            raise SourceError(f"Kafka does not confirm the readings ({type(error).__name__})") from None

    try:
        yield publish
    finally:
        await producer.stop()
