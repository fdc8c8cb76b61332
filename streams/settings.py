"""All settings, read once from the environment (``GLUCAST_*``), frozen, and checked against each other.

The names that GluRPC used are accepted as aliases. Units are in the names.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from agents.models.catalogue import Kind
from schemas.topics import TOPICS, UPLOADS
from streams.notify_settings import NotifySettings, split_lists

MIB = 1 << 20
_LISTS = ("allowed_hosts", "cors_origins")


def _alias(glurpc_name: str) -> AliasChoices:
    return AliasChoices(f"GLUCAST_{glurpc_name}", glurpc_name)


class ModelSettings(BaseSettings):
    """One model: which it is, how it is sampled and on what it runs."""

    model_config = SettingsConfigDict(env_prefix="GLUCAST_", frozen=True, extra="ignore", populate_by_name=True)

    forecaster: Kind = Field(
        "network",
        description="network: the kind that the checkpoint declares, gluformer or mlp; or another forecaster.",
    )
    checkpoint: str = Field("bundled", description="bundled, huggingface, or the path of a .safetensors or .pth file.")
    checkpoint_config: Path | None = Field(None, description="JSON config of a .pth checkpoint.")
    huggingface_repository: str = "Livia-Zaharia/gluformer_models"
    huggingface_file: str = "gluformer_1samples_500epochs_10heads_32batch_geluactivation_livia_large_weights.pth"
    huggingface_revision: str | None = Field(None, description="Commit to download; required for huggingface.")
    huggingface_sha256: str | None = Field(None, description="Checksum of the file; required for huggingface.")
    num_samples: int = Field(
        10, ge=2, le=200, validation_alias=_alias("NUM_SAMPLES"), description="Monte Carlo dropout samples a forecast."
    )
    seed: int = Field(0, ge=0, description="Part of every forecast id.")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    num_copies_per_device: int = Field(
        1, ge=1, validation_alias=_alias("NUM_COPIES_PER_DEVICE"), description="Model copies a GPU."
    )
    torch_threads: int = Field(1, ge=1, description="Threads of one matrix product.")
    model_serves: bool = Field(
        True, description="False: this worker's model is on trial; its charts are kept beside and answer no query."
    )

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.checkpoint == "huggingface" and not (self.huggingface_revision and self.huggingface_sha256):
            raise ValueError("checkpoint huggingface needs huggingface_revision and huggingface_sha256")
        return self


class Settings(BaseSettings):
    """Frozen settings of every role. Raises pydantic's ValidationError; the command line turns it into sentences."""

    model_config = SettingsConfigDict(env_prefix="GLUCAST_", frozen=True, extra="ignore", populate_by_name=True)

    # where
    broker: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, host:port, comma separated.")
    state_dir: Path = Field(Path(".glucast"), description="Tables, read model, logs and the local broker's data.")
    partitions: int = Field(4, ge=1, le=512, description="Partitions of every topic; fixed once topics exist.")
    replication_factor: int = Field(1, ge=1, le=9, description="Copies of every topic on an external Kafka.")
    ordinal: int = Field(0, ge=0, le=999, description="Number of this worker among those of its role.")
    topics_wait_seconds: float = Field(
        0.0, ge=0, le=600, description="How long a starting role waits for the broker and its topics; then it refuses."
    )
    static_membership: bool = Field(
        True,
        description="A restarted worker keeps its partitions (role and ordinal name it). Off on the embedded broker.",
    )

    # security of the connection to Kafka
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = Field(
        None, description="CA certificates that the brokers' certificates are checked with."
    )
    ssl_certfile: Path | None = Field(
        None, description="Our own certificate, by which Kafka knows the role; with its key, or with ssl_keyfile."
    )
    ssl_keyfile: Path | None = None
    ssl_key_password: SecretStr | None = Field(None, description="Of a key that is encrypted.")

    # consumer and producer
    session_timeout_seconds: float = Field(
        10.0, ge=3, le=300, description="A silent worker loses its partitions after it."
    )
    heartbeat_seconds: float = Field(2.0, gt=0)
    rebalance_timeout_seconds: float = Field(20.0, gt=0)
    commit_interval_seconds: float = Field(1.0, gt=0, le=60)
    max_poll_records: int = Field(256, ge=1, le=10_000)
    fetch_wait_milliseconds: int = Field(
        250,
        ge=1,
        le=10_000,
        description="Longest wait of a fetch: what a partition that was full has new waits so long.",
    )
    niceness: int = Field(0, ge=0, le=19, description="How far a worker gives way to others on a busy machine.")
    events_in_flight: int = Field(1000, ge=1, description="Events whose effects the broker has not confirmed yet.")
    held_bytes: int = Field(
        64 * MIB,
        ge=20 * MIB,
        description="Bytes of messages that a worker (in inference: a lane) holds, waiting or under way; more wait in "
        "Kafka.",
    )
    stall_seconds: float = Field(60.0, gt=0, description="A worker with lag and no progress for so long exits.")
    max_request_bytes: int = Field(13 * MIB, description="Largest produce request; above every topic's limit.")
    step_attempts: int = Field(3, ge=1, le=20, description="Tries of a step before its message is a dead letter.")

    # windows and uploads
    minimum_duration_minutes: int = Field(
        540,
        ge=480,
        validation_alias=_alias("MINIMUM_DURATION_MINUTES"),
        description="Shortest gap-free series of a file.",
    )
    maximum_wanted_duration: int = Field(
        1080, ge=540, le=20160, validation_alias=_alias("MAXIMUM_WANTED_DURATION"),
        description="Minutes of a file that are used, counted from its end.",
    )  # fmt: skip
    max_upload_bytes: int = Field(10 * MIB, ge=1024, description="Largest file; larger bodies are answered with 413.")
    file_readers: int = Field(2, ge=1, le=16, description="Processes that read files: so many at a time a worker.")
    file_seconds: int = Field(20, ge=1, le=600, description="Computing time that reading one file may take.")
    file_megabytes: int = Field(1024, ge=512, le=65536, description="Memory that reading one file may take.")
    max_clock_skew_seconds: float = Field(600.0, ge=0, description="How far in the future a reading may be.")
    tick_seconds: float = Field(
        60.0, ge=0, le=600, description="How often ingest looks whether readings stay away; 0: never."
    )
    max_late_minutes: int = Field(120, ge=0, le=480, description="Forecasts are issued again for readings so late.")
    report_days: int = Field(
        14, ge=1, le=90, description="Days of readings kept for reports, 0.6 kB a day and subject in ingest and API."
    )

    # inference
    batch_size: int = Field(
        32, ge=1, le=1024, validation_alias=_alias("BATCH_SIZE"), description="Most windows in one micro-batch."
    )
    batch_milliseconds: float = Field(25.0, gt=0, description="Longest micro-batch, by measured cost a window.")
    lane_capacity: int = Field(
        512, ge=1, description="Requests that a lane holds in memory, under way or waiting; more wait in Kafka."
    )
    model: ModelSettings = Field(default_factory=ModelSettings, description="The model that is served.")
    trial_forecaster: Kind | None = Field(
        None, description="Forecaster of a second model, on trial beside the served one."
    )
    trial_checkpoint: str | None = Field(
        None, description="Its checkpoint: bundled, or the path of a .safetensors file. Either of both switches it on."
    )
    background_workers_count: int = Field(
        1,
        ge=1,
        le=64,
        validation_alias=_alias("BACKGROUND_WORKERS_COUNT"),
        description="calc workers that `up` starts.",
    )

    # tables
    block_cache_bytes: int = Field(8 * MIB, ge=MIB, description="RocksDB block cache of a process.")
    write_buffer_bytes: int = Field(
        MIB, ge=MIB, description="RocksDB memory a table and partition before it writes; thrice."
    )
    subject_history_steps: int = Field(288, ge=12, description="Forecasts kept a subject (288 are one day).")
    subject_kept_days: int = Field(
        30,
        ge=1,
        le=3650,
        description="Who is not heard of for so long is forgotten in all tables: no reading, no settings of alerts.",
    )
    recalibrate: bool = Field(
        True, description="Fit a person's fan to where their own truths fell. Off: the model's calibration alone."
    )

    # query API
    host: str = Field("127.0.0.1", description="Address to bind; others need keys or allow_unauthenticated.")
    port: int = Field(8000, ge=0, le=65535)
    health_host: str = Field(
        "127.0.0.1", description="Address of a worker's health and metrics: who reaches it reads counts, no data."
    )
    health_port: int = Field(0, ge=0, le=65535, description="Health and metrics of a worker; 0 picks a free port.")
    allow_unauthenticated: bool = Field(False, description="Serve a non-loopback address without keys.")
    max_cache_size: int = Field(
        128,
        ge=1,
        validation_alias=_alias("MAX_CACHE_SIZE"),
        description="Handles kept of each owner: everybody, or the people of a key; the oldest go first.",
    )
    enable_cache_persistence: bool = Field(
        True, validation_alias=_alias("ENABLE_CACHE_PERSISTENCE"), description="Allow save and load of Parquet files."
    )
    enable_api_keys: bool = Field(False, validation_alias=_alias("ENABLE_API_KEYS"))
    api_keys_file: Path | None = Field(
        None, description="The keys that `glucast keys` makes, or names and SHA-256 digests; reloaded when it changes."
    )
    rate_limit: str = Field("120/minute", description="Requests a key (an address without keys) may make.")
    wrong_key_rate_limit: str = Field(
        "20/minute", description="Wrong keys of an address; after that it is not heard, whatever it sends."
    )
    nightscout_rate_limit: str = Field(
        "32768/minute", description="KiB that a key may send to the Nightscout site; a request counts as one more."
    )
    body_rate_limit: str = Field("524288/minute", description="KiB that a key may send to all other routes together.")
    convert_rate_limit: str = Field(
        "20/minute", description="Conversions an address may ask for, where rates are limited: they need no key."
    )
    nightscout_units: Literal["mg/dl", "mmol"] = Field(
        "mg/dl", description="What the Nightscout site tells readers to show; entries are in mg/dL always."
    )
    nightscout_forecast: Literal["openaps", "loop"] = Field(
        "openaps", description="Form of the forecast in devicestatus: openaps has a cone, loop one line."
    )
    nightscout_lower_percent: Literal["2.5", "5", "10", "25"] = Field(
        "10",
        description="Percentile that is the lowest curve of the openaps form: alarms of a low look at it.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names that the API is asked under besides localhost, comma separated; * for all. Addresses of "
        "this machine need none.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins that may call the API, comma separated."
    )
    answer_timeout_seconds: float = Field(30.0, gt=0, description="How long a request waits for its forecast.")
    waiters: int = Field(256, ge=1, description="Requests that may wait at once; more get 503 and Retry-After.")
    event_clients: int = Field(
        128, ge=1, description="Clients that may follow events at once, half of them with one key; more get 503."
    )
    notify: NotifySettings = Field(default_factory=NotifySettings, description="Who is told outside Kafka.")
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        return split_lists(values, _LISTS)

    @model_validator(mode="after")
    def _cross_checks(self) -> Self:
        if self.heartbeat_seconds * 3 > self.session_timeout_seconds:
            raise ValueError("heartbeat_seconds must be at most a third of session_timeout_seconds")
        if self.session_timeout_seconds > self.rebalance_timeout_seconds:
            raise ValueError("session_timeout_seconds must not exceed rebalance_timeout_seconds")
        if self.maximum_wanted_duration < self.minimum_duration_minutes:
            raise ValueError("maximum_wanted_duration must be at least minimum_duration_minutes")
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError("security_protocol SASL_* needs sasl_username and sasl_password")
        self._check_certificate()
        self._check_sizes()
        return self

    def _check_certificate(self) -> None:
        if self.ssl_certfile is None and (self.ssl_keyfile or self.ssl_key_password):
            raise ValueError("ssl_keyfile and ssl_key_password belong to a certificate: ssl_certfile is missing")
        if self.ssl_certfile is not None and not self.security_protocol.endswith("SSL"):
            raise ValueError("ssl_certfile is of use with security_protocol SSL or SASL_SSL only")

    def _check_sizes(self) -> None:
        largest = max(topic.max_message_bytes for topic in TOPICS)
        if self.max_request_bytes < largest:
            raise ValueError(f"max_request_bytes must be at least {largest}, the largest topic's message")
        if self.max_upload_bytes + MIB > UPLOADS.max_message_bytes:
            raise ValueError(
                f"max_upload_bytes must leave 1 MiB below {UPLOADS.max_message_bytes}, the limit of uploads"
            )

    @property
    def trial(self) -> ModelSettings | None:
        """The second model: sampled and run as the first."""
        if self.trial_forecaster is None and self.trial_checkpoint is None:
            return None
        changes = {"forecaster": self.trial_forecaster or "network", "checkpoint": self.trial_checkpoint or "bundled"}
        return self.model.model_copy(update={**changes, "checkpoint_config": None})

    @property
    def stream_buffer_maxsize(self) -> int:
        """Events that Faust queues an agent: five polls a partition, so that one full queue does not stop the App."""
        return 5 * self.max_poll_records * self.partitions
