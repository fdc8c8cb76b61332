"""Publishes people's present state to a broker of MQTT. Of what changes while the broker is away the latest counts."""

import asyncio
import datetime
import random
import ssl
from contextlib import suppress

import orjson
import structlog
from aiomqtt import Client, MqttError, Will

from schemas.errors import ConfigurationError
from streams.notify.home_assistant import OFFLINE, ONLINE, Topics, announcements, removals
from streams.notify.people import People
from streams.notify.schedule import pause_seconds
from streams.notify_settings import NotifySettings
from streams.private_file import read_secret_lines

log = structlog.get_logger(__name__)

CONFIRMED = 1
"""QoS: at least once."""
TIMEOUT_SECONDS = 10.0
KEEPALIVE_SECONDS = 15
"""The broker says that we are gone after one and a half of it (MQTT 3.1.1, 3.1.2.10)."""
LONGEST_WAIT_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 60.0


class MqttPublisher:
    """`run` never returns by itself: it connects again and again. Raises `ConfigurationError` for unreadable files."""

    def __init__(self, settings: NotifySettings, people: People, ordinal: int) -> None:
        if settings.mqtt_host is None:
            raise ConfigurationError("set GLUCAST_MQTT_HOST")
        self._host, self._settings, self._people = settings.mqtt_host, settings, people
        self._topics = Topics(settings.mqtt_prefix, settings.mqtt_discovery_prefix, ordinal)
        self._password = _password(settings)
        self._tls = _tls(settings)
        self._identifier = f"glucast-notify-{ordinal}-{random.randrange(1 << 32):08x}"
        self._changed: dict[str, None] = {}
        self._erased: dict[str, None] = {}
        self._announced: dict[str, int] = {}
        """Of whom the device was made known, and as which person: one who comes back from another process is another,
        for that one has made it known as its own."""
        self._ends: dict[str, datetime.datetime] = {}
        """When what was published of a person holds no longer."""
        self._wake = asyncio.Event()
        self.connected = False

    def changed(self, subject_id: str) -> None:
        """Something about a person is new. A device whose readings begin again is not taken away before."""
        person = self._people.find(subject_id)
        if person is not None and person.readings:
            self._erased.pop(subject_id, None)
        self._changed[subject_id] = None
        self._wake.set()

    def erased(self, subject_id: str) -> None:
        """A person is to be forgotten."""
        self._changed.pop(subject_id, None)
        self._erased[subject_id] = None
        self._wake.set()

    async def run(self) -> None:
        failures = 0
        while True:
            try:
                async with self._client() as client:
                    failures = 0
                    log.info("connected to MQTT", tls=self._tls is not None)
                    await self._serve(client)
            except MqttError as error:
                failures += 1
                if failures == 1:
                    log.warning("no MQTT, trying again", reason=str(error)[:200])
            finally:
                self.connected = False
            await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, pause_seconds(failures, random.random()) / 5))

    def _client(self) -> Client:
        return Client(
            self._host,
            self._settings.port_of_mqtt,
            username=self._settings.mqtt_username,
            password=self._password,
            identifier=self._identifier,
            tls_context=self._tls,
            will=Will(self._topics.availability, OFFLINE, CONFIRMED, retain=True),
            timeout=TIMEOUT_SECONDS,
            keepalive=KEEPALIVE_SECONDS,
            max_queued_incoming_messages=16,
            max_queued_outgoing_messages=1000,
        )

    async def _serve(self, client: Client) -> None:
        """While connected. On the way out it says that it goes: a will is for those who cannot."""
        await client.publish(self._topics.availability, ONLINE, CONFIRMED, retain=True)
        for topic in (self._topics.birth, self._topics.availability):
            await client.subscribe(topic, CONFIRMED)
        self._announce_all()
        self.connected = True
        listening = asyncio.create_task(self._listen(client))
        publishing = asyncio.create_task(self._publish_changes(client))
        try:
            done, _ = await asyncio.wait((listening, publishing), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (listening, publishing):
                task.cancel()
            await asyncio.gather(listening, publishing, return_exceptions=True)
            with suppress(MqttError):
                await client.publish(self._topics.availability, OFFLINE, CONFIRMED, retain=True, timeout=1.0)

    def _announce_all(self) -> None:
        self._announced.clear()
        self._changed.update(dict.fromkeys(self._people.subjects()))
        self._wake.set()

    async def _listen(self, client: Client) -> None:
        async for message in client.messages:
            if str(message.topic) != self._topics.availability:
                if message.payload == ONLINE.encode():  # Home Assistant has started: it knows no state yet
                    self._announce_all()
            elif message.payload == OFFLINE.encode():  # of the process before, whose connection was gone without a word
                await client.publish(self._topics.availability, ONLINE, CONFIRMED, retain=True)
        raise MqttError("the broker sends nothing more")

    async def _publish_changes(self, client: Client) -> None:
        while True:
            self._wake.clear()
            for subject_id in list(self._erased):
                await self._send(client, removals(self._topics, subject_id, self._settings.mqtt_unit))
                self._erased.pop(subject_id, None)
                self._announced.pop(subject_id, None)
            for subject_id in list(self._changed):
                self._changed.pop(subject_id, None)
                try:
                    await self._publish(client, subject_id)
                except MqttError:
                    self._changed[subject_id] = None
                    raise
            await self._rest()

    async def _publish(self, client: Client, subject_id: str) -> None:
        person = self._people.find(subject_id)
        now = datetime.datetime.now(datetime.UTC)
        if person is None or not self._people.is_shown(subject_id, now):
            return
        unit = self._settings.mqtt_unit
        if self._announced.get(subject_id) != person.number:
            await self._send(client, announcements(self._topics, subject_id, unit))
            self._announced[subject_id] = person.number
        person.tidy(now)
        self._ends.pop(subject_id, None)
        if (end := person.next_end(now)) is not None:
            self._ends[subject_id] = end
        await client.publish(self._topics.state(subject_id), orjson.dumps(person.state(now, unit)), CONFIRMED)

    async def _send(self, client: Client, messages: dict[str, bytes]) -> None:
        for topic, payload in messages.items():
            await client.publish(topic, payload, CONFIRMED, retain=True)

    async def _rest(self) -> None:
        """Until something changes, or something that is shown no longer holds; that is published too."""
        first = min(self._ends.values(), default=None)
        wait = LONGEST_WAIT_SECONDS
        if first is not None:
            wait = min(wait, max(0.01, (first - datetime.datetime.now(datetime.UTC)).total_seconds()))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._wake.wait()
        now = datetime.datetime.now(datetime.UTC)
        for subject_id in [subject_id for subject_id, end in self._ends.items() if end <= now]:
            del self._ends[subject_id]
            self._changed[subject_id] = None


def _password(settings: NotifySettings) -> str | None:
    if settings.mqtt_password is not None:
        return settings.mqtt_password.get_secret_value()
    if settings.mqtt_password_file is None:
        return None
    lines = read_secret_lines(settings.mqtt_password_file, "the file of MQTT's password")
    if not lines or not lines[0]:
        raise ConfigurationError("the file of MQTT's password is empty")
    return lines[0]


def _tls(settings: NotifySettings) -> ssl.SSLContext | None:
    """Certificates are always verified, against the file or the system's authorities."""
    if not settings.mqtt_tls:
        return None
    try:
        return ssl.create_default_context(cafile=str(settings.mqtt_ca_file) if settings.mqtt_ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"GLUCAST_MQTT_CA_FILE does not work: {error.strerror or 'no certificates'}") from None
