"""Creates the topics that the topology needs, and says what differs: before any worker starts, never by accident."""

import asyncio
import dataclasses
import time
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from schemas.errors import ConfigurationError, TopicMismatchError, UnavailableError
from schemas.topics import DELETIONS_KEPT_MS, FILES_CLOSED_MS, Topic
from streams import topology
from streams.kafka.connection import connection_options
from streams.kafka.placement import assignments
from streams.kafka.upgrade import FORECASTS_BEFORE_LANES, move_forecasts
from streams.settings import Settings

ADVICE = "run: glucast topics provision"
RIGHTS = "glucast topics acls prints what each role needs"
MISSING = "is missing"


@dataclasses.dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference, as a sentence. `repairable`: provisioning can remove it without touching data."""

    topic: str
    text: str
    repairable: bool

    def __str__(self) -> str:
        return f"{self.topic}: {self.text}"


@dataclasses.dataclass(frozen=True, slots=True)
class Provisioned:
    """What `provision` did, by topic names."""

    created: tuple[str, ...]
    altered: tuple[str, ...]
    total: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """A topic that exists: `config` as it works, `overrides` what somebody set on the topic itself."""

    partitions: int
    copies: int
    led: bool
    config: Mapping[str, str]
    overrides: Mapping[str, str]


_COPIES_THAT_OUTVOTE = 3
_AT_MOST = ("max.compaction.lag.ms", "segment.ms")
"""What a person wants deleted is not kept for as long as a file happens to be open."""
_SET_ON_TOPIC = 1  # Kafka's ConfigSource.DYNAMIC_TOPIC_CONFIG
_VISIBLE_WITHIN_SECONDS = 20.0
_WAIT_STEP_SECONDS = 0.1
_GLANCE_SECONDS = 2.0


def wanted_config(topic: Topic, copies: int) -> dict[str, str]:
    """The topic settings that the topology relies on; numbers are lower bounds, of `_AT_MOST` upper ones.

    What is confirmed has to survive a broker, or offsets are used again and tables are ahead of their changelogs: so a
    write needs two of three copies, and a copy that lacks confirmed messages never leads.
    """
    config = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "max.message.bytes": str(topic.max_message_bytes),
    }
    if topic.compacted:
        config["delete.retention.ms"] = str(DELETIONS_KEPT_MS)
        config["max.compaction.lag.ms"] = str(FILES_CLOSED_MS)
    else:
        config["retention.ms"] = str(topic.retention_ms)
        config["segment.ms"] = str(FILES_CLOSED_MS)
    if copies >= _COPIES_THAT_OUTVOTE:
        config["min.insync.replicas"] = "2"
    if copies > 1:
        config["unclean.leader.election.enable"] = "false"
    if topic.stamped:
        config["message.timestamp.type"] = "LogAppendTime"
    return config


async def provision(settings: Settings) -> Provisioned:
    """Create what is missing and correct settings that differ. Repeating it changes nothing.

    Raises `TopicMismatchError` for what cannot be corrected (the number of partitions), `UnavailableError` without a
    broker.
    """
    wanted = {topic.name: topic for topic in topology.all_topics()}
    async with _Admin(settings) as admin:
        await _until_coordinated(admin)
        found = await admin.describe(list(wanted))
        missing = [topic for name, topic in wanted.items() if name not in found]
        await admin.create(missing)
        differences = _differences(wanted, found, settings)
        stuck = [difference for difference in differences if not difference.repairable]
        if stuck:
            raise TopicMismatchError(
                "; ".join(map(str, stuck)) + ". Set GLUCAST_PARTITIONS to what exists, or use an empty cluster"
            )
        altered = sorted({difference.topic for difference in differences})
        await admin.alter(
            {name: {**found[name].overrides, **wanted_config(wanted[name], found[name].copies)} for name in altered}
        )
        if missing or altered:
            await _until_visible(admin, wanted, settings)
        before = await admin.describe([FORECASTS_BEFORE_LANES])
    if before:
        await move_forecasts(settings, before[FORECASTS_BEFORE_LANES].partitions)
    return Provisioned(tuple(topic.name for topic in missing), tuple(altered), len(wanted))


async def check(settings: Settings) -> list[Mismatch]:
    """What is missing or differs; empty when workers may start. Raises `UnavailableError` without a broker."""
    wanted = {topic.name: topic for topic in topology.all_topics()}
    async with _Admin(settings) as admin:
        found = await admin.describe(list(wanted))
    missing = [Mismatch(name, MISSING, True) for name in wanted if name not in found]
    return missing + _differences(wanted, found, settings)


async def require(settings: Settings) -> None:
    """Return when every topic is as it has to be; what can still come is waited for, `topics_wait_seconds` long.

    Raises `TopicMismatchError`, saying what differs and what to run, and `UnavailableError` without a broker.
    """
    deadline = time.monotonic() + settings.topics_wait_seconds
    while time.monotonic() < deadline and not await _is_reachable(settings):  # noqa: ASYNC110 - the broker's business
        await asyncio.sleep(_WAIT_STEP_SECONDS)
    while True:
        late = time.monotonic() >= deadline
        try:
            mismatches = await check(settings)
        except UnavailableError:
            if late:
                raise
        else:
            if not mismatches:
                return
            if late or not all(mismatch.repairable for mismatch in mismatches):
                raise TopicMismatchError(
                    f"{_summary(mismatches)}. To correct it {ADVICE}{_hidden(mismatches, settings)}"
                )
        await asyncio.sleep(_WAIT_STEP_SECONDS)


async def require_groups(settings: Settings, groups: Iterable[str]) -> None:
    """Return where this process may join its consumer groups, as far as Kafka says so: a member without the right waits
    for ever and without a word. Raises `ConfigurationError`.
    """
    if settings.security_protocol == "PLAINTEXT":
        return  # Kafka does not know who asks
    async with _Admin(settings) as admin:
        for group in groups:
            if not await admin.may_join(group):
                who = settings.sasl_username or "of this certificate"
                raise ConfigurationError(f"the Kafka user {who} may not join the consumer group {group}: {RIGHTS}")


def _hidden(mismatches: list[Mismatch], settings: Settings) -> str:
    """Kafka says of a topic that a user may not see what it says of one that does not exist."""
    if settings.sasl_username is None or not any(mismatch.text == MISSING for mismatch in mismatches):
        return ""
    return f"; or the Kafka user {settings.sasl_username} may not see them: {RIGHTS}"


def _summary(mismatches: list[Mismatch]) -> str:
    more = f"; {len(mismatches) - 5} more" if len(mismatches) > 5 else ""
    return "; ".join(map(str, mismatches[:5])) + more


async def partitions_of(settings: Settings, topic: str) -> int:
    """How many partitions a topic has; 0 where it is missing. Raises `UnavailableError` without a broker."""
    async with _Admin(settings) as admin:
        found = await admin.describe([topic])
    return found[topic].partitions if topic in found else 0


def _differences(wanted: Mapping[str, Topic], found: Mapping[str, _Found], settings: Settings) -> list[Mismatch]:
    differences = []
    for name, is_ in found.items():
        if is_.partitions != settings.partitions:
            text = f"has {is_.partitions} partitions, GLUCAST_PARTITIONS says {settings.partitions}"
            differences.append(Mismatch(name, text, False))
        for key, value in wanted_config(wanted[name], is_.copies).items():
            # A broker that does not tell (the embedded one tells only what was set) cannot be compared.
            if key in is_.config and not _suffices(key, is_.config[key], value):
                words = "" if not value.isdecimal() else "at most " if key in _AT_MOST else "at least "
                differences.append(Mismatch(name, f"{key} is {is_.config[key]}, it has to be {words}{value}", True))
    return differences


def _suffices(key: str, is_: str, wanted: str) -> bool:
    if not wanted.isdecimal():
        return is_ == wanted
    if key in _AT_MOST:
        return int(is_) <= int(wanted)
    return int(is_) == -1 or int(is_) >= int(wanted)  # -1 is Kafka's "unlimited"


async def _until_visible(admin: "_Admin", wanted: Mapping[str, Topic], settings: Settings) -> None:
    """A change is committed before every broker shows it; whoever starts next must already see it."""
    deadline = time.monotonic() + _VISIBLE_WITHIN_SECONDS
    while time.monotonic() < deadline:
        found = await admin.describe(list(wanted))
        led = len(found) == len(wanted) and all(topic.led for topic in found.values())
        if led and not _differences(wanted, found, settings):
            return
        await asyncio.sleep(0.05)
    raise UnavailableError(f"topics were created, but not all have a leader after {_VISIBLE_WITHIN_SECONDS:.0f} s")


async def _until_coordinated(admin: "_Admin") -> None:
    """A new cluster makes its table of groups when first asked; consumers that come too early back off for seconds."""
    deadline = time.monotonic() + _VISIBLE_WITHIN_SECONDS
    while not await admin.has_coordinator() and time.monotonic() < deadline:  # noqa: ASYNC110 - the broker's business
        await asyncio.sleep(0.05)


async def _is_reachable(settings: Settings) -> bool:
    """Whether any of the brokers accepts connections: a glance before a client that complains in the log."""
    for address in settings.broker.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), _GLANCE_SECONDS)
        except (OSError, ValueError, TimeoutError):
            continue
        writer.close()
        return True
    return False


class _Admin:
    """The few admin requests needed, with errors raised instead of returned as codes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = AIOKafkaAdminClient(
            **connection_options(settings), client_id="glucast-provision", request_timeout_ms=30_000
        )

    async def __aenter__(self) -> "_Admin":
        try:
            await self._client.start()
        except KafkaConnectionError as error:
            await self._client.close()
            raise UnavailableError(f"no Kafka answers at {self._settings.broker}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def has_coordinator(self) -> bool:
        try:
            await self._client.find_coordinator(topology.app_id("ingest"))
        except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError):
            return False
        except GroupAuthorizationFailedError:
            pass  # the table is there; who provisions need not be who joins
        return True

    async def may_join(self, group: str) -> bool:
        try:
            await self._client.find_coordinator(group)
        except GroupAuthorizationFailedError:
            return False
        except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError):
            pass  # it is asked again by whoever joins
        return True

    async def describe(self, names: list[str]) -> dict[str, _Found]:
        existing = sorted(set(names) & set(await self._client.list_topics()))
        if not existing:
            return {}
        entries = await self._config_entries(existing)
        return {
            row["topic"]: _Found(
                len(row["partitions"]),
                min(len(partition["replicas"]) for partition in row["partitions"]),
                all(partition["leader"] >= 0 for partition in row["partitions"]),
                {entry[0]: entry[1] for entry in entries[row["topic"]]},
                {entry[0]: entry[1] for entry in entries[row["topic"]] if entry[3] == _SET_ON_TOPIC},
            )
            for row in await self._client.describe_topics(existing)
            if row["partitions"]  # another broker has told of the topic than this one, which does not know it yet
        }

    async def _config_entries(self, names: list[str]) -> dict[str, list[tuple[Any, ...]]]:
        """By topic: (name, value, read only, source, …), without the values that the broker keeps to itself."""
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        entries: dict[str, list[tuple[Any, ...]]] = {name: [] for name in names}
        for response in await self._client.describe_configs(resources):
            for _, _, _, name, told, *_ in response.resources:
                entries[name] = [entry for entry in told if entry[1] is not None]
        return entries

    async def create(self, topics: list[Topic]) -> None:
        if not topics:
            return
        partitions, copies = self._settings.partitions, self._settings.replication_factor
        cluster = await self._client.describe_cluster()
        placed = assignments({each["node_id"]: each.get("rack") for each in cluster["brokers"]}, partitions, copies)
        numbers = (partitions, copies) if placed is None else (-1, -1)  # of those the assignments tell
        response = await self._client.create_topics(
            [NewTopic(topic.name, *numbers, placed, wanted_config(topic, copies)) for topic in topics],
            timeout_ms=30_000,
        )
        for name, code, *rest in response.topic_errors:
            error = for_code(code)
            if code != 0 and error is not TopicAlreadyExistsError:  # another process provisions at the same time
                detail = f": {rest[0]}" if rest and rest[0] else ""
                raise TopicMismatchError(f"Kafka did not create {name} ({error.__name__}{detail})")

    async def alter(self, configs: Mapping[str, Mapping[str, str]]) -> None:
        if not configs:
            return
        try:
            responses = await self._client.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, name, dict(config)) for name, config in configs.items()]
            )
        except KafkaError as error:
            raise TopicMismatchError(f"Kafka did not change the topics' settings: {error}") from error
        for response in responses:
            for code, message, _, name in response.resources:
                if code != 0:
                    raise TopicMismatchError(f"Kafka did not change {name} ({for_code(code).__name__}: {message})")
