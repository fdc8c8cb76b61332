"""A fan chart as the fan-chart table and its changelog hold it: about a third of the JSON.

A row is one byte of version, the length of the head in two bytes, the head (what is no list of numbers, as JSON), and
the lists as integers of a stated scale, little endian. A list holds what the record's JSON says, digit by digit.
"""

import functools
import itertools
import json
import struct
import sys
from array import array
from typing import Any, NamedTuple

from schemas.errors import MalformedRecordError, MessageTooLargeError
from schemas.fan_chart import OUTER_LEVELS, FanChart
from schemas.grid import HORIZON_STEPS, PAST_POINTS

VERSION = 2
_START = struct.Struct("<BH")
LONGEST_HEAD = 0xFFFF


class _List(NamedTuple):
    """A list of numbers in the row: `length` integers of `code`, each the number times `scale`."""

    name: str
    code: str
    scale: int
    length: int


_LISTS = (
    _List("past_mgdl", "H", 100, PAST_POINTS),
    _List("truth_mgdl", "H", 100, HORIZON_STEPS),  # 0 where it is not known
    _List("median_mgdl", "H", 10, HORIZON_STEPS),
    _List("quantiles_mgdl", "H", 10, HORIZON_STEPS * len(OUTER_LEVELS)),
    _List("p_below_54", "H", 10_000, HORIZON_STEPS),
    _List("p_below_70", "H", 10_000, HORIZON_STEPS),
    _List("p_above_180", "H", 10_000, HORIZON_STEPS),
    _List("p_above_250", "H", 10_000, HORIZON_STEPS),
    _List("mean_mgdl", "i", 10, HORIZON_STEPS),
    _List("epistemic_sd_mgdl", "i", 100, HORIZON_STEPS),
    _List("total_sd_mgdl", "i", 100, HORIZON_STEPS),
)
_NAMES = frozenset(each.name for each in _LISTS) | {"quantile_levels", "record_version", "disclaimer"}
_SIZE = sum(array(each.code).itemsize * each.length for each in _LISTS)


class Head(NamedTuple):
    """What is asked of many rows, and costs no decoding of their lists."""

    chart_id: str
    issue_time: str
    began_ms: int
    revision: int
    model_serves: bool


def to_row(chart: FanChart) -> bytes:
    """The row of a chart. Raises `MessageTooLargeError` for one of too long texts."""
    import numpy as np  # who only reads rows needs none of it

    head = chart.model_dump_json(exclude=set(_NAMES), exclude_defaults=True).encode()
    if len(head) > LONGEST_HEAD:
        raise MessageTooLargeError(
            f"{len(head)} bytes of warnings and ids in a chart, which has room for {LONGEST_HEAD}"
        )
    parts = [_START.pack(VERSION, len(head)), head]
    for names, kind, scales in _blocks():
        numbers: list[float] = []
        for name in names:
            values: Any = getattr(chart, name)
            if name == "truth_mgdl":
                values = [value or 0.0 for value in values]
            numbers += itertools.chain.from_iterable(values) if name == "quantiles_mgdl" else values
        parts.append(np.rint(np.array(numbers) * scales).astype(kind).tobytes())
    return b"".join(parts)


@functools.cache
def _blocks() -> tuple[tuple[tuple[str, ...], str, Any], ...]:
    """Lists of one code after another: their names, the kind of the integers and the scale of each."""
    import numpy as np

    return tuple(
        (
            tuple(each.name for each in lists),
            {"H": "<u2", "i": "<i4"}[code],
            np.concatenate([np.full(each.length, float(each.scale)) for each in lists]),
        )
        for code, lists in (
            (code, list(lists)) for code, lists in itertools.groupby(_LISTS, key=lambda each: each.code)
        )
    )


def from_row(row: bytes | None) -> FanChart:
    """Inverse of `to_row`; also reads the JSON of earlier versions. Raises `MalformedRecordError`."""
    if not row or row[:1] == b"{":
        return FanChart.from_json(row)
    document, start = _head(row)
    if len(row) - start != _SIZE:
        raise MalformedRecordError("not a row of the fan-chart table: its numbers are cut off")
    for each in _LISTS:
        packed = array(each.code)
        stop = start + packed.itemsize * each.length
        packed.frombytes(row[start:stop])
        if sys.byteorder == "big":
            packed.byteswap()
        start = stop
        numbers: list[Any] = [value / each.scale for value in packed]
        if each.name == "truth_mgdl":
            numbers = [value or None for value in numbers]
        elif each.name == "quantiles_mgdl":
            numbers = [numbers[place : place + HORIZON_STEPS] for place in range(0, each.length, HORIZON_STEPS)]
        document[each.name] = numbers
    return FanChart.from_document(document)


def head_of(row: bytes) -> Head:
    """Raises `MalformedRecordError` for what is no row."""
    try:
        document = json.loads(row) if row[:1] == b"{" else _head(row)[0]
        return Head(
            str(document["chart_id"]),
            str(document["issue_time"]),
            int(document.get("epoch_ms", 0)),
            int(document.get("revision", 0)),
            bool(document.get("model_serves", True)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MalformedRecordError("not a row of the fan-chart table") from None


def _head(row: bytes) -> tuple[dict[str, Any], int]:
    """The head and where the numbers begin."""
    try:
        version, length = _START.unpack_from(row)
        stop = _START.size + length
        document = json.loads(row[_START.size : stop])
    except (ValueError, RecursionError, struct.error):
        raise MalformedRecordError("not a row of the fan-chart table") from None
    if version != VERSION or not isinstance(document, dict):
        raise MalformedRecordError(f"a row of version {version}, this is version {VERSION}")
    return document, stop
