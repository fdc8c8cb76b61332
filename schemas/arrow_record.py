"""Bulk numbers on topics: one Arrow IPC stream of one row a record, its name and version in the schema metadata."""

import dataclasses
import functools
import struct
from typing import Any, ClassVar, Self

import pyarrow as pa

from schemas.errors import MalformedRecordError


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
        row_type, schema = _layout(type(self))  # type: ignore[arg-type]  # mypy takes it for an instance
        # one conversion of the row: converting each column on its own takes thrice as long
        row = pa.array(
            [{name: getattr(self, self.arrow_attributes.get(name, name)) for name in self.arrow_fields}], row_type
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(pa.record_batch(row.flatten(), schema=schema))
        return bytes(sink.getvalue())

    @classmethod
    def from_arrow(cls, data: bytes | None) -> Self:
        """Read a record; raises `MalformedRecordError` where the bytes are not it."""
        if not data:
            raise MalformedRecordError(f"empty message where a {cls.arrow_name} in Arrow IPC was expected")
        try:
            row = cls._known(_one_row(data))
        except (pa.ArrowException, OSError, StopIteration, ValueError, struct.error):
            raise MalformedRecordError(f"not a {cls.arrow_name}: no whole Arrow IPC stream of one row") from None
        return cls(**{cls.arrow_attributes.get(name, name): value for name, value in row.items()})

    @classmethod
    def _known(cls, batch: pa.RecordBatch) -> dict[str, Any]:
        """What a batch of one row holds in our columns, as far as they are there."""
        if (batch.schema.metadata or {}).get(b"record") != cls.arrow_name.encode():
            raise MalformedRecordError(f"not a {cls.arrow_name}: the Arrow schema names another record")
        names = batch.schema.names
        required = {each.name for each in dataclasses.fields(cls) if _is_required(each)}
        for name, kind in cls.arrow_fields.items():
            times = names.count(name)
            if times > 1 or (not times and cls.arrow_attributes.get(name, name) in required):
                raise MalformedRecordError(f"not a {cls.arrow_name}: it has the column {name} {times} times")
            if times and batch.schema.field(name).type != kind:
                raise MalformedRecordError(f"not a {cls.arrow_name}: its column {name} is no {kind}")
        known = batch.select([name for name in names if name in cls.arrow_fields])
        known.validate(full=True)  # the offsets of lists and texts may point anywhere: reading there ends the process
        row: dict[str, Any] = known.to_pylist()[0]
        return row


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _one_row(data: bytes) -> pa.RecordBatch:
    """The first row of a stream that begins with a schema and an uncompressed batch of one row, not validated.

    Arrow trusts what a compressed buffer says of its size: some kilobytes unpack to any number of gigabytes.
    """
    messages = pa.ipc.MessageReader.open_stream(data)
    schema, batch = messages.read_next_message(), messages.read_next_message()
    if (schema.type, batch.type) != ("schema", "record batch") or _is_compressed(batch.metadata.to_pybytes()):
        raise ValueError("a schema and an uncompressed batch were expected")
    rows = pa.ipc.read_record_batch(batch, pa.ipc.read_schema(schema))
    if rows.num_rows != 1:
        raise ValueError("one row was expected")
    return rows


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
def _layout(cls: type[ArrowRecord]) -> tuple[pa.StructType, pa.Schema]:
    metadata = {"record": cls.arrow_name, "version": str(cls.arrow_version)}
    return pa.struct(list(cls.arrow_fields.items())), pa.schema(list(cls.arrow_fields.items()), metadata=metadata)
