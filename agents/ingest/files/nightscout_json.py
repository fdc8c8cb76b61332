"""Entries as Nightscout's API serves them.

An entry's `date` is Unix time in milliseconds, and counts; its `dateString` is on whatever clock its sender had, and
is an instant too where it has an offset. One with neither was measured on the clock of the file's zone.
"""

import contextlib
import datetime
import json
import re
from typing import TYPE_CHECKING, NamedTuple

from agents.core.nightscout_entry import is_glucose
from agents.ingest.files.dates import day_or_month, slashed
from agents.ingest.files.format import MOST_LINES, VendorFormat
from agents.ingest.files.rows import Rows, times
from schemas.errors import UnknownFormatError
from schemas.record import LATEST_MS

if TYPE_CHECKING:
    import polars as pl

_GLUCOSE = ("sgv", "glucose")
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

        entries = _entries(json.loads(text)).used
        frame: pl.DataFrame = FormatProcessor.to_core_df(FormatParser.parse_nightscout(json.dumps(entries)))
        return frame

    def rows(self, text: str) -> Rows | None:
        import polars as pl

        entries, instants, _ = _entries(json.loads(text))
        schema = {"time": pl.String, "mgdl": pl.Float64, "source": pl.String}
        cells = [(entry["dateString"], entry["sgv"], entry["device"]) for entry in entries]
        listed = pl.DataFrame(cells, schema, orient="row").with_row_index("row")
        readings = listed.with_columns(wall=times(listed["time"], _FORMATS), block=pl.lit("")).drop("time")

        def only(chosen: "pl.Series") -> str:
            return json.dumps([entries[row] for row in chosen])

        whole = pl.col("wall").is_not_null() & pl.col("mgdl").is_finite()
        return Rows(readings.filter(whole), readings.select("row", "wall").clear(), only, utc=instants)

    def notes(self, text: str, times: "pl.Series") -> list[str]:
        _, instants, left_out = _entries(json.loads(text))
        notes = day_or_month(times) if slashed(text) and not instants else []
        if left_out:
            notes.append(f"CLOCK: The times of {left_out} entries have no zone; these entries were left out")
        return notes


class _Entries(NamedTuple):
    """Those that are readings, with time as `dateString`: instants in UTC, or what the clock of the file showed."""

    used: list[dict[str, str | float]]
    instants: bool
    left_out: int
    """Those without a zone in a file of instants."""


def _entries(decoded: object) -> _Entries:
    found = _readings(decoded)
    timed = [(each, _instant(each["date"], str(each["dateString"]))) for each in found]
    instants = any(instant for _, instant in timed)
    used = [{**each, "dateString": instant or each["dateString"]} for each, instant in timed if instant or not instants]
    return _Entries(
        [{name: each[name] for name in ("dateString", "sgv", "device")} for each in used],
        instants,
        len(found) - len(used),
    )


def _instant(date: str | float, text: str) -> str | None:
    """In UTC, with milliseconds and Z; None where neither says one."""
    with contextlib.suppress(ValueError):  # a date that is no number says nothing
        if 0 < (milliseconds := float(date)) <= LATEST_MS:
            return _utc(datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC))
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.datetime.fromisoformat(text.strip())
        return _utc(moment.astimezone(datetime.UTC)) if moment.tzinfo else None
    return None


def _utc(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _readings(decoded: object) -> list[dict[str, str | float]]:
    """The readings among the entries, of a time and a number each: of anything else polars may build what it likes."""
    if not isinstance(decoded, list):
        raise UnknownFormatError("the file looks like Nightscout's, but is no list of entries: export the entries")
    if len(decoded) > MOST_LINES:
        raise UnknownFormatError(f"the file has over {MOST_LINES} entries: export a shorter time range")
    found: list[dict[str, str | float]] = []
    for entry in decoded:
        if not isinstance(entry, dict):
            raise UnknownFormatError("the file looks like Nightscout's, but an entry is none: export the entries again")
        if not is_glucose(entry, _GLUCOSE):
            continue
        time = entry.get("dateString") or entry.get("sysTime") or ""
        date = entry.get("date")
        glucose = entry.get("sgv") if entry.get("sgv") is not None else entry.get("glucose")
        if glucose is None or not (time or date):
            continue
        if not isinstance(time, str) or isinstance(glucose, bool) or not isinstance(glucose, (int, float, str)):
            raise UnknownFormatError("an entry's time is no text or its glucose no number: export the entries again")
        with contextlib.suppress(ValueError, OverflowError):  # what is no number is no reading
            device = str(entry.get("device") or "")[:_LONGEST_NAME]
            said = date if isinstance(date, (int, float, str)) and not isinstance(date, bool) else ""
            found.append({"date": said, "dateString": time[:_LONGEST_NAME], "sgv": float(glucose), "device": device})
    return found
