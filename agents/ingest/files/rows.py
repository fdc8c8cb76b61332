"""A file's glucose readings as it lists them: in its own order, with who measured them. Parsers sort and merge."""

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import polars as pl

_HEADER_WITHIN_LINES = 40
_MGDL_A_MMOL = 18.018
_OUT_OF_RANGE = {"low": 39.0, "high": 401.0}
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

    def settled(self, text: str) -> str:
        """The file as cgm-format cannot misread it: all its times in the format that they tell together, of `told`, and
        no row that it would take for a reading and is none."""
        import polars as pl

        if not (self.told or self.no_other_kind) or not (sections := self._sections(text)):
            return text
        before = list(sections)
        if self.told:
            found, _ = _best(pl.concat(each.stamps(self.time) for each in sections), self.formats)
            if found != " ".join(self.told):
                sections = [each.told(self.time, self.told, found) for each in sections]
        if self.no_other_kind:
            readings = sections[0].cells.filter(self._is_kind(sections[0]))
            if readings.height < sections[0].cells.height:
                sections[0] = sections[0]._replace(cells=readings)
        changed = any(now is not then for now, then in zip(sections, before, strict=True))
        return "".join(each.text() for each in sections) if changed else text

    def rows(self, text: str) -> Rows | None:
        """The readings of a table; None where its header is not found."""
        import polars as pl

        if not (sections := self._sections(self.settled(text))):
            return None
        table = sections[0]
        glucose = table.indexes(self.glucose)
        if len(table.first_of(self.time)) != len(self.time) or not glucose:
            return None
        factor = _MGDL_A_MMOL if "mmol" in table.names[glucose[0]].lower() else 1.0
        number = pl.coalesce(_cell(index).str.replace(",", ".").replace("", None) for index in glucose)
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
        )
        readings = listed.filter(pl.col("wall").is_not_null() & pl.col("mgdl").is_not_null() & pl.col("kind"))

        def only(chosen: pl.Series) -> str:
            return table._replace(cells=table.cells.filter(pl.int_range(pl.len()).is_in(chosen.implode()))).text()

        others = listed.select("row", "wall").filter(~pl.col("row").is_in(readings["row"].implode()))
        return Rows(readings.drop("kind"), others, only, self.irregular, self.strict)

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


def _names(header: str, separator: str) -> list[str]:
    return [name.strip(' "“”\r') for name in next(csv.reader([header], delimiter=separator))]


def _cell(index: int) -> "pl.Expr":
    import polars as pl

    return pl.col(str(index)).str.strip_chars()


def times(stamps: "pl.Series", formats: Sequence[str]) -> "pl.Series":
    """By the format that reads most of them; of several the first."""
    return _best(stamps, formats)[1]


def _best(stamps: "pl.Series", formats: Sequence[str]) -> tuple[str, "pl.Series"]:
    """The format that reads most, and the times; of several the first."""
    import polars as pl

    best: tuple[str, pl.Series] | None = None
    for each in formats:
        read = stamps.str.strptime(pl.Datetime("ms"), each, strict=False)
        if best is None or read.null_count() < best[1].null_count():
            best = each, read
        if best[1].null_count() == stamps.null_count():
            break
    if best is None:
        raise ValueError("no format of times")
    return best
