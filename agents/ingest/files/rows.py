"""A file's glucose readings as it lists them: in its own order, with who measured them. Parsers sort and merge."""

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from schemas.grid import LOWEST_MGDL, LOWEST_SENSOR_MGDL

if TYPE_CHECKING:
    import polars as pl

_HEADER_WITHIN_LINES = 40
_MGDL_A_MMOL = 18.018
_OUT_OF_RANGE = {"low": 39.0, "high": 401.0}
_BOUNDS = ("39", "401"), ("2.17", "22.3")
"""What stands for lower and higher than a sensor shows: in mg/dL, and in mmol/L, whether 18 mg/dL are one or 18.018."""
_LOWER, _HIGHER = r"^(low|lo|<\s*\d+([.,]\d+)?)$", r"^(high|hi|>\s*\d+([.,]\d+)?)$"
_DECIMAL_COMMA = r"^(\d+),(\d+)$"
_MONTHS = 12
CUT = "CUT: The file ends inside a row: its last reading was left out"


@dataclasses.dataclass(frozen=True)
class Rows:
    """`readings` has a row each: `row` in the file, `wall` (clock), `mgdl`, `source`, `block`, in the file's order."""

    readings: "pl.DataFrame"
    others: "pl.DataFrame"
    """The rows that are no readings: `row` and `wall`, which may be unknown."""
    only: Callable[["pl.Series"], str]
    """The file with the rows of these numbers alone."""
    irregular: frozenset[str] = frozenset()
    """Blocks whose readings may come at any time."""
    strict: bool = True
    """Whether its other blocks have one reading a step, so that closer ones are of another series."""
    utc: bool = False
    """Whether the times are instants, not what a clock showed."""
    notes: tuple[str, ...] = ()
    """What has to be said about readings that are no plain number."""
    text: str | None = None
    """The file as its parser cannot misread it, where that is not as it came."""


class _Section(NamedTuple):
    """A table of a file: what stands before its first row, the names of its columns, and its cells as text."""

    prelude: str
    names: list[str]
    cells: "pl.DataFrame"
    """Its columns are named by their numbers."""
    separator: str

    @classmethod
    def read(cls, text: str, header: slice, separator: str) -> "_Section":
        import polars as pl

        table = pl.read_csv(
            io.StringIO(text[header.start :]), separator=separator, infer_schema=False, truncate_ragged_lines=True
        )
        cells = table.rename({name: str(number) for number, name in enumerate(table.columns)})
        return cls(text[: header.stop + 1], _names(text[header], separator), cells, separator)

    def text(self) -> str:
        return self.prelude + self.cells.write_csv(include_header=False, separator=self.separator)

    def indexes(self, wanted: Sequence[str]) -> list[int]:
        return [index for index, name in enumerate(self.names) if name.startswith(tuple(wanted))]

    def first_of(self, wanted: Sequence[str]) -> list[int]:
        return [found[0] for name in wanted if (found := self.indexes((name,)))]

    def stamps(self, time: Sequence[str]) -> "pl.Series":
        """What each row says as its time."""
        import polars as pl

        cells = [_cell(index) for index in self.first_of(time)]
        return self.cells.select(pl.concat_str(cells, separator=" ")).to_series()

    def told(self, time: Sequence[str], formats: Sequence[str], found: str) -> "_Section":
        """With its times, which are in the format that was `found`, in others. One that is in no format stays so."""
        import polars as pl

        stamps = self.stamps(time)
        wall = stamps.str.strptime(pl.Datetime("ms"), found, strict=False)
        unread = pl.lit(wall.is_null() & stamps.is_not_null())
        cells = [
            pl.when(unread)
            .then(pl.lit("? ") + _cell(index))
            .otherwise(pl.lit(wall.dt.strftime(each)))
            .alias(str(index))
            for index, each in zip(self.first_of(time), formats, strict=True)
        ]
        return self._replace(cells=self.cells.with_columns(cells))


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where a vendor's table says what. Names as the header begins with them, ``"`` and spaces aside."""

    time: tuple[str, ...]
    formats: tuple[str, ...]
    glucose: tuple[str, ...]
    source: tuple[str, ...] = ()
    block: str | None = None
    irregular: frozenset[str] = frozenset()
    strict: bool = True
    kind: tuple[str, frozenset[str]] | None = None
    """The column and its values, in lower case, that make a row a reading. Where it is missing, each is one."""
    no_other_kind: bool = False
    """Whether cgm-format takes rows of each kind for readings: it must not see the others."""
    told: tuple[str, ...] = ()
    """Formats of `time` that cgm-format reads in one way. It finds the format of each text by itself, and some of a
    file's rows may read as well with day and month exchanged. (): It always knows."""
    separator: str = ","
    ends_before: str | None = None
    """The line at which another table begins."""
    words: tuple[str, str] | None = None
    """How cgm-format knows a reading below and one above what the sensor shows; None: by a number."""
    lows_are_glucose: bool = False
    """Whether what is below LOWEST_SENSOR_MGDL, down to LOWEST_MGDL, is a reading that is that low and no code."""

    def whole(self, text: str) -> tuple[str, list[str]]:
        """Without a last row that is cut off, and what has to be said about that.

        A row is cut off where no line end follows it and it has fewer cells than the one before, or ends in its
        glucose: half a number is a number too.
        """
        before, newline, last = text.rpartition("\n")
        if not newline or not last.strip():
            return text, []
        cells, usual = last.count(self.separator), before.rpartition("\n")[2].count(self.separator)
        header = self._header(text, self.glucose)
        names = _names(text[header], self.separator) if header else []
        ends_in_glucose = cells < len(names) and names[cells].startswith(self.glucose)
        if cells >= usual and not ends_in_glucose and last.count('"') % 2 == 0:
            return text, []
        return before + newline, [CUT]

    def _settled(self, text: str) -> tuple[list[_Section], bool, int]:
        """The tables as cgm-format cannot misread them: all times in the format that they tell together, of `told`, no
        row that it would take for a reading and is none, and glucose in numbers, since it lets go of all but those.

        Then whether they differ from what the file says, and how many readings are beyond what a sensor shows.
        """
        import polars as pl

        if not (before := self._sections(text)):
            return [], False, 0
        sections = list(before)
        if self.told:
            found, _ = _best(pl.concat(each.stamps(self.time) for each in sections), self.formats)
            if found != " ".join(self.told):
                sections = [each.told(self.time, self.told, found) for each in sections]
        if self.no_other_kind:
            readings = sections[0].cells.filter(self._is_kind(sections[0]))
            if readings.height < sections[0].cells.height:
                sections[0] = sections[0]._replace(cells=readings)
        sections[0], beyond = self._in_numbers(sections[0])
        return sections, any(now is not then for now, then in zip(sections, before, strict=True)), beyond

    def _in_numbers(self, table: _Section) -> tuple[_Section, int]:
        """Glucose as a number with a point, or as the `words` that are known; and in how many cells it is beyond."""
        import polars as pl

        indexes = table.indexes(self.glucose)
        if not self._is_odd(table, indexes):
            return table, 0
        columns, beyond = [], pl.lit(0)
        for index in indexes:
            in_mmol = "mmol" in table.names[index].lower()
            cell = _cell(index)
            number = cell.str.replace(_DECIMAL_COMMA, "$1.$2")
            mgdl = number.cast(pl.Float64, strict=False) * (_MGDL_A_MMOL if in_mmol else 1.0)
            lower = cell.str.to_lowercase().str.contains(_LOWER)
            if self.lows_are_glucose:
                lower |= mgdl.is_between(LOWEST_MGDL, LOWEST_SENSOR_MGDL, closed="left").fill_null(False)
            higher = cell.str.to_lowercase().str.contains(_HIGHER)
            low, high = self.words or _BOUNDS[in_mmol]
            columns.append(
                pl.when(lower).then(pl.lit(low)).when(higher).then(pl.lit(high)).otherwise(number).alias(str(index))
            )
            beyond += ((lower | higher).fill_null(False) & self._is_kind(table)).sum()
        read = table.cells.select(*columns, beyond.alias("beyond"))
        count = int(read["beyond"][0]) if read.height else 0
        read = read.drop("beyond")
        if read.equals(table.cells.select(str(index) for index in indexes)):
            return table, count
        return table._replace(cells=table.cells.with_columns(read)), count

    def _is_odd(self, table: _Section, indexes: Sequence[int]) -> bool:
        """Whether any glucose is no plain number, or a number lower than sensors show: most files have none."""
        import polars as pl

        odd, is_reading = pl.lit(False), self._is_kind(table)
        for index in indexes:
            cell = pl.col(str(index))
            number = cell.cast(pl.Float64, strict=False)
            odd |= (number.is_null() & (cell != "") & is_reading).any()
            if self.lows_are_glucose:
                scale = _MGDL_A_MMOL if "mmol" in table.names[index].lower() else 1.0
                odd |= (number * scale < LOWEST_SENSOR_MGDL).any()
        return bool(table.cells.select(odd=odd)["odd"].any())

    def rows(self, text: str) -> Rows | None:
        """The readings of a table; None where its header is not found."""
        import polars as pl

        sections, changed, beyond = self._settled(text)
        if not sections:
            return None
        table = sections[0]
        glucose = table.indexes(self.glucose)
        if len(table.first_of(self.time)) != len(self.time) or not glucose:
            return None
        factor = _MGDL_A_MMOL if "mmol" in table.names[glucose[0]].lower() else 1.0
        number = pl.coalesce(_cell(index).replace("", None) for index in glucose)
        value = number.cast(pl.Float64, strict=False) * factor
        listed = table.cells.select(
            row=pl.int_range(pl.len()),
            wall=times(table.stamps(self.time), self.formats),
            mgdl=pl.coalesce(value, number.str.to_lowercase().replace_strict(_OUT_OF_RANGE, default=None)),
            source=pl.concat_str(
                [_cell(index).fill_null("") for index in table.first_of(self.source)] or [pl.lit("")], separator="\n"
            ),
            block=_cell(table.first_of((self.block,))[0]).fill_null("") if self.block else pl.lit(""),
            kind=self._is_kind(table),
            given=number.is_not_null(),
        )
        unread = listed.filter(
            pl.col("kind") & pl.col("given") & pl.col("wall").is_not_null() & pl.col("mgdl").is_null()
        )
        readings = listed.filter(pl.col("wall").is_not_null() & pl.col("mgdl").is_not_null() & pl.col("kind"))

        def only(chosen: pl.Series) -> str:
            return table._replace(cells=table.cells.filter(pl.int_range(pl.len()).is_in(chosen.implode()))).text()

        others = listed.select("row", "wall").filter(~pl.col("row").is_in(readings["row"].implode()))
        notes = [_beyond(beyond)] if beyond and not self.words else []
        notes += [_unread(unread.height)] if unread.height else []
        readings = readings.drop("kind", "given")
        settled = "".join(each.text() for each in sections) if changed else None
        return Rows(readings, others, only, self.irregular, self.strict, notes=tuple(notes), text=settled)

    def _is_kind(self, table: _Section) -> "pl.Expr":
        import polars as pl

        if self.kind is None or not (found := table.first_of(self.kind[:1])):
            return pl.lit(True)
        return _cell(found[0]).fill_null("").str.to_lowercase().is_in(self.kind[1])

    def _sections(self, text: str) -> list[_Section]:
        """The table of the readings, and the one of other events after it; none where the readings' is not found."""
        if (header := self._header(text, self.glucose)) is None:
            return []
        stop = text.find(self.ends_before, header.stop) if self.ends_before else -1
        if stop < 0:
            return [_Section.read(text, header, self.separator)]
        found = [_Section.read(text[:stop], header, self.separator)]
        others = text[stop:]
        if (header := self._header(others, self.time)) is not None:
            found.append(_Section.read(others, header, self.separator))
        return found

    def _header(self, text: str, any_of: Sequence[str]) -> slice | None:
        """Where the line stands that names the columns: those of the time, and any of others."""
        start = 0
        for _ in range(_HEADER_WITHIN_LINES):
            end = text.find("\n", start)
            line = text[start:end]
            if end < 0:
                return None
            if all(name in line for name in self.time) and any(name in line for name in any_of):
                return slice(start, end)
            start = end + 1
        return None


def _beyond(count: int) -> str:
    what = "1 reading says" if count == 1 else f"{count} readings say"
    return f"OUT_OF_RANGE: {what} that glucose was lower or higher than a sensor shows: read as 39 or 401 mg/dL"


def _unread(count: int) -> str:
    what = "1 reading is" if count == 1 else f"{count} readings are"
    return f"UNREAD: {what} neither a number nor a known word for lower or higher than a sensor shows, and left out"


def _names(header: str, separator: str) -> list[str]:
    columns = next(csv.reader([header.replace("\r", " ")], delimiter=separator))
    return [name.strip(' "“”') for name in columns]


def _cell(index: int) -> "pl.Expr":
    import polars as pl

    return pl.col(str(index)).str.strip_chars()


def times(stamps: "pl.Series", formats: Sequence[str]) -> "pl.Series":
    """By the format that fits them best."""
    return _best(stamps, formats)[1]


def _best(stamps: "pl.Series", formats: Sequence[str]) -> tuple[str, "pl.Series"]:
    """The format that reads most, and the times. Of several the one by which the rows follow each other closest, as
    with day and month exchanged they do not; of those the first.
    """
    import polars as pl

    best: tuple[tuple[int, int], str, pl.Series] | None = None
    for each in formats:
        read = stamps.str.strptime(pl.Datetime("ms"), each, strict=False)
        if best is not None and read.null_count() > best[0][0]:
            continue
        cost = read.null_count(), int(read.drop_nulls().dt.epoch("ms").diff().abs().sum())
        if best is None or cost < best[0]:
            best = cost, each, read
        if best[0][0] == stamps.null_count() and (best[2].dt.day() > _MONTHS).any():
            break  # what is read as the day is no month
    if best is None:
        raise ValueError("no format of times")
    return best[1:]
