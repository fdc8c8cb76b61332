"""From what a person writes after ``--broker`` to the broker itself."""

from pathlib import Path

from deploy.brokers.broker import Broker
from deploy.brokers.embedded import EmbeddedBroker
from deploy.brokers.external import ExternalBroker
from deploy.brokers.local_kafka import LocalKafka

KAFKA_PORT = 9092


def choose(text: str, state_dir: Path, tls: bool = False) -> Broker:
    """`text` is embedded, local or host:port[,…]. Ours take port 9092 or the next free one.

    Raises `ConfigurationError` for anything else, and where what the choice needs is not installed.
    """
    if text == EmbeddedBroker.name:
        return EmbeddedBroker(state_dir, KAFKA_PORT)
    if text == LocalKafka.name:
        return LocalKafka(state_dir, port=KAFKA_PORT)
    return ExternalBroker(text, tls)
