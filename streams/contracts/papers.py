"""The generated parts of the papers at the top: the topology as a diagram, topics and settings as tables.

A paper carries a block by holding its markers, ``<!-- name -->`` and ``<!-- /name -->``, on lines of their own.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from schemas import topics
from schemas.topics import Topic
from streams import topology
from streams.settings import Settings


def renewed(directory: Path) -> dict[Path, str]:
    """Every paper in a directory to its text with the blocks that it carries as they have to be now."""
    return {paper: rewrite(paper.read_text("utf-8")) for paper in sorted(directory.glob("*.md"))}


def rewrite(paper: str) -> str:
    """The text with each block that it carries renewed; everything else as it was."""
    for name, render in BLOCKS.items():
        start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->\n"
        if start in paper and end in paper:
            before, after = paper.split(start, 1)[0], paper.split(end, 1)[1]
            paper = f"{before}{start}{render()}{end}{after}"
    return paper


def topology_diagram() -> str:
    """A Mermaid flowchart of `topology.STEPS`: topics are rounded, steps stand in their role, tables are cylinders."""
    lines = ["```mermaid", "flowchart LR"]
    for role in topology.ROLES:
        lines.append(f"  subgraph {role}_role [{role}]")
        lines += [f"    {name}[{name}]" for name in dict.fromkeys(step.name for step in topology.steps_of(role))]
        lines += [f"    {_node(table)}_table[({table})]" for table in topology.tables_of(role)]
        lines.append("  end")
    changelogs = topology.changelogs()
    seen = dict.fromkeys(topic for step in topology.STEPS for topic in (*step.reads, *step.writes))
    lines += [f"  {_node(topic.name)}([{topic.name}])" for topic in seen if topic not in changelogs]
    lines += dict.fromkeys(edge for step in topology.STEPS for edge in _edges(step))
    return "\n".join([*lines, "```", "", f"Every step of a worker also writes to `{topics.DEAD_LETTERS.name}`."])


def topics_table() -> str:
    """Every topic: record, key, whether others may rely on it, how it is kept."""
    rows = [
        (
            f"`{topic.name}`",
            topic.record or "bytes",
            topic.key,
            topic.about,
            "yes" if topic.public else "",
            _kept(topic),
        )
        for topic in topics.TOPICS
    ]
    return _table(("topic", "record", "key", "carries", "public", "kept"), rows)


def settings_table() -> str:
    """Every setting: its environment variable, the older name that is also read, default and meaning."""
    rows = []
    for name, field in _fields(Settings):
        variable, alias = _variables(name, field)
        rows.append((f"`{variable}`", f"`{alias}`" if alias else "", _default(field), _meaning(field)))
    return _table(("variable", "also", "default", "meaning"), rows)


def _fields(settings: type[BaseSettings]) -> Iterable[tuple[str, FieldInfo]]:
    """Name and field of every setting, those of nested groups in their place."""
    for name, field in settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings):
            yield from _fields(field.annotation)
        else:
            yield name, field


BLOCKS: dict[str, Callable[[], str]] = {
    "topology": topology_diagram,
    "topics": topics_table,
    "settings": settings_table,
}


def _edges(step: topology.Step) -> Iterable[str]:
    tables = {topics.changelog(topology.app_id(r), t): t for r in topology.WORKER_ROLES for t in topology.tables_of(r)}
    for topic in step.reads:
        if topic in tables:
            yield f"  {_node(tables[topic])}_table -. changelog .-> {step.name}"
        else:
            yield f"  {_node(topic.name)} --> {step.name}"
    for topic in step.writes:
        yield f"  {step.name} --> {_node(topic.name)}"
    for table in step.tables:
        yield f"  {step.name} --- {_node(table)}_table"


def _node(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _kept(topic: Topic) -> str:
    return "compacted" if topic.compacted else f"{topic.retention_ms // topics.DAY_MS} d"


def _variables(name: str, field: FieldInfo) -> tuple[str, str | None]:
    if isinstance(field.validation_alias, AliasChoices):
        variable, alias = map(str, field.validation_alias.choices)
        return variable, alias
    return f"GLUCAST_{name.upper()}", None


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is None or value == () or value == "":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _meaning(field: FieldInfo) -> str:
    choices = ""
    if get_origin(field.annotation) is Literal:
        choices = "One of " + ", ".join(f"`{choice}`" for choice in get_args(field.annotation)) + "."
    return " ".join(part for part in (field.description, choices) if part)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
