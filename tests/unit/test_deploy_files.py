"""What other tools read cannot be run here, but it can be held to the code that it names."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas import topics
from streams.acls import PRINCIPALS
from streams.notify_settings import NotifySettings
from streams.settings import Settings

ROOT = Path(__file__).parents[2]
SCRIPTS = ["deploy/setup.sh", "deploy/try.sh", "deploy/test.sh", "deploy/secure.sh", ".ci/run"]


COMPOSE = ROOT / "deploy/compose.yaml"


@pytest.fixture
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return services


def test_compose_builds_our_image_from_the_top_of_the_checkout(services: dict[str, Any]) -> None:
    builds = [service["build"] for name, service in services.items() if name != "kafka"]
    for build in builds:
        context = (COMPOSE.parent / build["context"]).resolve()
        assert context == ROOT
        assert (context / build["dockerfile"]).read_text().startswith("# One image for every role")


def test_compose_runs_every_role_with_commands_and_settings_that_exist(services: dict[str, Any]) -> None:
    ours = {name: service for name, service in services.items() if name != "kafka"}
    assert {service["command"] for service in ours.values()} == {
        "topics provision",
        "worker ingest",
        "worker inference",
        "worker calc",
        "notify",
        "api --host 0.0.0.0",
    }
    for service in ours.values():
        assert "GLUCAST_BROKER" in service["environment"]
        for variable in service["environment"]:
            name = variable.removeprefix("GLUCAST_").lower()
            assert name in {**Settings.model_fields, **NotifySettings.model_fields}, variable
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_with_the_machine_every_role_comes_back_and_what_is_done_once_does_not(services: dict[str, Any]) -> None:
    """Who is stopped with the machine ends with 0, which is no failure: Kafka came back and no role did."""
    policies = {name: service["restart"] for name, service in services.items()}
    assert policies.pop("topics") == "on-failure"
    assert set(policies.values()) == {"unless-stopped"}


def test_compose_lets_kafka_take_the_largest_message(services: dict[str, Any]) -> None:
    assert services["kafka"]["environment"]["KAFKA_MESSAGE_MAX_BYTES"] > max(
        topic.max_message_bytes for topic in topics.TOPICS
    )


class _Compose(yaml.SafeLoader):
    """Knows the tag by which Docker Compose takes something back."""


_Compose.add_constructor("!reset", lambda loader, node: loader.construct_sequence(node))


def test_with_secured_kafka_every_role_has_a_name_and_nothing_is_open(services: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "deploy"
    folder.mkdir()
    script = folder / "secure.sh"
    script.write_text((ROOT / "deploy/secure.sh").read_text())
    subprocess.run(["bash", script], check=True, capture_output=True)
    document = yaml.load((ROOT / "deploy/compose.secured.yaml").read_text(), _Compose)  # noqa: S506
    secured = document["services"]
    assert set(services) <= set(secured)
    (line,) = (folder / "secured/kafka.env").read_text().splitlines()
    users = dict(re.findall(r'user_([a-z-]+)="([0-9a-f]{48})"', line))
    assert set(users) == {f"glucast-{who}" for who in PRINCIPALS}
    for name, service in secured.items():
        if name in ("kafka", "rights", "grant"):
            continue
        environment = dict(line.split("=") for line in (folder / service["env_file"]).read_text().splitlines())
        assert users[environment["GLUCAST_SASL_USERNAME"]] == environment["GLUCAST_SASL_PASSWORD"]
        settings = Settings(**{
            key.removeprefix("GLUCAST_").lower(): value for key, value in (environment | service["environment"]).items()
        })  # fmt: skip
        assert (settings.security_protocol, settings.sasl_mechanism) == ("SASL_SSL", "PLAIN")
    kafka = secured["kafka"]
    assert kafka["ports"] == []
    listeners = dict(each.split("://") for each in kafka["environment"]["KAFKA_LISTENERS"].split(","))
    protocols = dict(
        each.split(":") for each in kafka["environment"]["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    )
    for name, address in listeners.items():
        assert address.startswith("127.0.0.1:") or protocols[name] == "SASL_SSL", name
    assert (folder / "secured").stat().st_mode & 0o77 == 0
    assert (folder / "secured/broker.pem").read_text().count("BEGIN") == 2
    again = subprocess.run(["bash", script], capture_output=True, check=False)
    assert again.returncode != 0, "what is there stays"


def test_the_image_copies_what_it_installs() -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    for package in packages:
        name = package.rstrip("*")
        assert f"COPY {name} {name}" in dockerfile
    for source in re.findall(r"^COPY (.*) \S+$", dockerfile, re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_parse_stop_at_errors_and_can_be_executed(script: str) -> None:
    path = ROOT / script
    subprocess.run(["bash", "-n", path], check=True)
    assert "set -euo pipefail" in path.read_text()
    assert path.stat().st_mode & 0o100


def test_every_dependency_is_locked_to_one_version_and_to_no_address() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    locked = {}
    for line in lines:
        name, version = line.split("==")
        locked[_canonical(name)] = version
    wanted = (
        project["dependencies"] + project["optional-dependencies"]["embedded"] + project["optional-dependencies"]["dev"]
    )
    missing = [need for need in wanted if _canonical(re.split(r"[\[<>=~! ]", need)[0]) not in locked]
    assert missing == []
    assert locked["torch"] == "2.13.0"
    assert "torch==2.13.0" in project["dependencies"]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
