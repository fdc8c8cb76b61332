"""Every format that can be read, in the order in which a file is offered to them: the first that recognises it wins.

To add one: a file here with a `VendorFormat`, and a line in `FORMATS`; one that another could take for its own goes
before that one.
"""

from collections.abc import Sequence

from agents.ingest.files import tables
from agents.ingest.files.format import LONGEST_LINE, MOST_COLUMNS, MOST_LINES, VendorFormat
from agents.ingest.files.nightscout_json import NightscoutJson
from agents.ingest.files.nightscout_lines import NightscoutLines
from schemas.errors import UnknownFormatError

FORMATS: tuple[VendorFormat, ...] = (
    NightscoutJson(),  # first: a note inside an entry may say what tables are told apart by
    NightscoutLines(),
    tables.DEXCOM,
    tables.LIBRE,
    tables.MEDTRONIC,
    tables.NIGHTSCOUT,
    tables.UNIFIED,
    *tables.RESEARCH,
)


def supported(formats: Sequence[VendorFormat]) -> str:
    """The formats as a sentence lists them: ``A, B and C``."""
    names = [each.name if each.listed_as is None else each.listed_as for each in formats]
    *first, last = dict.fromkeys(name for name in names if name)
    return f"{', '.join(first)} and {last}" if first else last


def recognised(text: str, formats: Sequence[VendorFormat]) -> VendorFormat:
    """The first format that recognises a file. Raises `UnknownFormatError` for none, and for a table of no shape."""
    found = next((each for each in formats if each.recognises(text)), None)
    if found is None or found.tabular:
        _check_shape(text, formats)
    if found is None:
        raise UnknownFormatError(f"no supported format was recognised: send the unedited file of {supported(formats)}")
    return found


def _check_shape(text: str, formats: Sequence[VendorFormat]) -> None:
    if text.count("\n") > MOST_LINES or _has_vast_line(text):
        raise UnknownFormatError(
            f"the file is no CGM export: it has over {MOST_LINES} lines, {MOST_COLUMNS} columns or {LONGEST_LINE} "
            f"characters in a line; send the unedited file of {supported(formats)}"
        )


def _has_vast_line(text: str) -> bool:
    """Whether a line has over LONGEST_LINE characters, or MOST_COLUMNS columns. No line of an export comes near."""
    import numpy as np

    text += "\n"
    encoding, kind = ("ascii", np.uint8) if text.isascii() else ("utf-32-le", np.uint32)
    data = np.frombuffer(text.encode(encoding), kind)
    starts = np.append(0, np.flatnonzero(data == ord("\n")) + 1)
    if np.diff(starts).max() - 1 > LONGEST_LINE:
        return True
    columns = (np.add.reduceat(data == ord(mark), starts[:-1], dtype=np.int64) for mark in ",;\t")
    return any(int(found.max()) >= MOST_COLUMNS for found in columns)
