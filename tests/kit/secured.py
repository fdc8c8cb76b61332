"""A real Kafka that asks everybody who they are (SASL_SSL with SCRAM-SHA-512) and grants only what ACLs say."""

import itertools
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from deploy.brokers import local_kafka
from deploy.brokers.local_kafka import LocalKafka, Membership, new_cluster_id
from deploy.brokers.wire import LOOPBACK, HeldPort
from streams.settings import Settings
from tests.kit.brokers import end, kafka_home

PASSWORD = "correct-horse-battery"
_LINES = """\
listener.name.second.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.second.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.second.ssl.keystore.type=PEM
listener.name.second.ssl.keystore.location={keystore}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:ANONYMOUS
"""
"""The broker speaks to itself without a name, on a listener that the clients of a test do not know."""


class SecuredKafka:
    """`settings_of` a user reaches the listener that asks; rights are given over the broker's own."""

    def __init__(self, broker: LocalKafka, address: str, certificate: Path, home: Path) -> None:
        self.address, self._certificate, self._home = address, certificate, home
        self._admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})

    def overrides_of(self, user: str) -> dict[str, object]:
        return {
            "security_protocol": "SASL_SSL", "sasl_username": user, "sasl_password": PASSWORD,
            "ssl_cafile": self._certificate, "replication_factor": 1, "partitions": 2,
        }  # fmt: skip

    def settings_of(self, user: str) -> Settings:
        return Settings(broker=self.address, state_dir=self._home, **self.overrides_of(user))  # type: ignore[arg-type]

    def add_users(self, users: Iterable[str]) -> None:
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        upserts = [UserScramCredentialUpsertion(user, info, PASSWORD.encode()) for user in users]
        for done in self._admin.alter_user_scram_credentials(upserts).values():
            done.result(20)

    def run(self, lines: Iterable[str]) -> None:
        """Do what ``kafka-acls.sh`` would: each operation on each resource of a line."""
        bindings = [binding for line in lines for binding in bindings_of(line)]
        for done in self._admin.create_acls(bindings).values():
            done.result(20)


def bindings_of(line: str) -> list[AclBinding]:
    words = shlex.split(line)
    told = list(itertools.pairwise(words))
    (principal,) = [value for word, value in told if word == "--allow-principal"]
    resources = [(ResourceType[word[2:].upper()], name) for word, name in told if word in ("--topic", "--group")]
    operations = [AclOperation[_upper(name)] for word, name in told if word == "--operation"]
    return [
        AclBinding(kind, name, ResourcePatternType.LITERAL, principal, "*", operation, AclPermissionType.ALLOW)
        for kind, name in resources
        for operation in operations
    ]


def _upper(name: str) -> str:
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in name).lstrip("_").upper()


@contextmanager
def secured_kafka(home: Path) -> Iterator[SecuredKafka]:
    """Without topics, users or rights; skips where there is no Kafka."""
    kafka = kafka_home()
    key, certificate, keystore = (home / name for name in ("key.pem", "certificate.pem", "keystore.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", f"subjectAltName=IP:{LOOPBACK}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    keystore.write_text(key.read_text() + certificate.read_text())
    second, controller = HeldPort(), HeldPort()
    address = f"{LOOPBACK}:{second.number}"
    config = local_kafka._CONFIG.replace("SECOND:PLAINTEXT", "SECOND:SASL_SSL") + _LINES.format(keystore=keystore)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_kafka, "_CONFIG", config)
        member = Membership(1, (controller.number,), new_cluster_id(), second_address=address)
        broker = LocalKafka(home, kafka, membership=member)
        try:
            broker.start()
            yield SecuredKafka(broker, address, certificate, home)
        finally:
            end(broker)
