"""Tables: on disk exactly what the broker has confirmed, in memory what steps have written."""

import asyncio
from pathlib import Path

from faust.types import TP

from streams.kafka.tables import OFFSET_KEY
from tests.kit.guarded import FakeApp, table_of


async def test_a_value_is_seen_at_once_and_stored_when_confirmed(tmp_path: Path) -> None:
    app = FakeApp()
    table = table_of(app, tmp_path)
    view = table.partition(0)
    await view.write("anna", b"1")
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
        await view.write("anna", value)
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
        await view.write(key, b"x")
    await app.producer.confirm()
    await view.write("b", None)
    await view.write("c", b"y")
    await view.write("d", b"z")
    assert list(view.keys("")) == ["a", "c", "d"]
    for key in view.keys(""):  # a flush deletes while it iterates
        await view.write(key, None)
    assert list(view.keys("")) == []


async def test_a_failed_changelog_record_never_reaches_the_disk(tmp_path: Path) -> None:
    app = FakeApp()
    table = table_of(app, tmp_path)
    await table.partition(0).write("anna", b"1")
    app.producer.sent[0].future.set_exception(RuntimeError("broker"))
    await asyncio.sleep(0)
    assert table.database(0).get(b"anna") is None


async def test_a_confirmation_after_the_partition_has_gone_changes_nothing(tmp_path: Path) -> None:
    app = FakeApp()
    table = table_of(app, tmp_path)
    await table.partition(0).write("anna", b"1")
    table.forget({TP(table.changelog.name, 0)})
    await app.producer.confirm()
    assert table.database(0).get(b"anna") is None
    assert table.partition(0).get("anna") is None


async def test_a_late_confirmation_does_not_undo_what_recovery_has_read(tmp_path: Path) -> None:
    app = FakeApp()
    table = table_of(app, tmp_path)
    await table.partition(0).write("anna", b"old")
    table.database(0)[OFFSET_KEY] = b"7"  # recovery went past it
    table.database(0)[b"anna"] = b"new"
    await app.producer.confirm()
    assert table.database(0).get(b"anna") == b"new"
    assert table.database(0).get(OFFSET_KEY) == b"7"
