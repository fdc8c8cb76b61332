"""The least that each role needs on a Kafka with ACLs, from the topology alone; as lines for ``kafka-acls.sh``.

Nobody needs a right for transactions or idempotent writes: no producer here is either. A role looks at every topic and
its settings before it starts, so it may describe them all; what it may read and write is its steps'.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from schemas import topics
from schemas.errors import ConfigurationError
from streams import topology
from streams.subjects import sources
from streams.topology import Role

Principal = Literal["ingest", "inference", "calc", "query", "notify", "operator"]
"""A role, or whoever runs ``glucast topics``, ``dlq`` and ``subject``."""
PRINCIPALS: tuple[Principal, ...] = get_args(Principal)

Operation = Literal["Read", "Write", "Describe", "DescribeConfigs", "AlterConfigs", "Create"]
ResourceType = Literal["topic", "group"]

COMMAND = "kafka-acls.sh --bootstrap-server $BROKER --command-config admin.properties --add"


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """One right: an operation on one topic or consumer group."""

    kind: ResourceType
    name: str
    operation: Operation


def grants(who: Principal) -> frozenset[Grant]:
    """All rights that a role needs, and no other."""
    looks = {Grant("topic", topic.name, operation) for topic in topology.all_topics() for operation in _LOOKING}
    return frozenset(looks | (_of_operator() if who == "operator" else _of_role(who)))


_LOOKING: tuple[Operation, ...] = ("Describe", "DescribeConfigs")


def _of_role(role: Role) -> set[Grant]:
    steps = topology.steps_of(role)
    found = {Grant("topic", topic.name, "Read") for step in steps for topic in step.reads}
    found |= {Grant("topic", topic.name, "Write") for step in steps for topic in step.writes}
    if role == "query":  # follows without a group, and tells what waits for the workers
        return found | {Grant("group", group, "Describe") for group in topology.worker_groups()}
    if role in topology.WORKER_ROLES:
        found.add(Grant("topic", topics.DEAD_LETTERS.name, "Write"))
    for table in topology.tables_of(role):
        changelog = topics.changelog(topology.app_id(role), table).name
        found |= {Grant("topic", changelog, "Read"), Grant("topic", changelog, "Write")}
    groups = topology.groups_of(role)
    if role == "inference":
        found.add(Grant("topic", topics.MODEL_CHOICES.name, "Read"))
        groups = (*groups, *topology.trial_groups())
    return found | {Grant("group", group, "Read") for group in groups}


def _of_operator() -> set[Grant]:
    """Creates and corrects topics, replays, exports and erases people, says which model serves."""
    replayed = {topic.name for read in topology.worker_groups().values() for topic in read}
    changes: tuple[Operation, ...] = ("Create", "AlterConfigs")
    found = {Grant("topic", topic.name, operation) for topic in topology.all_topics() for operation in changes}
    writes = replayed | {topics.DEAD_LETTERS.name, topics.MODEL_CHOICES.name}
    found |= {Grant("topic", name, "Write") for name in writes}
    found |= {Grant("topic", name, "Read") for name in writes | {topic.name for topic in sources()}}
    return found | {Grant("group", topology.app_id("ingest"), "Describe")}


def lines(names: Mapping[Principal, str], only: Iterable[Principal] = PRINCIPALS) -> list[str]:
    """``kafka-acls.sh`` lines, one for all topics or groups with the same operations. `names`: users that differ."""
    found = []
    for who in only:
        user = names.get(who, f"glucast-{who}")
        for (kind, operations), of in sorted(_together(grants(who)).items()):
            words = [f"--operation {operation}" for operation in operations]
            words += [f"--{kind} {name}" for name in sorted(of)]
            found.append(f"{COMMAND} --allow-principal 'User:{user}' {' '.join(words)}")
    return found


def _together(rights: Iterable[Grant]) -> dict[tuple[ResourceType, tuple[Operation, ...]], list[str]]:
    operations: defaultdict[tuple[ResourceType, str], list[Operation]] = defaultdict(list)
    for right in rights:
        operations[right.kind, right.name].append(right.operation)
    together: defaultdict[tuple[ResourceType, tuple[Operation, ...]], list[str]] = defaultdict(list)
    for (kind, name), of in operations.items():
        together[kind, tuple(sorted(of))].append(name)
    return together


def principals(texts: Iterable[str]) -> dict[Principal, str]:
    """``ROLE=NAME`` each. Raises `ConfigurationError` for another role, and for a name that would end its quotes."""
    found: dict[Principal, str] = {}
    for text in texts:
        role, _, name = text.partition("=")
        known = next((who for who in PRINCIPALS if who == role), None)
        if known is None or not name or not name.isprintable() or "'" in name:
            raise ConfigurationError(f"--principal-of takes ROLE=NAME, with ROLE one of {', '.join(PRINCIPALS)}")
        found[known] = name.removeprefix("User:")
    return found
