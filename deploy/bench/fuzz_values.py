"""Records broken on purpose, byte by byte and field by field. Pure: the same `random.Random` gives the same damage."""

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import pyarrow as pa

from schemas.arrow_record import ArrowRecord

Chance: TypeAlias = random.Random
Path = tuple[str | int, ...]
"""Where in a JSON document: names of fields and places in lists."""

MOST_DEEP = 40_000
ODD_NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2**31 - 1, -(2**31), 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64, 2**70, -(2**70), 10**400,
    0.5, -0.0, 1e-320, 1e30, 1.7e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
ODD_TEXTS: tuple[str, ...] = (
    "", " ", "x", "0", "120", "NaN", "null", "a/b", "../../etc/passwd", "gone/*", "gone-since/x", "%s%n", "\0", "a\0b",
    "\ud800", "a\udfffb", "\u202e\u0000", "🩸" * 50, "é", "x" * 129, "x" * 5000, "x" * 300_000, "f" * 64, "F" * 64,
    "g" * 64, "f" * 63,
)  # fmt: skip
ODD_TIMES: tuple[Any, ...] = (
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999999Z",
    "1969-12-31T23:59:59Z", "1900-01-01T00:00:00+14:00", "2026-02-30T00:00:00Z", "2026-03-01T25:00:00Z",
    "2026-03-01T12:00:00", "2026-03-01", "2026-03-29T02:30:00+01:00", "2026-03-01T12:00:00+99:00", "now",
    "+12026-03-01T12:00:00Z", 1_772_366_400, -1, 1e18,
)  # fmt: skip
ODD_ZONES: tuple[str, ...] = (
    "Europe/Berlin", "Pacific/Kiritimati", "+14:00", "-23:59", "+24:00", "+23:59:59", "Mars/Olympus", "America",
    "posixrules", "/etc/passwd", "..", "UTC\0", "", "+0٢:00",
)  # fmt: skip
ODD_OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"a": {"b": [{}]}}, [1, "2", None, {}])


def odd_value(chance: Chance) -> Any:
    """Anything but what belongs there."""
    kinds = (ODD_NUMBERS, ODD_NUMBERS, ODD_TEXTS, ODD_TIMES, ODD_ZONES, ODD_OTHERS, ODD_OTHERS)
    return copy.deepcopy(chance.choice(chance.choice(kinds)))


# JSON


def broken_json(document: Mapping[str, Any], chance: Chance) -> tuple[bytes, str]:
    """The document with one of its fields broken, and which."""
    broken = copy.deepcopy(dict(document))
    path = chance.choice(list(_paths(broken)))
    about = ".".join(map(str, path))
    holder: Any = broken
    for part in path[:-1]:
        holder = holder[part]
    last, value = path[-1], holder[path[-1]]
    how = chance.choice(("drop", "null", "odd", "odd", "odd", "bent"))
    if how == "drop":
        del holder[last]
    elif how == "null":
        holder[last] = None
    elif how == "odd":
        holder[last] = odd_value(chance)
    else:
        holder[last] = bent(value, chance)
    return json.dumps(broken).encode(), f"{about} {how}"


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every field, and the first and last place of every list."""
    if path:
        yield path
    if isinstance(value, dict):
        for name in value:
            yield from _paths(value[name], (*path, name))
    elif isinstance(value, list) and value:
        for place in {0, len(value) - 1}:
            yield from _paths(value[place], (*path, place))


def bent(value: Any, chance: Chance) -> Any:
    """A value of the right type that is wrong all the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return chance.choice((-value, value * 1000, value + 1, value / 7, value * 1e30, value - 86_400_000))
    if isinstance(value, str):
        return chance.choice((value * 2, value[:-1], value.upper(), value + "\0", value[::-1], value + " "))
    if isinstance(value, list):
        return chance.choice((value[:-1], value + value, value[::-1], value[:1] * len(value), value * 40, value[1:]))
    return {"nested": value}


# Arrow


def broken_arrow(record: ArrowRecord, chance: Chance) -> tuple[bytes, str]:
    """The record with one of its columns broken, and which."""
    columns: dict[str, pa.Array] = {
        name: pa.array([getattr(record, record.arrow_attributes.get(name, name))], kind)
        for name, kind in record.arrow_fields.items()
    }
    name = chance.choice(list(columns))
    kind, value = record.arrow_fields[name], columns[name][0].as_py()
    how = chance.choice(("drop", "null", "odd", "odd", "bent", "bent", "element", "twice", "name", "rows"))
    names = list(columns)
    metadata = {"record": record.arrow_name, "version": "1"}
    match how:
        case "drop":
            names.remove(name)
        case "null":
            columns[name] = pa.array([None], kind)
        case "odd":
            columns[name] = _column(odd_value(chance), kind)
        case "bent":
            columns[name] = _column(bent(value, chance), kind)
        case "element" if isinstance(value, list):
            odd = chance.choice((None, -1, 0, 2**31 - 1, -(2**31), 2**70, float("nan"), float("inf"), 3e38, "x"))
            place = chance.randrange(len(value) + 1)
            columns[name] = _column([*value[:place], odd, *value[place + 1 :]], kind)
        case "twice":
            names.append(name)
        case "name":
            metadata["record"] = chance.choice(("", "reading", "forecast", "series", "forecast-request"))
        case "rows":
            columns = {each: pa.concat_arrays([column, column]) for each, column in columns.items()}
    return _stream([columns[each] for each in names], names, metadata), f"{name} {how}"


def _column(value: Any, kind: pa.DataType) -> pa.Array:
    """Of the declared type where it takes the value, else of whatever type does."""
    attempts: tuple[Callable[[], pa.Array], ...] = (
        lambda: pa.array([value], kind),
        lambda: pa.array([value]),
        lambda: pa.array([repr(value)]),
    )
    for attempt in attempts:
        try:
            return attempt()
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            continue
    return pa.nulls(1)


def _stream(columns: list[pa.Array], names: list[str], metadata: dict[str, str]) -> bytes:
    schema = pa.schema([pa.field(name, column.type) for name, column in zip(names, columns, strict=True)], metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return bytes(sink.getvalue())


# bytes


def damaged(raw: bytes, chance: Chance) -> tuple[bytes | None, str]:
    """Bytes that were whole, and what has happened to them."""
    how = chance.choice(list(DAMAGES))
    return DAMAGES[how](raw, chance), how


def _flipped(raw: bytes, chance: Chance) -> bytes:
    broken = bytearray(raw or b"\0")
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
    return bytes(broken)


def _set(raw: bytes, chance: Chance) -> bytes:
    broken = bytearray(raw or b"\0")
    for _ in range(chance.choice((1, 2, 4))):
        broken[chance.randrange(len(broken))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(broken)


def _moved(raw: bytes, chance: Chance) -> bytes:
    start, end = sorted((chance.randrange(len(raw) + 1), chance.randrange(len(raw) + 1)))
    return chance.choice((raw[:start] + raw[end:], raw[:end] + raw[start:], raw[start:end] + raw))


def _recoded(raw: bytes, chance: Chance) -> bytes:
    text = raw.decode("utf-8", errors="replace")
    codec = chance.choice(("utf-16", "utf-16-be", "utf-32", "utf-8-sig", "utf-7", "cp037", "cp1252"))
    return text.encode(codec, errors="replace")


DAMAGES: Mapping[str, Callable[[bytes, Chance], bytes | None]] = {
    "tombstone": lambda raw, chance: None,
    "empty": lambda raw, chance: b"",
    "noise": lambda raw, chance: chance.randbytes(chance.choice((1, 7, 100, 3000))),
    "truncated": lambda raw, chance: raw[: chance.randrange(len(raw) + 1)],
    "beheaded": lambda raw, chance: raw[chance.randrange(len(raw) + 1) :],
    "bits flipped": _flipped,
    "bytes set": _set,
    "moved": _moved,
    "twice": lambda raw, chance: raw + raw,
    "recoded": _recoded,
    "brackets": lambda raw, chance: chance.choice((b"[", b'{"a":', b"[[],")) * chance.choice((1, 200, MOST_DEEP)),
    "padded": lambda raw, chance: chance.choice((b"\0", b" ", b"\xff")) * chance.choice((1, 1000)) + raw,
    "long": lambda raw, chance: raw + chance.choice((b" ", b"9", b"\0")) * 400_000,
}
