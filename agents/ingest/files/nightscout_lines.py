"""What older Nightscout sites gave as ``entries.csv`` and ``entries.tsv``: lines of entries, without a header.

    "2026-01-01T08:00:00.000Z",1767254400000,118,"Flat","xDrip"

A line has the time as text, the Unix time in milliseconds, the glucose in mg/dL, the trend and the device. The second
counts: the first is on whatever clock its sender had. Current sites answer these addresses with 405; their
``entries.json`` is the file to send. Source: cgm-remote-monitor, lib/api/entries.
"""

import csv
import datetime
import json
import re
from typing import TYPE_CHECKING

from agents.ingest.files.format import VendorFormat
from agents.ingest.files.nightscout_json import NightscoutJson
from agents.ingest.files.rows import CUT, Rows
from schemas.record import LATEST_MS

if TYPE_CHECKING:
    import polars as pl

_TIME, _MILLISECONDS = r'"?\d{4}-\d\d-\d\d[T ][^",\t\n]{5,40}"?', r' ?"?\d{11,14}(?:\.\d+)?"?'
_LINE = rf"{_TIME}([,\t]){_MILLISECONDS}\1[^,\t\n]*\1[^\n]*"
_FIRST = re.compile(rf"\s*{_LINE}(?:\r?\n|$)")
_WHOLE = re.compile(_LINE)
_CELLS = 5
_AS_JSON = NightscoutJson()


class NightscoutLines(VendorFormat):
    """Read as the entries that they are."""

    name = "Nightscout"
    listed_as = ""  # its table says it

    def recognises(self, text: str) -> bool:
        return _FIRST.match(text) is not None

    def whole(self, text: str) -> tuple[str, list[str]]:
        before, newline, last = text.rpartition("\n")
        if not newline or not last.strip() or (_WHOLE.match(last) and _cells(last) >= _CELLS):
            return text, []
        return before + newline, [CUT]

    def parse(self, text: str) -> "pl.DataFrame":
        return _AS_JSON.parse(_entries(text))

    def rows(self, text: str) -> Rows | None:
        return _AS_JSON.rows(_entries(text))


def _cells(line: str) -> int:
    return 1 + max(line.count("\t"), line.count(","))


def _entries(text: str) -> str:
    """As Nightscout's JSON; text that is JSON already, which `rows` gives back, stays as it is."""
    if text.lstrip().startswith("["):
        return text
    lines = [line for line in text.splitlines() if line.strip()]
    delimiter = "\t" if "\t" in lines[0] else ","
    found = []
    for cells in csv.reader(lines, delimiter=delimiter, skipinitialspace=True):
        if len(cells) < _CELLS - 1 or (time := _time(cells[1])) is None:
            continue
        found.append({"type": "sgv", "dateString": time, "sgv": cells[2], "device": "".join(cells[4:5])})
    return json.dumps(found)


def _time(milliseconds: str) -> str | None:
    try:
        number = float(milliseconds)
    except ValueError:
        return None
    if not 0 < number <= LATEST_MS:
        return None
    time = datetime.datetime.fromtimestamp(number / 1000, datetime.UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
