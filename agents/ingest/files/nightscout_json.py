"""Entries as Nightscout's API serves them."""

import contextlib
import json
import re
from typing import TYPE_CHECKING

from agents.ingest.files.dates import day_or_month, slashed
from agents.ingest.files.format import MOST_LINES, VendorFormat
from schemas.errors import UnknownFormatError

if TYPE_CHECKING:
    import polars as pl

_LONGEST_TIME = 40


class NightscoutJson(VendorFormat):
    """Any JSON array or object is taken for one: no other vendor exports JSON."""

    name = "Nightscout"
    listed_as = ""  # its table says it
    tabular = False

    def recognises(self, text: str) -> bool:
        return re.match(r"\s*[\[{]", text) is not None

    def parse(self, text: str) -> "pl.DataFrame":
        from cgm_format import FormatParser, FormatProcessor

        entries = _entries(json.loads(text))
        frame: pl.DataFrame = FormatProcessor.to_core_df(FormatParser.parse_nightscout(json.dumps(entries)))
        return frame

    def notes(self, text: str, frame: "pl.DataFrame") -> list[str]:
        return day_or_month(frame) if slashed(text) else []


def _entries(decoded: object) -> list[dict[str, str | float]]:
    """The readings among the entries, of a time and a number each: of anything else polars may build what it likes."""
    if not isinstance(decoded, list):
        raise UnknownFormatError("the file looks like Nightscout's, but is no list of entries: export the entries")
    if len(decoded) > MOST_LINES:
        raise UnknownFormatError(f"the file has over {MOST_LINES} entries: export a shorter time range")
    found: list[dict[str, str | float]] = []
    for entry in decoded:
        if entry.get("type") not in (None, "sgv"):
            continue
        time = entry.get("dateString") or entry.get("sysTime")
        glucose = entry.get("sgv") if entry.get("sgv") is not None else entry.get("glucose")
        if time is None or glucose is None:
            continue
        if not isinstance(time, str) or isinstance(glucose, bool) or not isinstance(glucose, (int, float, str)):
            raise UnknownFormatError("an entry's time is no text or its glucose no number: export the entries again")
        with contextlib.suppress(ValueError, OverflowError):  # what is no number is no reading
            found.append({"dateString": time[:_LONGEST_TIME], "sgv": float(glucose)})
    return found
