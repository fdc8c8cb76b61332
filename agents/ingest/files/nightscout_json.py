"""Entries as Nightscout's API serves them."""

import contextlib
import json
import re
from typing import TYPE_CHECKING

from agents.ingest.files.dates import day_or_month, slashed
from agents.ingest.files.format import MOST_LINES, VendorFormat
from agents.ingest.files.rows import Rows, times
from schemas.errors import UnknownFormatError

if TYPE_CHECKING:
    import polars as pl

_LONGEST_NAME = 80
_FORMATS = ("%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S")


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

    def rows(self, text: str) -> Rows | None:
        import polars as pl

        entries = _entries(json.loads(text))
        schema = {"time": pl.String, "mgdl": pl.Float64, "source": pl.String}
        cells = [(entry["dateString"], entry["sgv"], entry["device"]) for entry in entries]
        listed = pl.DataFrame(cells, schema, orient="row").with_row_index("row")
        readings = listed.with_columns(wall=times(listed["time"], _FORMATS), block=pl.lit("")).drop("time")

        def only(chosen: "pl.Series", _: bool) -> str:
            return json.dumps([entries[row] for row in chosen])

        return Rows(readings.filter(pl.col("wall").is_not_null() & pl.col("mgdl").is_finite()), only, utc=True)

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
            device = str(entry.get("device") or "")[:_LONGEST_NAME]
            found.append({"dateString": time[:_LONGEST_NAME], "sgv": float(glucose), "device": device})
    return found
