"""How every client of glucast reaches Kafka: one place for addresses, TLS and SASL."""

import ssl
from typing import Any

from aiokafka import AIOKafkaConsumer

from schemas.errors import ConfigurationError
from streams.kafka import asking, decoding
from streams.settings import Settings

ISOLATION_LEVEL = "read_committed"
"""What a producer's transaction has aborted was never said."""


def connection_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client takes; from then on none of them waits for a broker that hangs."""
    asking.install()
    options: dict[str, Any] = {
        "bootstrap_servers": settings.broker,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value() if settings.sasl_password else None
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = tls_context(settings)
    return options


BATCH_BYTES = 256 * 1024
"""Of one produced batch, before compression; every topic takes a message that is larger.

aiokafka fills one batch a partition while the last is on its way, and who comes when it is full waits for that: with
its own 16 KiB four charts a round trip.
"""


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Brokers' certificates are always verified, by `ssl_cafile` or the system's authorities; ours is shown, if any.

    Raises `ConfigurationError` for a file that cannot be read, and for a key that is not the certificate's.
    """
    password = settings.ssl_key_password.get_secret_value() if settings.ssl_key_password else ""  # never asked for
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        if settings.ssl_certfile is not None:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = [
            each for each in (settings.ssl_cafile, settings.ssl_certfile, settings.ssl_keyfile) if each is not None
        ]
        raise ConfigurationError(f"TLS with {', '.join(map(str, files))} cannot be set up: {error}") from None
    return context


def producer_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of a producer whose sends are confirmed by every in-sync replica."""
    return connection_options(settings) | {
        "acks": "all",
        "max_request_size": settings.max_request_bytes,
        "linger_ms": 0,
        "max_batch_size": BATCH_BYTES,
    }


def consumer_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of a consumer that can fetch the largest message of any topic."""
    return connection_options(settings) | {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": ISOLATION_LEVEL,
        "max_partition_fetch_bytes": settings.max_request_bytes,
        "fetch_max_wait_ms": settings.fetch_wait_milliseconds,
        "fetch_max_bytes": 4 * settings.max_request_bytes,
    }


def new_consumer(settings: Settings, **options: Any) -> AIOKafkaConsumer:
    """A consumer that no message stops: what cannot be decoded comes as a record with an `Undecodable` value."""
    decoding.install()
    return AIOKafkaConsumer(**(consumer_options(settings) | options))
