"""What was erased is in no file of a table, also of one that goes on being written to."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from agents.work import Work
from query_api.store import Store
from schemas.errors import StorageError
from streams.kafka.continuity import REWRITE_KEY
from streams.kafka.rewriter import Rewriter
from streams.kafka.rewriting import ROOM_BYTES
from streams.kafka.tables import ConfirmedTable
from streams.topology import step_of
from tests.kit.disks import files_with
from tests.kit.guarded import FakeApp, FakeStream, RawMessage, guard_of, table_of

NAME = "quillfeather"
OTHERS = ("amos", "mallory", "zoe")
ROWS = 40


def steady() -> bool:
    return True


async def test_a_row_that_was_erased_is_in_no_file_of_the_table(tmp_path: Path) -> None:
    app = FakeApp()
    table = table_of(app, tmp_path)
    view, sent = table.partition(0), 0

    async def confirmed() -> None:
        nonlocal sent
        await app.producer.confirm(len(app.producer.sent) - sent)
        sent = len(app.producer.sent)

    for part in range(2):
        for who in (NAME, *OTHERS):
            for number in range(ROWS):
                await view.hold(f"{who}/{part}/{number:02d}", f"{who} {number}".encode() * 20).send()
        await confirmed()
        if not part:
            table.database(0).flush()  # so some rows are in a file, and others in the log alone
    rewriter = Rewriter([table], steady)
    assert await rewriter.round() == 0, "nothing was erased"
    for key in list(view.keys(f"{NAME}/")):
        await view.hold(key, None, erases=True).send()
    await confirmed()
    assert files_with(tmp_path, NAME)
    assert not await Rewriter([table], lambda: False).round(), "a partition may be on its way to somebody else"
    later = ConfirmedTable(app, table._table, "ingest", "subjects")  # after a restart: the wish lies in the database
    assert await Rewriter([later], steady).round() == 1
    assert files_with(tmp_path, NAME) == []
    assert files_with(tmp_path, "mallory"), "the search finds nothing"
    assert [*view.keys("")] == sorted(
        f"{who}/{part}/{n:02d}" for who in OTHERS for part in range(2) for n in range(ROWS)
    )
    assert await rewriter.round() == 0, "it is done"


async def test_what_is_erased_meanwhile_is_not_taken_for_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = FakeApp()
    table = table_of(app, tmp_path)
    for value in (b"1", None):
        await table.partition(0).hold(NAME, value, erases=True).send()
    await app.producer.confirm()
    database = table.database(0)
    monkeypatch.setattr("streams.kafka.rewriter.rewrite", lambda each: each.put(REWRITE_KEY, b"7"))
    assert await Rewriter([table], steady).round() == 1
    assert database.get(REWRITE_KEY) == b"7"


async def test_a_work_that_erases_has_all_tables_of_its_step_written_anew(tmp_path: Path) -> None:
    """Also one in which it found no row any more: those that were deleted earlier are in its files yet."""
    app = FakeApp()
    tables = {name: table_of(app, tmp_path / name, name) for name in ("sources", "subjects")}
    for table in tables.values():
        for value in (b"told by " + NAME.encode(), None):
            await table.partition(0).hold(NAME, value).send()
    await app.producer.confirm()

    async def erasing(work: Work) -> None:
        work.erases = True
        work.delete("subjects", NAME)

    step = dataclasses.replace(step_of("window"), tables=tuple(tables))
    guard, _ = guard_of(app, step, erasing, tables)
    await guard.consume(FakeStream(app, [RawMessage("cgm.readings", 0, 0, NAME.encode(), b"")]))
    rewriter = Rewriter([*tables.values()], steady)
    assert await rewriter.round() == 1, "of a row that Kafka has not confirmed yet it is too early"
    assert files_with(tmp_path / "sources", NAME) == []
    assert files_with(tmp_path / "subjects", NAME)
    await app.producer.confirm(1)
    assert await rewriter.round() == 1
    assert files_with(tmp_path, NAME) == []


async def test_without_room_for_the_new_files_the_table_goes_on_and_the_wish_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RocksDB that runs out of room refuses every write from then on: the worker would end for it, again and again."""
    app = FakeApp()
    table = table_of(app, tmp_path)
    for value in (b"1", None):
        await table.partition(0).hold(NAME, value, erases=True).send()
    await app.producer.confirm()
    usage = shutil.disk_usage(tmp_path)
    rewriter = Rewriter([table], steady)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=ROOM_BYTES - 1))
        with pytest.raises(StorageError, match="MiB of room in GLUCAST_STATE_DIR"):
            await rewriter.round()
    await table.partition(0).hold("mallory", b"2").send()
    await app.producer.confirm(1)
    assert table.database(0).get(b"mallory") == b"2"
    assert await rewriter.round() == 1


def test_a_store_that_goes_on_keeps_nothing_either(tmp_path: Path) -> None:
    store = Store(tmp_path / "table", 1 << 20, 1 << 20)
    try:
        for who in (NAME, *OTHERS):
            for number in range(ROWS):
                store.stage(f"{who}/{number:02d}".encode(), who.encode() * 20)
        store.commit()
        for number in range(ROWS):
            store.stage(f"{NAME}/{number:02d}".encode(), None)
        store.commit()
        assert files_with(tmp_path, NAME)
        store.rewrite()
        store.stage(b"m/rewrite", None)
        store.commit()
        store.settle()
        assert files_with(tmp_path, NAME) == []
        assert files_with(tmp_path, "mallory")
        assert len(list(store.scan(b""))) == ROWS * len(OTHERS)
    finally:
        store.close()
