"""A real Kafka that asks everybody who they are, and grants only what ACLs say.

It does so on two listeners: by a password (SASL_SSL with SCRAM-SHA-512), and by a certificate (SSL, both sides shown).
"""

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
from tests.kit.certificates import SELF_SIGNED

PASSWORD = "correct-horse-battery"
_LINES = """\
listener.name.second.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.second.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.second.ssl.keystore.type=PEM
listener.name.second.ssl.keystore.location={keystore}
listener.name.third.ssl.keystore.type=PEM
listener.name.third.ssl.keystore.location={keystore}
listener.name.third.ssl.truststore.type=PEM
listener.name.third.ssl.truststore.location={authority}
listener.name.third.ssl.client.auth=required
listener.name.third.ssl.principal.mapping.rules=RULE:^CN=(.*)$/$1/
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:ANONYMOUS
"""
"""The broker speaks to itself without a name, on a listener that the clients of a test do not know."""


class SecuredKafka:
    """`settings_of` a user reaches the listener that asks; rights are given over the broker's own."""

    def __init__(self, broker: LocalKafka, address: str, third_address: str, certificate: Path, home: Path) -> None:
        self.address, self._third_address, self._certificate, self._home = address, third_address, certificate, home
        self._admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})

    def overrides_of(self, user: str) -> dict[str, object]:
        return {
            "security_protocol": "SASL_SSL", "sasl_username": user, "sasl_password": PASSWORD,
            "ssl_cafile": self._certificate, "replication_factor": 1, "partitions": 2,
        }  # fmt: skip

    def certified_overrides_of(self, user: str) -> dict[str, object]:
        """By a certificate of its own, which is made here; its key is encrypted."""
        certificate, key = self._home / f"{user}.pem", self._home / f"{user}-key.pem"
        authority = ["-CA", self._certificate, "-CAkey", self._certificate.with_name("key.pem")]
        _certify([*authority, "-subj", f"/CN={user}", "-passout", f"pass:{PASSWORD}"], key, certificate)
        return {
            "broker": self._third_address, "security_protocol": "SSL", "ssl_cafile": self._certificate,
            "ssl_certfile": certificate, "ssl_keyfile": key, "ssl_key_password": PASSWORD,
            "replication_factor": 1, "partitions": 2,
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


def _certify(options: Iterable[str | Path], key: Path, certificate: Path) -> None:
    command = [*SELF_SIGNED, "-keyout", key, "-out", certificate]
    subprocess.run([*command, *options], check=True, capture_output=True)


@contextmanager
def secured_kafka(home: Path) -> Iterator[SecuredKafka]:
    """Without topics, users or rights; skips where there is no Kafka."""
    kafka = kafka_home()
    key, certificate, keystore = (home / name for name in ("key.pem", "certificate.pem", "keystore.pem"))
    _certify(["-subj", "/CN=localhost", "-addext", f"subjectAltName=IP:{LOOPBACK}", "-nodes"], key, certificate)
    keystore.write_text(key.read_text() + certificate.read_text())
    second, third, controller = HeldPort(), HeldPort(), HeldPort()
    address, third_address = (f"{LOOPBACK}:{port.number}" for port in (second, third))
    config = (
        local_kafka._CONFIG.replace("SECOND:PLAINTEXT", "SECOND:SASL_SSL,THIRD:SSL")
        .replace("listeners={advertised}", f"listeners={{advertised}},THIRD://{third_address}")
        + _LINES.format(keystore=keystore, authority=certificate)
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_kafka, "_CONFIG", config)
        member = Membership(1, (controller.number,), new_cluster_id(), second_address=address)
        broker = LocalKafka(home, kafka, membership=member)
        try:
            broker.start()
            yield SecuredKafka(broker, address, third_address, certificate, home)
        finally:
            end(broker)
