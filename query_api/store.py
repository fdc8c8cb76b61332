"""An ordered bytes-to-bytes map on disk whose changes become visible and durable together."""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch

from schemas.errors import StorageError
from streams.kafka.rewriting import list_anew, rewrite, settle

ROOM_BYTES = 1 << 20
"""What has to fit on the disk before a table that could not be written is opened again."""


class Store:
    """RocksDB with staged writes: `get` sees what is staged, `scan` and a restart see what was committed.

    What is staged inside `entry` counts only if nothing is raised there. Where the disk takes no more, what was
    committed stays readable.
    """

    def __init__(self, path: Path, block_cache_bytes: int, write_buffer_bytes: int) -> None:
        self.path = path
        self._block_cache_bytes = block_cache_bytes
        self._write_buffer_bytes = write_buffer_bytes
        self._staged: dict[bytes, bytes | None] = {}
        self._of_entry: dict[bytes, bytes | None] = {}
        self._refused = False
        self._rewriting = threading.Lock()
        self._db = self._open()

    def _open(self) -> Rdict:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(self._write_buffer_bytes)
        options.set_max_write_buffer_number(2)
        options.set_max_open_files(64)
        options.set_keep_log_file_num(1)
        table = BlockBasedOptions()
        table.set_block_cache(Cache(self._block_cache_bytes))
        options.set_block_based_table_factory(table)
        list_anew(options)
        return Rdict(str(self.path), options)

    def get(self, key: bytes) -> bytes | None:
        for staged in (self._of_entry, self._staged):
            if key in staged:
                return staged[key]
        value: bytes | None = self._db.get(key)
        return value

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Committed entries whose key begins with `prefix`, in key order."""
        entries: Iterator[tuple[Any, Any]] = self._db.items(from_key=prefix)  # typed for its other mode only
        for key, value in entries:
            if not key.startswith(prefix):
                return
            yield key, value

    def scan_back(self, prefix: bytes, last: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Committed entries whose key begins with `prefix` and is at most `last`, the highest key first."""
        entries: Iterator[tuple[Any, Any]] = self._db.items(backwards=True, from_key=last)
        for key, value in entries:
            if not key.startswith(prefix):
                return
            yield key, value

    def staged(self, prefix: bytes) -> list[bytes]:
        """Keys beginning with `prefix` that the next commit will set, which no scan shows yet."""
        waiting = self._staged | self._of_entry
        return [key for key, value in waiting.items() if value is not None and key.startswith(prefix)]

    def stage(self, key: bytes, value: bytes | None) -> None:
        """Set, or with None remove, `key` at the next commit."""
        self._of_entry[key] = value

    @contextlib.contextmanager
    def entry(self) -> Iterator[None]:
        """Stage the rows of one message together, or none of them where it raises."""
        self._of_entry.clear()
        try:
            yield
        except BaseException:
            self._of_entry.clear()
            raise
        self._staged.update(self._of_entry)
        self._of_entry.clear()

    def commit(self) -> None:
        """Write what is staged; all of it or nothing.

        Raises `StorageError` where the disk does not take it: it is staged no more then, and to be staged again.
        """
        self._staged.update(self._of_entry)
        self._of_entry.clear()
        batch = WriteBatch(raw_mode=True)
        for key, value in self._staged.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        self._staged.clear()
        try:
            if self._refused:
                self._open_again()
            self._db.write(batch)
        except Exception as error:  # the library has no type for it
            self._refused = True
            raise StorageError(f"the table {self.path} could not be written: {error}; free some room there") from error

    def _open_again(self) -> None:
        """RocksDB refuses every write after one that failed, room or not, until it is opened again."""
        probe = self.path.with_suffix(".room")
        try:
            probe.write_bytes(bytes(ROOM_BYTES))
        finally:
            probe.unlink(missing_ok=True)
        with contextlib.suppress(Exception):  # it says again that it could not write
            self._close()
        self._db = self._open()
        self._refused = False

    def rewrite(self) -> None:
        """Leave nothing in the files of what was removed or replaced; in a thread, beside reading and writing.

        `settle` has to follow, behind a commit. Raises an `Exception` where the disk does not take it.
        """
        with self._rewriting:
            rewrite(self._db)

    def settle(self) -> None:
        """Put what was committed since into the files; in a thread, too."""
        with self._rewriting:
            settle(self._db)

    def wipe(self) -> None:
        """Forget everything."""
        self.close()
        shutil.rmtree(self.path)
        self._db = self._open()

    def close(self) -> None:
        self._staged.clear()
        self._of_entry.clear()
        try:
            self._close()
        except Exception as error:
            if not self._refused:
                raise StorageError(f"the table {self.path} could not be closed: {error}") from error

    def _close(self) -> None:
        """Raises an `Exception` where the last rows do not fit. Waits where the files are being written anew."""
        with self._rewriting:
            self._db.close()
