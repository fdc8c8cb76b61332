"""A file's glucose readings as it lists them: in its own order, with who measured them. Parsers sort and merge."""

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

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
    only: Callable[["pl.Series", bool], str]
    """The file with these of its readings, and with or without all of its rows that are no readings."""
    irregular: frozenset[str] = frozenset()
    """Blocks whose readings may come at any time."""
    strict: bool = True
    """Whether its other blocks have one reading a step, so that closer ones are of another series."""
    utc: bool = False
    """Whether the times are instants, not what a clock showed."""


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
    """The column and its values, in lower case, that make a row a reading."""
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
        ends_in_glucose = (head := self._head(text)) is not None and cells in self._indexes(head[1], self.glucose)
        if cells >= usual and not ends_in_glucose and last.count('"') % 2 == 0:
            return text, []
        return before + newline, [CUT]

    def rows(self, text: str) -> Rows | None:
        """The readings of a table; None where its header is not found."""
        import polars as pl

        if (head := self._head(text)) is None:
            return None
        prelude, names, body = head
        table = pl.read_csv(io.StringIO(body), separator=self.separator, infer_schema=False, truncate_ragged_lines=True)
        table = table.rename({name: str(number) for number, name in enumerate(table.columns)})

        def cell(index: int) -> pl.Expr:
            return pl.col(str(index)).str.strip_chars()

        def first_of(wanted: Sequence[str]) -> list[int]:
            return [found[0] for name in wanted if (found := self._indexes(names, (name,)))]

        glucose = self._indexes(names, self.glucose)
        if len(first_of(self.time)) != len(self.time) or not glucose:
            return None
        factor = _MGDL_A_MMOL if "mmol" in names[glucose[0]].lower() else 1.0
        stamps = table.select(pl.concat_str([cell(index) for index in first_of(self.time)], separator=" ")).to_series()
        number = pl.coalesce(cell(index).str.replace(",", ".").replace("", None) for index in glucose)
        value = number.cast(pl.Float64, strict=False) * factor
        listed = table.select(
            row=pl.int_range(pl.len()),
            wall=times(stamps, self.formats),
            mgdl=pl.coalesce(value, number.str.to_lowercase().replace_strict(_OUT_OF_RANGE, default=None)),
            source=pl.concat_str(
                [cell(index).fill_null("") for index in first_of(self.source)] or [pl.lit("")], separator="\n"
            ),
            block=cell(first_of((self.block,))[0]).fill_null("") if self.block else pl.lit(""),
            kind=cell(first_of((self.kind[0],))[0]).str.to_lowercase().is_in(self.kind[1])
            if self.kind
            else pl.lit(True),
        )
        readings = listed.filter(pl.col("wall").is_not_null() & pl.col("mgdl").is_not_null() & pl.col("kind"))

        def only(chosen: pl.Series, others: bool) -> str:
            rows = pl.int_range(pl.len())
            kept = rows.is_in(chosen.implode())
            if others:
                kept = kept | ~rows.is_in(readings["row"].implode())
            return prelude + table.filter(kept).write_csv(include_header=False, separator=self.separator)

        return Rows(readings.drop("kind"), only, self.irregular, self.strict)

    def _head(self, text: str) -> tuple[str, list[str], str] | None:
        """What stands before the first row, the names of the columns, and the text from the header on."""
        start = 0
        for _ in range(_HEADER_WITHIN_LINES):
            end = text.find("\n", start)
            line = text[start:end]
            if end < 0:
                return None
            if all(name in line for name in self.time) and any(name in line for name in self.glucose):
                names = [name.strip(' "“”\r') for name in next(csv.reader([line], delimiter=self.separator))]
                stop = text.find(self.ends_before, end) if self.ends_before else -1
                return text[: end + 1], names, text[start : stop if stop >= 0 else None]
            start = end + 1
        return None

    @staticmethod
    def _indexes(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
        return [index for index, name in enumerate(names) if name.startswith(tuple(wanted))]


def times(stamps: "pl.Series", formats: Sequence[str]) -> "pl.Series":
    """By the format that reads most of them; of several the first."""
    import polars as pl

    best: pl.Series | None = None
    for each in formats:
        read = stamps.str.strptime(pl.Datetime("ms"), each, strict=False)
        if best is None or read.null_count() < best.null_count():
            best = read
        if best.null_count() == stamps.null_count():
            break
    if best is None:
        raise ValueError("no format of times")
    return best
