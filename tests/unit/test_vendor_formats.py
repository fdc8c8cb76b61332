"""The catalogue of vendor formats: who is asked, in which order, and that one more is a file and a line."""

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cgm_format import FormatProcessor, SupportedCGMFormat
from hypothesis import given
from hypothesis import strategies as st

from agents.core.local_time import wall_clock
from agents.ingest.files.catalogue import FORMATS, recognised, supported
from agents.ingest.files.format import LONGEST_LINE, VendorFormat
from agents.ingest.files.tables import Table
from agents.ingest.files.unified_file import Rules, UnifiedFile, to_unified_csv, unify_file
from schemas.errors import ImplausibleError, RejectedError, TooShortError, UnknownFormatError
from tests.kit import samples

if TYPE_CHECKING:
    import polars as pl

ROWS = samples.glucose_rows(150)


class Pendulum(VendorFormat):
    """A made-up meter that writes minutes since 2024 and mg/dL, separated by a bar."""

    name = "Pendulum"

    def __init__(self, mark: str = "PENDULUM") -> None:
        self.mark = mark
        self.asked = 0

    def recognises(self, text: str) -> bool:
        self.asked += 1
        return text.startswith(self.mark)

    def parse(self, text: str) -> "pl.DataFrame":
        import polars as pl

        rows = [line.split("|") for line in text.splitlines()[1:]]
        since = pl.datetime(2024, 1, 1, time_unit="ms")
        frame: pl.DataFrame = FormatProcessor.to_core_df(
            pl.DataFrame({"minute": [int(row[0]) for row in rows], "glucose": [float(row[1]) for row in rows]})
            .select(
                (since + pl.duration(minutes="minute")).alias("datetime"),
                pl.col("glucose"),
                original_glucose=pl.col("glucose"),
                event_type=pl.lit("EGV_READ"),
                quality=pl.lit(0),
                sequence_id=pl.lit(0),
            )
            .with_columns(original_datetime=pl.col("datetime"))
        )
        return frame

    def notes(self, text: str, times: "pl.Series") -> list[str]:
        return [f"PENDULUM: {len(times)} swings"]


def pendulum(rows: samples.Rows, head: str = "PENDULUM 1") -> bytes:
    start = samples.START.replace(month=1, day=1, hour=0, minute=0)
    lines = [head, *(f"{(time - start).total_seconds() / 60:.0f}|{value:g}" for time, value in rows)]
    return "\n".join(lines).encode()


def read(raw: bytes, *formats: VendorFormat) -> UnifiedFile:
    return unify_file(raw, "UTC", Rules(), formats)


def test_a_format_that_is_added_is_recognised_parsed_and_gridded() -> None:
    raw = pendulum([*ROWS[:50], *ROWS[52:]])
    with pytest.raises(UnknownFormatError, match="no supported format"):
        read(raw, *FORMATS)
    found = read(raw, *FORMATS, Pendulum())
    assert found.format_name == "Pendulum"
    assert (len(found.centi), wall_clock(found.start_seconds)) == (150, ROWS[0][0])
    assert found.centi[:50] == [round(value * 100) for _, value in ROWS[:50]]
    assert found.warnings.imputation
    assert "PENDULUM: 148 swings" in found.warnings.messages
    converted = to_unified_csv(raw, [*FORMATS, Pendulum()]).text
    assert read(converted.encode(), *FORMATS).centi == found.centi


def test_what_is_wrong_with_a_file_of_an_added_format_is_said_as_of_any() -> None:
    formats = [*FORMATS, Pendulum()]
    with pytest.raises(TooShortError, match="4 h 55 min"):
        read(pendulum(ROWS[:60]), *formats)
    with pytest.raises(ImplausibleError, match="1 of 151"):
        read(pendulum([*ROWS, (ROWS[-1][0] + samples.STEP, 700.0)]), *formats)
    with pytest.raises(UnknownFormatError, match="looks like Pendulum, but"):
        read(b"PENDULUM 1\nnine|ten", *formats)
    with pytest.raises(UnknownFormatError, match="over 250000 lines"):
        read(b"PENDULUM 1\n" + b"1" * (LONGEST_LINE + 1), *formats)
    with pytest.raises(UnknownFormatError, match=r"Nightscout, unified CSV and Pendulum$"):
        read(b"hello, world\n" * 50, *formats)


def test_a_format_may_say_itself_what_its_sender_can_do() -> None:
    class Sealed(Pendulum):
        def parse(self, text: str) -> "pl.DataFrame":
            raise UnknownFormatError("this pendulum is sealed: break the seal")

    with pytest.raises(UnknownFormatError, match="break the seal"):
        read(pendulum(ROWS), Sealed())


def test_formats_are_asked_in_order_and_the_first_that_recognises_a_file_wins() -> None:
    other, first, second = Pendulum("METRONOME"), Pendulum(), Pendulum()
    assert recognised(pendulum(ROWS).decode(), [other, first, second]) is first
    assert (other.asked, first.asked, second.asked) == (1, 1, 0)
    dexcom = samples.dexcom(ROWS).decode()
    greedy = Pendulum(dexcom[:5])
    assert recognised(dexcom, [greedy, *FORMATS]) is greedy
    assert recognised(dexcom, [*FORMATS, greedy]).name == "Dexcom Clarity"


def test_the_supported_formats_are_those_of_the_catalogue() -> None:
    said = "Dexcom Clarity, FreeStyle Libre (LibreView), Medtronic CareLink, Nightscout and unified CSV"
    assert supported(FORMATS) == said
    assert supported([Pendulum()]) == "Pendulum"
    for raw in (b"hello, world\n" * 50, b"\x89PNG" + bytes(200), bytes(range(256)) * 20, b"x" * (LONGEST_LINE + 1)):
        with pytest.raises(UnknownFormatError) as caught:
            read(raw, *FORMATS)
        assert str(caught.value).endswith(said)


def test_json_is_never_taken_for_a_table() -> None:
    entries = samples.nightscout_json(ROWS).replace(b'"type"', b'"note": "FreeStyle Libre", "type"', 1)
    assert b"Libre" in entries
    found = read(entries, *FORMATS)
    assert found == read(samples.nightscout_json(ROWS), *FORMATS)
    assert found.format_name == "Nightscout"


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_entries_without_a_header_are_read_as_the_entries_that_they_are(delimiter: str) -> None:
    lines = samples.nightscout_lines(ROWS, delimiter)
    found, wanted = read(lines, *FORMATS), read(samples.nightscout_json(ROWS), *FORMATS)
    assert (found.format_name, found.centi, found.start_seconds) == ("Nightscout", wanted.centi, wanted.start_seconds)
    local = lines.replace(b".000Z", b".000+0530")
    assert read(local, *FORMATS).start_seconds == wanted.start_seconds, "the milliseconds count"
    assert read(lines.replace(b"\n", b"\r\n"), *FORMATS).centi == wanted.centi


def test_a_line_that_is_cut_off_is_left_out() -> None:
    lines = samples.nightscout_lines(ROWS)
    found = read(lines[: lines.rindex(b',"Flat') - 1], *FORMATS)
    assert found.centi == read(samples.nightscout_lines(ROWS[1:]), *FORMATS).centi
    assert any(message.startswith("CUT") for message in found.warnings.messages)


@pytest.mark.parametrize("table", SupportedCGMFormat)
def test_every_table_that_cgm_format_tells_apart_has_one_entry(table: SupportedCGMFormat) -> None:
    families = [each.family for each in FORMATS if isinstance(each, Table)]
    assert families.count(table.value.split("_")[0]) == 1


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("Timestamp,Libre GL,Dexcom GL", "two sensors side by side"),
        ("date,time,glucose,type,comments", "looks like d1namo"),
        ("date,time_begin,time_end,logged_food", "looks like bigideas"),
    ],
)
def test_tables_of_research_are_refused_by_name(head: str, said: str) -> None:
    with pytest.raises(RejectedError, match=said):
        read(f"{head}\n1,2,3,4,5\n".encode(), *FORMATS)


@given(st.text(max_size=400))
def test_no_text_makes_a_format_raise_as_it_is_asked(text: str) -> None:
    for each in FORMATS:
        each.recognises(text)


def test_nothing_heavy_is_loaded_before_the_first_file() -> None:
    code = "import sys, agents.ingest.files.unified_file as f; print(f.supported(f.FORMATS), *sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"polars", "cgm_format", "pyarrow", "numpy"} & set(loaded)
