"""The notify role: ``glucast notify``. Runs the intake, a courier a webhook, the MQTT publisher and a health port."""

import asyncio
import signal
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import ConfigurationError, MalformedRecordError, UnavailableError
from schemas.exit_codes import ExitCode
from schemas.topics import WEBHOOK_DELIVERIES, WEBHOOKS
from schemas.webhook import Webhook
from streams import logs
from streams.health import HealthServer, NotReady
from streams.kafka import provision
from streams.kafka.connection import new_consumer, producer_options
from streams.kafka.decoding import Undecodable
from streams.kafka.log_ends import log_ends
from streams.kafka.whole_topics import started
from streams.notify import webhook_file
from streams.notify.addresses import networks_of
from streams.notify.courier import DISABLED, Courier, Steps, utc_now
from streams.notify.intake import GROUP, Intake
from streams.notify.metrics import NotifyMetrics
from streams.notify.mqtt import MqttPublisher
from streams.notify.nightscout import NightscoutSender
from streams.notify.outbox import Outbox
from streams.notify.people import People
from streams.notify.registry import Changes, Registry
from streams.notify.sender import Sender
from streams.notify.webhook_file import Endpoint
from streams.settings import Settings

log = structlog.get_logger(__name__)

FILE_CHECK_SECONDS = 1.0
LOOKUPS = 3 * webhook_file.MOST_WEBHOOKS
"""Names that may be looked up at once: a lookup that hangs holds its thread past the timeout of its attempt, and must
not take the place of another webhook's."""
REMOVED = "the webhook was removed"


def run_notify(settings: Settings) -> int:
    """Run the role in the foreground until a signal; returns an exit code. Raises `GlucastError`."""
    logs.configure(settings)
    return asyncio.run(NotifyRole(settings).run())


class NotifyRole:
    """One process of the role. Several share the partitions; each needs the same file of webhooks."""

    def __init__(self, settings: Settings) -> None:
        """Raises `ConfigurationError` where there is nothing to do, or a file cannot be read."""
        ours = settings.notify
        if not ours.configured:
            raise ConfigurationError("nobody is to be told: set GLUCAST_WEBHOOKS_FILE or GLUCAST_MQTT_HOST")
        self._settings, self._ours = settings, ours
        self._file = ours.webhooks_file
        self._stamp = None if self._file is None else _stamp(self._file)
        self._endpoints = [] if self._file is None else webhook_file.read(self._file)
        self._networks = networks_of(ours.webhook_private_networks)
        self._outbox = Outbox(ours.webhook_queue)
        self._registry = Registry(ours.webhook_disable_hours)
        self._people = People(ours.mqtt_subjects if ours.mqtt_host is not None else ())
        self._intake = Intake(
            settings,
            self._outbox,
            self._people,
            self._registry.active,
            self._publish_steps,
            self._released,
            self._shown,
        )
        self._couriers: dict[str, tuple[Courier, asyncio.Task[None]]] = {}
        self._adjust = asyncio.Event()
        self._stop = asyncio.Event()
        self._known = asyncio.Event()
        self._metrics = NotifyMetrics(self._registry, self._outbox, self._intake)
        self._mqtt: MqttPublisher | None = None
        self._producer: AIOKafkaProducer

    async def run(self) -> int:
        if self._ours.mqtt_host is not None:
            self._mqtt = MqttPublisher(self._ours, self._people, self._settings.ordinal)
            self._metrics.of_mqtt(self._mqtt)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.set_default_executor(ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup"))
        health = HealthServer(self._metrics, self.reasons)
        await health.start(self._settings.health_host, self._settings.health_port)
        try:
            await provision.require(self._settings)
            await provision.require_groups(self._settings, (GROUP,))
            self._producer = AIOKafkaProducer(**producer_options(self._settings))
            await started(self._producer, self._settings)
            try:
                return await self._serve()
            finally:
                await self._producer.stop()
        finally:
            await health.stop()

    async def _serve(self) -> int:
        """Until a signal (0) or a failure (restart)."""
        stop = asyncio.create_task(self._stop.wait())
        code = 0
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part) for part in self._parts(group)]
                await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
                for task in [*tasks, *(task for _, task in self._couriers.values())]:
                    task.cancel()
        except* (KafkaError, OSError, TimeoutError, UnavailableError) as errors:
            log.error("ending, what is not sent yet is sent after the next start", reason=_first(errors))
            code = ExitCode.RESTART
        except* Exception:
            log.exception("ending, what is not sent yet is sent after the next start")
            code = ExitCode.RESTART
        finally:
            stop.cancel()
        return code

    def _parts(self, group: asyncio.TaskGroup) -> list[Any]:
        parts = [self._follow_webhooks(), self._keep_couriers(group), self._begin()]
        if self._file is not None:
            parts.append(self._watch_file(self._file))
        if self._mqtt is not None:
            parts.append(self._mqtt.run())
        return parts

    async def _begin(self) -> None:
        """First how the webhooks do, then what is to be sent."""
        await self._known.wait()
        await self._publish([], self._registry.load(self._endpoints, utc_now()))
        self._adjust.set()
        await self._intake.run()

    def reasons(self) -> list[NotReady]:
        """Why the role is not ready; empty when it is. A webhook or a broker of MQTT that fails is none."""
        if not self._known.is_set():
            return [NotReady("starting", "reading how the webhooks do")]
        if not self._intake.joined:
            return [NotReady("joining", f"{GROUP} is joining its group")]
        return []

    # what is published

    async def _publish_steps(self, steps: Steps) -> None:
        await self._publish(steps, {})

    async def _publish(self, steps: Steps, changes: Changes) -> None:
        """Returns when the broker has confirmed all of it."""
        sent = [
            await self._producer.send(
                WEBHOOK_DELIVERIES.name, delivery.to_json(), key=delivery.subject_id.encode(), partition=partition
            )
            for partition, delivery in steps
        ]
        for name, state in changes.items():
            value = None if state is None else state.to_json()
            sent.append(await self._producer.send(WEBHOOKS.name, value, key=name.encode()))
        await asyncio.gather(*sent)
        for _, delivery in steps:
            self._metrics.step(delivery)
        if changes:
            self._adjust.set()

    def _released(self, webhooks: Iterable[str]) -> None:
        for name in webhooks:
            if name in self._couriers:
                self._couriers[name][0].wake()
            else:
                self._adjust.set()

    def _shown(self, subject_id: str, forget: bool) -> None:
        if self._mqtt is not None:
            (self._mqtt.erased if forget else self._mqtt.changed)(subject_id)

    # which webhooks there are

    async def _follow_webhooks(self) -> None:
        """How they do, as this and other processes have published it."""
        consumer = new_consumer(self._settings, client_id=f"{GROUP}-webhooks")
        await started(consumer, self._settings)
        try:
            partitions = [TopicPartition(WEBHOOKS.name, number) for number in range(self._settings.partitions)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await log_ends(consumer, partitions)
            while True:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        self._follow(record.key, record.value)
                    self._adjust.set()
                if not self._known.is_set() and all(
                    [await consumer.position(partition) >= end for partition, end in ends.items()]
                ):
                    self._known.set()
        finally:
            await consumer.stop()

    def _follow(self, key: bytes | None, value: bytes | None) -> None:
        try:
            name = (key or b"").decode()
            self._registry.follow(name, None if value is None else _webhook(value))
        except (MalformedRecordError, UnicodeDecodeError):
            log.warning("a message is no record of its topic", topic=WEBHOOKS.name)

    async def _watch_file(self, path: Path) -> None:
        """Read the file again when it changes; one that becomes unreadable leaves the webhooks as they are."""
        await self._known.wait()
        while True:
            await asyncio.sleep(FILE_CHECK_SECONDS)
            stamp = _stamp(path)
            if stamp == self._stamp:
                continue
            self._stamp = stamp
            try:
                self._endpoints = await asyncio.to_thread(webhook_file.read, path)
            except ConfigurationError as error:
                log.error("webhooks were not read again, the earlier ones stay", reason=str(error))
                continue
            log.info("webhooks were read again", webhooks=len(self._endpoints))
            await self._publish([], self._registry.load(self._endpoints, utc_now()))
            self._adjust.set()

    async def _keep_couriers(self, group: asyncio.TaskGroup) -> None:
        """A courier for each webhook that is enabled, as the file has it now."""
        while True:
            await self._adjust.wait()
            self._adjust.clear()
            if not self._known.is_set():
                continue
            wanted = {endpoint.name: endpoint for endpoint in self._registry.active()}
            for name, (courier, task) in list(self._couriers.items()):
                if wanted.get(name) != courier.endpoint:
                    task.cancel()
                    await asyncio.wait([task])
                    del self._couriers[name]
            for name in self._outbox.webhooks():
                if name not in wanted:
                    reason = DISABLED if name in self._registry.states else REMOVED
                    await self._publish(self._outbox.give_up(name, reason, utc_now()), {})
            for name, endpoint in wanted.items():
                if name not in self._couriers:
                    courier = self._courier(endpoint)
                    self._couriers[name] = courier, group.create_task(courier.run())

    def _courier(self, endpoint: Endpoint) -> Courier:
        sender = Sender(endpoint, self._ours.webhook_timeout_seconds, self._networks)
        if endpoint.channel == "nightscout":
            settings = self._settings
            lower = float(settings.nightscout_lower_percent) / 100
            sender = NightscoutSender(
                endpoint, self._ours.webhook_timeout_seconds, self._networks, settings.nightscout_forecast, lower
            )
        return Courier(endpoint, self._outbox, self._registry, sender, self._publish)


def _webhook(value: bytes) -> Webhook:
    if isinstance(value, Undecodable):
        raise MalformedRecordError(str(value))
    return Webhook.from_json(value)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _first(errors: BaseExceptionGroup[Any]) -> str:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
