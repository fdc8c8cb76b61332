"""Which of two models serves: what the settings say, until a person promotes the other one.

A promotion is a record of ``cgm.model-choices``. Workers that serve and those on trial have the settings of both
models; each takes the one that the choice gives it, and starts again when the choice changes. So the models change
places, and a rollback is one more choice. A choice knows a model by its files: its fingerprint is that of a device too,
and who promotes it may sit at a machine without the workers' GPUs.
"""

import asyncio
import datetime
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from agents.core.forecaster import Forecaster
from schemas import topics
from schemas.errors import ConfigurationError, RejectedError, UnavailableError
from schemas.model_choice import SERVED, ModelChoice
from streams.kafka.connection import new_consumer, producer_options
from streams.kafka.log_ends import log_ends
from streams.kafka.whole_topics import everything, started
from streams.settings import ModelSettings, Settings

_POLL_MILLISECONDS = 1000
_AGAIN_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 60.0


async def chosen(settings: Settings, within_seconds: float = 0.0) -> ModelChoice | None:
    """The last choice, None where nobody has chosen: all of them have one key, so one partition.

    Raises `TopicMismatchError`, and `UnavailableError` where no broker answers `within_seconds`.
    """
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            return await _chosen(settings)
        except UnavailableError:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(_AGAIN_SECONDS)


async def _chosen(settings: Settings) -> ModelChoice | None:
    last = None
    async for record in everything(settings, topics.MODEL_CHOICES.name):
        last = choice_in(record.key, record.value) or last
    return last


async def choose(settings: Settings, choice: ModelChoice) -> None:
    """Write a choice; every worker follows within seconds. Raises `UnavailableError`."""
    producer = AIOKafkaProducer(**producer_options(settings))
    await started(producer, settings)
    try:
        await producer.send_and_wait(topics.MODEL_CHOICES.name, choice.to_json(), SERVED.encode())
    except KafkaError as error:
        raise UnavailableError(f"Kafka does not take the choice ({type(error).__name__}): {error}") from error
    finally:
        await producer.stop()


async def until_chosen_anew(settings: Settings, known: ModelChoice | None) -> ModelChoice:
    """Wait until the last choice is another one; also one that came since that was read. Brokers may go and come."""
    while True:
        try:
            return await _until_chosen_anew(settings, known)
        except (UnavailableError, KafkaError):
            await asyncio.sleep(_AGAIN_SECONDS)


async def _until_chosen_anew(settings: Settings, known: ModelChoice | None) -> ModelChoice:
    """The few choices are read anew whenever one comes, and every minute: a Kafka that has lost the end of a log gives
    the offset of what was chosen to another choice.
    """
    consumer = new_consumer(settings, fetch_max_wait_ms=_POLL_MILLISECONDS)
    await started(consumer, settings)
    try:
        partitions = [TopicPartition(topics.MODEL_CHOICES.name, number) for number in range(settings.partitions)]
        consumer.assign(partitions)
        while (last := await _last(consumer, partitions)) is None or last == known:
            look_again = time.monotonic() + _LOOK_AGAIN_SECONDS
            while time.monotonic() < look_again and not await consumer.getmany(timeout_ms=_POLL_MILLISECONDS):
                pass
        return last
    finally:
        await consumer.stop()


async def _last(consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> ModelChoice | None:
    """The last choice of all that lies there now."""
    last = None
    ends = await log_ends(consumer, partitions)
    await consumer.seek_to_beginning(*partitions)
    while any([await consumer.position(partition) < end for partition, end in ends.items()]):
        for records in (await consumer.getmany(timeout_ms=_POLL_MILLISECONDS)).values():
            for record in records:
                last = choice_in(record.key, record.value) or last
    return last


class Candidate(NamedTuple):
    """A model that the settings name: its fingerprint on this machine, and what its files are on every one."""

    name: str
    fingerprint: str
    content: str
    """Empty where nobody knows it: of a choice of before."""

    def is_same(self, other: "Candidate") -> bool:
        """Whether both are one model, on whichever machine."""
        return self.fingerprint == other.fingerprint or bool(self.content and self.content == other.content)


class Candidates:
    """The models that the settings name, the served one first; each is loaded once, when it is asked for."""

    def __init__(self, settings: Settings) -> None:
        self._serves = settings.model.model_serves
        self._wanted = [each for each in (settings.model, settings.trial) if each is not None]
        self._loaded: dict[int, Forecaster] = {}

    def all(self) -> list[Candidate]:
        """Blocking."""
        return [
            Candidate(self._at(place).name, self._at(place).fingerprint, content_of(wanted))
            for place, wanted in enumerate(self._wanted)
        ]

    def select(self, choice: ModelChoice | None) -> Forecaster:
        """The model of this worker, which serves or is on trial. Blocking.

        Raises `ConfigurationError` where the settings name no such model.
        """
        if len(self._wanted) == 1 and choice is None:
            return self._at(0)  # on trial by its own settings alone, beside workers with others
        places = range(len(self._wanted))
        for place in places if self._serves else reversed(places):
            if self._is_served(place, choice) == self._serves:
                return self._at(place)
        if self._serves:
            named = "" if choice is None else choice.model_fingerprint[:12]
            raise ConfigurationError(
                f"the model {named} was promoted, and neither GLUCAST_CHECKPOINT nor GLUCAST_TRIAL_CHECKPOINT is "
                "it: name its checkpoint again, or have another one serve: glucast model promote"
            )
        raise ConfigurationError(
            "the model on trial is the one that is served: name another one as GLUCAST_TRIAL_CHECKPOINT"
        )

    def _is_served(self, place: int, choice: ModelChoice | None) -> bool:
        """By its files, without loading it, where the choice names them."""
        if choice is None:
            return self._at(place).fingerprint == self._at(0).fingerprint
        if choice.model_content and content_of(self._wanted[place]) == choice.model_content:
            return True
        return self._at(place).fingerprint == choice.model_fingerprint

    def _at(self, place: int) -> Forecaster:
        if place not in self._loaded:
            from agents.models.load import choice_of, load_forecaster

            wanted = self._wanted[place]
            self._loaded[place] = load_forecaster(wanted.forecaster, choice_of(wanted))
        return self._loaded[place]


def content_of(model: ModelSettings) -> str:
    """A digest of a model's kind and files, hexadecimal. Raises `CheckpointError` where one cannot be read."""
    from agents.models.checkpoint_file import checkpoint_fingerprint

    digest = hashlib.sha256(f"glucast-model-content-v1\n{model.forecaster}\n".encode())
    if model.forecaster == "persistence":
        return digest.hexdigest()
    if model.checkpoint == "huggingface":
        digest.update(str(model.huggingface_sha256).encode())
    else:
        digest.update(checkpoint_fingerprint(model.checkpoint).encode())
        if (weights := Path(f"{model.checkpoint}.ckpt")).exists():  # where Darts puts them
            digest.update(checkpoint_fingerprint(weights).encode())
    if model.checkpoint_config is not None:
        digest.update(checkpoint_fingerprint(model.checkpoint_config).encode())
    return digest.hexdigest()


def served_of(candidates: Sequence[Candidate], choice: ModelChoice | None) -> Candidate:
    """The model that serves by the last choice, as far as the settings know it."""
    if choice is None:
        return candidates[0]
    chosen = Candidate(choice.model, choice.model_fingerprint, choice.model_content)
    return next((each for each in candidates if each.is_same(chosen)), chosen)


def promotion(candidates: Sequence[Candidate], before: ModelChoice | None, wanted: str | None) -> ModelChoice:
    """The choice that lets the model serve which does not, or the one whose fingerprint begins with `wanted`.

    Raises `ConfigurationError` where there is no such model, or where it serves already.
    """
    served = served_of(candidates, before)
    others = [each for each in candidates if each.fingerprint.startswith(wanted or "")]
    if not others:
        raise ConfigurationError(f"neither GLUCAST_CHECKPOINT nor GLUCAST_TRIAL_CHECKPOINT is a model {wanted}")
    others = [each for each in others if not each.is_same(served)]
    if not others:
        raise ConfigurationError(
            "it serves already" if wanted else "no model is on trial: name GLUCAST_TRIAL_CHECKPOINT"
        )
    return _choice_now(others[-1], served)


def rollback(candidates: Sequence[Candidate], before: ModelChoice | None) -> ModelChoice:
    """The choice that lets the model serve again which did before.

    Raises `ConfigurationError` where there is none, or none that the settings name: no worker could serve it.
    """
    if before is None:
        raise ConfigurationError("no model was promoted, so there is none to go back to")
    previous = Candidate(before.previous_model, before.previous_fingerprint, before.previous_content)
    if not any(each.is_same(previous) for each in candidates):
        raise ConfigurationError(
            f"the model {before.previous_fingerprint[:12]} served before, and neither GLUCAST_CHECKPOINT nor "
            "GLUCAST_TRIAL_CHECKPOINT is it: no worker could start with it. Name its checkpoint again first, here and "
            "for the workers"
        )
    return _choice_now(previous, served_of((), before))


def _choice_now(model: Candidate, previous: Candidate) -> ModelChoice:
    return ModelChoice(
        model=model.name,
        model_fingerprint=model.fingerprint,
        model_content=model.content,
        previous_model=previous.name,
        previous_fingerprint=previous.fingerprint,
        previous_content=previous.content,
        chosen_at=datetime.datetime.now(datetime.UTC),
    )


def choice_in(key: bytes | None, value: object) -> ModelChoice | None:
    """What a message of ``cgm.model-choices`` chooses. None for what is none: anybody may write to a topic."""
    if key != SERVED.encode() or not isinstance(value, bytes):
        return None
    try:
        return ModelChoice.from_json(value)
    except RejectedError:
        return None
