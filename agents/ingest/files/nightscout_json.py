"""Entries as Nightscout's API serves them."""

import json
import re
from typing import TYPE_CHECKING

from agents.ingest.files.dates import day_or_month, slashed
from agents.ingest.files.format import VendorFormat

if TYPE_CHECKING:
    import polars as pl


class NightscoutJson(VendorFormat):
    """Any JSON array or object is taken for one: no other vendor exports JSON."""

    name = "Nightscout"
    listed_as = ""  # its table says it
    tabular = False

    def recognises(self, text: str) -> bool:
        return re.match(r"\s*[\[{]", text) is not None

    def parse(self, text: str) -> "pl.DataFrame":
        from cgm_format import FormatParser, FormatProcessor

        json.loads(text)  # what is not JSON would be read as a table, whatever its shape
        frame: pl.DataFrame = FormatProcessor.to_core_df(FormatParser.parse_nightscout(text))
        return frame

    def notes(self, text: str, frame: "pl.DataFrame") -> list[str]:
        return day_or_month(frame) if slashed(text) else []
