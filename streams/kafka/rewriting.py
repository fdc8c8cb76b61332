"""A RocksDB whose files hold nothing any more of rows that were deleted or replaced.

By itself RocksDB leaves such a row where it lies until it merges the file, which may take weeks, and names the first
and the last key of each file in a list that it goes on writing to.
"""

import shutil

import rocksdict

from schemas.errors import StorageError

ROOM_BYTES = 64 << 20
"""That stay free beside the new files: a database that finds no room takes no more writes until it is opened again."""


def list_anew(options: rocksdict.Options) -> None:
    """Have the list of files begin anew with every change, so that it names no file of before: some 100 bytes a file.

    A change is a file written or files merged, not a write.
    """
    options.set_max_manifest_file_size(1)


def rewrite(database: rocksdict.Rdict) -> None:
    """Write every file anew, whole: a range would be written to RocksDB's log, and with it the name that is to go.

    It takes some 7 s a GiB, without holding up who reads and writes meanwhile. The list of files still names those of
    before, until the next change: `settle`. Raises `StorageError` where there is no room for all files twice, and an
    `Exception` of RocksDB's where the disk fails.
    """
    needed = (database.property_int_value("rocksdb.total-sst-files-size") or 0) + ROOM_BYTES
    if shutil.disk_usage(database.path()).free < needed:
        raise StorageError(
            f"files that hold what was erased are not written anew: that takes {needed >> 20} MiB of room in "
            "GLUCAST_STATE_DIR"
        )
    whole = rocksdict.CompactOptions()
    whole.set_bottommost_level_compaction(rocksdict.BottommostLevelCompaction.force())
    whole.set_exclusive_manual_compaction(False)
    database.compact_range(None, None, whole)


def settle(database: rocksdict.Rdict) -> None:
    """Put what was written meanwhile into a file, at least one row of the caller's, and the list begins anew."""
    database.flush()
