"""Bulk numbers on topics: one Arrow IPC stream of one row a record, its name and version in the schema metadata."""

import dataclasses
import functools
import struct
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import pyarrow as pa

from schemas.errors import MalformedRecordError

END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"

LONGEST_KNOWN_SCHEMA = 16 * 1024
"""Bytes: longer ones are no worker's, and are not remembered."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ArrowRecord:
    """A value that travels as Arrow. Columns that a reader does not know are ignored."""

    arrow_name: ClassVar[str]
    arrow_version: ClassVar[int] = 1
    arrow_fields: ClassVar[dict[str, pa.DataType]]
    arrow_attributes: ClassVar[dict[str, str]] = {}
    """Columns whose attribute has another name: what a column is called cannot change while others read it."""

    def to_arrow(self) -> bytes:
        """The record as one Arrow IPC stream."""
        return self.all_to_arrow([self])[0]

    @classmethod
    def all_to_arrow(cls, records: Sequence[Self]) -> list[bytes]:
        """A stream for each record; of many at once each takes a third of the time."""
        row_type, schema, beginning = _layout(cls)  # type: ignore[arg-type]  # mypy takes it for an instance
        attributes = [(name, cls.arrow_attributes.get(name, name)) for name in cls.arrow_fields]
        # one conversion of the rows: converting each column on its own takes thrice as long
        rows = pa.array(
            [{name: getattr(record, attribute) for name, attribute in attributes} for record in records], row_type
        )
        batch = pa.record_batch(rows.flatten(), schema=schema)
        ones = (batch.slice(place, 1) for place in range(len(records)))
        return [b"".join((beginning, one.serialize().to_pybytes(), END_OF_STREAM)) for one in ones]

    @classmethod
    def from_arrow(cls, data: bytes | None) -> Self:
        """Read a record; raises `MalformedRecordError` where the bytes are not it."""
        if not data:
            raise MalformedRecordError(f"empty message where a {cls.arrow_name} in Arrow IPC was expected")
        try:
            row = cls._known(data)
        except (pa.ArrowException, OSError, StopIteration, ValueError, struct.error):
            raise MalformedRecordError(f"not a {cls.arrow_name}: no whole Arrow IPC stream of one row") from None
        return cls(**{cls.arrow_attributes.get(name, name): value for name, value in row.items()})

    @classmethod
    def _known(cls, data: bytes) -> dict[str, Any]:
        """What the first row of a stream holds in our columns, as far as they are there.

        The stream begins with a schema and an uncompressed batch of one row: Arrow trusts what a compressed buffer
        says of its size, and some kilobytes unpack to any number of gigabytes.
        """
        messages = pa.ipc.MessageReader.open_stream(data)
        first, batch = messages.read_next_message(), messages.read_next_message()
        if (first.type, batch.type) != ("schema", "record batch") or _is_compressed(batch.metadata.to_pybytes()):
            raise ValueError("a schema and an uncompressed batch were expected")
        schema = first.serialize().to_pybytes()
        read = _known_columns if len(schema) <= LONGEST_KNOWN_SCHEMA else _columns
        columns = read(cls, schema)  # type: ignore[arg-type]  # as above
        rows = pa.ipc.read_record_batch(batch, columns.schema)
        if rows.num_rows != 1:
            raise ValueError("one row was expected")
        known = rows.select(columns.places)
        known.validate(full=True)  # the offsets of lists and texts may point anywhere: reading there ends the process
        # Value by value: the columns' to_pylist takes half as long again, the batch's own thrice.
        return {name: column[0].as_py() for name, column in zip(columns.names, known.columns, strict=True)}


class _Columns(NamedTuple):
    """Of a schema that fits a record: itself, and where the record's columns lie in it."""

    schema: pa.Schema
    names: tuple[str, ...]
    places: list[int]


def _columns(cls: type[ArrowRecord], encoded: bytes) -> _Columns:
    """Raises `MalformedRecordError` for a schema that is not the record's."""
    schema = pa.ipc.read_schema(pa.py_buffer(encoded))
    if (schema.metadata or {}).get(b"record") != cls.arrow_name.encode():
        raise MalformedRecordError(f"not a {cls.arrow_name}: the Arrow schema names another record")
    names = schema.names
    required = {each.name for each in dataclasses.fields(cls) if _is_required(each)}
    for name, kind in cls.arrow_fields.items():
        times = names.count(name)
        if times > 1 or (not times and cls.arrow_attributes.get(name, name) in required):
            raise MalformedRecordError(f"not a {cls.arrow_name}: it has the column {name} {times} times")
        if times and schema.field(name).type != kind:
            raise MalformedRecordError(f"not a {cls.arrow_name}: its column {name} is no {kind}")
    known = tuple(name for name in names if name in cls.arrow_fields)
    return _Columns(schema, known, [names.index(name) for name in known])


@functools.lru_cache(maxsize=64)
def _known_columns(cls: type[ArrowRecord], encoded: bytes) -> _Columns:
    """Remembered, because writers change their schemas rarely."""
    return _columns(cls, encoded)


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_compressed(metadata: bytes) -> bool:
    """Whether the flatbuffer of a record batch names a compression (Message.fbs: header 2, RecordBatch: compression 3).

    Raises struct.error for what is no such flatbuffer.
    """
    message = struct.unpack_from("<I", metadata)[0]
    header = _field(metadata, message, 2)
    if header is None:
        raise ValueError("a message without its header")
    return _field(metadata, header + struct.unpack_from("<I", metadata, header)[0], 3) is not None


def _field(flatbuffer: bytes, table: int, number: int) -> int | None:
    """Where a field of a flatbuffer's table lies; None where it is not set."""
    layout = table - struct.unpack_from("<i", flatbuffer, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", flatbuffer, layout)[0]:
        return None
    place = struct.unpack_from("<H", flatbuffer, layout + 4 + 2 * number)[0]
    return table + place if place else None


@functools.cache
def _layout(cls: type[ArrowRecord]) -> tuple[pa.StructType, pa.Schema, bytes]:
    """The type of a row, the schema, and the schema as a stream begins with it."""
    metadata = {"record": cls.arrow_name, "version": str(cls.arrow_version)}
    schema = pa.schema(list(cls.arrow_fields.items()), metadata=metadata)
    return pa.struct(list(schema)), schema, schema.serialize().to_pybytes()
