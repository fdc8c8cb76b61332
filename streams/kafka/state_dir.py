"""Where a role keeps its tables: a directory a cluster, so that a broker never meets the state of another one."""

import re
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.errors import ConfigurationError, UnavailableError
from streams.kafka.connection import connection_options
from streams.settings import Settings

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


async def cluster_id(settings: Settings) -> str:
    """What the broker calls its cluster, fit for a file name. Raises `UnavailableError` without a broker."""
    client = AIOKafkaAdminClient(**connection_options(settings), client_id="glucast-state")
    try:
        await client.start()
        found = (await client.describe_cluster()).get("cluster_id")
    except KafkaError as error:
        raise UnavailableError(f"no Kafka answers at {settings.broker}") from error
    finally:
        await client.close()
    return _UNFIT.sub("_", str(found or "unnamed"))


def directory(settings: Settings, cluster: str, name: str) -> Path:
    """``<state_dir>/<cluster>/<name>``, created. Raises `ConfigurationError` where that is not possible."""
    path = (settings.state_dir / cluster / name).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot use the state directory {path}: {error.strerror}") from error
    return path
