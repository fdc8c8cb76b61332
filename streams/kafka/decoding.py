"""Fetched record sets, decoded whatever is in them: what cannot be read is told as a record of its own.

aiokafka raises at a header name that is no UTF-8, a damaged batch or an unknown codec, and goes back to the same offset
for ever. Here the rest is read, and each stretch of offsets that cannot be is one stand-in: a record at the last of
them, whose value is an `Undecodable`. It takes the way of every record: its step buries it, the letter is confirmed,
the offset is committed. A header whose name is no UTF-8 is left out, since no header of ours has such a name; its
record is processed.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.control_record import ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.util import decode_varint_py as varint

from schemas.topics import largest_message
from streams.kafka.acks import NO_EPOCH
from streams.kafka.fetched import Fetched, size_of
from streams.kafka.unfolding import MOST_UNFOLDED_BYTES, unfold

_LENGTH_AT, _EPOCH_AT, _MAGIC_AT, _ATTRIBUTES_AT, _DELTA_AT, _COUNT_AT = 8, 12, 16, 21, 23, 57
_PREFIX, _HEADER = 12, 61
_LEGACY_ATTRIBUTES_AT, _LEGACY_HEADERS = 17, (26, 34)
_CODEC = 0x07
_LONGEST_WHY = 200


class Undecodable(bytes):
    """An empty value in the place of records that cannot be read: which they are, why, and a hash of their bytes."""

    first: int
    last: int
    why: str
    raw_bytes: int
    sha256: str

    @classmethod
    def of(cls, first: int, last: int, why: str, raw: bytes) -> "Undecodable":
        value = cls()
        value.first, value.last, value.why = first, last, why[:_LONGEST_WHY]
        value.raw_bytes, value.sha256 = len(raw), hashlib.sha256(raw).hexdigest()
        return value

    def __str__(self) -> str:
        where = f"offset {self.last}" if self.first == self.last else f"offsets {self.first} to {self.last}"
        return f"{where} cannot be decoded: {self.why} ({self.raw_bytes} bytes, SHA-256 {self.sha256})"


class Record(NamedTuple):
    """A record as aiokafka's fetcher takes it out of a batch."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    checksum: int | None = None


def install() -> None:
    """Have every aiokafka consumer of this process decode like this: it looks these classes up when it fetches."""
    fetcher.MemoryRecords, fetcher.PartitionRecords, fetcher.FetchResult = RecordSet, LenientRecords, Fetched


class LenientRecords(PartitionRecords):  # type: ignore[misc]
    """Tells the record set where the fetch began, which is all there is where a batch does not say its offsets, and
    how large a message of the topic may be.
    """

    def __init__(self, tp: Any, records: "RecordSet", aborted_transactions: Any, fetch_offset: int, *rest: Any) -> None:
        records.wanted = fetch_offset
        records.largest_bytes = largest_message(tp.topic)
        super().__init__(tp, records, aborted_transactions, fetch_offset, *rest)

    @property
    def leader_epoch(self) -> int:
        """Of the last batch that was begun."""
        return int(self._records.leader_epoch)


class RecordSet:
    """The batches of one partition in one fetch, for aiokafka's fetcher.

    It ends early once so much was unfolded as one batch may at most: the fetcher comes back for the others.
    """

    def __init__(self, data: bytes) -> None:
        self.wanted = 0
        """The first offset that has not been passed yet."""
        self.largest_bytes = MOST_UNFOLDED_BYTES
        """Of a message: a larger one was compressed past the topic's limit, and is told as one that cannot be read."""
        self.leader_epoch = NO_EPOCH
        """Of the last batch that says one: under which of the partition's leaders it was written."""
        self._data = data
        self._position = 0
        self._unfolded = 0
        self._is_lost = False
        """Behind a batch that does not say its offsets the next one would hide those that are left of it."""

    def size_in_bytes(self) -> int:
        return len(self._data)

    def has_next(self) -> bool:
        return not self._is_lost and self._unfolded < MOST_UNFOLDED_BYTES and self._end() is not None

    def next_batch(self) -> "Batch":
        begin, end = self._position, self._end() or len(self._data)
        self._position = end
        batch = Batch(self._data[begin:end], self.wanted, self.largest_bytes)
        self.leader_epoch = max(self.leader_epoch, batch.leader_epoch)
        self._unfolded += batch.unfolded
        self._is_lost = batch.may_go_on
        self.wanted = max(self.wanted, batch.next_offset)
        return batch

    def _end(self) -> int | None:
        """Where the batch at the present position ends; None where it has not come whole, and is fetched again."""
        begin = self._position
        if len(self._data) - begin < _PREFIX:
            return None
        length = _number(self._data, begin + _LENGTH_AT, 4)
        end = begin + _PREFIX + length if length > 0 else len(self._data)  # nobody knows where the next one begins
        return end if end <= len(self._data) else None


class Batch:
    """One batch in aiokafka's terms, which iterates over its records and over stand-ins for what is none."""

    is_transactional = False
    is_control_batch = False
    producer_id: int | None = None

    def __init__(self, raw: bytes, wanted: int, largest_bytes: int) -> None:
        """`wanted` is the first offset that the reader still lacks."""
        self.unfolded = 0
        self.leader_epoch = NO_EPOCH
        self._largest_bytes = largest_bytes
        self.may_go_on = False
        """Whether it may hold offsets behind the one that it was passed with."""
        self._raw, self._wanted = raw, wanted
        self._is_sound = False
        """Whether the checksum is right: then the header is what its producer wrote."""
        self._opened: Any = None
        try:
            self._opened = self._open(raw)
        except Exception as error:  # whatever is wrong with anybody's bytes
            first, last = self._extent()
            self._records = iter([self._stand_in(first, last, _described(error), raw)])
            self.next_offset = last + 1
        else:
            self._records = self._read()
            self.next_offset = int(self._opened.next_offset)

    @property
    def base_offset(self) -> int:
        return self._wanted if self._opened is None else int(self._opened.base_offset)

    def validate_crc(self) -> bool:
        """A batch that fails is a stand-in already."""
        return True

    def __iter__(self) -> "Batch":
        return self

    def __next__(self) -> Any:
        record = next(self._records)
        if (size := size_of(record)) > self._largest_bytes:
            why = f"{size} bytes, and the topic takes {self._largest_bytes}"
            return self._stand_in(record.offset, record.offset, why, record.value or b"")
        return record

    def _open(self, raw: bytes) -> Any:
        """aiokafka's own batch, unfolded. Raises anything for one that cannot be read as a whole."""
        magic = raw[_MAGIC_AT] if len(raw) > _MAGIC_AT else -1
        if magic in (0, 1) and len(raw) >= _LEGACY_HEADERS[magic]:
            return self._open_legacy(raw, magic)
        if magic != 2 or len(raw) < _HEADER:
            raise ValueError(f"format {magic} with {len(raw)} bytes is not known")
        batch = DefaultRecordBatch(raw)
        if not batch.validate_crc():
            raise ValueError("its checksum is wrong")
        if _number(raw, _DELTA_AT, 4) < 0:
            raise ValueError("its offsets are wrong")
        self._is_sound = True
        self.leader_epoch = _number(raw, _EPOCH_AT, 4)
        self.producer_id, self.is_transactional = batch.producer_id, batch.is_transactional
        if codec := _number(raw, _ATTRIBUTES_AT, 2) & _CODEC:
            records = unfold(codec, raw[_HEADER:])
            self.unfolded = len(records)
            plain = bytearray(raw[:_HEADER])
            plain[_ATTRIBUTES_AT + 1] &= ~_CODEC & 0xFF
            self._raw = bytes(plain) + records
            batch = DefaultRecordBatch(self._raw)
        if batch.is_control_batch:
            ControlRecord.parse(next(iter(DefaultRecordBatch(self._raw))).key)
            self.is_control_batch = True
        return batch

    def _open_legacy(self, raw: bytes, magic: int) -> Any:
        """Of before Kafka 0.11: a single record, or compressed ones, which no bound of ours reaches."""
        batch = LegacyRecordBatch(raw, magic)
        if not batch.validate_crc():
            raise ValueError("its checksum is wrong")
        self._is_sound = True
        if raw[_LEGACY_ATTRIBUTES_AT] & _CODEC:
            raise ValueError(f"format {magic} is read uncompressed only")
        return batch

    def _extent(self) -> tuple[int, int]:
        """First and last offset of a batch that cannot be opened; the wanted one alone, if it cannot be believed."""
        raw, wanted = self._raw, self._wanted
        if self._is_sound and raw[_MAGIC_AT] < 2:
            return wanted, max(wanted, _number(raw, 0, 8))
        base, delta, count = _number(raw, 0, 8), _number(raw, _DELTA_AT, 4), _number(raw, _COUNT_AT, 4)
        if self._is_sound or (len(raw) >= _HEADER and delta + 1 == count and base <= wanted <= base + delta):
            return max(base, wanted), max(base + delta, wanted)
        self.may_go_on = True
        return wanted, wanted

    def _read(self) -> Iterator[Any]:
        """By aiokafka's quick parser as far as that comes, the rest by the patient one."""
        reached = self._wanted
        records = iter(self._opened)
        while True:
            try:
                record = next(records)
            except StopIteration:
                return
            except Exception as error:
                why = _described(error)
                break
            reached = max(reached, record.offset + 1)
            self.next_offset = max(self.next_offset, reached)
            yield record
        if self._raw[_MAGIC_AT] == 2:
            yield from self._read_patiently(reached)
        elif reached < self.next_offset:
            yield self._stand_in(reached, self.next_offset - 1, why, self._raw)

    def _read_patiently(self, reached: int) -> Iterator[Record]:
        """Records from offset `reached` on. Where one's length leads nowhere, all that follow are one stand-in."""
        base, last = self._opened.base_offset, self.next_offset - 1
        data, position, expected = self._raw, _HEADER, self._opened.base_offset
        for _ in range(_number(data, _COUNT_AT, 4)):
            begin = position
            try:
                length, position = varint(data, position)
                if not 0 < length <= len(data) - position:
                    raise ValueError("a record's length is wrong")
                fields = _Fields(data[position : position + length])
                offset = base + fields.offset_delta
                if not expected <= offset <= last:
                    raise ValueError("a record's offset is wrong")
            except (ValueError, IndexError) as error:
                if (first := max(expected, reached)) <= last:
                    yield self._stand_in(first, last, _described(error), data[begin:])
                return
            position, expected = position + length, offset + 1
            if offset < reached:
                continue
            try:
                yield self._record(offset, fields)
            except (ValueError, IndexError) as error:
                yield self._stand_in(offset, offset, _described(error), data[begin:position])

    def _record(self, offset: int, fields: "_Fields") -> Record:
        batch = self._opened
        timestamp = batch.max_timestamp if batch.timestamp_type else batch.first_timestamp + fields.timestamp_delta
        key, value, headers = fields.rest()
        return Record(offset, timestamp, batch.timestamp_type, key, value, headers)

    def _stand_in(self, first: int, last: int, why: str, raw: bytes) -> Record:
        return Record(last, 0, 0, None, Undecodable.of(first, last, why, raw), ())


class _Fields:
    """The fields of one record of format 2, each checked against the record's end. Raises ValueError or IndexError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 1  # behind attributes that mean nothing yet
        self.timestamp_delta = self._varint()
        self.offset_delta = self._varint()

    def rest(self) -> tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]:
        """Key, value, and the headers whose names are UTF-8."""
        key, value, headers = self._bytes(), self._bytes(), []
        for _ in range(self._varint()):
            name, content = self._bytes() or b"", self._bytes()
            try:
                headers.append((name.decode(), content))
            except UnicodeDecodeError:
                continue
        if self._position != len(self._data):
            raise ValueError("a record is longer than its fields")
        return key, value, tuple(headers)

    def _varint(self) -> int:
        number, self._position = varint(self._data, self._position)
        return int(number)

    def _bytes(self) -> bytes | None:
        length = self._varint()
        if length < 0:
            return None
        end = self._position + length
        if end > len(self._data):
            raise ValueError("a field is longer than its record")
        found, self._position = self._data[self._position : end], end
        return found


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big", signed=True)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
