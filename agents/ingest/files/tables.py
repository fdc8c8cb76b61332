"""The tables that cgm-format tells apart and reads, a vendor each, whatever their unit and layout."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from agents.ingest.files.dates import day_or_month, slashed
from agents.ingest.files.format import LONGEST_LINE, VendorFormat
from schemas.errors import UnknownFormatError

if TYPE_CHECKING:
    import polars as pl
    from cgm_format import SupportedCGMFormat


def _never(_: str) -> bool:
    return False


def _always(_: str) -> bool:
    return True


@dataclasses.dataclass(frozen=True)
class Table(VendorFormat):
    """Every table of one family: cgm-format names a variant ``family`` or ``family_variant``, such as dexcom_eu."""

    name: str
    family: str
    listed_as: str | None = None
    exchanges_days: Callable[[str], bool] = _never
    """Whether day and month of a file's dates may be exchanged."""

    def recognises(self, text: str) -> bool:
        found = _detected(text)
        return found is not None and str(found.value).split("_")[0] == self.family

    def parse(self, text: str) -> "pl.DataFrame":
        from cgm_format import FormatParser, FormatProcessor, MultiTrackSourceError

        try:
            unified = FormatParser.parse_to_unified(text, _detected(text))
        except MultiTrackSourceError:
            raise UnknownFormatError("the file holds two sensors side by side: send one file a sensor") from None
        frame: pl.DataFrame = FormatProcessor.to_core_df(unified)
        return frame

    def notes(self, text: str, frame: "pl.DataFrame") -> list[str]:
        return day_or_month(frame) if self.exchanges_days(text) else []


def _detected(text: str) -> "SupportedCGMFormat | None":
    """Which table it is, told from the lines that cgm-format looks at, and no more of them than a table may have."""
    from cgm_format import FormatParser, UnknownFormatError

    try:
        return FormatParser.detect_format(text[: FormatParser.detection_line_count * (LONGEST_LINE + 1)])
    except UnknownFormatError:
        return None


DEXCOM = Table("Dexcom Clarity", "dexcom")
LIBRE = Table("FreeStyle Libre", "libre", listed_as="FreeStyle Libre (LibreView)", exchanges_days=_always)
MEDTRONIC = Table("Medtronic CareLink", "medtronic")
NIGHTSCOUT = Table("Nightscout", "nightscout", exchanges_days=slashed)
UNIFIED = Table("unified CSV", "unified")
RESEARCH = (
    Table("cgmacros", "cgmacros", ""),
    Table("d1namo_diabetes", "d1namo", ""),
    Table("bigideas", "bigideas", ""),
)
"""Parts of research data sets: recognised so that the reason can name them; none is a person's export."""
