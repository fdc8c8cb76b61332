"""The tables that cgm-format tells apart and reads, a vendor each, whatever their unit and layout."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from agents.ingest.files.dates import day_or_month, slashed, year_last
from agents.ingest.files.format import LONGEST_LINE, VendorFormat
from agents.ingest.files.rows import Columns, Rows
from schemas.errors import UnknownFormatError

if TYPE_CHECKING:
    import polars as pl
    from cgm_format import SupportedCGMFormat


def _never(_: str) -> bool:
    return False


@dataclasses.dataclass(frozen=True)
class Table(VendorFormat):
    """Every table of one family: cgm-format names a variant ``family`` or ``family_variant``, such as dexcom_eu."""

    name: str
    family: str
    listed_as: str | None = None
    exchanges_days: Callable[[str], bool] = _never
    """Whether day and month of a file's dates may be exchanged."""
    columns: Columns | None = None
    """Where its readings stand; None for a family that is never read."""

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

    def whole(self, text: str) -> tuple[str, list[str]]:
        return self.columns.whole(text) if self.columns else (text, [])

    def rows(self, text: str) -> Rows | None:
        return self.columns.rows(text) if self.columns else None

    def notes(self, text: str, times: "pl.Series") -> list[str]:
        return day_or_month(times) if self.exchanges_days(text) else []


def _detected(text: str) -> "SupportedCGMFormat | None":
    """Which table it is, told from the lines that cgm-format looks at, and no more of them than a table may have."""
    from cgm_format import FormatParser, UnknownFormatError

    try:
        return FormatParser.detect_format(text[: FormatParser.detection_line_count * (LONGEST_LINE + 1)])
    except UnknownFormatError:
        return None


_DAY_FIRST, _MONTH_FIRST = "%d-%m-%Y %H:%M", "%m-%d-%Y %H:%M"

DEXCOM = Table(
    "Dexcom Clarity",
    "dexcom",
    columns=Columns(
        time=("Timestamp (YYYY-MM-DDThh:mm:ss)",),
        formats=("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"),
        glucose=("Glucose Value",),
        source=("Transmitter ID", "Source Device ID"),
        kind=("Event Type", frozenset({"egv", "fasting glucose"})),
        words=("Low", "High"),
    ),
)
LIBRE = Table(
    "FreeStyle Libre",
    "libre",
    listed_as="FreeStyle Libre (LibreView)",
    exchanges_days=year_last,
    columns=Columns(
        time=("Device Timestamp",),
        # As the account is set: https://github.com/tidepool-org/uploader/issues/1461. Twelve hours are American.
        formats=(
            _DAY_FIRST,
            _MONTH_FIRST,
            "%m-%d-%Y %I:%M %p",
            "%d-%m-%Y %I:%M %p",
            "%Y-%m-%d %H:%M",
            "%Y-%m-%d %I:%M %p",
        ),
        glucose=("Historic Glucose", "Scan Glucose"),
        source=("Device", "Serial Number"),
        block="Record Type",
        irregular=frozenset({"1"}),
        kind=("Record Type", frozenset({"0", "1"})),
        told=(_DAY_FIRST,),  # which it tries first
        lows_are_glucose=True,  # down to 1.9 mmol/L: https://github.com/tidepool-org/uploader/issues/1460
    ),
)
MEDTRONIC = Table(
    "Medtronic CareLink",
    "medtronic",
    columns=Columns(
        time=("Date", "Time"),
        formats=("%Y/%m/%d %H:%M:%S", "%Y-%m-%d %H:%M:%S"),
        glucose=("Sensor Glucose",),
        separator=";",
    ),
)
NIGHTSCOUT = Table(
    "Nightscout",
    "nightscout",
    exchanges_days=slashed,
    columns=Columns(
        time=("Date", "Time"),
        formats=("%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %I:%M:%S %p", "%Y-%m-%d %H:%M:%S"),
        glucose=("Glucose (mg/dL)",),
        source=("Device",),
        kind=("Type", frozenset({"sgv", ""})),  # its writer takes the glucose of a meter too, of type mbg
        no_other_kind=True,
        told=("%Y-%m-%d", "%H:%M:%S"),
        ends_before="\n# TREATMENTS",
    ),
)
UNIFIED = Table(
    "unified CSV",
    "unified",
    columns=Columns(
        time=("datetime",),
        formats=("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S"),
        glucose=("glucose",),
        kind=("event_type", frozenset({"egv_read"})),
        strict=False,  # scans and what comes every five minutes are not told apart
    ),
)
RESEARCH = (
    Table("cgmacros", "cgmacros", ""),
    Table("d1namo_diabetes", "d1namo", ""),
    Table("bigideas", "bigideas", ""),
)
"""Parts of research data sets: recognised so that the reason can name them; none is a person's export."""
