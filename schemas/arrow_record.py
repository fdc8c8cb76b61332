"""Bulk numbers on topics: one Arrow IPC stream of one row a record, its name and version in the schema metadata."""

import dataclasses
import functools
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
            with pa.ipc.open_stream(data) as reader:
                metadata = reader.schema.metadata or {}
                if metadata.get(b"record") != cls.arrow_name.encode():
                    raise MalformedRecordError(f"not a {cls.arrow_name}: the Arrow schema names another record")
                row: dict[str, Any] = reader.read_next_batch().slice(0, 1).to_pylist()[0]
            attributes = _attributes(cls)  # type: ignore[arg-type]  # mypy takes it for an instance
            return cls(**{attributes[name]: value for name, value in row.items() if name in attributes})
        except (pa.ArrowException, OSError, IndexError, TypeError, ValueError, KeyError, StopIteration) as error:
            raise MalformedRecordError(f"not a {cls.arrow_name} in Arrow IPC ({type(error).__name__})") from None


@functools.cache
def _attributes(cls: type[ArrowRecord]) -> dict[str, str]:
    """Column to attribute, of every field that there is."""
    columns = {attribute: column for column, attribute in cls.arrow_attributes.items()}
    return {columns.get(field.name, field.name): field.name for field in dataclasses.fields(cls)}


@functools.cache
def _layout(cls: type[ArrowRecord]) -> tuple[pa.StructType, pa.Schema]:
    metadata = {"record": cls.arrow_name, "version": str(cls.arrow_version)}
    return pa.struct(list(cls.arrow_fields.items())), pa.schema(list(cls.arrow_fields.items()), metadata=metadata)
