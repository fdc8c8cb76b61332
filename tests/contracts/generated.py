"""Hypothesis strategies for any record, from its own field types: a new field is covered without a change here."""

import dataclasses
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from annotated_types import Ge, Le, MaxLen, MinLen
from hypothesis import strategies as st
from pydantic import AfterValidator, AwareDatetime, StringConstraints
from pydantic.fields import FieldInfo

from schemas.alert import AlertSettings, ErrorChange, FallChange, RuleChange, StaleChange
from schemas.arrow_record import ArrowRecord
from schemas.fan_chart import OUTER_LEVELS, FanChart, PathChances
from schemas.grid import HIGHEST_MGDL, HORIZON_STEPS, LOWEST_MGDL, PAST_POINTS
from schemas.reading import Reading, ReadingOutcome
from schemas.record import Record

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=OFFSETS | st.just(UTC))
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(2**31), 2**31 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: TEXT,
    type(None): st.none(),
    AwareDatetime: TIMES,
}
NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
BANDS = st.none() | st.just("22:00-07:00")
MGDL = st.floats(LOWEST_MGDL, HIGHEST_MGDL)


def exactly(count: int, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Tuples of so many times the same."""
    return values.map(lambda value: (value,) * count)


SHAPES: dict[type[Record], dict[str, st.SearchStrategy[Any]]] = {
    FanChart: {
        "past_mgdl": exactly(PAST_POINTS, MGDL),
        "truth_mgdl": exactly(HORIZON_STEPS, MGDL | st.none()),
        "median_mgdl": exactly(HORIZON_STEPS, st.just(120.0)),
        "quantile_levels": st.just(OUTER_LEVELS),
        "quantiles_mgdl": exactly(len(OUTER_LEVELS), exactly(HORIZON_STEPS, st.just(120.0))),
        **{
            name: exactly(HORIZON_STEPS, st.floats(0, 1))
            for name in ("p_below_54", "p_below_70", "p_above_180", "p_above_250")
        },
        **{
            name: exactly(HORIZON_STEPS, st.floats(0, 2 * HIGHEST_MGDL))
            for name in ("mean_mgdl", "epistemic_sd_mgdl", "total_sd_mgdl")
        },
    },
    ReadingOutcome: {
        "reading": st.none()
        | st.deferred(lambda: records(Reading)).map(
            lambda reading: reading.model_copy(update={"glucose": 118.0, "unit": "mg/dL"})
        ),
    },
    PathChances: {name: exactly(4, st.floats(0, 1)) for name in PathChances.model_fields},
    FallChange: {
        "rate_mgdl_per_minute": st.none() | st.floats(1, 8),
        "below_mgdl": st.none() | st.floats(80, 600),
        "active": BANDS,
    },
    StaleChange: {"active": BANDS},
    ErrorChange: {"active": BANDS},
    AlertSettings: {"low": st.sampled_from([RuleChange(), RuleChange(threshold_mgdl=82.5, active="22:00-07:00")])},
    RuleChange: {
        "threshold_mgdl": st.none(),  # those of one kind lie beyond those of another
        "probability": st.none() | st.floats(0.02, 0.98),
        "active": BANDS,
    },
}
"""What the type of a field does not say: how long its lists are and which numbers can be."""


def records(kind: type[Record]) -> st.SearchStrategy[Any]:
    """Any valid record of this class, with each optional field present or left to its default."""
    fields = {name: _field(field.annotation, field.metadata) for name, field in kind.model_fields.items()}
    fields |= SHAPES.get(kind, {})
    required = {name: fields[name] for name, field in kind.model_fields.items() if field.is_required()}
    optional = {name: fields[name] for name in fields if name not in required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda values: kind(**values))


def arrow_records(kind: type[ArrowRecord]) -> st.SearchStrategy[Any]:
    """Any record of this class; columns that a dataclass calls optional may be None."""
    hints = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    attributes = {column: kind.arrow_attributes.get(column, column) for column in kind.arrow_fields}
    columns = {attributes[name]: _column(column, hints[attributes[name]]) for name, column in kind.arrow_fields.items()}
    return st.fixed_dictionaries(columns).map(lambda values: kind(**values))


def _field(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    metadata = [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    for constraint in metadata:
        if isinstance(constraint, StringConstraints) and isinstance(constraint.pattern, str):
            return st.from_regex(constraint.pattern, fullmatch=True).filter(_no_longer_than(constraint.max_length))
        if isinstance(constraint, AfterValidator):
            return NAMES if annotation is str else st.integers(0, 2**31 - 1)
    sizes = {
        "min_size": max((item.min_length for item in metadata if isinstance(item, MinLen)), default=0),
        "max_size": min((item.max_length for item in metadata if isinstance(item, MaxLen)), default=6),
    }
    origin, arguments = get_origin(annotation), get_args(annotation)
    if int in (annotation, *arguments) and any(isinstance(item, Ge | Le) for item in metadata):
        low = max(item.ge for item in metadata if isinstance(item, Ge))
        numbers = st.integers(low, min(item.le for item in metadata if isinstance(item, Le)))
        return numbers if annotation is int else st.none() | numbers
    if annotation in PLAIN:
        return PLAIN[annotation]
    if origin is Annotated:
        return _field(arguments[0], [*arguments[1:], *metadata])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of([_field(argument, metadata) for argument in arguments])
    if origin is tuple:
        most = max(sizes["min_size"], min(6, sizes["max_size"]))
        return st.lists(_field(arguments[0], []), min_size=sizes["min_size"], max_size=most).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXT, _field(arguments[1], []), max_size=3)
    return records(annotation)


def _column(column: pa.DataType, hint: str) -> st.SearchStrategy[Any]:
    if pa.types.is_list(column):
        items = _column(column.value_type, "None" if "None" in hint else "")
        return st.lists(items, max_size=6)
    if pa.types.is_integer(column):
        width = column.bit_width - 1
        values: st.SearchStrategy[Any] = st.integers(-(2**width), 2**width - 1)
    elif pa.types.is_floating(column):
        values = st.floats(width=32, allow_nan=False, allow_infinity=False)
    else:
        values = st.booleans() if pa.types.is_boolean(column) else TEXT
    return st.none() | values if "None" in hint else values


def _no_longer_than(length: int | None) -> Callable[[str], bool]:
    return lambda text: length is None or len(text) <= length
