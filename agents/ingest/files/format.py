"""What a vendor's format has to offer, and how large a table may be."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import polars as pl

    from agents.ingest.files.rows import Rows

MOST_LINES, MOST_COLUMNS, LONGEST_LINE = 250_000, 80, 8192
"""Of a table. One of more cells than any vendor writes would take minutes and gigabytes to find out that it is none."""


class VendorFormat(Protocol):
    """How the files of one vendor are told apart and read. Subclass it: what has a default here may be left out."""

    name: str
    """What people call it, in outcomes and in reasons."""
    listed_as: str | None = None
    """How the list of supported formats names it; None: by its name; "": not at all, because another entry does."""
    tabular: bool = True
    """Whether its files are lines of cells: one over the limits above is then refused unparsed."""

    @abstractmethod
    def recognises(self, text: str) -> bool:
        """Whether the file is of this format, from its beginning: every file is asked about, of any size and content.

        Cheap, and raises nothing.
        """

    @abstractmethod
    def parse(self, text: str) -> "pl.DataFrame":
        """The events of a recognised file, as its `rows` tell it, in cgm-format's core columns; blocking, of any
        duration.

        A glucose reading is a row whose `event_type` is "EGV_READ", with its wall clock in `datetime` and
        `original_datetime` and its mg/dL in `glucose` and `original_glucose`, not cleaned.
        `FormatProcessor.to_core_df` adds the columns that are missing and puts them in their order. Raises
        `RejectedError` where it knows what the sender can do; whatever else it raises is told as a damaged file.
        """

    def whole(self, text: str) -> tuple[str, list[str]]:
        """A recognised file without a last row that is cut off, and what has to be said about that."""
        return text, []

    def rows(self, text: str) -> "Rows | None":
        """Its glucose readings in the file's own order, with their sources, by which sensors and the passes of a
        repeated hour are told apart. None where that is not known: then everything is one series on one clock."""
        return None

    def notes(self, text: str, times: "pl.Series") -> list[str]:
        """What has to be said about reading it, as ``NAME: sentence``. `times`: wall clocks of its plausible events."""
        return []
