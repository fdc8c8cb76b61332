"""Settings: the GluRPC names, the cross-checks and what must not be shown."""

import pytest
from pydantic import ValidationError

from schemas.topics import TOPICS
from streams.settings import Settings


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("MINIMUM_DURATION_MINUTES", "minimum_duration_minutes", 600),
        ("MAXIMUM_WANTED_DURATION", "maximum_wanted_duration", 2000),
        ("MAX_CACHE_SIZE", "max_cache_size", 7),
        ("ENABLE_CACHE_PERSISTENCE", "enable_cache_persistence", False),
        ("ENABLE_API_KEYS", "enable_api_keys", True),
        ("NUM_COPIES_PER_DEVICE", "num_copies_per_device", 2),
        ("BACKGROUND_WORKERS_COUNT", "background_workers_count", 3),
        ("BATCH_SIZE", "batch_size", 8),
        ("NUM_SAMPLES", "num_samples", 25),
    ],
)
@pytest.mark.parametrize("prefix", ["", "GLUCAST_"])
def test_glurpc_names_are_aliases(
    monkeypatch: pytest.MonkeyPatch, prefix: str, name: str, field: str, value: object
) -> None:
    monkeypatch.setenv(prefix + name, str(value))
    settings = Settings()
    assert getattr(settings if field in Settings.model_fields else settings.model, field) == value


def test_own_prefix_wins_over_the_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUM_SAMPLES", "11")
    monkeypatch.setenv("GLUCAST_NUM_SAMPLES", "12")
    assert Settings().model.num_samples == 12


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"session_timeout_seconds": 6.0, "heartbeat_seconds": 3.0}, "a third of session_timeout_seconds"),
        ({"session_timeout_seconds": 30.0}, "must not exceed rebalance_timeout_seconds"),
        ({"minimum_duration_minutes": 1200}, "at least minimum_duration_minutes"),
        ({"security_protocol": "SASL_SSL"}, "needs sasl_username and sasl_password"),
        ({"security_protocol": "SSL", "ssl_keyfile": "key.pem"}, "ssl_certfile is missing"),
        ({"ssl_certfile": "certificate.pem"}, "of use with security_protocol SSL or SASL_SSL only"),
        ({"max_request_bytes": 1 << 20}, "the largest topic's message"),
        ({"max_upload_bytes": 12 << 20}, "must leave 1 MiB"),
    ],
)
def test_contradictions_are_refused(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Settings(**values)


def test_a_model_to_be_downloaded_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLUCAST_CHECKPOINT", "huggingface")
    with pytest.raises(ValidationError, match="needs huggingface_revision and huggingface_sha256"):
        Settings()


def test_settings_are_frozen_and_hide_the_password() -> None:
    settings = Settings(security_protocol="SASL_SSL", sasl_username="me", sasl_password="hunter2")
    assert "hunter2" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.partitions = 3
    with pytest.raises(ValidationError):
        settings.model.num_samples = 3


def test_one_produce_request_takes_any_topics_largest_message() -> None:
    assert Settings().max_request_bytes >= max(topic.max_message_bytes for topic in TOPICS)
