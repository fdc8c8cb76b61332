"""Settings of the notify role: webhooks, and a broker of MQTT."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_LISTS = ("webhook_private_networks", "mqtt_subjects")
_TLS_PORT, _PLAIN_PORT = 8883, 1883


def split_lists(values: dict[str, object], names: Sequence[str]) -> dict[str, object]:
    """Settings with those of these names as lists that are texts with commas."""
    lists = {name: text for name in names if isinstance(text := values.get(name), str)}
    split = {name: tuple(item.strip() for item in text.split(",") if item.strip()) for name, text in lists.items()}
    return values | split


class NotifySettings(BaseSettings):
    """Who is told of alerts and forecasts outside Kafka. Without `webhooks_file` and `mqtt_host` nobody is."""

    model_config = SettingsConfigDict(env_prefix="GLUCAST_", frozen=True, extra="ignore", populate_by_name=True)

    webhooks_file: Path | None = Field(
        None, description="The webhooks that `glucast webhooks` makes (mode 600); read again when it changes."
    )
    webhook_timeout_seconds: float = Field(15.0, ge=1, le=60, description="How long a webhook may take to answer.")
    webhook_disable_hours: float = Field(
        24.0, gt=0, le=720, description="A webhook that has failed for so long is disabled until it is enabled again."
    )
    webhook_queue: int = Field(1000, ge=1, le=100_000, description="Deliveries that wait for one webhook at most.")
    webhook_private_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Networks that are no public ones and may be sent to, also without TLS, comma separated, such as "
        "192.168.1.0/24.",
    )
    mqtt_host: str | None = Field(None, description="A broker of MQTT, such as Home Assistant's.")
    mqtt_port: int | None = Field(None, ge=1, le=65535, description="8883 with TLS, else 1883, if it is not set.")
    mqtt_tls: bool = Field(True, description="False sends everything, the password too, in the clear.")
    mqtt_ca_file: Path | None = Field(None, description="CA certificates that the broker's is checked with.")
    mqtt_username: str | None = None
    mqtt_password: SecretStr | None = None
    mqtt_password_file: Path | None = Field(None, description="Instead of the password: a file of it (mode 600).")
    mqtt_subjects: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Whose state is published, comma separated; * for everybody's."
    )
    mqtt_prefix: str = Field("glucast", pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", max_length=100)
    mqtt_discovery_prefix: str = Field(
        "homeassistant",
        pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$",
        max_length=100,
        description="Where Home Assistant looks for devices.",
    )
    mqtt_unit: Literal["mg/dL", "mmol/L"] = "mg/dL"

    @property
    def configured(self) -> bool:
        """Whether there is anything for the role to do."""
        return self.webhooks_file is not None or self.mqtt_host is not None

    @property
    def port_of_mqtt(self) -> int:
        return self.mqtt_port or (_TLS_PORT if self.mqtt_tls else _PLAIN_PORT)

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        return split_lists(values, _LISTS)

    @field_validator("webhook_private_networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ipaddress.ip_network(network)  # its ValueError says which, and what is wrong with it
        return networks

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.mqtt_host is not None and not self.mqtt_subjects:
            raise ValueError("mqtt_host needs mqtt_subjects: whose state is to be published, or * for everybody's")
        if self.mqtt_password is not None and self.mqtt_password_file is not None:
            raise ValueError("give mqtt_password or mqtt_password_file, not both")
        if (self.mqtt_password is not None or self.mqtt_password_file is not None) and self.mqtt_username is None:
            raise ValueError("mqtt_password needs mqtt_username")
        return self
