"""Tables: on disk exactly what the broker has confirmed, in memory what steps have written."""

import asyncio
from pathlib import Path

import pytest
from faust.types import TP

from schemas.topics import DELETIONS_READ_WITHIN_SECONDS
from streams.kafka.continuity import OFFSET_KEY
from tests.kit.disks import LARGEST_BYTES, full_disk
from tests.kit.guarded import FakeApp, table_of

NOW = 1_700_000_000
DAY = 24 * 3600


async def test_a_value_is_seen_at_once_and_stored_when_confirmed(tmp_path: Path) -> None:
    app = FakeApp()
    table = table_of(app, tmp_path)
    view = table.partition(0)
    await view.hold("anna", b"1").send()
    assert view.get("anna") == b"1"
    assert table.database(0).get(b"anna") is None
    await app.producer.confirm()
    assert table.database(0).get(b"anna") == b"1"
    assert table.database(0).get(OFFSET_KEY) == b"0"


async def test_overlapping_writes_of_a_key_end_with_the_last(tmp_path: Path) -> None:
    app = FakeApp()
    table = table_of(app, tmp_path)
    view = table.partition(0)
    for value in (b"1", None, b"3"):
        await view.hold("anna", value).send()
    await app.producer.confirm(1)
    assert (view.get("anna"), table.database(0).get(b"anna")) == (b"3", b"1")
    await app.producer.confirm(1)
    assert (view.get("anna"), table.database(0).get(b"anna")) == (b"3", None)
    await app.producer.confirm(1)
    assert (view.get("anna"), table.database(0).get(b"anna")) == (b"3", b"3")
    assert table.database(0).get(OFFSET_KEY) == b"2"


async def test_keys_are_those_of_the_partition_with_unconfirmed_changes(tmp_path: Path) -> None:
    app = FakeApp()
    view = table_of(app, tmp_path).partition(0)
    for key in ("a", "b", "c"):
        await view.hold(key, b"x").send()
    await app.producer.confirm()
    await view.hold("b", None).send()
    await view.hold("c", b"y").send()
    await view.hold("d", b"z").send()
    assert list(view.keys("")) == ["a", "c", "d"]
    for key in view.keys(""):  # a flush deletes while it iterates
        await view.hold(key, None).send()
    assert list(view.keys("")) == []


async def test_a_failed_changelog_record_never_reaches_the_disk(tmp_path: Path) -> None:
    app = FakeApp()
    table = table_of(app, tmp_path)
    await table.partition(0).hold("anna", b"1").send()
    app.producer.sent[0].future.set_exception(RuntimeError("broker"))
    await asyncio.sleep(0)
    assert table.database(0).get(b"anna") is None


async def test_a_confirmation_after_the_partition_has_gone_changes_nothing(tmp_path: Path) -> None:
    app = FakeApp()
    table = table_of(app, tmp_path)
    await table.partition(0).hold("anna", b"1").send()
    table.forget({TP(table.changelog.name, 0)})
    await app.producer.confirm()
    assert table.database(0).get(b"anna") is None
    assert table.partition(0).get("anna") is None


async def test_an_offset_that_is_confirmed_anew_ends_the_process_and_the_table(tmp_path: Path) -> None:
    """Only the owner of a partition writes to its changelog: it has lost its end, and the value would be forgotten."""
    app = FakeApp()
    table = table_of(app, tmp_path)
    table.database(0)[OFFSET_KEY] = b"7"
    table.database(0)[b"bea"] = b"confirmed and lost"
    await table.partition(0).hold("anna", b"1").send()
    await app.producer.confirm()
    assert app.ended == [
        "glucast-ingest-subjects-changelog/0 goes on at offset 0 although 7 was confirmed before: Kafka has lost its "
        "end. The table and its sources are read anew"
    ]
    assert table.disk(0).wants_reread
    assert (table.database(0).get(b"bea"), table.disk(0).reached) == (None, None)


async def test_a_table_that_goes_on_from_its_changelog_has_no_fault(tmp_path: Path) -> None:
    table = table_of(FakeApp(), tmp_path)
    disk = table.disk(0)
    assert disk.fault(-1, NOW) is None, "a new one"
    table.database(0)[OFFSET_KEY] = b"7"
    assert disk.fault(7, NOW + DELETIONS_READ_WITHIN_SECONDS) is None
    disk.stamp(NOW + DAY)
    assert disk.fault(9, NOW + DAY + 1) is None


async def test_a_table_that_slept_longer_than_deletions_are_kept_is_thrown_away(tmp_path: Path) -> None:
    table = table_of(FakeApp(), tmp_path)
    disk = table.disk(0)
    disk.stamp(NOW)
    table.database(0)[OFFSET_KEY] = b"7"
    table.database(0)["größe".encode()] = b"a row"
    fault = disk.fault(9, NOW + DELETIONS_READ_WITHIN_SECONDS + 1)
    assert fault == ("the table on disk is older than deletions are kept (24 hours)", False)
    disk.wipe(NOW + DAY, fault.sources_too)
    assert disk.fault(9, NOW + DAY) is None
    assert (list(table.partition(0).keys("")), disk.reached, disk.wants_reread) == ([], None, False)


async def test_a_clock_that_was_set_back_hides_how_old_a_table_is(tmp_path: Path) -> None:
    table = table_of(FakeApp(), tmp_path)
    disk = table.disk(0)
    disk.stamp(NOW + DAY)
    table.database(0)[OFFSET_KEY] = b"7"
    assert disk.fault(9, NOW) == ("the table on disk is of a time that has not come", False)
    assert disk.fault(9, NOW + DAY - 60) is None


async def test_a_table_of_an_unknown_age_is_thrown_away(tmp_path: Path) -> None:
    table = table_of(FakeApp(), tmp_path)
    table.database(0)[OFFSET_KEY] = b"7"
    assert table.disk(0).fault(7, NOW) == ("nobody knows how old the table on disk is", False)


@pytest.mark.parametrize("last", [-1, 0, 6])
async def test_a_table_ahead_of_its_changelog_is_thrown_away_and_its_sources_are_read_again(
    tmp_path: Path, last: int
) -> None:
    table = table_of(FakeApp(), tmp_path)
    disk = table.disk(0)
    disk.stamp(NOW)
    table.database(0)[OFFSET_KEY] = b"7"
    fault = disk.fault(last, NOW)
    assert fault is not None
    assert fault.text == (
        f"the changelog ends with offset {last}, before offset 7 that was confirmed: Kafka has lost its end"
    )
    disk.wipe(NOW, fault.sources_too)
    disk.wipe(NOW, False)
    assert table.disk(0).wants_reread, "it is remembered until the group's offsets have been set back"
    disk.reread_began()
    assert not table.disk(0).wants_reread


async def test_a_row_that_the_disk_does_not_take_ends_the_process_before_anything_passes_over_it(
    tmp_path: Path,
) -> None:
    app = FakeApp()
    table = table_of(app, tmp_path)
    table.database(0)
    confirmation = await table.partition(0).hold("anna", b"1" * 2 * LARGEST_BYTES).send()
    acked: list[list[str]] = []
    confirmation.add_done_callback(lambda _: acked.append(list(app.ended)))
    with full_disk():
        await app.producer.confirm()
    (reason,) = app.ended
    assert acked == [[reason]]  # whoever acks on the confirmation comes after the end
    assert reason.startswith("the table subjects could not be written to the disk: ")
    assert "anna" not in reason
    assert reason.endswith("free some room in GLUCAST_STATE_DIR; what is missing is read again from Kafka")
    assert table.database(0).get(OFFSET_KEY) is None
