"""The classes of all records on topics, found under the names that the topics give: a topic names its record once.

Topics give names and not classes, so that a process that only needs topics loads neither pyarrow nor every record.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any, TypeVar

import schemas
from schemas.arrow_record import ArrowRecord
from schemas.errors import ConfigurationError
from schemas.record import Record
from schemas.topics import TOPICS, Topic

R = TypeVar("R", Record, ArrowRecord)


def records_of(base: type[R], topics: Iterable[Topic] = TOPICS) -> tuple[type[R], ...]:
    """The records of this encoding, by name. Raises `ConfigurationError` for one that ``schemas`` does not define."""
    encoding = "json" if base is Record else "arrow"
    known = {
        name: kind
        for module in pkgutil.iter_modules(schemas.__path__)
        for name, kind in _classes(module.name).items()
        if issubclass(kind, base)
    }
    wanted = {topic.record: topic.name for topic in topics if topic.record and topic.encoding == encoding}
    if missing := [f"{topic} carries {record}" for record, topic in wanted.items() if record not in known]:
        raise ConfigurationError(f"{'; '.join(missing)}: no module of schemas defines it as {encoding}")
    return tuple(known[name] for name in sorted(wanted))


def _classes(module: str) -> dict[str, type[Any]]:
    found = vars(importlib.import_module(f"{schemas.__name__}.{module}"))
    return {name: kind for name, kind in found.items() if isinstance(kind, type)}


JSON_RECORDS: tuple[type[Record], ...] = records_of(Record)
ARROW_RECORDS: tuple[type[ArrowRecord], ...] = records_of(ArrowRecord)
